"""Members of a sweep whose environments step on the host: side by side, in one pool of them."""

import time
from typing import Any

import jax
import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.envs.hosted import HostEnvironment
from jaxrl_po.host.machine.execution import (
    Load,
    Plan,
    Save,
    compile_blocks,
    join_blocks,
    split_members,
)
from jaxrl_po.host.simulators.advance import policy_programs
from jaxrl_po.host.simulators.collector import Collector
from jaxrl_po.host.simulators.pool import Pool, environment_seeds
from jaxrl_po.host.sweeps.members import (
    Member,
    Record,
    blank_record,
    curve_points,
    data_as_keys,
    keys_as_data,
    note,
)
from jaxrl_po.loop.collect import episode_means
from jaxrl_po.loop.learn import make_learn
from jaxrl_po.loop.parts import Given, make_parts
from jaxrl_po.loop.train import make_step
from jaxrl_po.types import PyTree, TrainState

CHUNK_SIZE = 8  # members side by side, unless the caller wants others


def plan_on_host(
    example: Config,
    given: Given,
    host: HostEnvironment,
    keep_state: bool,
    num_members: int,
    chunk_size: int | None,
) -> Plan:
    """The plan of members whose static side is `example`'s; see `plan_members`.

    A member has the environments that `run` would give its seed. They are in no file: where a rung
    goes on with a member, it begins new episodes.
    """
    width = min(num_members, chunk_size or CHUNK_SIZE)
    environment, network = make_parts(example, given.env, given.network)
    programs = policy_programs(example, environment, network)
    points = curve_points(example)
    updates: dict[int, Any] = {}  # by the number of blocks' members

    def start(member: Member) -> TrainState:
        return make_step(member.config, *given)[0](jax.random.key(member.seed))

    def update(block: Any) -> tuple[Record, TrainState]:
        config, record, state, rollout, transitions, sums, point = block
        state, metrics = make_learn(config, *given)(state, transitions)
        record = note(record, point, {**episode_means(sums), **metrics}, state)
        return record, state._replace(rollout=rollout)

    begin = jax.jit(jax.vmap(start))

    def train_on(batch: Member, progress: PyTree, first: int, last: int) -> PyTree:
        """Members from iteration `first` to `last`."""
        count = len(batch.seed)
        record, state = progress if first else (_blank(len(points), count), begin(batch))
        if first:
            state = data_as_keys(jax.eval_shape(begin, batch), state)
        pool = Pool(host, environment_seeds(batch.seed, example.num_envs, 0, first))
        try:
            collector = Collector(example, programs, pool, state)
            for i in range(first, last):
                transitions, sums = collector.collect(state)
                point = np.full(count, i // points[0], np.int32)
                parts = (batch.config, record, state, collector.standing())
                members = (*parts, transitions, sums, point)
                blocks = list(zip(*map(split_members, members), strict=True))
                size = len(blocks[0][-1])
                if size not in updates:
                    updates[size] = compile_blocks(update, blocks)
                record, state = join_blocks(updates[size](blocks))
        finally:
            pool.close()
        return record, keys_as_data(state) if keep_state else ()

    def run(count: int, load: Load, save: Save, *shared: Any) -> None:
        first, last = (int(number) for number in shared)
        for at in range(0, count, width):
            members = range(at, min(at + width, count))
            batch, progress = load(members)
            started = time.perf_counter()
            output = jax.device_get(train_on(batch, progress, first, last))
            save(members, output, (time.perf_counter() - started) / len(members))

    return Plan(run, width, 0)


def _blank(num_points: int, count: int) -> PyTree:
    return jax.tree.map(lambda x: np.stack([x] * count), blank_record(num_points))
