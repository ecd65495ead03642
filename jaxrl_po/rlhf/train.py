"""The RLHF loop: generate, score, price the KL, estimate advantages, update; one program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.algorithms import PPOConfig, make_algorithm
from jaxrl_po.algorithms.ppo import ProximalConfig, ppo
from jaxrl_po.distributions import Categorical
from jaxrl_po.ops import importance_ratio, mean_kl
from jaxrl_po.prng import split, unrolled
from jaxrl_po.rlhf.batch import make_token_batch, score_responses, states
from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.generation import generate, response_distribution
from jaxrl_po.rlhf.heads import init_actor_critic, policy_params, token_network
from jaxrl_po.rlhf.kl import ESTIMATORS, adapt_kl_coef_per_sequence
from jaxrl_po.rlhf.transformer import make_transformer
from jaxrl_po.rlhf.types import LanguageModel, RewardFn, Tokens
from jaxrl_po.types import Algorithm, Array, Batch, Network, PyTree

Metrics = dict[str, Array]

# The update's own metrics under the names of the field (those of TRL).
NAMES = {
    "policy_loss": "loss/policy_avg",
    "value_loss": "loss/value_avg",
    "clip_fraction": "policy/clipfrac_avg",
    "entropy": "policy/entropy_avg",
    "ratio_first_minibatch": "val/ratio_first_minibatch",
}


class RLHFState(NamedTuple):
    """Everything a run is, beside the reference policy it started from."""

    params: PyTree  # the actor-critic's
    algorithm: PyTree  # the update's own: optimiser state
    kl_coef: Array  # [] β
    key: Array  # randomness of all that is to come
    iteration: Array  # [] iterations done


class RLHFResult(NamedTuple):
    """What `train(key, sft_params)` returns."""

    state: RLHFState
    metrics: dict[str, Array]  # [I] each


def make_rlhf(
    config: RLHFConfig,
    reward_fn: RewardFn,
    prompts: Any,
    model: LanguageModel | None = None,
    constrain: Callable[[PyTree], PyTree] = lambda tree: tree,
) -> Callable[[Array, PyTree], RLHFResult]:
    """A whole RLHF run as one pure function: Ziegler et al. 2019; Ouyang et al. 2022.

        maximise E[score] - β KL(π ‖ π_ref),   π_ref the fine-tuned model that the run starts from

        train = jax.jit(make_rlhf(config, reward_fn, prompts))
        result = train(jax.random.key(0), sft_params)
        results = jax.vmap(train, (0, None))(jax.random.split(key, 4), sft_params)

    Args:
        config: the run.
        reward_fn: prompt [N, P], response [N, T], each `Tokens` -> score [N], traced.
        prompts: token ids [number of prompts, P], padded on the left with `config.pad_id`.
        model: a `LanguageModel` in place of the transformer that `config.model` describes.
        constrain: applied to what has one row a sequence; where a sharding can be laid on it.

    Returns:
        train(key, sft_params) -> RLHFResult(state, metrics), with one value an iteration in each
        metric.

    Raises:
        ValueError: naming the setting that does not fit.
    """
    init, step = make_rlhf_step(config, reward_fn, prompts, model, constrain)

    def train(key: Array, sft_params: PyTree) -> RLHFResult:
        state, metrics = jax.lax.scan(
            lambda state, _: step(state, sft_params),
            init(key, sft_params),
            length=config.update.num_iterations,
        )
        return RLHFResult(state, metrics)

    return train


def make_rlhf_step(
    config: RLHFConfig,
    reward_fn: RewardFn,
    prompts: Any,
    model: LanguageModel | None = None,
    constrain: Callable[[PyTree], PyTree] = lambda tree: tree,
) -> tuple[
    Callable[[Array, PyTree], RLHFState],
    Callable[[RLHFState, PyTree], tuple[RLHFState, Metrics]],
]:
    """The two halves of `make_rlhf`, for those who want to hold the loop themselves.

    Returns:
        init(key, sft_params) -> RLHFState, and step(state, sft_params) -> (RLHFState, metrics).
    """
    model = make_transformer(config.model) if model is None else model
    pool = as_prompts(prompts, config.pad_id)
    N, T = config.update.num_envs, config.update.num_steps
    check_context(pool.ids.shape[1], T, model.context_length)
    ids = np.asarray(prompts)
    check_vocabulary(model, ids[ids != config.pad_id], config.eos_id)
    network = token_network(model, T, config.temperature)

    def algorithm(sft_params: PyTree, kl_coef: Array) -> Algorithm:
        if isinstance(config.update, PPOConfig) and config.kl_in_loss != "none":
            return ppo(config.update, network, kl_loss(config, model, sft_params, kl_coef))
        return make_algorithm(config.update, network)

    def init(key: Array, sft_params: PyTree) -> RLHFState:
        params = init_actor_critic(model, sft_params, config.update.shared_torso)
        kl_coef = jnp.asarray(config.kl_coef, jnp.zeros(()).dtype)
        return RLHFState(
            params=params,
            algorithm=algorithm(sft_params, kl_coef).init(params),
            kl_coef=kl_coef,
            key=key,
            iteration=jnp.zeros((), jnp.uint32),
        )

    def step(state: RLHFState, sft_params: PyTree) -> tuple[RLHFState, Metrics]:
        key, *draws = split(state.key, 4)
        prompt_key, generation_key, update_key = map(unrolled, draws)
        index = jax.random.randint(prompt_key, (N,), 0, pool.ids.shape[0])
        prompt = constrain(jax.tree.map(lambda x: x[index], pool))
        generation = generate(
            model,
            policy_params(state.params),
            prompt,
            generation_key,
            num_steps=T,
            temperature=config.temperature,
            eos_id=config.eos_id,
            pad_id=config.pad_id,
        )
        generation = constrain(generation)
        score = score_responses(config, reward_fn, generation)
        reference = response_distribution(
            model, sft_params, states(generation), T, config.temperature
        )
        batch, metrics = make_token_batch(
            config, network, state.params, state.kl_coef, generation, score, reference
        )
        fraction_left = 1.0 - state.iteration / config.update.num_iterations
        anneal = fraction_left if config.update.anneal_lr else 1.0
        params, algorithm_state, update_metrics = algorithm(sft_params, state.kl_coef).update(
            update_key, state.params, state.algorithm, one_step(batch), jnp.asarray(anneal)
        )
        metrics |= {NAMES.get(name, f"policy/{name}"): x for name, x in update_metrics.items()}
        metrics |= after_update(config, network, params, batch)
        kl_coef = state.kl_coef
        if config.adaptive_kl:
            kl_coef = adapt_kl_coef_per_sequence(
                kl_coef,
                metrics["objective/kl"],
                target_kl_per_sequence=config.target_kl_per_sequence,
                num_sequences=N,
                kl_horizon_sequences=config.kl_horizon_sequences,
            )
        return RLHFState(params, algorithm_state, kl_coef, key, state.iteration + 1), metrics

    return init, step


def as_prompts(prompts: Any, pad_id: int) -> Tokens:
    """Token ids [number, P], padded on the left, with their mask."""
    ids = np.asarray(prompts)
    if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(
            f"prompts must be integer token ids [number of prompts, P], "
            f"not {ids.dtype} {list(ids.shape)}"
        )
    mask = ids != pad_id
    if not mask.any(axis=1).all():
        raise ValueError(f"prompts: each needs a token that is not pad_id={pad_id}")
    if (np.diff(mask.astype(int), axis=1) < 0).any():
        raise ValueError(f"prompts must be padded on the left: pad_id={pad_id} follows a token")
    return Tokens(jnp.asarray(ids, jnp.int32), jnp.asarray(mask))


def check_context(prompt_length: int, num_steps: int, context_length: int) -> None:
    """Raise unless a prompt and its response fit in the model's context."""
    if prompt_length + num_steps > context_length:
        raise ValueError(
            f"prompts of length {prompt_length} with responses of update.num_steps={num_steps} "
            f"do not fit in context_length={context_length}"
        )


