"""Episodes of environments on the host, to evaluate policies by."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxrl_po.envs import Environment
from jaxrl_po.envs.hosted import HostEnvironment
from jaxrl_po.fast.prng import unrolled
from jaxrl_po.host.simulators.advance import compiled
from jaxrl_po.host.simulators.collector import fresh_where
from jaxrl_po.host.simulators.pool import Pool, environment_seeds, float_dtype
from jaxrl_po.loop.evaluate import Evaluation
from jaxrl_po.loop.normalizer import observe
from jaxrl_po.types import Array, Network, PyTree, TrainState

EVALUATION_ENVS = 16  # environments that evaluate a member, each in several episodes


class Evaluator:
    """Evaluates members greedily and by samples, each way in a pool of its own."""

    def __init__(self, host: HostEnvironment, environment: Environment, network: Network) -> None:
        """Compile nothing yet."""
        self._host = host
        self._players = [Player(environment, network, greedy) for greedy in (True, False)]

    def evaluate(
        self,
        state: TrainState,
        keys: Array,
        seeds: Sequence[int],
        number: int,
        num_episodes: int,
        max_steps: int,
    ) -> tuple[Evaluation, Evaluation]:
        """Greedy and sampled episodes [S, E]; the same arguments give the same ones.

        Args:
            state: of all members [S, ...].
            keys: of each member, for each way [S, 2].
            seeds: of the members.
            number: which evaluation of these seeds this is.
            num_episodes: E.
            max_steps: bound on the steps of an episode.
        """
        n = min(num_episodes, EVALUATION_ENVS)
        ways = []
        for way, player in enumerate(self._players):
            pool = Pool(self._host, environment_seeds(seeds, n, 1 + way, number))
            try:
                ways.append(player.play(state, keys[:, way], pool, n, num_episodes, max_steps))
            finally:
                pool.close()
        return ways[0], ways[1]


class Player:
    """Whole episodes of S members in a pool of S·n environments, to evaluate them."""

    def __init__(self, environment: Environment, network: Network, deterministic: bool) -> None:
        """Compile nothing yet: the first call does."""
        space = environment.action_space

        def act(policy: Any, seen: Any, key: Array) -> tuple[Array, PyTree]:
            params, normalizer = policy
            observation, memory, t = seen
            distribution, memory = network.policy(params, observe(normalizer, observation), memory)
            if deterministic:
                action = distribution.mode()
            else:
                noise_key = unrolled(jax.random.fold_in(key, t))
                action = distribution.sample(distribution.noise(noise_key))
            return space.to_units(distribution.to_env(action)), memory

        self._act, self._network = compiled(act), network

    def play(
        self, state: TrainState, key: Array, pool: Pool, n: int, num_episodes: int, max_steps: int
    ) -> Evaluation:
        """E episodes of each member, [S, E], in turn on the member's n environments.

        Each environment plays the same number of them, whatever their lengths: the first E to end
        would be the short ones.

        Args:
            state: of all members [S, ...].
            key: of each member [S].
            pool: of S·n environments.
            n: environments of a member.
            num_episodes: E.
            max_steps: bound on the steps of an episode.
        """
        S = len(key)
        each = -(-num_episodes // n)
        results = np.zeros((each, S * n), float_dtype()), np.zeros((each, S * n), np.int32)
        played, t = np.zeros(S * n, int), 0
        everyone = np.arange(S * n)
        observation = pool.reset()
        initial = self._network.initial_memory(n)
        memory: PyTree = jax.tree.map(lambda x: np.broadcast_to(x, (S, *x.shape)), initial)

        def of_members(rows: PyTree) -> PyTree:
            return jax.tree.map(lambda x: x.reshape(S, n, *x.shape[1:]), rows)

        policy = state.params, state.normalizer
        while (played < each).any():
            seen = of_members(observation), memory, np.full(S, t, np.int32)
            taken, memory = self._act(policy, seen, key)
            outcome = pool.step(np.asarray(taken).reshape(S * n, *taken.shape[2:]))
            running = played < each
            turn = played[running], everyone[running]
            results[0][turn] += outcome.reward[running]
            results[1][turn] += 1
            length = results[1][np.minimum(played, each - 1), everyone]
            begun = outcome.terminated | outcome.truncated | (running & (length >= max_steps))
            observation = outcome.observation
            if begun.any():
                observation = pool.restart(begun)
                memory = fresh_where(of_members(begun), initial, memory)
                played = played + (begun & running)
            t += 1
        return Evaluation(
            *(of_members(x.T).transpose(0, 2, 1).reshape(S, -1)[:, :num_episodes] for x in results)
        )
