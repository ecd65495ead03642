"""RLHF on real sentences: fine-tune, learn a reward, optimise, and look at what came of it.

    python experiments/rlhf_snippets.py            # downloads 2.4 MB by pip on first use

The policy completes the openings of snippets; the gold reward is VADER's score of the whole text,
computed inside the compiled program. Finished stages are kept in runs/rlhf_snippets: delete them
after a change of settings.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rlhf_snippets_report as report
from flax.traverse_util import flatten_dict, unflatten_dict
from tasks import snippets, vader

from jaxrl_po import PPOConfig, TRPOConfig
from jaxrl_po.rlhf import (
    RewardModel,
    RLHFConfig,
    RLHFState,
    SFTConfig,
    Tokens,
    TransformerConfig,
    as_prompts,
    generate,
    learned_reward,
    make_reward_model,
    make_rlhf_step,
    make_sft,
    make_transformer,
    pair_accuracy,
    perplexity,
    policy_params,
)
from jaxrl_po.rlhf.batch import states
from jaxrl_po.rlhf.generation import response_distribution
from jaxrl_po.rlhf.types import RewardFn
from jaxrl_po.types import Array, PyTree

STAGES = pathlib.Path("runs") / "rlhf_snippets"
V, L, P, T, PAD = 4096, 48, 6, 6, -1
N, UPDATES, SEGMENT = 1024, 360, 15
HELD_OUT, TEST_PROMPTS = 2000, 128
REFERENCE_ANSWERS, POLICY_ANSWERS = 256, 128  # to each test prompt
HORIZON = 10_000.0  # sequences, of the price that adapts
PAIRS, ALL_PAIRS, TEST_PAIRS, PROXY_PRICE = (250, 1000, 4000), 40_000, 4000, 0.02

MODEL = TransformerConfig(vocab_size=V, context_length=L, num_layers=2, num_features=64)
SFT = SFTConfig(num_epochs=4, learning_rate=3e-3, token_noise=0.1)
REWARD = SFTConfig(batch_size=50, learning_rate=1e-3, weight_decay=0.01, token_noise=0.1)
CONFIG = RLHFConfig(
    model=MODEL,
    update=PPOConfig(
        num_envs=N,
        num_steps=T,
        total_timesteps=N * T * UPDATES,
        gamma=1.0,
        learning_rate=1e-3,
        anneal_lr=True,
        max_grad_norm=1.0,
        vf_coef=0.5,
        update_epochs=2,
    ),
    eos_id=snippets.EOS,
    pad_id=PAD,
    adaptive_kl=True,
    target_kl_per_sequence=4.0,
)
SHORTER = CONFIG.replace(update=CONFIG.update.replace(total_timesteps=N * T * UPDATES // 3))
RLOO = CONFIG.replace(estimator="rloo", answers_per_prompt=4)
TRPO = CONFIG.replace(
    update=TRPOConfig(
        num_envs=N,
        num_steps=T,
        total_timesteps=SHORTER.update.total_timesteps,
        gamma=1.0,
        learning_rate=1e-3,
        max_kl=0.01,
        cg_damping=0.01,
    )
)
LANGUAGE_MODEL = make_transformer(MODEL)


class GoldRun(NamedTuple):
    """A run on the gold reward."""

    config: RLHFConfig
    price: float  # β
    seed: int = 0


ON_GOLD = {
    "PPO, β = 0.1": GoldRun(CONFIG, 0.1),
    "PPO, β = 0.3": GoldRun(CONFIG, 0.3),
    "PPO, β = 0.05": GoldRun(CONFIG, 0.05),
    "PPO, β = 0.1, seed 1": GoldRun(CONFIG, 0.1, 1),
    "RLOO, β = 0.1": GoldRun(RLOO, 0.1),
    "TRPO, β = 0.1": GoldRun(TRPO, 0.1),
}


class Data(NamedTuple):
    """Everything that is read from the snippets."""

    train: snippets.Snippets
    test: snippets.Snippets
    vocabulary: snippets.Vocabulary
    gold: RewardFn
    prompts: np.ndarray  # [*, P] openings of training snippets
    test_prompts: Tokens  # [TEST_PROMPTS, P] openings of others
    agreement: dict[str, float]  # of the gold reward with the package


class Answers(NamedTuple):
    """Responses to the test prompts, and how much likelier a policy makes them."""

    response: Tokens  # [TEST_PROMPTS, T]
    gold: Array  # [TEST_PROMPTS]
    log_ratio: Array  # [TEST_PROMPTS] log π/π_ref of the response


def main() -> None:
    """All stages, and the report."""
    data = read()
    sft = stage("sft", lambda: fine_tune(data))
    reference = sft["params"]
    base = stage("base", lambda: reference_answers(data, reference))
    run = optimiser(data, reference)
    on_gold = {
        name: (asked.price, stage(f"gold, {name}", functools.partial(run, *asked)))
        for name, asked in ON_GOLD.items()
    }
    adaptive = stage("adaptive", lambda: run(CONFIG, 0.1, horizon=HORIZON))
    learned = {
        n: stage(f"reward_{n}", functools.partial(learn, data, reference, n))
        for n in (*PAIRS, ALL_PAIRS)
    }
    on_learned = {
        n: stage(
            f"learned_{n}",
            functools.partial(run, SHORTER, PROXY_PRICE, learned=learned[n]["model"]),
        )
        for n in PAIRS
    }
    stages = sft, base, adaptive, *[r for _, r in on_gold.values()], *learned.values()
    stages += tuple(on_learned.values())
    report.write(
        {
            "agreement": data.agreement,
            "perplexity": float(sft["perplexity"]),
            "accuracy": {n: float(found["accuracy"]) for n, found in learned.items()},
            "answers": POLICY_ANSWERS,
            "test pairs": TEST_PAIRS,
            "tokens": T,
            "batch": N,
            "updates": UPDATES,
            "fewer updates": SHORTER.update.num_iterations,
            "minutes": sum(float(s["seconds"]) for s in stages) / 60,
            "core minutes": sum(float(s["core_seconds"]) for s in stages) / 60,
        },
        data.vocabulary,
        data.test_prompts,
        base,
        on_gold,
        adaptive["metrics"],
        on_learned,
    )


def stage(name: str, function: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The stage's result, nested dicts of arrays, kept on disk."""
    path = STAGES / f"{name}.npz"
    if not path.exists():
        started = np.array([time.perf_counter(), time.process_time()])
        result = jax.tree.map(np.asarray, function())
        passed = np.array([time.perf_counter(), time.process_time()]) - started
        result |= {"seconds": passed[0], "core_seconds": passed[1]}
        STAGES.mkdir(parents=True, exist_ok=True)
        np.savez(path, **flatten_dict(result, sep="|"))
        print(f"{name}: {passed[0]:.0f} s, {passed[1]:.0f} s of one core", flush=True)
    with np.load(path) as kept:
        nested: dict[str, Any] = unflatten_dict(dict(kept), sep="|")
        return nested


