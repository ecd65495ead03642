"""Double deep Q-learning (van Hasselt et al. 2016) as one compiled program: a point of comparison.

    result = jax.jit(make_train(DQNConfig(env_id="CartPole-v1")))(jax.random.key(0))

ε-greedy is written as a categorical distribution: rollouts and evaluation are the library's own.
The defaults are those of RL Baselines3 Zoo for CartPole but for the learning rate (there 2.3e-3),
the time between two target networks (there half of it), the network (there 256 wide) and the loss.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl_po import Evaluation, TrainResult, TrainState, VPGConfig
from jaxrl_po.distributions import Categorical
from jaxrl_po.envs import Discrete, Environment, make_environment
from jaxrl_po.fast.optimizer import adam
from jaxrl_po.loop.collect import episode_means
from jaxrl_po.loop.evaluate import evaluate as play
from jaxrl_po.loop.normalizer import Normalizer
from jaxrl_po.loop.rollout import init_rollout, rollout
from jaxrl_po.networks.actor_critic import Torso
from jaxrl_po.types import Array, Network, Params, PyTree, Transition


@dataclasses.dataclass(frozen=True, kw_only=True)
class DQNConfig:
    """Settings. The floats may be traced, as in the library's configs."""

    env_id: str = "CartPole-v1"
    env_params: Mapping[str, float] = dataclasses.field(default_factory=dict)
    num_envs: int = 8  # N
    num_steps: int = 32  # T, steps of each environment between two phases of learning
    total_timesteps: int = 100_000
    gamma: float = 0.99
    learning_rate: float = 1e-3
    max_grad_norm: float = 10.0
    hidden_sizes: tuple[int, ...] = (64, 64)
    buffer_size: int = 100_000  # transitions kept
    learning_starts: int = 1_000  # transitions gathered before the first gradient
    gradient_steps: int = 128  # after each rollout
    batch_size: int = 64
    target_interval: int = 2  # rollouts between two copies of the network to the target network
    epsilon_end: float = 0.04  # ε falls to this from 1
    exploration_fraction: float = 0.16  # of the budget, in which it does

    @property
    def num_iterations(self) -> int:
        """I, the rollouts that fit in the budget."""
        return self.total_timesteps // (self.num_envs * self.num_steps)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


class Learner(NamedTuple):
    """What Q-learning keeps besides its network."""

    target_params: PyTree
    opt_state: PyTree
    replay: Transition  # [K, T, N, ...], the last K rollouts


