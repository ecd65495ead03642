"""The yardstick: PPO-clip as a textbook writes it in JAX, over gymnax's own auto-resetting `step`.

Nested scans (iterations, environment steps, epochs, minibatches), one key split at a time, flax
modules, optax, distrax; a time limit counts as a terminal state. Network, losses and
hyperparameters are those of jaxrl_po's PPO in the same setting.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import distrax
import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState

from baselines.measurement import (
    read_setting,
    report,
    seed_keys,
    steps_to_threshold,
    time_jax,
)

Array = jax.Array


class Step(NamedTuple):
    """One step of all environments."""

    observation: Array
    action: Array
    log_prob: Array
    value: Array
    reward: Array
    done: Array


class MLP(nn.Module):
    """Tanh layers and a linear head, orthogonally initialised."""

    hidden_sizes: tuple[int, ...]
    num_outputs: int
    head_scale: float

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Outputs [B, num_outputs]."""
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden_sizes:
            x = nn.tanh(nn.Dense(size, kernel_init=nn.initializers.orthogonal(np.sqrt(2)))(x))
        scale = nn.initializers.orthogonal(self.head_scale)
        return nn.Dense(self.num_outputs, kernel_init=scale)(x)


class ActorCritic(nn.Module):
    """Policy and value, each with a network of its own."""

    hidden_sizes: tuple[int, ...]
    num_actions: int
    discrete: bool

    @nn.compact
    def __call__(self, x: Array) -> tuple[Any, Array]:
        """Action distribution and value [B]."""
        output = MLP(self.hidden_sizes, self.num_actions, 0.01)(x)
        value = MLP(self.hidden_sizes, 1, 1.0)(x)[:, 0]
        if self.discrete:
            return distrax.Categorical(logits=output), value
        log_std = self.param("log_std", nn.initializers.zeros, (self.num_actions,))
        return distrax.MultivariateNormalDiag(output, jnp.exp(log_std)[None]), value


def make_train(setting: dict[str, Any]) -> Callable[[Array], tuple[TrainState, dict[str, Array]]]:
    """train(key) -> final state, metrics [I], for a setting of `benchmark.py`."""
    num_envs, num_steps = setting["num_envs"], setting["num_steps"]
    batch_size = num_envs * num_steps
    gamma, gae_lambda, clip_eps = setting["gamma"], setting["gae_lambda"], setting["clip_eps"]
    env, env_params = gymnax.make(setting["env_id"])
    space = env.action_space(env_params)
    discrete = hasattr(space, "n")
    num_actions = int(space.n) if discrete else int(np.prod(space.shape))
    network = ActorCritic(tuple(setting["hidden_sizes"]), num_actions, discrete)
    apply: Callable[..., Any] = network.apply
    optimizer = optax.chain(
        optax.clip_by_global_norm(setting["max_grad_norm"]),
        optax.adam(setting["learning_rate"], eps=1e-5),
    )

    def to_env(action: Array) -> Array:
        return action if discrete else jnp.clip(action, -1.0, 1.0) * space.high

    def train(key: Array) -> tuple[TrainState, dict[str, Array]]:
        key, init_key, reset_key = jax.random.split(key, 3)
        observation, env_state = jax.vmap(env.reset, in_axes=(0, None))(
            jax.random.split(reset_key, num_envs), env_params
        )
        state = TrainState.create(
            apply_fn=apply, params=network.init(init_key, observation), tx=optimizer
        )

        def env_step(carry: Any, _: None) -> tuple[Any, tuple[Step, Array]]:
            state, env_state, observation, episode_return, key = carry
            key, action_key, step_key = jax.random.split(key, 3)
            policy, value = apply(state.params, observation)
            action = policy.sample(seed=action_key)
            next_observation, env_state, reward, terminated, truncated, _ = jax.vmap(
                env.step, in_axes=(0, 0, 0, None)
            )(jax.random.split(step_key, num_envs), env_state, to_env(action), env_params)
            done = terminated | truncated
            log_prob = policy.log_prob(action)
            step = Step(observation, action, log_prob, value, reward, done)
            episode_return = episode_return + reward
            ended = jnp.where(done, episode_return, 0.0)
            episode_return = jnp.where(done, 0.0, episode_return)
            carry = state, env_state, next_observation, episode_return, key
            return carry, (step, ended)

        def backward(carry: Any, step: Step) -> tuple[Any, Array]:
            advantage, next_value = carry
            delta = step.reward + gamma * next_value * (1 - step.done) - step.value
            advantage = delta + gamma * gae_lambda * (1 - step.done) * advantage
            return (advantage, step.value), advantage

        def loss(params: Any, step: Step, advantage: Array, target: Array) -> tuple[Array, Any]:
            policy, value = apply(params, step.observation)
            ratio = jnp.exp(policy.log_prob(step.action) - step.log_prob)
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
            policy_loss = -jnp.minimum(ratio * advantage, clipped * advantage).mean()
            value_loss = 0.5 * jnp.square(value - target).mean()
            entropy = policy.entropy().mean()
            total = policy_loss + setting["vf_coef"] * value_loss - setting["ent_coef"] * entropy
            return total, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}

        def minibatch_step(state: TrainState, minibatch: Any) -> tuple[TrainState, Any]:
            gradient, metrics = jax.grad(loss, has_aux=True)(state.params, *minibatch)
            return state.apply_gradients(grads=gradient), metrics

        def iteration(carry: Any, _: None) -> tuple[Any, dict[str, Array]]:
            carry, (steps, ended) = jax.lax.scan(env_step, carry, None, num_steps)
            state, env_state, observation, episode_return, key = carry
            _, last_value = apply(state.params, observation)
            start: Any = jnp.zeros(num_envs), last_value
            _, advantages = jax.lax.scan(backward, start, steps, reverse=True)
            batch = steps, advantages, advantages + steps.value
            batch = jax.tree.map(lambda x: x.reshape(batch_size, *x.shape[2:]), batch)

            def epoch(carry: Any, _: None) -> tuple[Any, dict[str, Array]]:
                state, key = carry
                key, order_key = jax.random.split(key)
                order = jax.random.permutation(order_key, batch_size)
                minibatches = jax.tree.map(
                    lambda x: x[order].reshape(setting["num_minibatches"], -1, *x.shape[1:]), batch
                )
                state, metrics = jax.lax.scan(minibatch_step, state, minibatches)
                return (state, key), metrics

            start = state, key
            (state, key), metrics = jax.lax.scan(epoch, start, None, setting["update_epochs"])
            num_episodes = steps.done.sum()
            metrics = jax.tree.map(jnp.mean, metrics) | {
                "num_episodes": num_episodes,
                "episode_return": ended.sum() / num_episodes,
            }
            return (state, env_state, observation, episode_return, key), metrics

        carry: Any = state, env_state, observation, jnp.zeros(num_envs), key
        num_iterations = setting["total_timesteps"] // batch_size
        (state, *_), metrics = jax.lax.scan(iteration, carry, None, num_iterations)
        return state, metrics

    return train


def main() -> None:
    """Measure one setting."""
    setting = read_setting()
    train = make_train(setting)
    if "threshold" in setting:
        _, metrics = jax.jit(jax.vmap(train))(seed_keys(setting))
        curves = metrics["episode_return"], metrics["num_episodes"]
        report(steps_to_threshold=steps_to_threshold(setting, *curves))
    else:
        report(**time_jax(setting, lambda key: train(key)[1]))


if __name__ == "__main__":
    main()
