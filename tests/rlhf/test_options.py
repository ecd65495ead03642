"""Options of scores, the critic and PPO's loss: each does what its paper says, by NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.algorithms import NPGConfig, PPOConfig, PPOPenaltyConfig, TRPOConfig, VPGConfig
from jaxrl_po.algorithms.ppo import ppo
from jaxrl_po.distributions import Categorical
from jaxrl_po.ops import clipped_surrogate_loss
from jaxrl_po.rlhf import RewardModel, RLHFConfig, Tokens, make_rlhf, make_rlhf_step
from jaxrl_po.rlhf.heads import init_head, token_network
from jaxrl_po.rlhf.reward_model import reward_loss
from jaxrl_po.rlhf.scores import init_score_statistics, shape_scores
from jaxrl_po.rlhf.update import AVERAGES, make_update
from jaxrl_po.types import Batch, Network, Params
from tests.rlhf.conftest import PAD, N, T, V, tiny_config

SIZE = {"num_envs": N, "num_steps": T, "total_timesteps": 3 * N * T}
GROUPS = {"estimator": "rloo", "answers_per_prompt": 4}
GRPO = {"estimator": "grpo", "answers_per_prompt": 4}
PLAIN = PPOConfig(**SIZE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": "rlo"}, "estimator='rlo': did you mean 'rloo'"),
        ({"answers_per_prompt": 3}, "answers_per_prompt=3 does not divide update.num_envs=8"),
        ({"estimator": "rloo"}, "answers_per_prompt=1 must be >= 2"),
        ({**GRPO, "answers_per_prompt": 1}, "answers_per_prompt=1 must be >= 2"),
        ({**GROUPS, "divide_by_std": False}, "divide_by_std=False has no effect"),
        ({**GROUPS, "update": PPOConfig(**SIZE, vf_coef=0.7)}, "update.vf_coef=0.7 has no effect"),
        ({**GROUPS, "update": PPOConfig(**SIZE, clip_value=True)}, "update.clip_value=True"),
        ({**GROUPS, "update": PPOConfig(**SIZE, gae_lambda=0.5)}, "update.gae_lambda=0.5"),
        ({**GROUPS, "update": PPOConfig(**SIZE, shared_torso=True)}, "update.shared_torso=True"),
        ({**GROUPS, "update": PPOConfig(**SIZE, value_loss="huber")}, "update.value_loss='huber'"),
        ({**GROUPS, "update": VPGConfig(**SIZE, critic_epochs=2)}, "update.critic_epochs=2"),
        ({**GROUPS, "update": TRPOConfig(**SIZE, learning_rate=0.1)}, "update.learning_rate=0.1"),
        ({**GROUPS, "update": NPGConfig(**SIZE, learning_rate=1e-4)}, "learning_rate=0.0001"),
        ({**GROUPS, "update": TRPOConfig(**SIZE, max_grad_norm=1.0)}, "update.max_grad_norm=1.0"),
        ({**GROUPS, "update": PPOConfig(**SIZE, gamma=0.9)}, "update.gamma=0.9 has no effect"),
        (
            {**GRPO, "update": PPOConfig(**SIZE, advantage_normalization="batch")},
            "advantage_normalization='batch' would standardise a second time",
        ),
        ({"score_clip": 0.0}, "score_clip=0.0"),
        ({**GROUPS, "update": PLAIN, "critic_learning_rate_factor": 2.0}, "has no effect"),
        ({"update": TRPOConfig(**SIZE), "critic_learning_rate_factor": 2.0}, "has no effect"),
        ({**GROUPS, "update": PLAIN, "critic_warmup_iterations": 1}, "has no effect"),
        ({"critic_warmup_iterations": 3}, "critic_warmup_iterations=3 leaves the policy none of 3"),
        (
            {"critic_warmup_iterations": 1, "update": PPOConfig(**SIZE, shared_torso=True)},
            "critic_warmup_iterations=1 needs update.shared_torso=False",
        ),
        ({"clip_eps_high": 0.3}, "clip_eps_high=0.3 has no effect"),
        ({"clip_higher": True, "clip_eps_high": 0.1}, "clip_eps_high=0.1 must be >= "),
        ({"clip_higher": True, "update": VPGConfig(**SIZE)}, "clip_higher=True goes with update="),
        (
            {"loss_average": "sequence", "update": PPOPenaltyConfig(**SIZE)},
            "loss_average='sequence' goes with update=PPOConfig",
        ),
        ({"loss_average": "mean"}, "loss_average='mean'"),
        ({"dynamic_sampling": True, "kl_in_reward": "none"}, "'rloo' or 'grpo', not 'gae'"),
        ({**GRPO, "update": PLAIN, "dynamic_sampling": True}, "set kl_in_reward='none'"),
        (
            {
                **GROUPS,
                "dynamic_sampling": True,
                "kl_in_reward": "none",
                "update": PPOConfig(**SIZE, advantage_normalization="minibatch"),
            },
            "may leave a minibatch empty",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


def test_an_update_is_standardised_as_its_estimator_says_unless_told():
    def normalization(estimator, update):
        config = RLHFConfig(update=update, estimator=estimator, answers_per_prompt=2)
        return config.update.advantage_normalization

    found = [normalization(name, PLAIN) for name in ("gae", "rloo", "grpo", "reinforce++")]
    assert found == ["minibatch", "none", "none", "batch"]
    assert normalization("rloo", TRPOConfig(**SIZE)) == "none"
    assert normalization("rloo", PLAIN.replace(advantage_normalization="batch")) == "batch"
    assert RLHFConfig().replace(**GROUPS).update.advantage_normalization == "none"


@pytest.mark.parametrize("first", ["gae", "rloo", "grpo", "reinforce++"])
@pytest.mark.parametrize("second", ["gae", "rloo", "grpo", "reinforce++"])
@pytest.mark.parametrize("update", [PLAIN, TRPOConfig(**SIZE)], ids=["ppo", "trpo"])
def test_an_estimator_that_is_replaced_leaves_nothing_behind(first, second, update):
    config = RLHFConfig(update=update, estimator=first, answers_per_prompt=2)
    fresh = RLHFConfig(update=update, estimator=second, answers_per_prompt=2)
    assert config.replace(estimator=second) == fresh
    told = config.replace(estimator=second, update=update.replace(advantage_normalization="none"))
    assert told.update.advantage_normalization == "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnConfig(PPOConfig):
    """A PPO whose loss is not the library's, and knows none of its options."""

    def make_algorithm(self, network, optimizer=None):
        return ppo(self, network, optimizer)


