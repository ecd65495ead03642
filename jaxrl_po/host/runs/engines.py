"""What takes the members of a run on: compiled programs alone, or with environments on the host."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxrl_po.config import Config
from jaxrl_po.envs.hosted import HostEnvironment
from jaxrl_po.host.machine.execution import compile_blocks, join_blocks, split_members
from jaxrl_po.host.runs.diagnosis import Diagnosis, make_diagnosis
from jaxrl_po.host.runs.directory import RunSettings
from jaxrl_po.host.runs.logging import checked_names
from jaxrl_po.host.runs.segments import Assessment, SegmentPrograms, evaluation_keys
from jaxrl_po.host.simulators.advance import policy_programs
from jaxrl_po.host.simulators.collector import Collector
from jaxrl_po.host.simulators.evaluation import Evaluator
from jaxrl_po.host.simulators.pool import Pool, SimulatorError, environment_seeds
from jaxrl_po.loop.collect import episode_means
from jaxrl_po.loop.divergence import is_finite
from jaxrl_po.loop.learn import make_learn
from jaxrl_po.loop.parts import Given, make_parts
from jaxrl_po.types import PyTree, TrainState

Segments = list[tuple[TrainState, dict[str, Any]]]  # of each block: state, metrics [n, iterations]


class Engine(Protocol):
    """The programs of a run's members, which are kept in blocks [n, ...]."""

    blocks: list[TrainState]  # where they stand at first
    metric_names: list[str]  # of an iteration
    failure: SimulatorError | None  # what a segment was cut short by

    def advance(self, blocks: list[TrainState], count: Any) -> Segments:
        """So many iterations."""

    def assess(self, blocks: list[TrainState], iteration: int) -> Assessment:
        """Evaluate all members [S, E]; the same states of an iteration get the same episodes."""

    def diagnosis(self) -> Diagnosis:
        """What tells why a member diverged."""

    def close(self) -> None:
        """Let go of what is held."""


class CompiledEngine:
    """Of environments in JAX: a segment is one program."""

    def __init__(
        self,
        config: Config,
        given: Given,
        programs: SegmentPrograms,
        blocks: list[TrainState],
        seeds: list[int],
        tell: Callable[[str], None],
        mesh: Mesh | None,
    ) -> None:
        """Compile."""
        self.blocks = blocks
        self.failure: SimulatorError | None = None  # a program has none
        self._numbers, start = split_members(np.array(seeds, np.uint32), mesh), np.int32(0)
        self._parts = config, given
        one = jax.eval_shape(programs.start, jax.ShapeDtypeStruct((), np.uint32))
        self.metric_names = checked_names(jax.eval_shape(programs.advance, one, start)[1])
        tell("compiling: the training loop")
        self.advance = compile_blocks(programs.advance, blocks, start, donate=True, mesh=mesh)
        tell("compiling: the evaluation")
        self._assess = compile_blocks(programs.assess, self._members(blocks), start, mesh=mesh)

    def assess(self, blocks: list[TrainState], iteration: int) -> Assessment:
        """All members in one program each."""
        joined: Assessment = join_blocks(self._assess(self._members(blocks), np.int32(iteration)))
        return joined

    def diagnosis(self) -> Diagnosis:
        """The iteration once more, with an eye on its environment."""
        return make_diagnosis(*self._parts)

    def close(self) -> None:
        """Nothing is held."""

    def _members(self, blocks: list[TrainState]) -> list[Any]:
        return list(zip(blocks, self._numbers, strict=True))