def check_vocabulary(model: LanguageModel, ids: np.ndarray, eos_id: int) -> None:
    """Raise unless the model knows the prompts' token ids and the one that ends a response."""

    def score(key: Array) -> Array:
        return model.logits(model.init(key), jnp.zeros((1, model.num_features)))

    vocab_size = jax.eval_shape(score, jax.random.key(0)).shape[-1]
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ValueError(
            f"prompts: token ids must be from 0 to {vocab_size - 1}, the model's vocabulary; "
            f"found {ids.min()} to {ids.max()}"
        )
    if eos_id >= vocab_size:
        raise ValueError(f"eos_id={eos_id} is not in the model's vocabulary of {vocab_size}")


def one_step(batch: Batch) -> Batch:
    """[1, N, ...]: for an update, a sequence is one sample, whose T tokens stay together."""
    return jax.tree.map(lambda x: x[None], batch)


def after_update(config: RLHFConfig, network: Network, params: PyTree, batch: Batch) -> Metrics:
    """How far an update has gone, measured by the updated parameters on the whole batch."""
    distribution, value = network.policy_and_value(params, batch.observation, ())
    mask = batch.mask
    log_prob = distribution.log_prob(batch.action)
    ratio = importance_ratio(log_prob, batch.log_prob, mask)
    metrics = {
        "policy/kl": mean_kl(batch.distribution, distribution, mask),
        "policy/approxkl_avg": ESTIMATORS["k2"](log_prob - batch.log_prob).mean(where=mask),
        "val/ratio": ratio.mean(where=mask),
        "val/ratio_var": ratio.var(where=mask),
    }
    if isinstance(config.update, ProximalConfig) and config.update.clip_value:
        far = jnp.abs(value - batch.value) > config.update.value_clip_eps
        metrics["val/clipfrac_avg"] = far.mean(where=mask, dtype=value.dtype)
    return metrics


def kl_loss(
    config: RLHFConfig, model: LanguageModel, sft_params: PyTree, kl_coef: Array
) -> Callable[[Any, Batch], Array]:
    """β · k2 as a term of the loss: E[½ (log π/π_ref)²].

    Its gradient is that of the KL of each token's distribution given its state: what a token does
    to the KL of later ones, which k1 in the reward charges it for, is left out.
    """

    def penalty(distribution: Categorical, batch: Batch) -> Array:
        reference = response_distribution(
            model, sft_params, batch.observation, config.update.num_steps, config.temperature
        )
        log_ratio = distribution.log_prob(batch.action) - reference.log_prob(batch.action)
        return kl_coef * ESTIMATORS[config.kl_in_loss](log_ratio)

    return penalty
