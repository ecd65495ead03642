"""Draws the figures of docs/learn: runs the code that each page shows, and plots what it computes.

python docs/figures/learn.py          # all pages, under a minute each
python docs/figures/learn.py clip     # one
"""

import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

STYLE: Any = {"svg.hashsalt": "jaxrl_po", "svg.fonttype": "none", "font.size": 9}
FOLDER = pathlib.Path(__file__).parents[1] / "learn"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
Namespace = dict[str, Any]


def two_plots() -> tuple[Any, Any]:
    """A figure of two plots side by side."""
    return plt.subplots(1, 2, figsize=(7.2, 2.8), layout="constrained")


def one_step(ns: Namespace) -> Any:
    """Return and KL against the learning rate."""
    figure, (left, right) = two_plots()
    left.semilogx(ns["learning_rates"], ns["returns"], "o-", ms=3)
    left.set(xlabel="learning rate of the one step", ylabel="return after it", ylim=(0, None))
    right.loglog(ns["learning_rates"], ns["kl"], "o-", ms=3)
    right.set(xlabel="learning rate of the one step", ylabel="KL(old‖new), nats")
    return figure


def trust_region(ns: Namespace) -> Any:
    """KL that came of the one that was asked for, and the return."""
    figure, (left, right) = two_plots()
    left.loglog(ns["radii"], ns["radii"], ":", color="grey")
    for method in ("npg", "trpo"):
        left.loglog(ns["radii"], ns[f"{method}_kl"], "o-", ms=3, label=method.upper())
        right.semilogx(ns["radii"], ns[f"{method}_returns"], "o-", ms=3, label=method.upper())
    left.set(xlabel="δ, asked for", ylabel="KL(old‖new), nats")
    left.legend()
    right.set(xlabel="δ, asked for", ylabel="return after it", ylim=(0, None))
    return figure


def by_hand(ns: Namespace) -> Any:
    """Residual of conjugate gradient, and the KL along the step."""
    figure, (left, right) = two_plots()
    left.semilogy(np.arange(len(ns["residuals"])) + 1, ns["residuals"], "o-", ms=3)
    left.set(xlabel="iteration of conjugate gradient", ylabel="‖g − (F + λI)x‖ / ‖g‖")
    for name, true, model in (
        ("KL", "true_kl", "model_kl"),
        ("surrogate", "true_gain", "model_gain"),
    ):
        (drawn,) = right.plot(ns["fractions"], ns[true], label=name)
        dashed = {"ls": "--", "color": drawn.get_color(), "label": f"{name}, model"}
        right.plot(ns["fractions"], ns[model], **dashed)
    right.set(xlabel="fraction of the full step")
    right.legend()
    return figure


def advantages(ns: Namespace) -> Any:
    """What is told of the better action, and the noise, against λ."""
    figure, (left, right) = two_plots()
    left.axhline(0.1, color="grey", ls=":")
    for name in ns["gap"]:
        left.plot(ns["lambdas"], ns["gap"][name], "o-", ms=3, label=f"knows {name}")
        right.plot(ns["lambdas"], ns["noise"][name], "o-", ms=3)
    left.set(xlabel="λ", ylabel="mean Â, right less left", ylim=(0, None))
    left.legend()
    right.set(xlabel="λ", ylabel="standard deviation of Â", ylim=(0, None))
    return figure


def clip(ns: Namespace) -> Any:
    """KL and return with and without a clip."""
    figure, (left, right) = two_plots()
    for i, label in enumerate(("ε = 0.2", "no clip")):
        left.loglog(ns["learning_rates"], ns["kl"][i], "o-", ms=3, label=label)
        right.semilogx(ns["learning_rates"], ns["returns"][i], "o-", ms=3, label=label)
    left.set(xlabel="learning rate", ylabel="KL(old‖new), nats")
    left.legend()
    right.set(xlabel="learning rate", ylabel="return after it", ylim=(0, None))
    return figure


def language_models(ns: Namespace) -> Any:
    """Score, and what it is worth at the price of its KL, over the updates."""
    figure, (left, right) = two_plots()
    for i, price in enumerate(np.asarray(ns["prices"])):
        left.plot(ns["score"][i], label=f"β = {price:g}")
        right.plot(ns["score"][i] - price * ns["kl"][i], color=f"C{i}", lw=0.8)
        right.axhline(ns["best"][i], color=f"C{i}", ls="--")
    left.set(xlabel="update", ylabel="sevens a response")
    right.set(xlabel="update", ylabel="score − β KL", ylim=(-1, None))
    left.legend()
    return figure


PAGES: dict[str, Callable[[Namespace], Any]] = {
    function.__name__: function
    for function in (one_step, trust_region, by_hand, advantages, clip, language_models)
}


def draw(name: str) -> Namespace:
    """Run a page's code and write its figure."""
    namespace: Namespace = {}
    for block in BLOCK.findall((FOLDER / f"{name}.md").read_text(encoding="utf-8")):
        exec(block, namespace)
    plt.switch_backend("Agg")
    with plt.rc_context(STYLE):
        figure = PAGES[name](namespace)
        figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None})
    return namespace


if __name__ == "__main__":
    for page in sys.argv[1:] or PAGES:
        draw(page)
