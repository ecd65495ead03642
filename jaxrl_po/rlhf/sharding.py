"""How a run is laid out over devices: a mesh of ("dp", "fsdp", "tp"), and what is cut along it.

Sequences are cut over dp and fsdp, weights over fsdp, attention heads and the feed-forward width
over tp. The program stays the one of a single device: XLA places its pieces.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

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
    "layers/feedforward_gate/kernel": PartitionSpec(None, "fsdp", "tp"),
    "layers/feedforward_out/kernel": PartitionSpec(None, "tp", "fsdp"),
    "unembedding/kernel": PartitionSpec("fsdp", "tp"),
    "lora_a": PartitionSpec(),
    "lora_b": PartitionSpec(),
    "scale": PartitionSpec(),
    "bias": PartitionSpec(),
}


def make_mesh(shape: tuple[int, int, int]) -> Mesh:
    """A mesh of that many devices along dp, fsdp and tp."""
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def parameter_shardings(
    params: PyTree, mesh: Mesh, specs: Mapping[str, PartitionSpec] = SPECS
) -> PyTree:
    """The sharding of each parameter; norms, biases and other vectors are everywhere.

    Args:
        params: of the transformer, alone or within an actor-critic or a reward model.
        mesh: of `make_mesh`.
        specs: by the end of a parameter's path, what is cut along which axis. Another model needs
            a table of its own.

    Raises:
        ValueError: when a parameter is not in the table, or the mesh does not divide it.
    """

    def choose(path: tuple[Any, ...], leaf: jax.Array) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        label = f"parameter {name!r} of shape {list(leaf.shape)}"
        found = [spec for end, spec in specs.items() if f"/{name}".endswith(f"/{end}")]
        if not found and leaf.ndim > 1:
            raise ValueError(
                f"{label} has no layout and would be copied to every device: give `specs` an entry "
                f"that ends its path (PartitionSpec() for a copy); known: {', '.join(specs)}"
            )
        sharding = NamedSharding(mesh, found[0] if found else PartitionSpec())
        check_divided(label, leaf.shape, sharding)
        return sharding

    return jax.tree_util.tree_map_with_path(choose, params)


def check_divided(label: str, shape: tuple[int, ...], sharding: NamedSharding) -> None:
    """Raise unless the mesh cuts every axis into equal pieces."""
    spec, sizes = sharding.spec, sharding.mesh.shape
    if len(spec) > len(shape):
        raise ValueError(f"{label} has fewer axes than its layout {spec}")
    for axis, names in enumerate(spec):
        names = () if names is None else (names,) if isinstance(names, str) else names
        pieces = math.prod(sizes[name] for name in names)
        if shape[axis] % pieces:
            raise ValueError(
                f"{label}: {' and '.join(names)} = {pieces} of the mesh does not divide axis "
                f"{axis}, of {shape[axis]}"
            )


def shard_sequences(mesh: Mesh) -> Callable[[PyTree], PyTree]:
    """What `make_rlhf(constrain=...)` takes: rows, one a sequence, cut over dp and fsdp."""
    rows = NamedSharding(mesh, PartitionSpec(("dp", "fsdp")))

    def cut(x: jax.Array) -> jax.Array:
        check_divided("a batch of sequences (update.num_envs)", x.shape, rows)
        constrained: jax.Array = jax.lax.with_sharding_constraint(x, rows)
        return constrained

    def constrain(tree: PyTree) -> PyTree:
        return jax.tree.map(cut, tree)

    return constrain
