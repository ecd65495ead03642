"""An observation of several arrays in a policy's description, and back in its own form."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.envs.environment import leaf_name, named_leaves
from jaxrl_po.host.policies.numpy_policy import leaves_of, nested
from jaxrl_po.types import Network, PyTree


def describe_observation(observation: PyTree) -> dict[str, Any]:
    """Shape and dtype of the only array, or of each array by its name."""
    leaves = {
        name: {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for name, leaf in named_leaves(observation).items()
    }
    return leaves.get("", {"leaves": leaves})


def observations(description: dict[str, Any], batch: tuple[Any, ...] = ()) -> PyTree:
    """Shapes and dtypes of observations [*batch, ...], nested dicts where there are several arrays.

    A dtype is the environment's, where this process has it.
    """

    def struct(leaf: dict[str, Any]) -> jax.ShapeDtypeStruct:
        saved = np.dtype(leaf["dtype"])
        dtype = np.dtype(f"{saved.kind}{min(saved.itemsize, jnp.zeros(()).dtype.itemsize)}")
        return jax.ShapeDtypeStruct((*batch, *leaf["shape"]), dtype)

    return nested({name: struct(leaf) for name, leaf in leaves_of(description).items()})


def in_form_of(example: PyTree, leaves: Mapping[str, Any]) -> PyTree:
    """Arrays by name in the structure and dtypes of an example."""
    return jax.tree.map_with_path(
        lambda path, leaf: jnp.asarray(leaves[leaf_name(path)], leaf.dtype), example
    )


def check_reads_dicts(network: Network, example: PyTree) -> None:
    """Raise unless a network takes nested dicts, where it was made for another form of them."""
    rows = jax.tree.map(lambda x: jnp.zeros((1, *x.shape), x.dtype), example)
    try:
        memory = network.initial_memory(1)
        jax.eval_shape(
            lambda key: network.policy(network.init(key), rows, memory), jax.random.key(0)
        )
    except (AttributeError, TypeError, LookupError) as error:
        raise ValueError(
            "network: it cannot read an observation's arrays as nested dicts "
            f"({type(error).__name__}: {error}): pass the environment as env="
        ) from None
