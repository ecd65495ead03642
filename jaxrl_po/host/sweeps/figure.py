"""One door to the figures of a sweep, by its result or by its directory."""

import os
from typing import TYPE_CHECKING

from jaxrl_po.host.sweeps.plots import plot_heatmap, plot_learning_curves, plot_sensitivity
from jaxrl_po.host.sweeps.read import read_sweep
from jaxrl_po.host.sweeps.results import SweepResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_sweep(result: SweepResult | str | os.PathLike[str], *fields: str) -> "Figure":
    """A figure of a sweep: learning curves, or the final return against one field or two.

    Args:
        result: what `sweep` returned, or the directory of a sweep that has ended.
        fields: none for the learning curves of the best settings; one for the final return
            against it; two for a heat map of both.

    Returns:
        A figure of Matplotlib: `figure.savefig("sweep.png")`.

    Raises:
        ValueError: when a field was not swept, there are more than two, there is nothing to
            compare, or the directory holds no sweep that has ended.
    """
    found = read_sweep(result) if isinstance(result, str | os.PathLike) else result
    if not fields:
        return plot_learning_curves(found)
    if len(fields) > 2:
        raise ValueError(f"fields={fields}: a figure shows at most two")
    return plot_sensitivity(found, *fields) if len(fields) == 1 else plot_heatmap(found, *fields)
