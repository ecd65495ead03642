"""The compiled programs of a run: its start, a segment of iterations, an evaluation."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxrl_po.config import Config
from jaxrl_po.host.machine.identity import program_identity
from jaxrl_po.host.runs.directory import RunSettings
from jaxrl_po.loop.divergence import is_finite
from jaxrl_po.loop.evaluate import Evaluation, evaluate
from jaxrl_po.loop.layout import everywhere
from jaxrl_po.loop.parts import Given
from jaxrl_po.loop.train import make_step
from jaxrl_po.types import Array, Params, TrainState

# Training's keys come from splits of the seed's key, which are folds of 0, 1, 2, …
EVALUATION_STREAM = 0x6576616C
MAX_KEPT = 8  # runs whose programs a process keeps


class Assessment(NamedTuple):
    """A policy evaluated both ways; E episodes each."""

    greedy: Evaluation
    sampled: Evaluation


class SegmentPrograms(NamedTuple):
    """Pure functions of one member."""

    # seed -> state; or (seed, params) -> state
    start: Callable[..., TrainState]
    # state, number of iterations -> state, metrics [L], of which the first ones are filled
    advance: Callable[[TrainState, Array], tuple[TrainState, dict[str, Array]]]
    assess: Callable[[tuple[TrainState, Array], Array], Assessment]  # (state, seed), iteration


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the programs of a run are made from; of equal ones they are the same."""

    identity: Any
    config: Config = dataclasses.field(compare=False)
    given: Given = dataclasses.field(compare=False)
    length: int
    num_episodes: int
    max_episode_steps: int
    mesh: Mesh | None


def make_programs(
    config: Config,
    given: Given,
    settings: RunSettings,
    mesh: Mesh | None = None,
) -> SegmentPrograms:
    """The programs of a run. One `advance` serves segments of all lengths up to the run's.

    Another run of the same config and objects, or its resumption, gets the same programs, which
    this process has compiled; what a given function reads is looked at anew (`fingerprint`).
    """
    identity = program_identity((config, *given), *given)
    length = min(settings.segment_length, config.num_iterations)
    episodes = settings.num_episodes, settings.max_episode_steps
    return programs_of(Recipe(identity, config, given, length, *episodes, mesh))


@functools.lru_cache(MAX_KEPT)
def programs_of(run: Recipe) -> SegmentPrograms:
    """The programs of a recipe, kept for as long as it is one of the last."""
    config, given, mesh = run.config, run.given, run.mesh
    init, step = make_step(config, *given, mesh=mesh)

    def start(seed: Array, params: Params | None = None) -> TrainState:
        return init(jax.random.key(seed), params)

    def advance(state: TrainState, count: Array) -> tuple[TrainState, dict[str, Array]]:
        abstract = jax.eval_shape(step, state)[1]
        buffers = jax.tree.map(lambda x: jnp.zeros((run.length, *x.shape), x.dtype), abstract)

        def write(buffer: Array, value: Array, i: Array) -> Array:  # `.at[i].set` would scatter
            written: Array = jax.lax.dynamic_update_index_in_dim(buffer, value, i, axis=0)
            return written

        def iterate(i: Array, carry: Any) -> Any:
            state, buffers = carry
            new_state, metrics = step(state)
            # An iteration that diverged is not entered. What is left is the state before it, its
            # key included, so each further iteration fails alike and the member stays there.
            finite = is_finite(metrics, new_state)
            state = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new_state, state)
            return state, jax.tree.map(lambda b, m: write(b, m, i), buffers, metrics)

        state, buffers = jax.lax.fori_loop(0, count, iterate, (state, buffers))
        return state, everywhere(mesh, buffers)

    def assess(member: tuple[TrainState, Array], iteration: Array) -> Assessment:
        state, seed = member
        keys = evaluation_keys(seed, iteration)
        both = Assessment(
            *(
                evaluate(
                    config,
                    state,
                    key,
                    run.num_episodes,
                    deterministic,
                    env=given.env,
                    network=given.network,
                    max_steps=run.max_episode_steps,
                    mesh=mesh,
                )
                for key, deterministic in zip(keys, (True, False), strict=True)
            )
        )
        seen: Assessment = everywhere(mesh, both)
        return seen

    return SegmentPrograms(start, advance, assess)


def evaluation_keys(seed: Array, iteration: Array) -> Array:
    """The keys [2] of a seed's evaluation, greedy and sampled, after an iteration."""
    stream = jax.random.fold_in(jax.random.key(seed), EVALUATION_STREAM)
    return jax.random.split(jax.random.fold_in(stream, iteration))
