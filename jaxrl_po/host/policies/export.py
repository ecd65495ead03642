"""Policies as portable programs: `jax.export` artefacts that run without this library's code."""

import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from jaxrl_po.envs.environment import named_leaves
from jaxrl_po.host.machine.files import write_whole
from jaxrl_po.host.machine.imports import import_extra
from jaxrl_po.host.policies import numpy_policy
from jaxrl_po.host.policies.observation import observations
from jaxrl_po.host.policies.policy import Leaves, read_policy
from jaxrl_po.types import Array, Network, PyTree

PLATFORMS = ("cpu", "cuda")


def export_policy(
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    network: Network | None = None,
    env: Any = None,
) -> list[Path]:
    """Write a policy, weights and normaliser included, as programs over any batch of observations.

        from jax import export
        greedy = export.deserialize(bytearray(open("policy_greedy.jax", "rb").read()))
        actions = greedy.call(observations)    # [batch, ...] -> [batch, ...], of one or more
        # policy_sampled.jax: sampled.call(observations, jax.numpy.uint32(seed))

    Observations of several arrays are nested dicts of them. A policy that remembers takes and
    returns its memory, a dict of arrays [batch, ...], zeros where episodes begin:

        actions, memory = greedy.call(observations, memory)
        actions, memory = sampled.call(observations, seed, memory)

    Beside them goes `numpy_policy.py`, which reads the policy folder with NumPy alone.

    Args:
        directory: a policy folder, or a run directory.
        out: where to; None for the folder `export` in the directory.
        network: as for `load_policy`.
        env: as for `load_policy`; the programs keep its `action_mask`.

    Returns:
        The files written.

    Raises:
        ValueError: naming what cannot be read.
    """
    import_extra("flatbuffers", "export")  # what jax.export writes with
    description, act, start = read_policy(directory, network, env)
    (batch,) = export.symbolic_shape("batch")
    example = observations(description, (batch,))
    seed = jax.ShapeDtypeStruct((), jnp.uint32)

    memory = [
        {name: jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype) for name, x in start.items()}
    ] * bool(start)

    def outcome(observations: PyTree, key: Array | None, memory: tuple[Leaves, ...]) -> PyTree:
        action, after, _ = act(named_leaves(observations), key, *(memory or ({},)))
        return (action, after) if memory else action

    def greedy(observations: PyTree, *memory: Leaves) -> PyTree:
        return outcome(observations, None, memory)

    def sampled(observations: PyTree, seed: Array, *memory: Leaves) -> PyTree:
        return outcome(observations, jax.random.key(seed), memory)

    folder = Path(directory) / "export" if out is None else Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for function, arguments in ((greedy, (example, *memory)), (sampled, (example, seed, *memory))):
        program = export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
        paths.append(folder / f"policy_{function.__name__}.jax")
        write_whole(paths[-1], bytes(program.serialize()))
    source = Path(numpy_policy.__file__)
    shutil.copyfile(source, folder / source.name)
    return [*paths, folder / source.name]
