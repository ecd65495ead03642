"""What `rlhf_smollm.py` found: rewards at equal distances from the reference, a figure, texts."""

import pathlib
from typing import Any

import numpy as np
from matplotlib.figure import Figure

Record = dict[str, Any]  # of a row: "curve", "seconds", "texts", "measured"
Found = dict[str, Any]  # "best_of": of the reference; "rows": a record each

NATS = 1.0, 2.0, 3.0  # an answer
BEST_OF = 1, 2, 4, 8, 16

PAGE = """\
# RLHF on SmolLM2-135M-Instruct: `python experiments/{command}`

{measured}

The policy continues openings of 3 to 8 words by at most {length} tokens; the reward is VADER's
score of the whole, in (-1, 1). {answers} answers an iteration, one seed; a run ends when it is
{most:g} nats an answer from the model that it began from, or after {iterations} iterations.
Measured every {every} iterations, TRPO every {every_trpo}, on one sampled answer to each of
{prompts} openings that were not trained on. KL: exact given each token. Win-rate: against that
model, on the same opening. "lora": adapters of rank {rank} on every dense map; otherwise all
weights.

## At equal KL

Gold reward and win-rate between two measurements are read off the line that joins them.

| run | {gold} | {wins} |
|---|{rule}|
{equal}

![gold reward against KL]({figure})

The best of n answers of the model that they began from, on the same openings, by sixteen answers
to each:

| n | gold | KL at most |
|---|---|---|
{best}

## The last policies

Seconds are a clock's, with whatever else the machine did then, and are not to be compared.

| run | iterations | gold | reference | gain | KL | win-rate | seconds an iteration |
|---|---|---|---|---|---|---|---|
{rows}

## Texts

Not chosen: the first {texts} test openings, the same in each list.

{lists}
"""


def at_kl(record: Record, nats: float, what: str) -> float | None:
    """A measure where the KL first reaches so many nats, between two visits linear in KL."""
    for before, after in zip(record["curve"], record["curve"][1:], strict=False):
        if before["kl"] < nats <= after["kl"]:
            share = (nats - before["kl"]) / (after["kl"] - before["kl"])
            return float(before[what] + share * (after[what] - before[what]))
    return None


def best_of(scores: np.ndarray) -> dict[str, tuple[float, float]]:
    """n: mean best score of n answers, of [K, prompts] in groups, and log n - (n - 1) / n nats."""
    most, prompts = scores.shape
    means = {n: scores.reshape(most // n, n, prompts).max(axis=1).mean() for n in BEST_OF}
    return {str(n): (float(mean), float(np.log(n) - (n - 1) / n)) for n, mean in means.items()}


def draw(found: Found, path: pathlib.Path) -> None:
    """Gold reward against KL: a line a run, and the best of n."""
    figure = Figure(figsize=(6, 3.6), layout="tight")
    axis = figure.subplots()
    for name, record in found["rows"].items():
        curve = record["curve"]
        axis.plot([x["kl"] for x in curve], [x["score"] for x in curve], "o-", ms=3, label=name)
    gold, nats = zip(*found["best_of"].values(), strict=True)
    axis.plot(nats, gold, "k--", lw=1, label=f"best of n ≤ {max(BEST_OF)} (KL at most)")
    axis.set(xlabel="KL from the reference, nats an answer", ylabel="gold reward")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def page(found: Found, told: dict[str, Any]) -> str:
    """The tables, and the texts of all rows."""
    records = found["rows"]

    def cell(record: Record, nats: float, what: str) -> str:
        value = at_kl(record, nats, what)
        return "" if value is None else f"{value:.3f}"

    equal = [
        [name, *(cell(record, nats, what) for what in ("score", "win_rate") for nats in NATS)]
        for name, record in records.items()
    ]
    rows = [
        f"| {name} | {end['iteration']} | {end['score']:.3f} | {end['reference_score']:.3f} "
        f"| {end['score'] - end['reference_score']:+.3f} | {end['kl']:.2f} "
        f"| {end['win_rate']:.3f} | {record['seconds']:.1f} |"
        for name, record in records.items()
        for end in record["curve"][-1:]
    ]
    best = [f"| {n} | {gold:.3f} | {nats:.2f} |" for n, (gold, nats) in found["best_of"].items()]
    first = next(iter(records.values()))
    texts = {"reference": first["texts"]["reference"]}
    texts |= {name: record["texts"][name] for name, record in records.items()}
    lists = ["\n".join([f"{name}:\n", *(f"- {t}" for t in some)]) for name, some in texts.items()]
    return PAGE.format(
        measured="\n".join(dict.fromkeys(record["measured"] for record in records.values())),
        most=max(NATS),
        gold=" | ".join(f"gold at {nats:g}" for nats in NATS),
        wins=" | ".join(f"win-rate at {nats:g}" for nats in NATS),
        rule="---|" * (2 * len(NATS) - 1) + "---",
        equal="\n".join(f"| {' | '.join(row)} |" for row in equal),
        rows="\n".join(rows),
        best="\n".join(best),
        texts=len(texts["reference"]),
        lists="\n\n".join(lists),
        **told,
    )
