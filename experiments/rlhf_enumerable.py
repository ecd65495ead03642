"""RLHF against an exact answer: the fraction of J* - J0 that PPO and TRPO close, and two mistakes.

python experiments/rlhf_enumerable.py          # about a minute a method on two free cores
"""

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po import PPOConfig, TRPOConfig
from jaxrl_po.rlhf import RLHFConfig, Tokens, TransformerConfig, generate, make_rlhf
from jaxrl_po.rlhf.tasks import enumerable
from jaxrl_po.rlhf.train import as_prompts
from jaxrl_po.rlhf.transformer import make_transformer
from jaxrl_po.types import Array, PyTree

RESULTS = pathlib.Path(__file__).parent / "results"
V, T, N, UPDATES, SEEDS = 6, 5, 256, 60, 3
PRICES = 0.5, 0.2, 0.1
SIZE: dict[str, Any] = {
    "num_envs": N,
    "num_steps": T,
    "total_timesteps": N * T * UPDATES,
    "gamma": 1.0,
    "anneal_lr": True,
    "learning_rate": 1e-3,
}
UPDATE = {
    "ppo": PPOConfig(**SIZE, max_grad_norm=1.0),
    "trpo": TRPOConfig(**SIZE, max_kl=0.005, cg_damping=0.01),
}
MODEL = TransformerConfig(vocab_size=V, context_length=T + 1, num_features=32)
PROMPT = jnp.array([[enumerable.EOS]])


def main() -> None:
    """Run all, print a line each, write the table."""
    model = make_transformer(MODEL)
    reference = sharpened(jax.jit(model.init)(jax.random.key(7)))
    rows: list[dict[str, Any]] = []
    for method, update in UPDATE.items():
        config = RLHFConfig(model=MODEL, update=update, eos_id=enumerable.EOS)
        rows += runs(method, config, reference, PRICES, SEEDS)
    config = RLHFConfig(model=MODEL, update=UPDATE["ppo"], eos_id=enumerable.EOS)
    object.__setattr__(config, "kl_in_reward", "k3")  # past the check that refuses it
    rows += runs("ppo, k3 as reward", config, reference, (0.5, 0.1), SEEDS)
    mismatch = temperature_mismatch(model, reference)
    write(rows, mismatch)


def sharpened(params: PyTree) -> PyTree:
    """A reference policy that has opinions: the initial embedding, scaled up."""
    return {**params, "embedding": {"embedding": 6.0 * params["embedding"]["embedding"]}}


def exact(params: PyTree) -> tuple[Array, Array]:
    """log π of every response, and its reward."""
    responses = enumerable.all_responses(V, T)
    prompt = jnp.tile(PROMPT, (responses.ids.shape[0], 1))
    reward = REWARD(Tokens(prompt, prompt == prompt), responses)
    model = make_transformer(MODEL)
    return enumerable.response_log_probs(model, params, PROMPT[0], responses), reward


REWARD = enumerable.bigram_reward(jax.random.key(3), V)


def runs(
    method: str,
    config: RLHFConfig,
    reference: PyTree,
    prices: tuple[float, ...],
    num_seeds: int,
) -> list[dict[str, Any]]:
    """Each price and seed, by one executable: the price is data."""

    def one(key: Array, kl_coef: Array) -> dict[str, Array]:
        # `replace` would check the estimator again; the price is a leaf, so a tree can be edited.
        priced = jax.tree_util.tree_map_with_path(
            lambda path, leaf: kl_coef if jax.tree_util.keystr(path) == ".kl_coef" else leaf, config
        )
        result = make_rlhf(priced, REWARD, PROMPT)(key, reference)
        final, reward = exact(result.state.params["policy"])
        start, _ = exact(reference)
        standing = enumerable.objective(final, start, reward, kl_coef)
        j0 = enumerable.objective(start, start, reward, kl_coef).value
        best = enumerable.optimum(start, reward, kl_coef)
        sampled = sampled_kl(result.state.params["policy"], reference, jax.random.fold_in(key, 1))
        return {
            "J0": j0,
            "J": standing.value,
            "J*": best,
            "fraction": enumerable.fraction_of_gap(standing.value, j0, best),
            "KL enumerated": standing.kl,
            "KL sampled": sampled,
            "max KL(old|new)": result.metrics["policy/kl"].max(),
            "last objective/kl": result.metrics["objective/kl"][-1],
        }

    run = compiled(one, jax.random.key(0), jnp.asarray(0.5))
    rows = []
    for kl_coef in prices:
        for seed in range(num_seeds):
            started = time.perf_counter()
            values = {name: float(x) for name, x in run(jax.random.key(seed), kl_coef).items()}
            row = {"method": method, "beta": kl_coef, "seed": seed, **values}
            rows.append(row | {"seconds": time.perf_counter() - started})
            print(
                "  ".join(
                    f"{k} {v:.4f}" if isinstance(v, float) else f"{v}" for k, v in row.items()
                )
            )
    return rows