def read() -> Data:
    """Fetch, split, and check the gold reward against the package on the held-out texts."""
    root = snippets.fetch()
    module = snippets.load_vader(root)
    analyzer = module.SentimentIntensityAnalyzer()
    train, test = snippets.split(snippets.load_snippets(root, analyzer.lexicon), HELD_OUT)
    vocabulary = snippets.Vocabulary(train, V)
    lexicon = vader.make_lexicon(vocabulary.words, module)
    rows = snippets.whole(test, vocabulary, 100)
    ours = np.asarray(jax.jit(vader.vader_score)(lexicon, rows))
    theirs = np.array([analyzer.polarity_scores(x)["compound"] for x in vocabulary.decode(rows)])
    openings = functools.partial(snippets.opening_words, length=P, pad_id=PAD)
    return Data(
        train,
        test,
        vocabulary,
        vader.vader_reward(lexicon),
        openings(train, vocabulary),
        as_prompts(openings(test, vocabulary)[:TEST_PROMPTS], PAD),
        {
            "correlation": float(np.corrcoef(ours, theirs)[0, 1]),
            "within 2e-3": float((np.abs(ours - theirs) <= 2e-3).mean()),
        },
    )


def fine_tune(data: Data) -> dict[str, Any]:
    """The reference policy."""
    rows = snippets.packed(data.train, data.vocabulary, L)
    test = snippets.whole(data.test, data.vocabulary, L)
    params = jax.jit(LANGUAGE_MODEL.init)(jax.random.key(0))
    params, losses = jax.jit(make_sft(SFT, LANGUAGE_MODEL, rows))(jax.random.key(1), params)
    held_out = jax.jit(functools.partial(perplexity, LANGUAGE_MODEL))(params, test)
    return {"params": params, "losses": losses, "perplexity": held_out}


