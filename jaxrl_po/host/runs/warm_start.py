"""Parameters that a run is given to start from, in place of random ones."""

from typing import Any

import jax
import numpy as np

from jaxrl_po.config.messages import described
from jaxrl_po.host.machine.arrays import path_name
from jaxrl_po.types import Network, Params


def starting_params(params: Any, network: Network, num_seeds: int) -> Params:
    """The parameters of each of S members [S, ...], of one's own for all or for each.

    Args:
        params: as `TrainState.params` of one run has them, or with an axis [S, ...] in front.
        network: whose parameters they are.
        num_seeds: S.

    Raises:
        ValueError: naming the array that does not fit, what it is and what is wanted.
    """
    if not isinstance(params, Params):
        raise ValueError(
            "params must be a jaxrl_po.types.Params, such as `result.state.params`, "
            f"not {described(params)}"
        )
    template = jax.eval_shape(network.init, jax.random.key(0))
    found, wanted = (
        {path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
        for tree in (params, template)
    )
    if found.keys() != wanted.keys():
        raise ValueError(
            "params: they are not this network's; they differ in "
            f"{', '.join(sorted(found.keys() ^ wanted.keys()))}"
        )
    several = all(np.shape(found[n]) == (num_seeds, *wanted[n].shape) for n in wanted)
    for name, leaf in wanted.items():
        array = np.asarray(found[name])
        if not several and array.shape != leaf.shape:
            raise ValueError(
                f"params: {name} has shape {list(array.shape)}; wanted is {list(leaf.shape)}, or "
                f"{[num_seeds, *leaf.shape]} in all of them for {num_seeds} seeds"
            )
        if array.dtype != leaf.dtype:
            raise ValueError(f"params: {name} is {array.dtype}; wanted is {leaf.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"params: {name} holds numbers that are not finite")
    each: Params = jax.tree.map(
        lambda x: np.asarray(x) if several else np.broadcast_to(x, (num_seeds, *np.shape(x))),
        params,
    )
    return each
