"""A score that is not finite teaches nothing and spoils nothing, and the run says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.algorithms import TRPOConfig
from jaxrl_po.rlhf import (
    RewardModel,
    SFTConfig,
    Tokens,
    learned_reward,
    make_reward_model,
    make_rlhf,
    make_rlhf_step,
)
from jaxrl_po.rlhf.heads import init_head
from tests.rlhf.conftest import N, T, tiny_config

SIZE = {"num_envs": N, "num_steps": T, "total_timesteps": 3 * N * T}
UPDATES = {
    "ppo": tiny_config().update,
    "trpo": TRPOConfig(**SIZE),
}


def finite(tree):
    leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return all(np.isfinite(leaf).all() for leaf in leaves)


def equal(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.fixture(scope="module")
def spoiled(reward, prompts, jit):
    """run(config, value, rows): three iterations in which the first `rows` scores are `value`."""

    def scores(value, rows):
        def score(prompt, response):
            return jnp.where(jnp.arange(N) < rows, value, reward(prompt, response))

        return score

    def run(config, params, value, rows):
        return make_rlhf(config, scores(value, rows), prompts)(jax.random.key(0), params)

    return jit(run)


@pytest.mark.parametrize("update", UPDATES)
def test_a_score_that_is_not_finite_is_left_out_and_counted(update, spoiled, params):
    config = tiny_config(update=UPDATES[update], adaptive_kl=True)
    result = spoiled(config, params, jnp.nan, 1)
    assert finite(result.state)
    assert finite(result.metrics)
    np.testing.assert_array_equal(result.metrics["objective/non_finite_scores"], 1)
    np.testing.assert_array_equal(result.metrics["val/update_held"], 0)
    moved = jax.tree.map(lambda x, y: jnp.abs(x - y).max(), result.state.params.policy, params)
    assert max(jax.tree.leaves(moved)) > 1e-4
    if update == "trpo":
        assert (result.metrics["policy/kl"] <= config.update.max_kl).all()
    for value in (jnp.inf, -jnp.inf):  # what stood there does not matter
        assert equal(spoiled(config, params, value, 1).state.params, result.state.params)


@pytest.mark.parametrize("update", UPDATES)
def test_without_a_finite_score_the_policy_stays(update, spoiled, params):
    config = tiny_config(update=UPDATES[update], adaptive_kl=True)
    result = spoiled(config, params, jnp.nan, N)
    np.testing.assert_array_equal(result.metrics["objective/non_finite_scores"], N)
    assert finite(result.state)
    assert equal(result.state.params.policy, params)
    assert result.state.kl_coef > 0
    assert int(result.state.iteration) == 3


def test_an_update_that_overflows_is_held(spoiled, params):
    """Finite scores whose sums are not: nothing is left out, and the state stays what it was."""
    result = spoiled(tiny_config(update=UPDATES["ppo"], adaptive_kl=True), params, 3e38, N)
    np.testing.assert_array_equal(result.metrics["objective/non_finite_scores"], 0)
    np.testing.assert_array_equal(result.metrics["val/update_held"], 1)
    assert finite(result.state)
    assert equal(result.state.params.policy, params)


def test_scores_left_out_count_in_no_mean_of_scores(config, prompts, params, jit):
    def score(prompt, response):
        return jnp.where(jnp.arange(N) < 3, jnp.nan, 2.0)

    init, step = make_rlhf_step(config, score, prompts)
    scores = jit(lambda state: step(state, params)[1]["objective/scores"])
    np.testing.assert_allclose(scores(init(jax.random.key(0), params)), 2.0)


ROWS = Tokens(np.arange(12).reshape(4, 3) % 5, np.ones((4, 3), bool))
SFT = SFTConfig(batch_size=2, num_epochs=1)


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_that_are_alike_give_scores_no_scale(rows, model):
    alike = jax.tree.map(lambda x: np.tile(x[:1], (rows, 1)), ROWS)
    with pytest.raises(ValueError, match=r"^reference: needs two rows that differ"):
        make_reward_model(SFT, model, ROWS, [0, 1], [2, 3], alike)


def test_scores_without_deviation_stay_finite(model, params, jit):
    def learn(key, params, reference):
        return make_reward_model(SFT, model, ROWS, [0, 1], [2, 3], reference)(key, params)[0]

    alike = jax.tree.map(lambda x: np.tile(x[:1], (3, 1)), ROWS)
    found = jit(learn)(jax.random.key(0), params, alike)
    assert found.std == 1.0
    score = jit(lambda found, rows: learned_reward(model, found)(rows, rows))
    assert (np.abs(score(found, ROWS)) < 100).all()


@pytest.mark.parametrize("scale", [(0.0, 0.0), (0.0, -1.0), (0.0, np.nan), (np.inf, 1.0)])
def test_a_reward_model_without_a_scale_is_refused(scale, model, params):
    scorer = {"torso": params, "head": init_head(jax.random.key(0), 8)}
    with pytest.raises(ValueError, match=r"^reward_model\.(mean|std)="):
        learned_reward(model, RewardModel(scorer, *map(jnp.float32, scale)))