class HostEngine:
    """Of environments on the host: rollouts there, around a compiled policy, and the same `learn`.

    All members share one pool of S·N environments, and new episodes begin with it. Where one of
    them fails, the iterations before it stay, and `failure` says what it was.
    """

    def __init__(
        self,
        config: Config,
        given: Given,
        settings: RunSettings,
        host: HostEnvironment,
        blocks: list[TrainState],
        done: int,
        tell: Callable[[str], None],
    ) -> None:
        """Make the environments, and compile."""
        self.failure: SimulatorError | None = None
        self._settings = settings
        self._seeds = list(range(settings.seed, settings.seed + settings.num_seeds))
        environment, network = make_parts(config, given.env, given.network)
        learn = make_learn(config, *given)

        def update(member: Any) -> tuple[TrainState, dict[str, Any]]:
            state, rollout, transitions, sums = member
            new, metrics = learn(state, transitions)
            metrics = {**episode_means(sums), **metrics}
            finite = is_finite(metrics, new)  # one that diverged is not entered: see `segments`
            state = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, state)
            return state._replace(rollout=rollout), metrics

        tell("making the environments")
        with ExitStack() as stack:
            self._pool = Pool(host, environment_seeds(self._seeds, config.num_envs, 0, done))
            stack.callback(self._pool.close)
            tell("compiling: the policy")
            programs = policy_programs(config, environment, network)
            collector = Collector(config, programs, self._pool, join_blocks(blocks))
            self._collector = collector
            self._evaluator = Evaluator(host, environment, network)
            self.blocks = [
                _begun(state, rollout)
                for state, rollout in zip(blocks, split_members(collector.standing()), strict=True)
            ]
            tell("compiling: the update")
            members = self._members(self.blocks, collector.rows, collector.sums)
            one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), members[0])
            self._metrics = jax.eval_shape(update, one)[1]
            self.metric_names = checked_names(self._metrics)
            self._update = compile_blocks(update, members)
            stack.pop_all()  # from here on `close` is what lets go of them

    def advance(self, blocks: list[TrainState], count: Any) -> Segments:
        """So many iterations; fewer where an environment fails."""
        history: list[list[dict[str, Any]]] = [[] for _ in blocks]
        for _ in range(int(count)):
            if self.failure is not None:
                break
            try:
                rollout = self._collector.collect(join_blocks(blocks))
            except SimulatorError as error:
                self.failure = error
                break
            outcomes = self._update(self._members(blocks, *rollout))
            blocks = [state for state, _ in outcomes]
            for metrics, (_, new) in zip(history, outcomes, strict=True):
                metrics.append(new)
        return [
            (state, {name: self._stacked(name, metrics) for name in self.metric_names})
            for state, metrics in zip(blocks, history, strict=True)
        ]

    def assess(self, blocks: list[TrainState], iteration: int) -> Assessment:
        """Greedy and sampled, each in a pool of its own."""
        numbers = jnp.array(self._seeds, jnp.uint32), jnp.int32(iteration)
        keys = jax.vmap(evaluation_keys, (0, None))(*numbers)
        episodes = self._settings.num_episodes, self._settings.max_episode_steps
        return Assessment(
            *self._evaluator.evaluate(join_blocks(blocks), keys, self._seeds, iteration, *episodes)
        )

    def diagnosis(self) -> Diagnosis:
        """What is not finite in an environment is a failure, so no cause of divergence."""
        return lambda state: []

    def close(self) -> None:
        """Let go of the environments."""
        self._pool.close()

    def _members(self, blocks: list[TrainState], *rollout: Any) -> list[Any]:
        """What an update takes: states, where environments stand, transitions, episodes."""
        parts = self._collector.standing(), *rollout
        return list(zip(blocks, *map(split_members, parts), strict=True))

    def _stacked(self, name: str, metrics: list[dict[str, Any]]) -> np.ndarray:
        """A metric [n, iterations], of which there may be none."""
        size = len(self._seeds) // len(self.blocks)
        none = np.zeros((size, 0), self._metrics[name].dtype)
        return np.concatenate([none, *(np.asarray(m[name])[:, None] for m in metrics)], axis=1)


def _begun(state: TrainState, rollout: PyTree) -> TrainState:
    """A state whose environments have all begun new episodes."""
    normalizer = state.normalizer
    if normalizer.reward != ():
        statistics, running = normalizer.reward
        normalizer = normalizer._replace(reward=(statistics, jnp.zeros_like(running)))
    return state._replace(rollout=rollout, normalizer=normalizer)
