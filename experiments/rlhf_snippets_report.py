"""What `rlhf_snippets.py` found, as numbers, tables, sample texts' statistics and a figure."""

import pathlib
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

BEST_OF = 1, 2, 4, 16, 64
NUM_TEXTS = 6


def numbers(
    data: Any,
    sft: dict[str, Any],
    learned: dict[int, Any],
    on_gold: dict[float, Any],
    adaptive: dict[str, Any],
    on_learned: dict[int, Any],
    base: dict[str, Any],
) -> dict[str, Any]:
    """Everything the report says, JSON-ready."""
    kl = adaptive["metrics"]["objective/kl"]
    return {
        "gold reward against the package": data.agreement,
        "held-out perplexity": float(sft["perplexity"]),
        "human-pair accuracy": {n: float(x["accuracy"]) for n, x in learned.items()},
        "gold": {beta: standing(run, base, beta) for beta, run in on_gold.items()},
        "texts": {
            "before": data.vocabulary.decode(first(base["outcome"].generation.sequence)),
            **{
                f"after, beta {beta}": data.vocabulary.decode(
                    first(run["outcome"].generation.sequence)
                )
                for beta, run in on_gold.items()
            },
        },
        "curves": {f"gold, beta {beta}": run["curve"].tolist() for beta, run in on_gold.items()}
        | {f"{n} pairs": run["curve"].tolist() for n, run in on_learned.items()},
        "best of n": best_of_n(base["gold"]),
        "adaptive": {
            "mean KL over the last fifth": float(kl[-len(kl) // 5 :].mean()),
            "smallest and largest of 8-update means": [
                float(f(np.convolve(kl[-len(kl) // 5 :], np.ones(8) / 8, "valid")))
                for f in (np.min, np.max)
            ],
            "final coefficient": float(adaptive["metrics"]["objective/kl_coef"][-1]),
        },
    }


def standing(run: dict[str, Any], base: dict[str, Any], beta: float) -> dict[str, float]:
    """Where a policy stands against the reference and the optimum, over the test prompts.

    J* = β log E_ref[exp(r/β)] of each prompt, estimated twice: from the reference's own samples,
    and from the policy's, weighted by π_ref/π. Both err on the low side (the logarithm of a mean),
    each where the other is good, so the larger is taken.
    """
    gold, log_ratio = run["samples"]["gold"], run["samples"]["log_ratio"]  # [samples, prompts]
    start = base["gold"].mean(axis=0)
    by_reference = np.exp(base["gold"] / beta).mean(axis=0)
    by_policy = np.exp(gold / beta - log_ratio).mean(axis=0)
    best = beta * np.log(np.maximum(by_reference, by_policy))
    value = (gold - beta * log_ratio).mean(axis=0)
    after, before = run["outcome"].gold, base["outcome"].gold
    return {
        "gold": float(gold.mean()),
        "KL": float(log_ratio.mean()),
        "J0": float(start.mean()),
        "J": float(value.mean()),
        "J*": float(best.mean()),
        "fraction of the gap": float((value - start).mean() / (best - start).mean()),
        "win-rate against SFT": float((after > before).mean() + 0.5 * (after == before).mean()),
    }


def first(tokens: Any) -> Any:
    """The first few sequences."""
    return type(tokens)(tokens.ids[:NUM_TEXTS], tokens.mask[:NUM_TEXTS])


def best_of_n(gold: np.ndarray) -> dict[int, list[float]]:
    """Gold score and KL = log n - (n - 1)/n of the best of n reference samples."""
    return {
        n: [
            float(gold.reshape(-1, n, gold.shape[1]).max(axis=1).mean()),
            float(np.log(n) - (n - 1) / n),
        ]
        for n in BEST_OF
    }


def write(found: dict[str, Any], directory: pathlib.Path) -> None:
    """The tables in Markdown, and the figure."""
    agreement = found["gold reward against the package"]
    adaptive = found["adaptive"]
    lines = [
        "# RLHF on snippets",
        "",
        f"- gold reward against the package on held-out texts: correlation "
        f"{agreement['correlation']:.4f}, within 2e-3 {agreement['within 2e-3']:.1%}",
        f"- held-out perplexity after fine-tuning: {found['held-out perplexity']:.1f}",
        "- human-pair accuracy of reward models: "
        + ", ".join(f"{n} pairs {a:.3f}" for n, a in found["human-pair accuracy"].items()),
        f"- adaptive coefficient, target 4 nats a sequence: mean of the last fifth "
        f"{adaptive['mean KL over the last fifth']:.2f}",
        "",
        "| β | gold | KL, nats | J | J0 | J* | fraction of the gap | win-rate against SFT |",
        "|---|---|---|---|---|---|---|---|",
        *[
            f"| {beta} | "
            + " | ".join(
                f"{x[name]:.3f}"
                for name in (
                    "gold",
                    "KL",
                    "J",
                    "J0",
                    "J*",
                    "fraction of the gap",
                    "win-rate against SFT",
                )
            )
            + " |"
            for beta, x in found["gold"].items()
        ],
        "",
        "| best of n | gold | KL, nats |",
        "|---|---|---|",
        *[f"| {n} | {g:.3f} | {k:.2f} |" for n, (g, k) in found["best of n"].items()],
        "",
        "Texts (prompt and response), before and after:",
        "",
        *[f"- {name}: {text}" for name, texts in found["texts"].items() for text in texts],
        "",
        "![frontier and over-optimisation](rlhf_snippets.png)",
        "",
    ]
    (directory / "rlhf_snippets.md").write_text("\n".join(lines))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    for name, curve in found["curves"].items():
        gold, proxy, kl = np.array(curve).T
        axes = left if name.startswith("gold") else right
        (line,) = axes.plot(kl, gold, marker=".", label=name)
        if axes is right:
            axes.plot(kl, proxy / 4, "--", color=line.get_color(), alpha=0.5)
    best = np.array(list(found["best of n"].values()))
    left.plot(best[:, 1], best[:, 0], "k^-", label="best of n")
    left.set(title="reward against KL", xlabel="KL to SFT, nats", ylabel="gold score")
    right.set(title="over-optimisation (dashed: proxy / 4)", xlabel="KL to SFT, nats")
    for axes in (left, right):
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(directory / "rlhf_snippets.png", dpi=120)
