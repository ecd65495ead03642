"""How the members of a batch of runs are executed: the one place that knows devices and cores."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_po.types import PyTree


def compile_members(
    function: Callable[..., PyTree], members: PyTree, *shared: Any
) -> Callable[..., PyTree]:
    """Compile `function(member, *shared)` for a batch of members [S, ...]: call(members, *shared).

    On accelerators the members are vmapped. On a CPU one small program gains nothing from several
    cores, so one single-threaded executable is called from a thread per core, a member at a time.
    Members are donated: their buffers are gone after the call.
    """
    if jax.default_backend() != "cpu":
        mapped = jax.vmap(function, in_axes=(0, *[None] * len(shared)))
        return jax.jit(mapped, donate_argnums=0).lower(members, *shared).compile()

    first = jax.tree.map(lambda x: x[0], members)
    options: dict[str, str | bool] = {"xla_cpu_multi_thread_eigen": False}
    compiled = (
        jax.jit(function, donate_argnums=0).lower(first, *shared).compile(compiler_options=options)
    )

    def call(members: PyTree, *shared: Any) -> PyTree:
        count = jax.tree.leaves(members)[0].shape[0]
        each = [jax.tree.map(lambda x, i=i: x[i], members) for i in range(count)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            outputs = list(
                pool.map(lambda member: jax.block_until_ready(compiled(member, *shared)), each)
            )
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)

    return call
