"""RLHF on real sentences: fine-tune, learn a reward, optimise, and look at what came of it.

    python experiments/rlhf_snippets.py            # downloads 2.4 MB by pip on first use

The policy completes the openings of snippets; the gold reward is VADER's score of the whole text,
computed inside the compiled program. Finished stages are kept in runs/rlhf_snippets.
"""

import functools
import json
import pathlib
import pickle
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rlhf_snippets_report as report

from jaxrl_po import PPOConfig
from jaxrl_po.rlhf import Generation, RLHFConfig, Tokens, TransformerConfig, generate
from jaxrl_po.rlhf.generation import response_distribution
from jaxrl_po.rlhf.heads import policy_params
from jaxrl_po.rlhf.reward_model import learned_reward, make_reward_model, pair_accuracy
from jaxrl_po.rlhf.sft import SFTConfig, make_sft, perplexity
from jaxrl_po.rlhf.tasks import snippets, vader
from jaxrl_po.rlhf.train import RLHFState, as_prompts, make_rlhf_step
from jaxrl_po.rlhf.transformer import make_transformer
from jaxrl_po.rlhf.types import RewardFn
from jaxrl_po.types import Array, PyTree

STAGES = pathlib.Path("runs") / "rlhf_snippets"
RESULTS = pathlib.Path(__file__).parent / "results"
V, L, P, T, PAD = 4096, 48, 6, 16, -1
N, UPDATES, SEGMENT, EVALUATED = 64, 160, 10, 256
HELD_OUT = 2000
PRICES = 0.3, 0.1, 0.05
PAIRS = 250, 1000, 4000
ALL_PAIRS = 20_000

MODEL = TransformerConfig(vocab_size=V, context_length=L, num_layers=2, num_features=64)
SFT = SFTConfig(num_epochs=10, batch_size=32, learning_rate=3e-3, token_noise=0.1)
REWARD = SFTConfig(num_epochs=1, batch_size=50, learning_rate=1e-3, weight_decay=0.01)
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
        update_epochs=2,
        shared_torso=True,
        vf_coef=0.1,
    ),
    eos_id=snippets.EOS,
    pad_id=PAD,
    kl_horizon_sequences=1000.0,
    target_kl_per_sequence=4.0,
)
MODEL_FN = make_transformer(MODEL)


class Data(NamedTuple):
    """Everything that is read from the snippets."""

    train: snippets.Snippets
    test: snippets.Snippets
    vocabulary: snippets.Vocabulary
    lexicon: vader.Lexicon
    prompts: np.ndarray  # [*, P] openings of training snippets
    test_prompts: Tokens  # [EVALUATED, P] openings of others
    agreement: dict[str, float]  # of the reward with the package


class Outcome(NamedTuple):
    """A policy's responses to the test prompts."""

    generation: Generation  # [EVALUATED, ...]
    gold: Array  # [EVALUATED]
    log_ratio: Array  # [EVALUATED] log π/π_ref of the response


def main() -> None:
    """All stages, and the report."""
    started = time.perf_counter()
    data = read()
    print(data.agreement)
    sft = stage("sft", lambda: fine_tune(data))
    learned = {
        n: stage(f"reward_{n}", functools.partial(learn, data, sft["params"], n))
        for n in (*PAIRS, ALL_PAIRS)
    }
    gold = vader.vader_reward(data.lexicon)
    on_gold = stage(
        "gold",
        lambda: optimise(
            data, sft["params"], CONFIG, lambda _: gold, [(beta, ()) for beta in PRICES]
        ),
    )
    adaptive = stage(
        "adaptive",
        lambda: optimise(
            data, sft["params"], CONFIG.replace(adaptive_kl=True), lambda _: gold, [(0.1, ())]
        ),
    )
    proxies = [(0.02, learned[n]["model"]) for n in PAIRS]
    on_learned = stage(
        "learned",
        lambda: optimise(
            data, sft["params"], CONFIG, functools.partial(learned_reward, MODEL_FN), proxies
        ),
    )
    base = stage("base", lambda: reference_samples(data, sft["params"]))
    numbers = report.numbers(
        data,
        sft,
        learned,
        dict(zip(PRICES, on_gold, strict=True)),
        adaptive[0],
        dict(zip(PAIRS, on_learned, strict=True)),
        base,
    )
    numbers["seconds"] = time.perf_counter() - started
    (RESULTS / "rlhf_snippets.json").write_text(json.dumps(numbers, indent=1) + "\n")
    report.write(numbers, RESULTS)


def stage(name: str, function: Callable[[], Any]) -> Any:
    """The stage's result, kept on disk."""
    path = STAGES / f"{name}.pickle"
    if path.exists():
        return pickle.loads(path.read_bytes())
    started = time.perf_counter()
    result = jax.tree.map(np.asarray, function())
    STAGES.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(result))
    print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    return result


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
        lexicon,
        openings(train, vocabulary),
        as_prompts(openings(test, vocabulary)[:EVALUATED], PAD),
        {
            "correlation": float(np.corrcoef(ours, theirs)[0, 1]),
            "within 2e-3": float((np.abs(ours - theirs) <= 2e-3).mean()),
        },
    )


