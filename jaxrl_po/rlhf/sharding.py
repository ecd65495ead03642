"""How a run is laid out over devices: a mesh of ("dp", "fsdp", "tp"), and what is cut along it.

Sequences are cut over dp and fsdp, weights over fsdp, attention heads and the feed-forward width
over tp. The program stays the one of a single device: XLA places its pieces.
"""

from collections.abc import Callable

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrl_po.types import PyTree

AXES = "dp", "fsdp", "tp"

# By the end of a parameter's path; the leading axis of what is in "layers" is the layer.
SPECS = {
    "embedding/embedding": PartitionSpec("tp", "fsdp"),
    "position/embedding": PartitionSpec(None, "fsdp"),
    "layers/query/kernel": PartitionSpec(None, "fsdp", "tp", None),
    "layers/key/kernel": PartitionSpec(None, "fsdp", "tp", None),
    "layers/value/kernel": PartitionSpec(None, "fsdp", "tp", None),
    "layers/attention_out/kernel": PartitionSpec(None, "tp", None, "fsdp"),
    "layers/feedforward_in/kernel": PartitionSpec(None, "fsdp", "tp"),
    "layers/feedforward_out/kernel": PartitionSpec(None, "tp", "fsdp"),
}


def make_mesh(shape: tuple[int, int, int]) -> Mesh:
    """A mesh of that many devices along dp, fsdp and tp."""
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def parameter_shardings(params: PyTree, mesh: Mesh) -> PyTree:
    """The sharding of each of the transformer's parameters; norms and biases are everywhere."""

    def choose(path: tuple, leaf: jax.Array) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        spec = next((s for end, s in SPECS.items() if name.endswith(end)), PartitionSpec())
        return NamedSharding(mesh, spec)

    return jax.tree_util.tree_map_with_path(choose, params)


def shard_sequences(mesh: Mesh) -> Callable[[PyTree], PyTree]:
    """What `make_rlhf(constrain=...)` takes: rows, one a sequence, cut over dp and fsdp."""

    def constrain(tree: PyTree) -> PyTree:
        rows = NamedSharding(mesh, PartitionSpec(("dp", "fsdp")))
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, rows), tree)

    return constrain
