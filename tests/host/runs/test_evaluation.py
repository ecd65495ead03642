"""A run directory evaluated again: all seeds, both ways, on fresh episodes."""

import jax
import numpy as np
import pytest

from jaxrl_po import evaluate, load_state, run
from jaxrl_po.host.runs.evaluation import evaluate_run
from tests.host.small import RUN, config, random_walk


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Two seeds, whose best greedy evaluation is not the newest."""
    path = tmp_path_factory.mktemp("run") / "walk"
    options = {**RUN, "env": random_walk(), "segment_length": 1, "evaluate_every": 1}
    run(config(num_iterations=6, learning_rate=0.3), 5, 2, path, **options)
    return path


@pytest.fixture(scope="module")
def evaluated(directory):
    env = random_walk()
    return {best: evaluate_run(directory, 6, 3, best=best, env=env) for best in (True, False)}


@pytest.mark.parametrize("best", [True, False])
def test_all_seeds_are_evaluated_both_ways(best, directory, evaluated, jit):
    found = evaluated[best]
    settings, states = load_state(directory, best=best, env=random_walk())
    assert found.seeds == [5, 6]
    assert found.iterations == states.iteration.tolist()
    for s, seed in enumerate(found.seeds):
        state = jax.tree.map(lambda x, s=s: x[s], states)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(3), seed))
        for i, results in enumerate((found.greedy, found.sampled)):
            again = jit(
                lambda state, key, greedy=i == 0: evaluate(
                    settings, state, key, 6, greedy, env=random_walk(), max_steps=8
                )
            )(state, keys[i])
            np.testing.assert_allclose(
                results.episode_return[s], again.episode_return, rtol=1e-4, atol=1e-5
            )


def test_it_says_what_was_found(evaluated):
    found = evaluated[False]
    text = str(found)
    assert text.startswith("Environment after iteration 6: return -")
    assert text.endswith("(2 seeds x 6 episodes)")
    assert "±" in text
    one = (jax.tree.map(lambda x: x[:1], results) for results in (found.sampled, found.greedy))
    assert "±" not in str(found._replace(**dict(zip(("sampled", "greedy"), one, strict=True))))


def test_what_cannot_be_evaluated_is_named(directory, tmp_path):
    for arguments, message in (
        ({"directory": tmp_path}, "holds no run"),
        ({"num_episodes": 0}, "num_episodes=0 is out of range"),
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"max_episode_steps": 0}, "max_episode_steps=0 is out of range"),
        ({"env": None}, "was run with env given as objects; given now: none"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_run(**({"directory": directory, "env": random_walk()} | arguments))
