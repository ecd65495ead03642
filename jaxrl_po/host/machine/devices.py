"""The devices that one run is laid out over: as they are asked for, and as a mesh of them."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrl_po.config import Config
from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.machine.arguments import integer
from jaxrl_po.host.machine.processes import peers_of
from jaxrl_po.loop.layout import environment_mesh

Devices = str | int | Sequence[jax.Device] | None  # "all", the first n, those; None for no mesh
AXIS = "envs"


def mesh_of_run(config: Config, env: Any, devices: Devices) -> Mesh | None:
    """The mesh of the devices that a run is to have, checked; None where none are told.

    Raises:
        ValueError: naming the field or argument that does not fit.
    """
    mesh = device_mesh(devices)
    if mesh is None:
        return None
    if host_environment(config.env_id, env, config.env_params):
        raise ValueError(
            f"devices={devices!r}: environments on the host are not laid out over devices"
        )
    return environment_mesh(config, mesh)


def device_mesh(devices: Devices) -> Mesh | None:
    """A mesh of the devices asked for, along one axis; None where none are.

    Raises:
        ValueError: naming what is asked for that there is not.
    """
    if devices is None:
        return None
    there = jax.devices()
    if isinstance(devices, str):
        if devices != "all":
            raise ValueError(f'devices={devices!r}: it must be "all", a number of them or a list')
        chosen = there
    elif isinstance(devices, int):
        count = integer("devices", devices)
        if jax.process_count() > 1:
            raise ValueError(
                f'devices={count}: of several processes give "all", or jax.local_devices()'
            )
        if count > len(there):
            raise ValueError(
                f"devices={count} is more than there are: {len(there)} of {there[0].device_kind}"
            )
        chosen = there[:count]
    else:
        chosen = _listed(devices)
    mesh = Mesh(np.array(chosen), (AXIS,))
    peers_of(mesh)  # refuses some of the processes
    return mesh


def _listed(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """The devices of a list.

    Raises:
        ValueError: where it is none of devices, or holds one twice.
    """
    chosen = list(devices) if isinstance(devices, Sequence | np.ndarray) else []
    if not chosen or not all(isinstance(device, jax.Device) for device in chosen):
        raise ValueError(
            f'devices={devices!r}: it must be "all", a number of them or a list of jax.devices()'
        )
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"devices={devices!r} holds one of them twice")
    return chosen
