"""How a run lies on devices: its environments cut over a mesh, all else on each of them."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrl_po.config import Config
from jaxrl_po.config.messages import described
from jaxrl_po.types import PyTree, TrainState


def environment_mesh(config: Config, mesh: Mesh) -> Mesh:
    """The mesh as the compiler is to use it, once it fits the config.

    Raises:
        ValueError: naming the field that does not fit the mesh, or what is wrong with the mesh.
    """
    if not isinstance(mesh, Mesh):
        raise ValueError(
            f'mesh must be a jax.sharding.Mesh, such as jax.make_mesh((8,), ("envs",)), '
            f"not {described(mesh)}"
        )
    if len(mesh.axis_names) != 1:
        raise ValueError(
            f"mesh must have one axis, that of the environments; this one has {mesh.axis_names}"
        )
    check_kind(mesh.devices.ravel().tolist())
    check_divides(config, mesh.size)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,))


def check_kind(devices: list[jax.Device]) -> None:
    """Raise unless devices are of one kind, and so of one speed and rounding."""
    kinds = sorted({device.device_kind for device in devices})
    if len(kinds) > 1:
        raise ValueError(f"devices are of different kinds: {', '.join(kinds)}")


def check_divides(config: Config, num_devices: int) -> None:
    """Raise unless so many devices hold as many whole blocks of environments each."""
    for name in ("num_envs", "minibatch_shards"):
        if getattr(config, name) % num_devices:
            raise ValueError(
                f"{name}={getattr(config, name)} is not a multiple of the mesh's {num_devices} "
                f"devices: each must hold as many blocks of environments as another, so take "
                f"minibatch_shards={num_devices} or a multiple, which divides num_envs"
            )


def state_shardings(mesh: Mesh, state: TrainState, num_axes: int = 0) -> TrainState:
    """The sharding of each array of a state: cut along its environments, if it has them, or whole.

    Args:
        mesh: of one axis.
        state: arrays, or their shapes.
        num_axes: how many stand before that of the environments.
    """
    whole = NamedSharding(mesh, PartitionSpec())
    by_environment = NamedSharding(mesh, PartitionSpec(*[None] * num_axes, mesh.axis_names[0]))
    placed: TrainState = jax.tree.map(lambda _: whole, state)
    normalizer = placed.normalizer
    if normalizer.reward != ():
        normalizer = normalizer._replace(reward=(normalizer.reward[0], by_environment))
    return placed._replace(
        rollout=jax.tree.map(lambda _: by_environment, state.rollout), normalizer=normalizer
    )


def everywhere(mesh: Mesh | None, tree: PyTree) -> PyTree:
    """Arrays, within a program, as a whole on each device: any process can read them."""
    if mesh is None:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh, PartitionSpec()))


def laid_out(mesh: Mesh | None, state: TrainState) -> TrainState:
    """The state, within a program, with each array where `state_shardings` has it."""
    if mesh is None:
        return state
    placed: TrainState = jax.lax.with_sharding_constraint(state, state_shardings(mesh, state))
    return placed
