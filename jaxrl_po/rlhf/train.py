"""The RLHF loop: generate, score, price the KL, estimate advantages, update; one program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl_po.distributions import Categorical
from jaxrl_po.fast.prng import split, unrolled
from jaxrl_po.rlhf.batch import log_prob_is_enough, make_token_batch, respond, score_responses
from jaxrl_po.rlhf.change import after_update
from jaxrl_po.rlhf.checks import check_end, check_length, check_precision, vocabulary_size
from jaxrl_po.rlhf.config import RLHFConfig
from jaxrl_po.rlhf.generation import response_distribution
from jaxrl_po.rlhf.heads import policy_params, token_network
from jaxrl_po.rlhf.kl import adapt_kl_coef_per_sequence
from jaxrl_po.rlhf.lora import adapted, init_adapters
from jaxrl_po.rlhf.models.transformer import make_transformer
from jaxrl_po.rlhf.prompts import as_prompts, prompt_rows
from jaxrl_po.rlhf.reward_model import RewardModel
from jaxrl_po.rlhf.scores import init_score_statistics, shape_scores
from jaxrl_po.rlhf.start import check_critic, init_params
from jaxrl_po.rlhf.types import Generation, LanguageModel, RewardFn, Tokens
from jaxrl_po.rlhf.update import make_update
from jaxrl_po.schedules import is_schedule
from jaxrl_po.types import Array, PyTree

Metrics = dict[str, Array]

# Folded into a run's key: the randomness of prompts, and of adapters, is apart from all other.
PROMPTS, ADAPTERS = 2**31, 2**31 + 1

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
    prompt_key: Array  # of the orders in which prompts are taken
    score_statistics: PyTree = ()  # of all scores so far, where they are scaled


class Scored(NamedTuple):
    """The responses of an iteration, and what they were worth."""

    generation: Generation  # [N]
    score: Array  # [N]


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
    critic_from: RewardModel | None = None,
) -> Callable[..., RLHFResult]:
    """A whole RLHF run as one pure function: Ziegler et al. 2019; Ouyang et al. 2022.

        maximise E[score] - β KL(π ‖ π_ref),   π_ref the fine-tuned model that the run starts from

        train = jax.jit(make_rlhf(config, reward_fn, prompts))
        result = train(jax.random.key(0), sft_params)
        results = jax.vmap(train, (0, None))(jax.random.split(key, 4), sft_params)

    With `config.lora.rank` adapters are what is learned, of the policy and of the critic's torso;
    `sft_params` serve them and the reference at once, and `merge(sft_params,
    policy_params(state.params), config.lora)` is the fine-tuned model.

    Every prompt is answered once before any is answered again. A response whose score is not finite
    is left out of the update (`objective/non_finite_scores` counts them), and an update that would
    leave parameters that are not finite is not made (`val/update_held`).

    Args:
        config: the run.
        reward_fn: prompt [N, P], response [N, T], each `Tokens` -> score [N], traced.
        prompts: token ids [number of prompts, P], padded on the left with `config.pad_id`; or
            `Tokens`.
        model: a `LanguageModel` in place of the transformer that `config.model` describes.
        constrain: applied to what has one row a sequence; where a sharding can be laid on it.
        critic_from: what the critic begins as, in place of the fine-tuned model with a head of 0:
            a reward model on the same torso (Stiennon et al. 2020, arXiv:2009.01325), with values
            of the scores that `learned_reward` gives.

    Returns:
        train(key, sft_params) -> RLHFResult(state, metrics), with one value an iteration in each
        metric. train(key, sft_params, reward_fn), jitted, takes a `learned_reward` as an argument
        of the program; without it the reward model's weights are constants in it, which costs
        several times their memory while it is compiled; so do those of `critic_from`, which may be
        given after it.

    Raises:
        ValueError: naming the setting that does not fit; or, from `train`, that parameters of half
            precision are to learn.
    """
    init, step = make_rlhf_step(config, reward_fn, prompts, model, constrain, critic_from)

    def train(
        key: Array,
        sft_params: PyTree,
        reward_fn: RewardFn = reward_fn,
        critic_from: RewardModel | None = critic_from,
    ) -> RLHFResult:
        state, metrics = jax.lax.scan(
            lambda state, _: step(state, sft_params, reward_fn),
            init(key, sft_params, critic_from),
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
    critic_from: RewardModel | None = None,
) -> tuple[Callable[..., RLHFState], Callable[..., tuple[RLHFState, Metrics]]]:
    """The two halves of `make_rlhf`, for those who want to hold the loop themselves.

    Returns:
        init(key, sft_params) -> RLHFState, or init(key, sft_params, critic_from); and
        step(state, sft_params) -> (RLHFState, metrics), or step(state, sft_params, reward_fn). No
        array of a state shares memory with another, so that `jax.jit(step, donate_argnums=0)` may
        reuse it.
    """
    init, iterate = make_rlhf_iteration(config, reward_fn, prompts, model, constrain, critic_from)

    def step(
        state: RLHFState, sft_params: PyTree, reward_fn: RewardFn = reward_fn
    ) -> tuple[RLHFState, Metrics]:
        return iterate(state, sft_params, reward_fn)[:2]

    return init, step


def make_rlhf_iteration(
    config: RLHFConfig,
    reward_fn: RewardFn,
    prompts: Any,
    model: LanguageModel | None = None,
    constrain: Callable[[PyTree], PyTree] = lambda tree: tree,
    critic_from: RewardModel | None = None,
) -> tuple[Callable[..., RLHFState], Callable[..., tuple[RLHFState, Metrics, Scored]]]:
    """`make_rlhf_step`, whose step gives the responses too."""
    model = make_transformer(config.model) if model is None else model
    check_end(model, config.eos_id, config.stop_ids, config.pad_id)
    pool = as_prompts(prompts, config.pad_id, vocabulary_size(model))
    N, T, k = config.update.num_envs, config.update.num_steps, config.answers_per_prompt
    check_length("prompts", pool.ids.shape[1], model, T)
    check_critic(config, model, critic_from)

    def init(
        key: Array, sft_params: PyTree, critic_from: RewardModel | None = critic_from
    ) -> RLHFState:
        check_critic(config, model, critic_from)
        start = config.at(0.0)
        own_key = jax.random.wrap_key_data(
            jnp.copy(jax.random.key_data(key)), impl=jax.random.key_impl(key)
        )
        learned = sft_params
        if config.lora.rank:
            adapter_key = jax.random.fold_in(own_key, ADAPTERS)
            learned = init_adapters(adapter_key, sft_params, config.lora)
        network = token_network(policy_model(start, sft_params), T, start.temperature)
        params = init_params(config, model, learned, critic_from)
        check_precision(params)
        params = jax.tree.map(jnp.copy, params)  # policy and value begin as the same arrays
        kl_coef = jnp.array(start.kl_coef, jnp.zeros(()).dtype)
        return RLHFState(
            params=params,
            algorithm=make_update(start, network, kl_coef).init(params),
            kl_coef=kl_coef,
            key=own_key,
            iteration=jnp.zeros((), jnp.uint32),
            prompt_key=jax.random.fold_in(own_key, PROMPTS),
            score_statistics=init_score_statistics(config),
        )

    def policy_model(now: RLHFConfig, sft_params: PyTree) -> LanguageModel:
        """The model as a function of what is learned: its weights, or adapters beside them."""
        return adapted(model, sft_params, now.lora) if config.lora.rank else model

    def answer(now: RLHFConfig, policy: LanguageModel, state: RLHFState, key: Array) -> Generation:
        order = unrolled(state.prompt_key)
        rows = prompt_rows(order, state.iteration, N // k, pool.ids.shape[0])
        rows = rows if k == 1 else jnp.repeat(rows, k)
        prompt = constrain(jax.tree.map(lambda x: x[rows], pool))
        generation = respond(now, policy, policy_params(state.params), prompt, key)
        constrained: Generation = constrain(generation)
        return constrained

    def iterate(
        state: RLHFState, sft_params: PyTree, reward_fn: RewardFn = reward_fn
    ) -> tuple[RLHFState, Metrics, Scored]:
        key, _, *draws = split(state.key, 4)
        generation_key, update_key = map(unrolled, draws)
        now = config.at(config.update.fraction_done(state.iteration))
        policy = policy_model(now, sft_params)
        network = token_network(policy, T, now.temperature)
        if is_schedule(config.kl_coef):
            state = state._replace(kl_coef=jnp.asarray(now.kl_coef, state.kl_coef.dtype))
        generation = answer(now, policy, state, generation_key)
        raw_score = score_responses(now, reward_fn, generation)
        score, score_statistics = shape_scores(now, state.score_statistics, raw_score)

        def reference(observation: Tokens) -> Categorical:
            return response_distribution(model, sft_params, observation, T, now.temperature)

        batch, metrics = make_token_batch(
            now, network, state.params, reference, state.kl_coef, generation, score
        )
        chunked = log_prob_is_enough(config.update)
        size = config.micro_batch_size
        learner = token_network(policy, T, now.temperature, micro_batch_size=size, chunked=chunked)
        algorithm = make_update(now, learner, state.kl_coef)
        anneal = config.update.learning_rate_factor(state.iteration)
        params, algorithm_state, update_metrics = algorithm.update(
            update_key, state.params, state.algorithm, batch, anneal
        )
        old, new = (state.params, state.algorithm), (params, algorithm_state)
        (params, algorithm_state), held = hold_unless_finite(new, old)
        warm = after_warmup(config, state.iteration, params.policy, state.params.policy)
        params = params._replace(policy=warm)
        if config.scale_scores:
            metrics["objective/raw_scores"] = raw_score.mean(where=jnp.isfinite(raw_score))
        metrics |= {NAMES.get(name, f"policy/{name}"): x for name, x in update_metrics.items()}
        metrics |= after_update(now, network, state.params, params, batch)
        metrics["val/update_held"] = held.astype(jnp.int32)
        kl_coef = state.kl_coef
        if config.adaptive_kl:
            kl_coef = adapt_kl_coef_per_sequence(
                kl_coef,
                metrics["objective/kl"],
                target_kl_per_sequence=now.target_kl_per_sequence,
                num_sequences=N,
                kl_horizon_sequences=now.kl_horizon_sequences,
            )
            kl_coef = after_warmup(config, state.iteration, kl_coef, state.kl_coef)
        state = state._replace(
            params=params,
            algorithm=algorithm_state,
            kl_coef=kl_coef,
            key=key,
            iteration=state.iteration + 1,
            score_statistics=score_statistics,
        )
        return state, metrics, Scored(generation, raw_score)

    return init, iterate


def hold_unless_finite(new: PyTree, old: PyTree) -> tuple[PyTree, Array]:
    """The new tree if all its numbers are finite, else the old one, and whether it was held.

    The barrier keeps XLA from deciding it anew beside each of the arrays, which took a quarter of
    the time to compile an iteration.
    """
    numbers = [x for x in jax.tree.leaves(new) if jnp.issubdtype(x.dtype, jnp.floating)]
    each = jax.lax.optimization_barrier(jnp.stack([jnp.isfinite(x).all() for x in numbers]))
    finite = each.all()
    return choose(finite, new, old), ~finite


def after_warmup(config: RLHFConfig, iteration: Array, new: PyTree, old: PyTree) -> PyTree:
    """The new tree, but while the critic learns alone the old one."""
    if not config.critic_warmup_iterations:
        return new
    return choose(iteration >= config.critic_warmup_iterations, new, old)


def choose(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    """The new tree where the condition [] holds, else the old one."""
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)
