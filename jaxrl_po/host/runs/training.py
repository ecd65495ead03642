"""The seeds of a run as they are trained: their states, segment by segment."""

from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh

from jaxrl_po.config import Config
from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.machine.arrays import from_host
from jaxrl_po.host.machine.execution import compile_blocks, join_blocks, split_members
from jaxrl_po.host.runs import events
from jaxrl_po.host.runs.checkpoint import Checkpoint
from jaxrl_po.host.runs.clock import Clock
from jaxrl_po.host.runs.directory import RunSettings
from jaxrl_po.host.runs.engines import CompiledEngine, Engine, HostEngine
from jaxrl_po.host.runs.result import RunResult
from jaxrl_po.host.runs.segments import Assessment, SegmentPrograms, make_programs
from jaxrl_po.host.runs.terminal import Parts, in_parts
from jaxrl_po.host.runs.watch import Seen, Watch
from jaxrl_po.host.simulators.pool import SimulatorError
from jaxrl_po.loop.layout import state_shardings
from jaxrl_po.loop.parts import Given
from jaxrl_po.types import Params, PyTree, TrainState


class Training:
    """The states of all seeds, on the device, and the programs that take them on."""

    def __init__(
        self,
        config: Config,
        settings: RunSettings,
        given: Given,
        begin: Checkpoint | Params | None,
        tell: Callable[[str], None],
        mesh: Mesh | None = None,
    ) -> None:
        """Compile, telling what, and stand at a checkpoint, or else at the start of the run.

        A start has the parameters given [S, ...], or else random ones. Over a mesh each seed has
        all its devices.
        """
        self._mesh = mesh
        restored = begin if isinstance(begin, Checkpoint) else None
        self.clock = Clock()
        self.seeds = list(range(settings.seed, settings.seed + settings.num_seeds))
        self.begun = self.done = restored.iteration if restored else 0
        self.history: list[dict[str, np.ndarray]] = []
        self._steps = config.num_envs * config.num_steps * settings.num_seeds
        self._assessed: tuple[int, Assessment] | None = None
        self._numbers = split_members(np.array(self.seeds, np.uint32), mesh)
        with self.clock("compile"):
            tell("compiling: the initial state")
            self._programs = make_programs(config, given, settings, mesh)
            if restored:
                self.blocks = self.restore(restored)
            elif begin is None:
                start = compile_blocks(self._programs.start, self._numbers, mesh=mesh)
                self.blocks = start(self._numbers)
            else:
                members = split_members((np.array(self.seeds, np.uint32), begin), mesh)
                start_from = compile_blocks(
                    lambda member: self._programs.start(*member), members, mesh=mesh
                )
                self.blocks = start_from(members)
            self._engine = self._make_engine(config, settings, given, tell)
            self.blocks = self._engine.blocks
        self._watch = Watch(self.seeds, self._engine.diagnosis)
        self._watch.resumed(self.blocks, self.done)

    @property
    def goes_on(self) -> bool:
        """Whether some seed has not diverged, and no environment has failed."""
        return len(self._watch.diverged) < len(self.seeds) and self.failure is None

    @property
    def metric_names(self) -> list[str]:
        """Of an iteration."""
        return self._engine.metric_names

    @property
    def failure(self) -> SimulatorError | None:
        """What the last segment was cut short by, where environments are on the host."""
        return self._engine.failure

    def advance(self, count: int, parts: Parts) -> Seen | None:
        """Do so many iterations, in the parts that a bar wants to see.

        Fewer where an environment on the host fails: see `failure`; None if not one was done.
        """
        with self.clock("train"):
            segments = in_parts(self._engine.advance, parts)(self.blocks, count)
        count = next(iter(segments[0][1].values())).shape[1]
        if not count:
            return None
        self.blocks = [state for state, _ in segments]
        seen = self._watch.look(segments, self.done, count)
        self.done += count
        self.history.append(events.masked(seen.metrics, seen.num_done))
        return seen

    def evaluate(self) -> Assessment:
        """Evaluate the policies as they are."""
        if self._assessed is None or self._assessed[0] < self.done:
            self._assessed = self.done, self.assess(self.blocks, self.done)
        return self._assessed[1]

    def assess(self, blocks: list[PyTree], iteration: int) -> Assessment:
        """Evaluate the states of an iteration; the same states get the same episodes."""
        with self.clock("evaluate"):
            results = self._engine.assess(blocks, iteration)
            assessment: Assessment = jax.tree.map(np.asarray, results)
            return assessment

    def restore(self, saved: Checkpoint) -> list[PyTree]:
        """The states of a checkpoint.

        Raises:
            ValueError: naming what in it is not what is needed.
        """
        state = restore(self._programs, len(self.seeds), saved, self._mesh)
        return split_members(state, self._mesh)

    def result(self) -> RunResult:
        """What has come of it."""
        evaluation, seconds = self.evaluate(), self.clock.seconds
        return RunResult(
            state=join_blocks(self.blocks),
            metrics={
                name: np.concatenate([part[name] for part in self.history], axis=1)
                for name in (self.history[0] if self.history else ())
            },
            evaluation=evaluation.sampled,
            greedy_evaluation=evaluation.greedy,
            diverged=self._watch.diverged,
            timesteps=(self.done - self.begun) * self._steps,
            compile_seconds=seconds["compile"],
            train_seconds=seconds["train"],
            evaluation_seconds=seconds["evaluate"],
            host_seconds=seconds["host"],
        )

    def close(self) -> None:
        """Let go of environments on the host."""
        self._engine.close()

    def _make_engine(
        self, config: Config, settings: RunSettings, given: Given, tell: Callable[[str], None]
    ) -> Engine:
        host = host_environment(config.env_id, given.env, config.env_params)
        if host is None:
            return CompiledEngine(
                config, given, self._programs, self.blocks, self.seeds, tell, self._mesh
            )
        return HostEngine(config, given, settings, host, self.blocks, self.done, tell)


def restore(
    programs: SegmentPrograms, num_seeds: int, saved: Checkpoint, mesh: Mesh | None = None
) -> TrainState:
    """The states [S, ...] of a checkpoint, each over the whole of a mesh.

    Raises:
        ValueError: naming what in it is not what is needed.
    """
    template = jax.eval_shape(jax.vmap(programs.start), np.zeros(num_seeds, np.uint32))
    try:
        shardings = None if mesh is None else state_shardings(mesh, template, 1)
        state: TrainState = from_host(template, saved.arrays, shardings)
        return state
    except ValueError as error:
        raise ValueError(
            f"the checkpoint of iteration {saved.iteration} does not fit: {error} (is env or "
            "network another one, or jax_enable_x64, or jax_default_prng_impl?)"
        ) from error