class QNetwork(nn.Module):
    """Observations [B, ...] to action values [B, A]."""

    hidden_sizes: tuple[int, ...]
    num_actions: int
    observation_shape: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Q(s, ·)."""
        return nn.Dense(self.num_actions)(Torso(self.hidden_sizes, nn.relu, "mlp")([x]))


def action_values(network: QNetwork, params: PyTree, observation: Array) -> Array:
    """Q(o, ·) [..., A] of observations [..., *observation_shape]."""
    batch = observation.shape[: observation.ndim - len(network.observation_shape)]
    rows = observation.reshape(-1, *network.observation_shape)
    values: Array = jnp.asarray(network.apply(params, rows))
    return values.reshape(*batch, -1)


def make_train(config: DQNConfig, env: Any = None) -> Callable[[Array], TrainResult]:
    """A whole training run as one pure function of a key, as `jaxrl_po.make_train`."""
    environment, q_network = make_parts(config, env)
    T, N = config.num_steps, config.num_envs
    slots = max(1, config.buffer_size // (T * N))

    def explore(params: PyTree, epsilon: Array | float, state: Any, key: Array) -> Any:
        network = epsilon_greedy(q_network, epsilon)
        return rollout(
            environment, lambda o, m: network.policy(as_policy(params), o, m), (), state, key, T
        )

    def init(key: Array) -> TrainState:
        params_key, env_key, key = jax.random.split(key, 3)
        network = epsilon_greedy(q_network, 1.0)
        params = network.init(params_key).policy
        start = init_rollout(environment, network, N, env_key)
        _, transitions, _ = jax.eval_shape(lambda: explore(params, 1.0, start, env_key))
        replay = jax.tree.map(lambda x: jnp.zeros((slots, *x.shape), x.dtype), transitions)
        learner = Learner(
            params, adam(config.learning_rate, config.max_grad_norm).init(params), replay
        )
        return TrainState(params, learner, start, Normalizer((), ()), key, jnp.uint32(0))

    def step(state: TrainState, _: None) -> tuple[TrainState, dict[str, Array]]:
        key, rollout_key, learn_key = jax.random.split(state.key, 3)
        progress = state.iteration / (config.exploration_fraction * config.num_iterations)
        epsilon = jnp.maximum(config.epsilon_end, 1 - (1 - config.epsilon_end) * progress)
        rollout_state, transitions, episodes = explore(
            state.params, epsilon, state.rollout, rollout_key
        )
        slot = state.iteration % slots
        replay = jax.tree.map(
            lambda old, new: old.at[slot].set(new), state.algorithm.replay, transitions
        )
        learner = state.algorithm._replace(replay=replay)
        iteration = state.iteration + 1
        stored = jnp.minimum(iteration, slots) * (T * N)
        params, opt_state, loss = jax.lax.cond(
            stored >= config.learning_starts,
            lambda: learn(config, q_network, learn_key, state.params, learner, stored),
            lambda: (state.params, learner.opt_state, jnp.nan),
        )
        target_params = optax.periodic_update(
            params, learner.target_params, iteration, config.target_interval
        )
        learner = Learner(target_params, opt_state, learner.replay)
        state = TrainState(params, learner, rollout_state, state.normalizer, key, iteration)
        timesteps = {"timesteps": iteration * (T * N)}
        return state, timesteps | episode_means(episodes) | {"td_loss": loss, "epsilon": epsilon}

    def train(key: Array) -> TrainResult:
        return TrainResult(*jax.lax.scan(step, init(key), length=config.num_iterations))

    return train


def learn(
    config: DQNConfig, network: QNetwork, key: Array, params: PyTree, learner: Learner, stored: Any
) -> tuple[PyTree, PyTree, Array]:
    """Steps of Adam on minibatches of what is stored: params, optimiser state, loss."""
    optimizer = adam(config.learning_rate, config.max_grad_norm)
    samples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[3:]), learner.replay)

    def descend(carry: Any, index: Array) -> tuple[Any, Array]:
        params, opt_state = carry
        batch = jax.tree.map(lambda x: x[index], samples)
        loss, gradient = jax.value_and_grad(td_loss)(
            params, network, learner.target_params, batch, config.gamma
        )
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    indices = jax.random.randint(key, (config.gradient_steps, config.batch_size), 0, stored)
    (params, opt_state), losses = jax.lax.scan(descend, (params, learner.opt_state), indices)
    return params, opt_state, losses.mean()


def td_loss(
    params: PyTree, network: QNetwork, target_params: PyTree, batch: Transition, gamma: Any
) -> Array:
    """E[(Q(s, a) - y)²], y = r + γ (1 - terminated) Q⁻(s', argmax Q(s', ·)).

    No end at a time limit. Squares, not Huber's loss: beyond its threshold that one follows the
    median of the targets, and where a tenth of them are ends the values grow without bound.
    """
    best = action_values(network, params, batch.next_observation).argmax(axis=-1)
    next_values = action_values(network, target_params, batch.next_observation)
    target = batch.reward + gamma * (1 - batch.terminated) * pick(next_values, best)
    value = pick(action_values(network, params, batch.observation), batch.action)
    return jnp.square(value - target).mean()


def pick(values: Array, action: Array) -> Array:
    """Of values [B, A] those of the actions [B]."""
    return jnp.take_along_axis(values, action[:, None], axis=-1)[:, 0]


def evaluate(
    config: DQNConfig, state: TrainState, key: Array, num_episodes: int = 128, env: Any = None
) -> Evaluation:
    """Whole episodes of the final ε-greedy policy, as `jaxrl_po.loop.evaluate`."""
    environment, q_network = make_parts(config, env)
    network = epsilon_greedy(q_network, config.epsilon_end)
    # A config says nothing beside an environment and a network that are given.
    state = state._replace(params=as_policy(state.params))
    return play(VPGConfig(), state, key, num_episodes, env=environment, network=network)


def make_parts(config: DQNConfig, env: Any) -> tuple[Environment, QNetwork]:
    """The environment, and a network of its action values."""
    environment = make_environment(config.env_id if env is None else env, config.env_params)
    if not isinstance(environment.action_space, Discrete):
        raise ValueError(f"env_id={config.env_id!r}: Q-learning needs discrete actions")
    return environment, QNetwork(
        config.hidden_sizes, environment.action_space.n, environment.observation.shape
    )


def as_policy(params: PyTree) -> PyTree:
    """Parameters of a Q-network as those of an actor-critic, whose values are the policy's own."""
    return Params(policy=params)


def epsilon_greedy(q_network: QNetwork, epsilon: Array | float) -> Network:
    """The ε-greedy policy of a Q-network, in the library's interface."""

    def policy(params: PyTree, observation: Array, memory: PyTree) -> tuple[Categorical, PyTree]:
        best = action_values(q_network, params.policy, observation).argmax(axis=-1)
        greedy = jax.nn.one_hot(best, q_network.num_actions)
        uniform = epsilon / q_network.num_actions
        return Categorical(jnp.log((1 - epsilon) * greedy + uniform)), memory

    def value(params: PyTree, observation: Array, memory: PyTree) -> Array:
        return action_values(q_network, params.policy, observation).max(axis=-1)

    def policy_and_value(params: PyTree, observation: Array, memory: PyTree) -> tuple[Any, Array]:
        return policy(params, observation, memory)[0], value(params, observation, memory)

    def init(key: Array) -> PyTree:
        return as_policy(q_network.init(key, jnp.zeros((1, *q_network.observation_shape))))

    return Network(init, policy, value, policy_and_value, initial_memory=lambda num_envs: ())
