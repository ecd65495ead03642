"""What diverged, and why: one definition for runs and sweeps, causes by name, no time lost."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import resume, run
from jaxrl_po.host.runs.diagnosis import make_diagnosis
from jaxrl_po.host.runs.directory import RunSettings
from jaxrl_po.host.runs.segments import make_programs
from jaxrl_po.loop.divergence import has_diverged, is_excessive, is_finite
from jaxrl_po.loop.parts import Given
from jaxrl_po.loop.train import make_step
from tests.host.small import RUN, config, random_walk

ENV = random_walk()
SETTINGS = {"segment_length": 2, **RUN}


def poisoned(what, bad=np.nan):
    """An environment whose fourth step gives a reward or an observation that is not finite."""

    def step(key, state, action, params):
        observation, state, reward, *ends = ENV.step(key, state, action, params)
        here = state[2] == 4
        if what == "reward":
            reward = jnp.where(here, bad, reward)
        else:
            observation = jnp.where(here, bad, observation)
        return observation, state, reward, *ends

    return ENV._replace(step=step)


def events(directory):
    lines = (directory / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] != "evaluation"]


@pytest.mark.parametrize(("what", "bad"), [("reward", np.inf), ("observation", np.nan)])
def test_cause_of_a_divergence_is_named(what, bad, tmp_path, capsys):
    settings = SETTINGS | {"quiet": False}
    result = run(
        config(normalize_observations=False, normalize_rewards=False),
        7,
        directory=tmp_path,
        env=poisoned(what, bad),
        **settings,
    )
    assert result.diverged == {7: 1}
    (event,) = events(tmp_path)
    assert (event["seed"], event["iteration"]) == (7, 1)
    assert next(iter(event["not_finite"])) == what
    assert ({"reward", "observation"} - {what}).isdisjoint(event["not_finite"])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"seed 7 diverged in iteration 1 ({what}, " in shown


def test_diagnosis_of_a_healthy_iteration_finds_nothing(jit):
    init, _ = make_step(config(), ENV)
    assert make_diagnosis(config(), Given(ENV))(jit(init)(jax.random.key(0))) == []


def test_nan_losses_are_a_divergence_where_parameters_stay_finite():
    """A step of NPG that went too far: no gradient is a number, and no further step is taken."""
    wild = config("npg", num_iterations=8, step_rule="fixed", step_size=1e3)
    result = run(wild, env=ENV, **SETTINGS)
    (losses,) = result.metrics["policy_loss"]
    first = int(np.isnan(losses).argmax())
    assert 0 < first < 7
    assert result.diverged == {0: first + 1}
    assert result.state.iteration.tolist() == [first]


def test_one_definition_for_runs_and_sweeps():
    init, step = make_step(config(), ENV)
    state, metrics = jax.jit(lambda key: step(init(key)))(jax.random.key(0))
    assert is_finite(metrics, state)
    assert not has_diverged(metrics, state)
    for name in ("policy_loss", "value_loss", "grad_norm"):
        assert has_diverged({**metrics, name: jnp.nan}, state)
        others = {other: x for other, x in metrics.items() if other != name}
        assert is_finite(others, state)  # a method without a critic has no loss of it
    for bad, finite in ((jnp.nan, False), (jnp.inf, False), (1.1e3, True), (-1.1e3, True)):
        params = jax.tree.map(lambda x, bad=bad: x.at[..., 0].set(bad), state.params)
        spoilt = state._replace(params=params)
        assert is_finite(metrics, spoilt) == finite
        assert has_diverged(metrics, spoilt)
    assert not is_excessive(jax.tree.map(lambda x: x + 900, state.params))


def test_parameters_out_of_bounds_are_told_of_and_go_on(tmp_path, capsys):
    settings = SETTINGS | {"quiet": False}
    wild = config("trpo", learning_rate=400.0, num_iterations=4)
    result = run(wild, directory=tmp_path, env=ENV, **settings)
    assert not result.diverged
    assert [(e["event"], e["iteration"]) for e in events(tmp_path)] == [("excessive", 2)]
    assert "seed 0 has a parameter beyond ±1000 after iteration 2" in capsys.readouterr().out


def test_run_goes_on_under_debug_nans(tmp_path):
    """Rollouts of 8 steps in which no episode of 20 finishes: its mean return is NaN by design."""

    def step(key, state, action, params):
        observation, state, reward, *_ = ENV.step(key, state, action, params)
        return observation, state, reward, jnp.zeros((), bool), state[2] >= 20

    slow = ENV._replace(step=step, max_steps=20)
    plain = run(config(), env=slow, **SETTINGS)
    assert np.isnan(plain.metrics["episode_return"]).any()
    with jax.debug_nans(True):
        debugged = run(config(), directory=tmp_path / "run", until=4, env=slow, **SETTINGS)
        resume(tmp_path / "run", env=slow, quiet=True)
    np.testing.assert_array_equal(
        debugged.metrics["episode_return"],
        np.nan_to_num(plain.metrics["episode_return"][:, :4]),  # 0 stands for no episode there
    )
    plain = {"normalize_observations": False, "normalize_rewards": False}
    broken = poisoned("observation")
    with (
        jax.debug_nans(True),
        pytest.raises(FloatingPointError, match=r"seed 0 diverged in iteration 1 \(observation, "),
    ):
        run(config(**plain), env=broken, **SETTINGS)


def test_memory_of_a_segment_is_bounded_by_the_run():
    settings = RunSettings(0, 1, 10**9, 1, 4, 8, 3, ["env"])
    programs = make_programs(config(num_iterations=3), Given(ENV), settings)
    state = jax.eval_shape(programs.start, np.uint32(0))
    segment = jax.eval_shape(programs.advance, state, np.int32(0))
    assert segment[1]["kl"].shape == (3,)
    huge = run(config(num_iterations=3), env=ENV, **SETTINGS | {"segment_length": 10**9})
    assert huge.state.iteration.tolist() == [3]