def learn(data: Data, reference: PyTree, num_pairs: int) -> dict[str, Any]:
    """A reward model from human pairs, and its accuracy on pairs of held-out snippets."""
    rows = snippets.whole(data.train, data.vocabulary, L)
    test = snippets.whole(data.test, data.vocabulary, L)
    better, worse = snippets.human_pairs(data.train, num_pairs)
    config = REWARD.replace(num_epochs=max(2, 4000 // num_pairs))
    train = make_reward_model(
        config, LANGUAGE_MODEL, rows, better, worse, jax.tree.map(lambda x: x[:1000], rows)
    )
    model, losses = jax.jit(train)(jax.random.key(2), reference)
    pairs = snippets.human_pairs(data.test, TEST_PAIRS, seed=1)
    held_out = [jax.tree.map(lambda x, i=i: x[i], test) for i in pairs]
    accuracy = jax.jit(functools.partial(pair_accuracy, LANGUAGE_MODEL))(model.params, *held_out)
    return {"model": model._asdict(), "losses": losses, "accuracy": accuracy}


def optimiser(data: Data, reference: PyTree) -> Callable[..., dict[str, Any]]:
    """run(config, β, seed, horizon, reward model): on the gold reward, or on a model if given.

    All runs on one kind of reward share an executable: a fixed price is one that adapts over an
    infinite horizon. Every `SEGMENT` updates the policy answers the test prompts, and the gold
    reward judges it.
    """

    def reward_fn(learned: Any) -> RewardFn:
        return learned_reward(LANGUAGE_MODEL, RewardModel(**learned)) if learned else data.gold

    @jax.jit
    def advance(config: RLHFConfig, state: RLHFState, learned: Any) -> Any:
        _, step = make_rlhf_step(config, reward_fn(learned), data.prompts)
        state, metrics = jax.lax.scan(lambda s, _: step(s, reference), state, length=SEGMENT)
        policy = policy_params(state.params)
        answers = answer(data, policy, policy, reference, jax.random.key(7))
        proxy = reward_fn(learned)(data.test_prompts, answers.response)
        point = {"gold": answers.gold, "proxy": proxy, "KL": answers.log_ratio}
        return state, metrics, jax.tree.map(jnp.mean, point)

    @jax.jit
    def ask(policy: PyTree, reference: PyTree) -> dict[str, Any]:
        own = many_answers(data, policy, policy, reference, POLICY_ANSWERS)
        others = many_answers(data, reference, policy, reference, REFERENCE_ANSWERS)
        return own | {"of the reference": others}

    def run(
        config: RLHFConfig,
        price: float,
        seed: int = 0,
        horizon: float = np.inf,
        learned: Any = (),
    ) -> dict[str, Any]:
        config = config.replace(kl_coef=price, kl_horizon_sequences=horizon)
        init, _ = make_rlhf_step(config, reward_fn(learned), data.prompts)
        state = init(jax.random.key(seed), reference)
        parts = []
        for _ in range(config.update.num_iterations // SEGMENT):
            state, *found = advance(config, state, learned)
            parts.append(found)
            print(f"  β {price}:", {k: round(float(x), 3) for k, x in found[1].items()}, flush=True)
        return {
            "metrics": jax.tree.map(lambda *x: jnp.concatenate(x), *[m for m, _ in parts]),
            "curve": jax.tree.map(lambda *x: jnp.stack(x), *[point for _, point in parts]),
            **ask(policy_params(state.params), reference),
        }

    return run


def answer(data: Data, speaker: PyTree, policy: PyTree, reference: PyTree, key: Array) -> Answers:
    """What `speaker` says to the test prompts, judged; traced."""
    generation = generate(
        LANGUAGE_MODEL,
        speaker,
        data.test_prompts,
        key,
        num_steps=T,
        temperature=1.0,
        eos_id=snippets.EOS,
        pad_id=PAD,
    )
    ids, mask, _ = generation.response

    def log_prob(params: PyTree) -> Array:
        distribution = response_distribution(LANGUAGE_MODEL, params, states(generation), T, 1.0)
        return jnp.where(mask, distribution.log_prob(jnp.where(mask, ids, 0)), 0.0).sum(axis=1)

    gold = data.gold(generation.prompt, generation.response)
    return Answers(generation.response, gold, log_prob(policy) - log_prob(reference))


def many_answers(
    data: Data, speaker: PyTree, policy: PyTree, reference: PyTree, number: int
) -> dict[str, Array]:
    """Gold scores and log-ratios [number, TEST_PROMPTS] of many answers, and the first; traced."""
    keys = jax.random.split(jax.random.key(8), number)
    answers = jax.lax.map(lambda key: answer(data, speaker, policy, reference, key), keys)
    return {
        "gold": answers.gold,
        "log_ratio": answers.log_ratio,
        "ids": answers.response.ids[0],
        "mask": answers.response.mask[0],
    }


def reference_answers(data: Data, reference: PyTree) -> dict[str, Any]:
    """What the reference policy says to the test prompts."""
    ask = jax.jit(functools.partial(many_answers, data, number=REFERENCE_ANSWERS))
    answers: dict[str, Any] = ask(reference, reference, reference)
    return answers


if __name__ == "__main__":
    main()
