"""How much of what a step of TRPO gains is gained on fresh steps too: is its direction noise?

    pip install 'jaxrl-po[envpool]'
    python experiments/fresh_gain.py    # what is missing of experiments/results/fresh_gain.md

Twenty times in training the policy of the moment collects several rollouts more, which nothing is
learned from. On all but the last the step is taken that training would take, and its surrogate
gain E[(r - 1) Â] is measured there and on the next of these rollouts.
"""

import argparse
import itertools
import pathlib
import time
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scores import curve, keep, kept, machine
from tasks.mujoco import on, trpo

from jaxrl_po import run
from jaxrl_po.config import Config
from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.runs.callbacks import Moment
from jaxrl_po.host.simulators.advance import policy_programs
from jaxrl_po.host.simulators.collector import Collector
from jaxrl_po.host.simulators.pool import Pool, environment_seeds
from jaxrl_po.loop.learn import make_batch, make_learn
from jaxrl_po.loop.parts import make_parts
from jaxrl_po.ops import importance_ratio
from jaxrl_po.types import Array, TrainState, Transition

RESULTS = pathlib.Path(__file__).with_name("results") / "fresh_gain"
NUM_SEEDS, VISITS, ROLLOUTS = 3, 20, 4
PHASES = 4  # of training, a line each
PURPOSE = 7  # of the environments' seeds: not those of training or evaluation
ROWS = {
    f"{task}, {8 * num_steps}": on(task, trpo(num_steps).replace(total_timesteps=500_000))
    for task, num_steps in (
        ("InvertedPendulum-v4", 128),
        ("InvertedPendulum-v4", 1024),
        ("InvertedDoublePendulum-v4", 128),
        ("HalfCheetah-v4", 128),
    )
}
PAGE = """\
# What TRPO gains on fresh steps: `python experiments/fresh_gain.py`

{measured}

TRPO's setting of [MuJoCo's table](tables_mujoco.md), half a million steps, three seeds, with
rollouts of as many steps as the name says. Twenty times in training five rollouts more were
collected by the policy of the moment, and nothing learned from them. On four the step was taken
that training would take, and its surrogate gain E[(r − 1) Â], in standard deviations of the
advantage, measured there ("own") and on the next one ("fresh"). Fresh over own is 1 where the
direction is that of all steps that there could be, and 0 where it is noise. By quarters of
training; return: of the episodes that ended then. ±: standard deviation over seeds.

With 1024 steps a rollout nearly all that a step gains is fitted to its own rollout (not told by
InvertedPendulum's last quarter, where seeds differ too much). On HalfCheetah too: so noise alone
does not make TRPO fall back. What differs is what is left to gain. HalfCheetah can always run
faster, and the little of each step that is no noise adds up; a pendulum that stands has nothing to
gain, and the steps go on, each as long as before, by then away from where it stood: in the second
quarter of InvertedPendulum they lose on fresh steps. With 8192 steps a rollout its late steps are
noise as well, but they are fewer by a factor of eight, and it stands. That this is why they do less
harm was not tested by itself. (Of a step of pure noise on N steps the own gain is about √(2 δ d /
N) without damping, where d directions matter: what HalfCheetah's first quarter has would be d / N
of 0.44.)

| task, steps a rollout | quarter | return | own gain | fresh gain | fresh / own |
|---|---|---|---|---|---|
{rows}
"""


class Fresh:
    """A callback that measures the gains of steps by the policy of the moment."""

    def __init__(self, config: Config, pool: Pool) -> None:
        """Of a config whose environments step on the host, by a pool of its own."""
        self.gains: list[np.ndarray] = []  # of each visit [S, ROLLOUTS, 2]: own, fresh
        self._config, self._pool = config, pool
        self._collector: Collector | None = None  # begins with the first policy
        environment, network = make_parts(config, None, None)
        self._programs = policy_programs(config, environment, network)
        learn = make_learn(config)

        def gain(state: TrainState, new: TrainState, rollout: Transition) -> Array:
            batch, _ = make_batch(config, network, state, rollout)
            distribution, _ = network.policy(new.params, batch.observation, batch.memory)
            ratio = importance_ratio(distribution.log_prob(batch.action), batch.log_prob)
            return ((ratio - 1.0) * batch.advantage).mean()

        def gains(state: TrainState, rollout: Transition, other: Transition) -> Array:
            new, _ = learn(state, rollout)
            return jnp.stack([gain(state, new, rollout), gain(state, new, other)])

        self._measure = jax.jit(jax.vmap(gains))

    def __call__(self, moment: Moment) -> None:
        """Collect rollouts, the first of which forgets the policy before, and measure."""
        state = moment.state
        if self._collector is None:
            self._collector = Collector(self._config, self._programs, self._pool, state)
        rollouts = []
        for i in range(ROLLOUTS + 2):
            keys = jax.vmap(jax.random.fold_in, (0, None))(state.key, i + 1)
            rollout, _ = self._collector.collect(state._replace(key=keys))
            rollouts.append(jax.tree.map(jnp.asarray, rollout))
        measured = [self._measure(state, *pair) for pair in itertools.pairwise(rollouts[1:])]
        self.gains.append(np.stack(measured, axis=1))


def trial(config: Config) -> dict[str, Any]:
    """Gains of a config's steps in training, by seed and visit, and its learning curve."""
    seeds = environment_seeds(range(NUM_SEEDS), config.num_envs, PURPOSE)
    started = time.process_time()
    host = host_environment(config.env_id, None, {})
    assert host is not None
    with closing(Pool(host, seeds)) as pool:
        fresh = Fresh(config, pool)
        result = run(
            config,
            num_seeds=NUM_SEEDS,
            segment_length=-(-config.num_iterations // VISITS),
            evaluate_every=10**6,
            num_episodes=1,
            callbacks=[fresh],
            quiet=True,
        )
    return {
        "gains": np.stack(fresh.gains, axis=1).round(6).tolist(),  # [S, visits, ROLLOUTS, 2]
        "curve": curve(result.metrics["episode_return"], result.metrics["num_episodes"]),
        "cpu_seconds": round(time.process_time() - started, 1),
        "measured": f"{time.strftime('%Y-%m-%d')}: {machine()}",
    }


def lines(name: str, record: dict[str, Any]) -> str:
    """A line for each phase of training: means over seeds; ± their standard deviation."""
    gains, told = np.array(record["gains"]), []
    returns = np.array(record["curve"], float)  # None becomes NaN
    parts = (np.array_split(np.arange(n), PHASES) for n in (gains.shape[1], len(returns)))
    for i, (visits, points) in enumerate(zip(*parts, strict=True)):
        own, other = np.moveaxis(gains[:, visits].mean(axis=(1, 2)), -1, 0)  # [S] each
        shares = other / own
        told.append(
            f"| {name} | {i + 1} | {np.nanmean(returns[points]):.4g} | {own.mean():.4f} "
            f"| {other.mean():.4f} | {shares.mean():.2f} ± {shares.std():.2f} |"
        )
    return "\n".join(told)


def main() -> None:
    """Measure what is missing of what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="name", help="; ".join(ROWS))
    parser.add_argument("--output", type=pathlib.Path, default=RESULTS)
    arguments = parser.parse_args()
    records = kept(arguments.output)
    for name in arguments.names or ROWS:
        if name not in records:
            records[name] = trial(ROWS[name])
            keep(arguments.output, records, ROWS, lines, PAGE)
            print(lines(name, records[name]), flush=True)


if __name__ == "__main__":
    main()
