"""Environments with known answers, written to gymnax's interface."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import spaces
from gymnax.environments.environment import Environment

END = -1
FOREVER = 1_000_000
GAMMA = 0.9


@struct.dataclass
class Tables:
    """A Markov decision process over S states and A actions, as data."""

    start: jax.Array  # [S] probability of starting there
    reward: jax.Array  # [S, A]
    next_state: jax.Array  # [S, A], or END
    max_steps_in_episode: jax.Array  # []
    limit_terminates: jax.Array  # [] report the time limit as a termination


@struct.dataclass
class State:
    index: jax.Array
    time: jax.Array


class Tabular(Environment):
    """The decision process that the tables describe; what is seen is the state's number."""

    def __init__(self, tables):
        self.tables = jax.tree.map(jnp.asarray, tables)

    @property
    def default_params(self):
        return self.tables

    def reset_env(self, key, params):
        index = jax.random.choice(key, params.start.size, p=params.start)
        return index, State(index, jnp.zeros((), int))

    def step_env(self, key, state, action, params):
        index = params.next_state[state.index, action]
        time = state.time + 1
        timed_out = (time >= params.max_steps_in_episode) & params.limit_terminates
        reward = params.reward[state.index, action]
        next_state = State(jnp.maximum(index, 0), time)
        return next_state.index, next_state, reward, (index == END) | timed_out, {}

    def is_truncated(self, state, params):
        return (state.time >= params.max_steps_in_episode) & ~params.limit_terminates

    def observation_space(self, params):
        return spaces.Discrete(params.start.size)

    def action_space(self, params):
        return spaces.Discrete(params.reward.shape[1])


def tables(start, reward, next_state, max_steps=FOREVER, limit_terminates=False):
    return Tables(
        np.array(start, np.float32),
        np.array(reward, np.float32),
        np.array(next_state, np.int32),
        np.array(max_steps, np.int32),
        np.array(limit_terminates),
    )


# Two states that take turns for ever, rewards 1 and 0; an unseen clock stops them after 10 steps.
TURNS = {"start": [0.5, 0.5], "reward": [[1, 1], [0, 0]], "next_state": [[1, 1], [0, 0]]}
TURNS_VALUE = [1 / (1 - GAMMA**2), GAMMA / (1 - GAMMA**2)]

PROBES = {
    "one state": tables([1, 0], [[1, 1], [0, 0]], [[END, END], [END, END]]),
    "two states": tables([0.5, 0.5], [[1, 1], [-1, -1]], [[END, END], [END, END]]),
    "delay": tables([1, 0], [[0, 0], [1, 1]], [[1, 1], [END, END]]),
    "action": tables([1, 0], [[-1, 1], [0, 0]], [[END, END], [END, END]]),
    "state and action": tables([0.5, 0.5], [[1, -1], [-1, 1]], [[END, END], [END, END]]),
    "time limit": tables(**TURNS, max_steps=10),
    "time limit as end": tables(**TURNS, max_steps=10, limit_terminates=True),
    "not a number": tables([0.5, 0.5], [[np.nan, 0], [0, 0]], [[END, END], [END, END]]),
}
# V(s) of the best policy; NaN where a state is never seen or has no such value.
VALUES = {
    "one state": [1, np.nan],
    "two states": [1, -1],
    "delay": [GAMMA, 1],
    "action": [1, np.nan],
    "state and action": [1, 1],
    "time limit": TURNS_VALUE,
}
# The best action of each state that has one.
ACTIONS = {"action": {0: 1}, "state and action": {0: 0, 1: 1}}


class Target(Environment):
    """One step: the reward is minus the squared distance of the action from a target in a box."""

    low, high, target = -2.0, 4.0, 2.5

    @property
    def default_params(self):
        return tables([1], [[0]], [[END]])

    def reset_env(self, key, params):
        return jnp.zeros(1), State(jnp.zeros((), int), jnp.zeros((), int))

    def step_env(self, key, state, action, params):
        reward = -jnp.square(action - self.target).sum()
        return jnp.zeros(1), State(state.index, state.time + 1), reward, jnp.array(True), {}

    def is_truncated(self, state, params):
        return jnp.array(False)

    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,))

    def action_space(self, params):
        return spaces.Box(self.low, self.high, (1,))


class Echo(Target):
    """Shows the action it was given as the next observation, and never ends."""

    low = np.array([-1.0, 0.0, -np.inf], np.float32)
    high = np.array([3.0, 10.0, np.inf], np.float32)

    def reset_env(self, key, params):
        return jnp.zeros(3), State(jnp.zeros((), int), jnp.zeros((), int))

    def step_env(self, key, state, action, params):
        return action, State(state.index, state.time + 1), action.sum(), jnp.array(False), {}

    def observation_space(self, params):
        return spaces.Box(-np.inf, np.inf, (3,))

    def action_space(self, params):
        return spaces.Box(self.low, self.high, (3,))
