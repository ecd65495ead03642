"""How the members of a batch of runs are executed: the one place that knows devices and cores."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxrl_po.host.machine.arguments import integer
from jaxrl_po.types import PyTree

# One small program gains nothing from several cores; several programs do. And XLA prefers vectors
# of 256 bits: where a CPU has 512 (others take no notice), PPO with 4 x 128 takes 9 % less.
CPU_OPTIONS: dict[str, str | bool] = {
    "xla_cpu_multi_thread_eigen": False,
    "xla_cpu_prefer_vector_width": "512",
}
MEMORY_FRACTION = 0.8  # of a device's free memory that a chunk may take
OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"


def num_cores() -> int:
    """Cores that this process may use, which on shared machines are not all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


Load = Callable[[range], PyTree]  # members by number -> the members, stacked [n, ...] in NumPy
Save = Callable[[range, PyTree, float], None]  # members, their outputs [n, ...], seconds each


class Plan(NamedTuple):
    """A function of one member, compiled to run over many."""

    run: Callable[..., None]  # number of members, load, save, *shared
    chunk_size: int  # members in memory at a time
    chunk_bytes: int  # arguments, outputs and temporaries of a chunk on its fullest device


def split_members(members: PyTree, mesh: Mesh | None = None) -> list[PyTree]:
    """Members [S, ...] as the blocks [n, ...] that are executed as one: see `compile_blocks`."""
    if not _are_single(mesh):
        return [members]
    count = jax.tree.leaves(members)[0].shape[0]
    return [jax.tree.map(lambda x, i=i: x[i : i + 1], members) for i in range(count)]


def compile_blocks(
    function: Callable[..., PyTree],
    blocks: list[PyTree],
    *shared: Any,
    donate: bool = False,
    mesh: Mesh | None = None,
) -> Callable[..., list[PyTree]]:
    """Compile `function(member, *shared)` for blocks of members: call(blocks, *shared).

    On accelerators there is one block, vmapped. On a CPU one small program gains nothing from
    several cores, so a block is one member, and one single-threaded executable is called from a
    thread per core. Blocks stay apart between calls: stacking them would cost more than the visit.
    A member that is laid out over a mesh is a block too, and has all its devices to itself: blocks
    that ran at once would wait for each other's sums for ever.

    Args:
        function: member, *shared -> output; pytrees of arrays.
        blocks: as `split_members` gives them; all of one shape.
        shared: what all members share.
        donate: the blocks given to a call are gone after it.
        mesh: whose devices `function` lays a member out over.
    """
    compiled = _on_block(function, donate, _are_single(mesh)).lower(blocks[0], *shared).compile()

    def call(blocks: list[PyTree], *shared: Any) -> list[PyTree]:
        def call_one(block: PyTree) -> PyTree:
            # Means over no episodes are NaN by design; what diverged is seen, and told by name.
            with jax.debug_nans(False), jax.debug_infs(False):
                return jax.block_until_ready(compiled(block, *shared))

        if len(blocks) == 1 or mesh is not None:
            return [call_one(block) for block in blocks]
        with ThreadPoolExecutor(num_cores()) as pool:
            return list(pool.map(call_one, blocks))

    return call


def _on_block(function: Callable[..., PyTree], donate: bool, single: bool) -> Any:
    """A function of a member as a jitted one of a block, which the function keeps.

    In a cache it would be kept longer than the function, for it holds it.
    """
    options = CPU_OPTIONS if jax.default_backend() == "cpu" else {}
    kept = vars(function).setdefault("_on_block", {})
    way = donate, single, *sorted(options.items())
    if way not in kept:

        def on_block(block: PyTree, *shared: Any) -> PyTree:
            if not single:
                return jax.vmap(function, in_axes=(0, *[None] * len(shared)))(block, *shared)
            output = function(jax.tree.map(lambda x: x[0], block), *shared)
            return jax.tree.map(lambda x: x[None], output)

        donated = 0 if donate else ()
        kept[way] = jax.jit(on_block, donate_argnums=donated, compiler_options=options or None)
    return kept[way]


def _are_single(mesh: Mesh | None) -> bool:
    """Whether a block is one member."""
    return mesh is not None or jax.default_backend() == "cpu"