def sampled_kl(
    params: PyTree, reference: PyTree, key: Array, sampling_temperature: float = 1.0
) -> Array:
    """KL(π ‖ π_ref) from 4,096 sampled responses and their log-probabilities at temperature 1."""
    model = make_transformer(MODEL)
    prompt = jax.tree.map(lambda x: jnp.tile(x, (4096, 1)), as_prompts(PROMPT, -1))
    generation = generate(
        model,
        params,
        prompt,
        key,
        num_steps=T,
        temperature=sampling_temperature,
        eos_id=enumerable.EOS,
        pad_id=-1,
    )
    safe = generation.response._replace(
        ids=jnp.where(generation.response.mask, generation.response.ids, 0)
    )
    both = [enumerable.response_log_probs(model, p, PROMPT[0], safe) for p in (params, reference)]
    return (both[0] - both[1]).mean()


def temperature_mismatch(model: Any, reference: PyTree) -> dict[str, float]:
    """The enumerated KL of another policy, and its sampled KL at two sampling temperatures."""
    policy = sharpened(jax.jit(model.init)(jax.random.key(8)))

    def measure(key: Array) -> dict[str, Array]:
        log_prob, reward = exact(policy)
        kl = enumerable.objective(log_prob, exact(reference)[0], reward, 0.1).kl
        return {
            "enumerated": kl,
            "sampled at 1.0": sampled_kl(policy, reference, key),
            "sampled at 0.5, scored at 1.0": sampled_kl(policy, reference, key, 0.5),
        }

    return {name: float(x) for name, x in jax.jit(measure)(jax.random.key(0)).items()}


def compiled(function: Callable[..., Any], *example: Any) -> Callable[..., Any]:
    """The function as one executable, with a line on what that took."""
    started = time.perf_counter()
    executable = jax.jit(function).lower(*example).compile()
    print(f"compiled in {time.perf_counter() - started:.1f} s")
    return executable


def write(rows: list[dict[str, Any]], mismatch: dict[str, float]) -> None:
    """A table in Markdown and all numbers in JSON."""
    RESULTS.mkdir(exist_ok=True)
    record = {"runs": rows, "temperature_mismatch": mismatch}
    (RESULTS / "rlhf_enumerable.json").write_text(json.dumps(record, indent=1) + "\n")
    lines = [
        "# RLHF on the enumerable task",
        "",
        f"{V} tokens, at most {T} of them, so {enumerable.all_responses(V, T).ids.shape[0]} "
        f"responses. {UPDATES} updates of {N} responses, {SEEDS} seeds; "
        "fraction = (J - J0) / (J* - J0).",
        "",
        "| method | β | fraction, worst / mean | J - J*, largest | KL, enumerated | "
        "sampled - enumerated, largest | KL(old‖new), largest | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, beta in dict.fromkeys((row["method"], row["beta"]) for row in rows):
        group = [r for r in rows if (r["method"], r["beta"]) == (method, beta)]

        def column(name: str, group: list[dict[str, Any]] = group) -> np.ndarray:
            return np.array([row[name] for row in group])

        difference = np.abs(column("KL sampled") - column("KL enumerated")).max()
        lines.append(
            f"| {method} | {beta} | {column('fraction').min():.4f} / "
            f"{column('fraction').mean():.4f} | {(column('J') - column('J*')).max():.4f} | "
            f"{column('KL enumerated').mean():.3f} | {difference:.3f} | "
            f"{column('max KL(old|new)').max():.4f} | {column('seconds').mean():.1f} |"
        )
    lines += [
        "",
        "KL of one policy to another, in nats: "
        + ", ".join(f"{name} {value:.3f}" for name, value in mismatch.items())
        + ".",
        "",
    ]
    (RESULTS / "rlhf_enumerable.md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
