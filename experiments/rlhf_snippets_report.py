"""What `rlhf_snippets.py` found: numbers in JSON, a page of tables and sample texts, a figure."""

import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from scipy.special import comb
from scores import machine
from tasks.snippets import Vocabulary

from jaxrl_po.rlhf import Tokens
from jaxrl_po.rlhf.types import concatenate

RESULTS = pathlib.Path(__file__).parent / "results"
BEST_OF = 1, 2, 4, 16, 64
MANY = range(1, 129)  # whose points the frontier goes through
NUM_TEXTS = 5
STANDING = (
    "gold",
    "KL",
    "best of n at this KL",
    "J0",
    "J",
    "J*",
    "fraction of the gap",
    "win-rate against SFT",
)
TARGET = 4.0


def write(
    found: dict[str, Any],
    vocabulary: Vocabulary,
    prompts: Tokens,
    base: dict[str, np.ndarray],
    on_gold: dict[str, tuple[float, dict[str, Any]]],
    adaptive: dict[str, np.ndarray],
    on_learned: dict[int, dict[str, Any]],
) -> None:
    """All of the report.

    Args:
        found: numbers that stand by themselves.
        vocabulary: of the texts.
        prompts: that policies answered [prompts, P].
        base: the reference policy's answers: "gold", "log_ratio" [samples, prompts], "ids", "mask".
        on_gold: β and the outcome of each run on the gold reward, under its name.
        adaptive: metrics [updates] of the run with an adaptive price.
        on_learned: outcome of the run on each reward model, by the number of its pairs.
    """
    last = -len(adaptive["objective/kl"]) // 5
    kl = adaptive["objective/kl"][last:]
    found |= {
        "gold": {name: standing(run, base, beta) for name, (beta, run) in on_gold.items()},
        "best of n": {n: best_of_n(base["gold"], n)[::-1] for n in BEST_OF},
        "learned": {n: over_optimisation(run) for n, run in on_learned.items()},
        "adaptive": {
            "KL, mean of the last fifth": float(kl.mean()),
            "KL, smallest and largest of its updates": [float(kl.min()), float(kl.max())],
            "last β": float(adaptive["objective/kl_coef"][-1]),
        },
        "test prompts": prompts.ids.shape[0],
        "measured": f"{time.strftime('%Y-%m-%d')}: {machine()}",
    }
    policies = {"SFT": base} | {
        name: run for name, (_, run) in on_gold.items() if "seed" not in name
    }
    some = jax.tree.map(lambda x: x[:NUM_TEXTS], prompts)
    texts = {
        name: vocabulary.decode(
            concatenate(some, Tokens(run["ids"][:NUM_TEXTS], run["mask"][:NUM_TEXTS]))
        )
        for name, run in policies.items()
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "rlhf_snippets.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "rlhf_snippets.md").write_text(page(found, texts))
    drawn = figure(found, on_gold, adaptive, on_learned)
    drawn.savefig(RESULTS / "rlhf_snippets.png", dpi=120)


def standing(run: dict[str, Any], base: dict[str, np.ndarray], beta: float) -> dict[str, float]:
    """Where a policy stands between the reference and the optimum, mean over the test prompts.

    J* = β log E_ref[exp(r/β)] of each prompt, by importance sampling from the answers of reference
    and policy together, as draws from their mixture α π_ref + (1 - α) π:

        E_ref[f] = E_mixture[f / (α + (1 - α) π/π_ref)]

    (the balance heuristic of Veach & Guibas 1995). As the logarithm of a mean it errs low.
    """
    gold, log_ratio, others = run["gold"], run["log_ratio"], run["of the reference"]
    start = base["gold"]  # [samples, prompts], as all of these
    share = len(start) / (len(start) + len(gold))
    scores = np.concatenate([others["gold"], gold]).astype(np.float64)
    ratio = np.exp(np.concatenate([others["log_ratio"], log_ratio]).astype(np.float64))
    best = beta * np.log((np.exp(scores / beta) / (share + (1 - share) * ratio)).mean(axis=0))
    value = gold - beta * log_ratio
    gained, possible = value.mean() - start.mean(), best.mean() - start.mean()
    before = start[: len(gold)]
    won = (gold > before).mean() + 0.5 * (gold == before).mean()
    frontier = np.interp(log_ratio.mean(), *np.array([best_of_n(start, n) for n in MANY]).T)
    numbers = gold.mean(), log_ratio.mean(), frontier, start.mean(), value.mean(), best.mean()
    return dict(zip(STANDING, map(float, (*numbers, gained / possible, won)), strict=True))


def best_of_n(gold: np.ndarray, n: int) -> tuple[float, float]:
    """KL = log n - (n - 1)/n of the best of n reference samples, and its expected gold score.

    The score is the mean over all sets of n of the samples [samples, prompts]: the i-th smallest
    of m is the best of (i-1 choose n-1) sets.
    """
    m = len(gold)
    share = comb(np.arange(m), n - 1) / comb(m, n)
    return np.log(n) - (n - 1) / n, float((share @ np.sort(gold, axis=0)).mean())


def over_optimisation(run: dict[str, Any]) -> dict[str, float]:
    """The best gold score on the way, and what is left of it at the end."""
    gold, proxy, kl = (run["curve"][name] for name in ("gold", "proxy", "KL"))
    best = int(gold.argmax())
    return {
        "best gold": float(gold[best]),
        "KL there": float(kl[best]),
        "last gold": float(gold[-1]),
        "last KL": float(kl[-1]),
        "last proxy": float(proxy[-1]),
    }


def table(columns: tuple[str, ...], rows: dict[Any, Any]) -> list[str]:
    """A Markdown table of numbers; its first column is the rows' names."""
    return [
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
        *[
            f"| {name} | " + " | ".join(f"{x:.3f}" for x in row) + " |"
            for name, row in rows.items()
        ],
        "",
    ]


def page(found: dict[str, Any], texts: dict[str, list[str]]) -> str:
    """The tables in Markdown."""
    agreement, adaptive = found["agreement"], found["adaptive"]
    low, high = adaptive["KL, smallest and largest of its updates"]
    gold = {name: [run[key] for key in STANDING] for name, run in found["gold"].items()}
    learned = {
        f"{n} ({found['accuracy'][n]:.3f})": list(run.values())
        for n, run in found["learned"].items()
    }
    first = next(iter(found["learned"].values()))
    return "\n".join(
        [
            "# RLHF on snippets: `python experiments/rlhf_snippets.py`",
            "",
            found["measured"],
            "",
            f"{found['minutes']:.0f} minutes, {found['core minutes']:.0f} of one core. The policy "
            f"continues openings of 2 to 5 words by at most {found['tokens']} tokens; "
            f"{found['updates']} updates of {found['batch']} responses, {found['fewer updates']} "
            f"by TRPO and on learned rewards; measured on {found['answers']} answers to each of "
            f"{found['test prompts']} held-out openings.",
            "",
            "- Gold reward against the vaderSentiment package, 2,000 held-out texts: correlation "
            f"{agreement['correlation']:.4f}, {agreement['within 2e-3']:.1%} within 2e-3.",
            f"- Held-out perplexity after fine-tuning: {found['perplexity']:.1f} "
            "(Kneser-Ney bigrams 102, trigrams 97).",
            f"- Reward models, accuracy on {found['test pairs']:,} held-out human pairs: "
            + ", ".join(f"{a:.3f} from {n:,} pairs" for n, a in found["accuracy"].items())
            + ".",
            f"- Adaptive β, target {TARGET:g} nats a sequence, over the last fifth of the updates: "
            f"mean {adaptive['KL, mean of the last fifth']:.2f}, smallest {low:.2f}, "
            f"largest {high:.2f}; β went from 0.1 to {adaptive['last β']:.3f}.",
            "",
            "## On the gold reward",
            "",
            "J = E[gold] - β KL(π‖π_SFT); J* is its maximum, "
            "β log E_ref[exp(gold / β)] of each prompt, by importance sampling from the answers of "
            "reference and policy together. Best of n: on the line through n = 1, 2, 3, ... "
            f"{MANY[-1]}, at KL = log n - (n - 1)/n.",
            "",
            *table(("run", *STANDING), gold),
            "Best of n answers of the SFT policy:",
            "",
            *table(("n", "gold", "KL"), found["best of n"]),
            "## PPO on learned rewards",
            "",
            "By the number of human pairs that the reward model learned from, and its accuracy.",
            "",
            *table(("pairs", *first), learned),
            "![frontier, over-optimisation, adaptive price](rlhf_snippets.png)",
            "",
            "## Texts",
            "",
            "Not chosen: the first test prompts, one answer each. The same opening in each list.",
            "",
            *[
                line
                for name, answers in texts.items()
                for line in (f"{name}:", "", *[f"- {text}" for text in answers], "")
            ],
        ]
    )


def figure(
    found: dict[str, Any],
    on_gold: dict[str, tuple[float, dict[str, Any]]],
    adaptive: dict[str, np.ndarray],
    on_learned: dict[int, dict[str, Any]],
) -> Figure:
    """Frontier, over-optimisation and adaptive price, side by side."""
    drawn = Figure(figsize=(13, 3.8), layout="constrained")
    frontier, over, held = drawn.subplots(1, 3)
    names = [name for name in on_gold if "seed" not in name]
    for name, (_, run) in on_gold.items():
        color = f"C{names.index(name.partition(', seed')[0])}"
        label = name if name in names else None
        kl, gold = run["curve"]["KL"], run["curve"]["gold"]
        frontier.plot(kl, gold, color=color, alpha=0.6, label=label)
        frontier.plot(kl[-1], gold[-1], "o", color=color)
    score, kl = np.array(list(found["best of n"].values())).T
    frontier.plot(kl, score, "k^:", label="best of " + ", ".join(map(str, BEST_OF)))
    frontier.set(title="reward against KL", ylabel="gold score")
    proxies = over.twinx()
    for number, (n, run) in enumerate(on_learned.items()):
        curve = run["curve"]
        over.plot(curve["KL"], curve["gold"], color=f"C{number}", label=f"{n:,} pairs")
        proxies.plot(curve["KL"], curve["proxy"], "--", color=f"C{number}", alpha=0.6)
    over.set(title="over-optimisation of learned rewards", ylabel="gold score (solid)")
    proxies.set_ylabel("learned score (dashed), in σ")
    for axes in (frontier, over):
        axes.set_xlabel("KL to SFT, nats a sequence")
    held.plot(adaptive["objective/kl"], label=f"KL, batch of {found['batch']}")
    held.axhspan(TARGET - 1, TARGET + 1, color="C0", alpha=0.15, label="target ± 1")
    held.set(title="adaptive price", xlabel="updates", ylabel="KL to SFT, nats a sequence")
    for axes in (frontier, over, held):
        axes.legend(fontsize=8)
    return drawn