def join_blocks(blocks: list[PyTree]) -> PyTree:
    """The members [S, ...] of all blocks."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *blocks)


def compile_members(
    function: Callable[..., PyTree], members: PyTree, *shared: Any
) -> Callable[..., PyTree]:
    """Compile `function(member, *shared)` for members [S, ...]: call(members, *shared), stacked.

    Members are donated: their buffers are gone after the call.
    """
    blocks = compile_blocks(function, split_members(members), *shared, donate=True)

    def call(members: PyTree, *shared: Any) -> PyTree:
        return join_blocks(blocks(split_members(members), *shared))

    return call


def plan_members(
    function: Callable[..., PyTree],
    example: PyTree,
    shared: tuple[Any, ...],
    num_members: int,
    *,
    chunk_size: int | None = None,
    devices: str | None = None,
) -> Plan:
    """Compile `function(member, *shared)` for members too many to hold at once.

    On a CPU a thread per core calls one single-threaded executable. On accelerators, and over
    several devices, chunks of members are vmapped: as many as fit in memory, half as many when
    memory runs out after all.

    Args:
        function: member, *shared -> output; pytrees of arrays.
        example: one member, in NumPy.
        shared: what all members share; NumPy scalars.
        num_members: how many there will be.
        chunk_size: members in memory at a time; None for as many as fit.
        devices: "all" shards each chunk over all devices of this process; None takes one.

    Raises:
        ValueError: naming the argument that is out of range.
    """
    check_layout(chunk_size, devices)
    there = jax.local_devices()
    used = there if devices == "all" else there[:1]
    if jax.default_backend() == "cpu" and len(used) == 1:
        return _plan_threads(function, example, shared, chunk_size)
    return _plan_chunks(function, example, shared, num_members, chunk_size, used)


def check_layout(chunk_size: int | None, devices: str | None) -> None:
    """Raise unless members can be laid out so; arguments as for `plan_members`."""
    if devices not in (None, "all"):
        raise ValueError(f'devices={devices!r}: it must be None (one device) or "all"')
    if chunk_size is not None:
        integer("chunk_size", chunk_size)


def _plan_threads(
    function: Callable[..., PyTree],
    example: PyTree,
    shared: tuple[Any, ...],
    chunk_size: int | None,
) -> Plan:
    compiled = jax.jit(function).lower(example, *shared).compile(compiler_options=CPU_OPTIONS)
    num_threads = min(num_cores(), chunk_size or num_cores())

    def run(count: int, load: Load, save: Save, *shared: Any) -> None:
        def run_one(index: int) -> None:
            members = range(index, index + 1)
            member = jax.tree.map(lambda x: x[0], load(members))
            started = time.perf_counter()
            output = jax.device_get(compiled(member, *shared))
            seconds = time.perf_counter() - started
            save(members, jax.tree.map(lambda x: np.asarray(x)[None], output), seconds)

        pool = ThreadPoolExecutor(num_threads)
        try:
            list(pool.map(run_one, range(count)))
        finally:
            pool.shutdown(cancel_futures=True)

    return Plan(run, num_threads, num_threads * _total_bytes(compiled))


def _plan_chunks(
    function: Callable[..., PyTree],
    example: PyTree,
    shared: tuple[Any, ...],
    num_members: int,
    chunk_size: int | None,
    devices: list[jax.Device],
) -> Plan:
    wanted = min(num_members, chunk_size or num_members)
    width, compiled = _compile_fitting(
        function, example, shared, -(-wanted // len(devices)), devices
    )

    def run(count: int, load: Load, save: Save, *shared: Any) -> None:
        nonlocal width, compiled
        first = 0
        while first < count:
            size = width * len(devices)
            members = range(first, min(first + size, count))
            batch = jax.tree.map(lambda x, size=size: _pad(x, size), load(members))
            started = time.perf_counter()
            try:
                output = jax.device_get(compiled(batch, *shared))
            except jax.errors.JaxRuntimeError as error:
                if OUT_OF_MEMORY not in str(error) or width == 1:
                    raise
                width, compiled = _compile_fitting(function, example, shared, width // 2, devices)
                continue
            seconds = (time.perf_counter() - started) / len(members)
            kept = jax.tree.map(lambda x, members=members: x[: len(members)], output)
            save(members, kept, seconds)
            first = members.stop

    return Plan(run, width * len(devices), _total_bytes(compiled))


def _compile_fitting(
    function: Callable[..., PyTree],
    example: PyTree,
    shared: tuple[Any, ...],
    width: int,
    devices: list[jax.Device],
) -> tuple[int, jax.stages.Compiled]:
    """The largest number of members a device, at most `width`, that fits; and its program."""
    mapped = jax.vmap(function, in_axes=(0, *[None] * len(shared)))
    mesh = jax.make_mesh((len(devices),), ("members",), (AxisType.Auto,), devices=devices)
    split, whole = PartitionSpec("members"), PartitionSpec()
    if len(devices) > 1:  # members never talk to each other: no need to check for it
        in_specs = (split, *[whole] * len(shared))
        mapped = jax.shard_map(
            mapped, mesh=mesh, in_specs=in_specs, out_specs=split, check_vma=False
        )
    sharding = NamedSharding(mesh, split)
    while True:
        size = width * len(devices)
        batch = jax.tree.map(
            lambda x, size=size: jax.ShapeDtypeStruct((size, *x.shape), x.dtype, sharding=sharding),
            example,
        )
        compiled = jax.jit(mapped).lower(batch, *shared).compile()
        needed, free = _total_bytes(compiled), _free_bytes(devices)
        if needed <= free or width == 1:
            return width, compiled
        width = max(1, min(width // 2, int(width * free / needed)))


def _pad(x: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last member until there are `size`."""
    return np.concatenate([x, np.repeat(x[-1:], size - len(x), axis=0)])


def _total_bytes(compiled: jax.stages.Compiled) -> int:
    memory = compiled.memory_analysis()
    assert memory is not None
    total: int = (
        memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    )
    return total


def _free_bytes(devices: list[jax.Device]) -> float:
    """What a chunk may take on each device; unbounded where the backend does not say."""
    stats = [device.memory_stats() for device in devices]
    return min(
        MEMORY_FRACTION * (s["bytes_limit"] - s["bytes_in_use"]) if s else float("inf")
        for s in stats
    )
