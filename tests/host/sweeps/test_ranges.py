"""Spaces: what they contain, and what they refuse by name before anything is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, TRPOConfig
from jaxrl_po.host.sweeps.ranges import configure, linear, log, settings_of

CONFIG = PPOConfig()


def test_a_grid_has_all_combinations():
    space = {"learning_rate": log(1e-4, 1e-2, 3), "clip_eps": [0.1, 0.2], "num_envs": (2, 4)}
    settings = settings_of(CONFIG, space)
    assert len({tuple(s.values()) for s in settings}) == len(settings) == 12
    assert {s["clip_eps"] for s in settings} == {0.1, 0.2}
    np.testing.assert_allclose(sorted({s["learning_rate"] for s in settings}), [1e-4, 1e-3, 1e-2])


def test_an_empty_space_is_one_setting():
    assert settings_of(CONFIG, {}) == [{}]


def test_points_may_be_listed():
    points = [{"gamma": 0.9, "num_envs": 2}, {"gamma": 0.8, "num_envs": 4}]
    assert settings_of(CONFIG, points) == points
    with pytest.raises(ValueError, match="points differ in their fields"):
        settings_of(CONFIG, [{"gamma": 0.9}, {"gae_lambda": 0.9}])
    with pytest.raises(ValueError, match=r"PPOConfig.gamma=2.0 is out of range"):
        settings_of(CONFIG, [{"gamma": 2.0}])
    with pytest.raises(ValueError, match="no field 'gama'"):
        settings_of(CONFIG, [{"gama": 0.9}])
    with pytest.raises(ValueError, match=r"a point is a dict of field -> value, not 0.9"):
        settings_of(CONFIG, [0.9])
    with pytest.raises(ValueError, match=r"lists the point {'gamma': 0.5} twice"):
        settings_of(CONFIG, [{"gamma": 0.5}, {"gamma": np.float32(0.5)}])
    with pytest.raises(ValueError, match="sampling='sobol': the points of this space are given"):
        settings_of(CONFIG, points, "sobol", 2)
    for space in (3, "gamma", {"gamma"}, None):
        with pytest.raises(ValueError, match="space must be a dict of field -> values, or a list"):
            settings_of(CONFIG, space)


def test_ranges_end_where_they_say():
    assert linear(0.9, 1.0, 3).points() == pytest.approx([0.9, 0.95, 1.0])
    points = log(3e-4, 7e-2, 5).points()
    assert (points[0], points[-1]) == (3e-4, 7e-2)


@pytest.mark.parametrize("sampling", ["random", "sobol"])
def test_samples_lie_in_their_ranges(sampling):
    space = {"gamma": linear(0.9, 0.99), "learning_rate": log(1e-5, 1e-1), "num_envs": [2, 4]}
    settings = settings_of(CONFIG, space, sampling, num_samples=20, seed=3)
    assert settings == settings_of(CONFIG, space, sampling, num_samples=20, seed=3)
    assert settings != settings_of(CONFIG, space, sampling, num_samples=20, seed=4)
    assert len(settings) == 20
    assert all(0.9 <= s["gamma"] <= 0.99 and 1e-5 <= s["learning_rate"] <= 0.1 for s in settings)
    assert {s["num_envs"] for s in settings} == {2, 4}
    assert 5 <= sum(s["learning_rate"] < 1e-3 for s in settings) <= 15  # half the logarithms


def test_sobol_points_are_spread_evenly():
    settings = settings_of(CONFIG, {"gamma": linear(0.0, 1.0)}, "sobol", num_samples=8)
    assert sorted(int(s["gamma"] * 8) for s in settings) == list(range(8))


@pytest.mark.parametrize("sampling", ["random", "sobol"])
def test_samples_of_lists_are_drawn_once_each(sampling):
    space = {"clip_eps": [0.1, 0.2, 0.3], "num_envs": [2, 4]}
    all_of_them = settings_of(CONFIG, space)
    for num_samples in (1, 5, 6, 100):
        settings = settings_of(CONFIG, space, sampling, num_samples, seed=3)
        assert len({tuple(s.values()) for s in settings}) == len(settings) == min(num_samples, 6)
        assert all(setting in all_of_them for setting in settings)
    mixed = settings_of(CONFIG, {**space, "gamma": linear(0.0, 1.0)}, sampling, 64)
    assert len({tuple(s.values()) for s in mixed}) == 64
    assert settings_of(CONFIG, {}, sampling, 4) == [{}]


def test_values_of_numpy_and_jax_are_numbers():
    space = {
        "learning_rate": jnp.array([0.25, 0.5]),
        "gamma": [np.float32(0.5)],
        "num_envs": [jnp.int32(2)],
        "hidden_sizes": [np.array([4, 4]), (np.int64(3),)],
        "env_params.length": linear(np.float32(0.5), jnp.float32(1.0), np.int64(2)),
    }
    settings = settings_of(CONFIG, space)
    assert len(settings) == 8
    assert [list(s.values()) for s in settings[:2]] == [
        [0.25, 0.5, 2, (4, 4), 0.5],
        [0.25, 0.5, 2, (4, 4), 1.0],
    ]
    kinds = {type(value) for setting in settings for value in setting.values()}
    assert kinds == {int, float, tuple}
    assert {type(size) for setting in settings for size in setting["hidden_sizes"]} == {int}
    with pytest.raises(ValueError, match=r"gamma lists 0.5 twice"):
        settings_of(CONFIG, {"gamma": [0.5, np.float32(0.5)]})
    assert settings_of(CONFIG, [{"gamma": jnp.float32(0.5)}]) == [{"gamma": 0.5}]


def test_environment_parameters_join_those_of_the_config():
    config = CONFIG.replace(env_params={"gravity": 9.0})
    assert configure(config, {"env_params.length": 0.7}).env_params == {
        "gravity": 9.0,
        "length": 0.7,
    }


def test_another_algorithm_keeps_what_was_changed():
    config = configure(PPOConfig(gamma=0.9, num_envs=2), {"algorithm": "trpo", "max_kl": 0.02})
    assert config == TRPOConfig(gamma=0.9, num_envs=2, max_kl=0.02)
    with pytest.raises(ValueError, match="TRPOConfig has no field 'clip_eps'"):
        configure(PPOConfig(clip_eps=0.1), {"algorithm": "trpo"})


BAD = [
    ({"learning_rte": [1e-3]}, "no field 'learning_rte': did you mean 'learning_rate'"),
    ({"max_kl": [0.01]}, "PPOConfig has no field 'max_kl'"),
    ({"env_params": [{"length": 1.0}]}, "no field 'env_params': did you mean 'env_params.NAME'"),
    ({"gamma": []}, "gamma has no values"),
    ({"gamma": 0.9}, r"gamma must be a list of values, linear\(low, high, num\)"),
    ({"gamma": "0.9"}, "gamma must be a list"),
    ({"gamma": ["0.9"]}, "PPOConfig.gamma must be a number .* not '0.9'"),
    ({"gamma": [True]}, "PPOConfig.gamma must be a number"),
    ({"gamma": [0.9, 1.5]}, "PPOConfig.gamma=1.5 is out of range: it must be >= 0 and <= 1"),
    ({"gamma": [float("nan")]}, "PPOConfig.gamma=nan is out of range"),
    ({"gamma": [0.9, 0.9]}, "gamma lists 0.9 twice"),
    ({"gamma": linear(0.99, 0.9, 3)}, r"gamma=linear\(0.99, 0.9, 3\) is empty"),
    ({"gamma": linear(0.9, 0.9, 3)}, "is empty: low must be less than high"),
    ({"gamma": linear(0.9, 1.1, 3)}, "PPOConfig.gamma=1.1 is out of range"),
    ({"gamma": linear(0.9, 0.99, 1)}, r"num=1 is out of range: it must be >= 2"),
    ({"gamma": linear(0.9, 0.99, 3.0)}, r"num must be an integer \(>= 2\), not 3.0"),
    ({"gamma": linear(0.9, 0.99, "8")}, r"num must be an integer \(>= 2\), not '8'"),
    ({"gamma": linear("0.9", 0.99, 3)}, "gamma: the bounds of a range must be finite, not"),
    ({"env_params.length": linear(False, True, 2)}, "the bounds of a range must be finite, not"),
    ({1: [0.9]}, "there is no field 1"),
    ({"algorithm": [{"ppo"}]}, "algorithm must be names of algorithms, not {'ppo'}"),
    ({"env_params.length": [True]}, "env_params.length must be numbers, not True"),
    ({"env_params.length": np.float32(1.0)}, "env_params.length must be a list of values"),
    ({"gamma": linear(0.9, 0.99)}, "a grid needs num"),
    ({"gamma": linear(0.9, float("inf"), 2)}, "gamma: the bounds of a range must be finite"),
    ({"learning_rate": log(0.0, 1.0, 3)}, "a logarithmic range must start above 0"),
    ({"num_envs": linear(2, 8, 3)}, "num_envs is static, it shapes the program: list its values"),
    ({"num_envs": [2.5]}, "PPOConfig.num_envs must be an integer"),
    ({"hidden_sizes": (64, 32)}, "hidden_sizes must be a tuple of integers, not 64"),
    ({"activation": ["tanhh"]}, "activation='tanhh': did you mean 'tanh'"),
    ({"algorithm": ["ppoo"]}, "algorithm='ppoo': did you mean 'ppo'"),
    ({"env_params.length": ["long"]}, "env_params.length must be numbers, not 'long'"),
]


@pytest.mark.parametrize(("space", "message"), BAD, ids=lambda value: str(value)[:40])
def test_bad_spaces_are_refused_by_name(space, message):
    with pytest.raises(ValueError, match=message):
        settings_of(CONFIG, space)


@pytest.mark.parametrize("values", [lambda x: x, lambda x: [x]], ids=["array", "item"])
def test_traced_values_are_refused(values):
    @jax.jit
    def plan(x):
        settings_of(CONFIG, {"num_envs": values(x)})

    with pytest.raises(ValueError, match="num_envs is traced"):
        plan(jnp.arange(2))


def test_bad_sampling_is_refused():
    with pytest.raises(ValueError, match="sampling='sobl': did you mean 'sobol'"):
        settings_of(CONFIG, {}, "sobl")
    with pytest.raises(ValueError, match="num_samples=None: sampling='sobol' needs at least 1"):
        settings_of(CONFIG, {"gamma": linear(0, 1)}, "sobol")
    for wrong in (3.0, "8", True, [4]):
        with pytest.raises(ValueError, match=r"num_samples must be an integer \(>= 1\), not "):
            settings_of(CONFIG, {"gamma": linear(0, 1)}, "sobol", wrong)
    with pytest.raises(ValueError, match="num_samples=0 is out of range: it must be >= 1"):
        settings_of(CONFIG, {"gamma": linear(0, 1)}, "random", 0)
    with pytest.raises(ValueError, match="num_samples: a grid takes all"):
        settings_of(CONFIG, {"gamma": [0.9]}, num_samples=3)