@pytest.mark.parametrize(
    "change",
    [
        {"clip_higher": True},
        {"loss_average": "sequence"},
        {"kl_in_loss": "k2", "kl_in_reward": "none"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_update_of_ones_own_is_not_passed_over_for_an_option(change):
    update = OwnConfig(**SIZE, advantage_normalization="none")
    RLHFConfig(update=update)
    message = f"{next(iter(change))}=.* not with OwnConfig's own algorithm"
    with pytest.raises(ValueError, match=message):
        RLHFConfig(update=update, **change)


# --- Scores.


def test_scores_are_scaled_by_all_so_far_and_clipped():
    config = tiny_config(scale_scores=True, score_clip=1.5)
    statistics = init_score_statistics(config)
    rng, seen = np.random.default_rng(0), []
    for scale in (1.0, 5.0, 0.2):
        score = (scale * rng.normal(1.0, 1.0, N)).astype(np.float32)
        score[2] = np.nan
        seen.extend(score[np.isfinite(score)])
        expected = np.clip(score / np.std(seen), -1.5, 1.5)
        found, statistics = shape_scores(config, statistics, jnp.asarray(score))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert statistics.num_samples == len(seen)
    _, same = shape_scores(config, statistics, jnp.full(N, jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, same, statistics)


def test_scores_that_do_not_differ_are_left_alone():
    config = tiny_config(scale_scores=True)
    found, _ = shape_scores(config, init_score_statistics(config), jnp.full(N, 0.1))
    np.testing.assert_allclose(found, 0.1, rtol=1e-6)


def test_an_infinite_score_is_not_clipped_to_a_finite_one():
    found, _ = shape_scores(tiny_config(score_clip=1.0), (), jnp.array([jnp.inf, 3.0, -3.0, 0.5]))
    np.testing.assert_array_equal(found, [np.inf, 1.0, -1.0, 0.5])


# --- PPO's loss.


def test_averages_are_their_definitions():
    x = np.random.default_rng(0).normal(size=(3, T)).astype(np.float32)
    mask = np.arange(T) < np.array([[2], [4], [0]])
    rows = [row[keep] for row, keep in zip(x, mask, strict=True)]
    expected = {
        "token": np.concatenate(rows).mean(),
        "sequence": np.mean([rows[0].mean(), rows[1].mean()]),
        "constant": np.mean([rows[0].sum() / T, rows[1].sum() / T]),
    }
    assert expected.keys() == AVERAGES.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(AVERAGES[name](x, mask), value, rtol=1e-5)
        assert AVERAGES[name](x, np.zeros_like(mask)) == 0


def test_the_upper_bound_of_the_clip_is_its_own():
    ratio = np.array([0.5, 0.9, 1.25, 1.25, 1.5, 0.5, 1.5], np.float32)
    advantage = np.array([1, 1, 1, -1, 1, -1, -1], np.float32)
    held = np.minimum(np.maximum(ratio, 0.8), 1.3)
    expected = -np.minimum(ratio * advantage, held * advantage)
    found = clipped_surrogate_loss(ratio, advantage, 0.2, 0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def first_step(jit):
    """A batch of logits [N, T, V] at ratios other than 1, and one step of PPO on all of it."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(N, T, V)).astype(np.float32)
    action = rng.integers(0, V, (N, T))
    length = 1 + np.arange(N) % T
    ratio = rng.uniform(0.6, 1.5, (N, T))
    log_prob = np.asarray(Categorical(logits).log_prob(action)) - np.log(ratio)
    batch = Batch(
        observation=jnp.arange(N),
        memory=(),
        distribution=Categorical(jnp.asarray(logits)),
        action=jnp.asarray(action),
        log_prob=jnp.asarray(log_prob, jnp.float32),
        value=jnp.zeros((N, T)),
        advantage=jnp.asarray(rng.normal(size=(N, T)), jnp.float32),
        target=jnp.ones((N, T)),
        mask=jnp.asarray(np.arange(T) < length[:, None]),
    )

    def look_up(params, observation, memory):
        value = params.value[observation] if len(params.value) else None
        return Categorical(params.policy[observation]), value

    network = Network(None, None, None, look_up, None, flat_params=False)
    update = PPOConfig(
        **SIZE,
        num_minibatches=1,
        update_epochs=1,
        advantage_normalization="none",
        learning_rate=1e-3,
    )

    def run(value=(), **changes):
        """The parameters' change and the metrics."""
        config = tiny_config(update=update, **changes)
        algorithm = make_update(config, network, jnp.zeros(()))
        params = Params(policy=jnp.asarray(logits), value=value)
        state = algorithm.init(params)
        new, _, metrics = jit(algorithm.update)(
            jax.random.key(0), params, state, batch, jnp.ones(())
        )
        return jax.tree.map(lambda x, y: x - y, new, params), metrics

    return batch, ratio, run


@pytest.mark.parametrize("average", AVERAGES)
def test_the_loss_of_an_update_is_averaged_and_clipped_as_told(average, first_step):
    batch, ratio, run = first_step
    options = {"loss_average": average, "clip_higher": True, "clip_eps_high": 0.4}
    _, found = run(**GROUPS, **options)
    A, mask = np.asarray(batch.advantage), np.asarray(batch.mask)
    loss = -np.minimum(ratio * A, np.clip(ratio, 0.8, 1.4) * A)
    outside = (ratio < 0.8) | (ratio > 1.4)
    for name, x in (("policy_loss", loss), ("clip_fraction", outside.astype(np.float32))):
        expected = AVERAGES[average](x, mask)
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, err_msg=name)
    assert "value_loss" not in found
    assert run(**GROUPS)[1]["clip_fraction"] > found["clip_fraction"]


# --- The critic.


@pytest.fixture(scope="module")
def reward_model(params):
    torso = jax.tree.map(lambda x: 1.1 * x, params)
    head = init_head(jax.random.key(3), 8)
    return RewardModel({"torso": torso, "head": head}, jnp.float32(0.3), jnp.float32(2.0))


def test_a_critic_may_begin_as_a_reward_model(reward_model, reward, prompts, params, model):
    init, _ = make_rlhf_step(tiny_config(), reward, prompts, critic_from=reward_model)
    state = init(jax.random.key(0), params)
    tokens = Tokens(jnp.array([[PAD, 1, 2, 3, 4, 5]]), jnp.array([[False] + 5 * [True]]))
    value = token_network(model, T, 1.0).value(state.params, tokens, ())
    features, _ = model.apply(reward_model.params["torso"], tokens, None)
    head = reward_model.params["head"]
    raw = np.asarray(features[:, -T:]) @ np.asarray(head["kernel"]) + head["bias"]
    np.testing.assert_allclose(value, (raw - 0.3) / 2.0, rtol=1e-4, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, state.params.policy, params)
    plain = make_rlhf_step(tiny_config(), reward, prompts)[0]
    given = plain(jax.random.key(0), params, reward_model)
    jax.tree.map(np.testing.assert_array_equal, given.params, state.params)


@pytest.mark.parametrize(
    ("changes", "spoil", "message"),
    [
        ({**GROUPS, "update": PLAIN}, {}, "estimator='rloo' has no critic"),
        ({"update": PPOConfig(**SIZE, shared_torso=True)}, {}, "needs update.shared_torso=False"),
        ({}, {"std": jnp.zeros(())}, "critic_from.std=0"),
        ({}, {"params": {"torso": {}, "head": {}}}, "its torso differs"),
    ],
)
def test_a_critic_that_cannot_begin_so_is_refused(
    changes, spoil, message, reward_model, reward, prompts
):
    with pytest.raises(ValueError, match=message):
        make_rlhf(
            tiny_config(**changes), reward, prompts, critic_from=reward_model._replace(**spoil)
        )


def test_the_critics_steps_are_longer_by_the_factor(first_step):
    """Of one step of Adam: the policy's is the same, the critic's three times as long."""
    _, _, run = first_step
    value = jnp.zeros((N, T))
    one, three = (run(value, critic_learning_rate_factor=factor)[0] for factor in (1.0, 3.0))
    np.testing.assert_array_equal(three.policy, one.policy)
    np.testing.assert_allclose(three.value, 3 * one.value, rtol=1e-4)
    assert jnp.abs(one.policy).max() > 1e-4
    assert jnp.abs(one.value).max() > 1e-4


@pytest.fixture(scope="module", params=[PLAIN, TRPOConfig(**SIZE)], ids=["ppo", "trpo"])
def three_iterations(request, reward, prompts, params, jit):
    """Four states and three rows of metrics: two iterations of the critic alone, and one of all."""
    config = tiny_config(
        update=request.param,
        critic_warmup_iterations=2,
        adaptive_kl=True,
        scale_scores=True,
        score_clip=0.5,
    )
    init, step = make_rlhf_step(config, reward, prompts)
    step, states, rows = jit(step), [init(jax.random.key(0), params)], []
    for _ in range(3):
        state, metrics = step(states[-1], params)
        states.append(state)
        rows.append(metrics)
    return states, rows


def test_at_first_the_critic_learns_alone(three_iterations, params):
    states, rows = three_iterations
    for iteration, metrics in enumerate(rows):
        before, after = states[iteration : iteration + 2]
        head = after.params.value["head"]["kernel"] - before.params.value["head"]["kernel"]
        assert jnp.abs(head).max() > 1e-6
        moves = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), after.params.policy, params)
        assert (max(jax.tree.leaves(moves)) > 0) == (iteration == 2)
        assert (metrics["policy/kl"] != 0) == (iteration == 2)
        assert (after.kl_coef != before.kl_coef) == (iteration == 2)


def test_a_run_learns_from_the_shaped_scores(three_iterations):
    states, rows = three_iterations
    for count, metrics in enumerate(rows, start=1):
        assert states[count].score_statistics.num_samples == count * N
        assert metrics["objective/scores"] != metrics["objective/raw_scores"]
        assert abs(metrics["objective/scores"]) <= 0.5


# --- The reward model's loss.


def test_margin_and_centering_are_their_definitions(model, params, jit):
    scorer = {"torso": params, "head": init_head(jax.random.key(3), 8)}
    ids = jax.random.randint(jax.random.key(0), (8, T), 1, V)
    rows = Tokens(ids, ids > 0)
    better, worse = (jax.tree.map(lambda x, p=p: x[p], rows) for p in (slice(0, 4), slice(4, 8)))
    features, _ = model.apply(params, rows, None)
    r = np.asarray(features[:, -1] @ scorer["head"]["kernel"] + scorer["head"]["bias"], np.float64)
    margin = np.array([0.0, 1.0, 0.5, 2.0])
    expected = np.log1p(np.exp(-(r[:4] - r[4:] - margin))).mean()
    expected += 0.1 * np.square(r[:4] + r[4:]).mean()

    @jit
    def loss(scorer, margin, centering):
        return reward_loss(model, scorer, better, worse, margin, centering)

    np.testing.assert_allclose(loss(scorer, jnp.asarray(margin), 0.1), expected, rtol=1e-5)
