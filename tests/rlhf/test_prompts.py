"""Every prompt is answered once in each pass over them, in orders that key and iteration give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po.rlhf import make_rlhf_step
from jaxrl_po.rlhf.prompts import prompt_rows
from tests.rlhf.conftest import N, tiny_config


@pytest.mark.parametrize(("batch", "pool"), [(8, 1), (8, 3), (8, 8), (3, 8), (8, 24), (7, 20)])
def test_a_pass_takes_each_prompt_once(batch, pool):
    draw = jax.jit(prompt_rows, static_argnums=(2, 3))
    rows = [draw(jax.random.key(0), jnp.uint32(i), batch, pool) for i in range(3 * pool)]
    passes = np.concatenate(rows).reshape(-1, pool)
    np.testing.assert_array_equal(np.sort(passes, axis=1), np.tile(np.arange(pool), (3 * batch, 1)))
    if pool >= 8:
        assert len({tuple(order) for order in passes.tolist()}) == len(passes)


def test_seeds_have_orders_of_their_own():
    one, other = (prompt_rows(jax.random.key(seed), jnp.uint32(0), 24, 24) for seed in (0, 1))
    assert (one != other).any()


def test_a_run_answers_every_prompt_and_goes_on_where_it_was(config, params, jit):
    """Scores are the prompts' numbers: with a batch of all of them, their mean is known."""
    prompts = jnp.arange(2 * N)[:, None] // jnp.array([[6, 1]]) % 6
    number = {tuple(row): i for i, row in enumerate(np.asarray(prompts).tolist())}
    assert len(number) == 2 * N

    def score(prompt, response):
        same = (prompt.ids[:, None] == prompts[None]).all(axis=-1)
        return (same * jnp.arange(2 * N)[None]).sum(axis=1).astype(float)

    init, step = make_rlhf_step(config, score, prompts)

    @jit
    def answer(state):  # and learn nothing
        after, metrics = step(state, params)
        return state._replace(key=after.key, iteration=after.iteration), metrics["objective/scores"]

    found, state = [], init(jax.random.key(0), params)
    for _ in range(4):
        kept = state
        state, scores = answer(state)
        found.append(float(scores))
    np.testing.assert_allclose(found[0] + found[1], 2 * N - 1)
    np.testing.assert_allclose(found[2] + found[3], 2 * N - 1)
    assert found[0] != found[2]
    _, again = answer(kept)
    assert float(again) == found[3]


def test_a_pool_smaller_than_the_batch_is_used_evenly(params, reward, jit):
    prompts = jnp.array([[1], [2]])

    def score(prompt, response):
        return prompt.ids[:, 0].astype(float)

    init, step = make_rlhf_step(tiny_config(), score, prompts)
    scores = jit(lambda state: step(state, params)[1]["objective/scores"])
    assert scores(init(jax.random.key(0), params)) == 1.5