def fine_tune(data: Data) -> dict[str, Any]:
    """The reference policy."""
    rows = snippets.packed(data.train, data.vocabulary, L)
    test = snippets.whole(data.test, data.vocabulary, L)
    params = jax.jit(MODEL_FN.init)(jax.random.key(0))
    params, losses = jax.jit(make_sft(SFT, MODEL_FN, rows))(jax.random.key(1), params)
    held_out = jax.jit(functools.partial(perplexity, MODEL_FN))(params, test)
    return {"params": params, "losses": losses, "perplexity": held_out}


def learn(data: Data, sft_params: PyTree, num_pairs: int) -> dict[str, Any]:
    """A reward model from human pairs, and its accuracy on pairs of held-out snippets."""
    rows = snippets.whole(data.train, data.vocabulary, L)
    test = snippets.whole(data.test, data.vocabulary, L)
    better, worse = snippets.human_pairs(data.train, num_pairs)
    config = REWARD.replace(num_epochs=max(1, 4000 // num_pairs))
    train = make_reward_model(
        config, MODEL_FN, rows, better, worse, jax.tree.map(lambda x: x[:1000], rows)
    )
    model, losses = jax.jit(train)(jax.random.key(2), sft_params)
    held_out = [
        jax.tree.map(lambda x, i=i: x[i], test) for i in snippets.human_pairs(data.test, 2000)
    ]
    accuracy = jax.jit(functools.partial(pair_accuracy, MODEL_FN))(model.params, *held_out)
    return {"model": model, "losses": losses, "accuracy": accuracy}


def optimise(
    data: Data,
    sft_params: PyTree,
    config: RLHFConfig,
    reward: Callable[[Any], RewardFn],
    runs: list[tuple[float, Any]],
) -> list[dict[str, Any]]:
    """A PPO run for each (price, reward parameters), all by one executable.

    Every `SEGMENT` updates the policy answers the test prompts and the gold reward judges it.
    """

    def segment(state: RLHFState, parameters: Any) -> Any:
        _, step = make_rlhf_step(config, reward(parameters), data.prompts)
        state, metrics = jax.lax.scan(lambda s, _: step(s, sft_params), state, length=SEGMENT)
        outcome = answer(data, policy_params(state.params), sft_params)
        proxy = reward(parameters)(outcome.generation.prompt, outcome.generation.response)
        return state, metrics, outcome, proxy

    init, _ = make_rlhf_step(config, reward(runs[0][1]), data.prompts)
    advance = jax.jit(segment)
    sample = jax.jit(functools.partial(samples, data, number=32))
    results = []
    for price, parameters in runs:
        # The price of the KL is part of the state: it may be set where it is kept.
        state = init(jax.random.key(0), sft_params)._replace(kl_coef=jnp.asarray(price))
        history, curve = [], []
        for _ in range(UPDATES // SEGMENT):
            state, metrics, outcome, proxy = advance(state, parameters)
            history.append(metrics)
            curve.append([outcome.gold.mean(), proxy.mean(), outcome.log_ratio.mean()])
            print(f"  price {price}: gold, proxy, KL", np.round(curve[-1], 3), flush=True)
        results.append(
            {
                "metrics": jax.tree.map(lambda *x: jnp.concatenate(x), *history),
                "curve": np.array(curve),  # [segments, (gold, proxy, KL)]
                "outcome": outcome,
                "samples": sample(policy_params(state.params), sft_params),
            }
        )
    return results


def answer(data: Data, params: PyTree, sft_params: PyTree, seed: int | Array = 7) -> Outcome:
    """Responses to the test prompts, judged; traced."""
    generation = generate(
        MODEL_FN,
        params,
        data.test_prompts,
        jax.random.key(seed),
        num_steps=T,
        temperature=1.0,
        eos_id=snippets.EOS,
        pad_id=PAD,
    )
    states = jax.tree.map(lambda x: x[:, :-1], generation.sequence)
    ids, mask = generation.response
    distribution = response_distribution(MODEL_FN, sft_params, states, T, 1.0)
    reference = distribution.log_prob(jnp.where(mask, ids, 0))
    log_ratio = jnp.where(mask, generation.log_prob - reference, 0.0).sum(axis=1)
    gold = vader.vader_reward(data.lexicon)(generation.prompt, generation.response)
    return Outcome(generation, gold, log_ratio)


def samples(data: Data, params: PyTree, sft_params: PyTree, number: int) -> dict[str, Array]:
    """Gold scores and log-ratios [number, EVALUATED] of many responses to each prompt; traced."""

    def one(seed: Array) -> dict[str, Array]:
        outcome = answer(data, params, sft_params, seed)
        return {"gold": outcome.gold, "log_ratio": outcome.log_ratio}

    return jax.lax.map(one, jnp.arange(number) + 100)


def reference_samples(data: Data, sft_params: PyTree) -> dict[str, Any]:
    """What the reference policy says to the test prompts."""

    def run() -> dict[str, Any]:
        many = samples(data, sft_params, sft_params, 256)
        return {**many, "outcome": answer(data, sft_params, sft_params)}

    return jax.jit(run)()


if __name__ == "__main__":
    main()
