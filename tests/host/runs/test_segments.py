"""Programs of a run: what a process has compiled serves again, and nothing that has changed."""

import logging

import jax
import jax.numpy as jnp
import pytest

from jaxrl_po import resume, run
from jaxrl_po.envs import Environment
from jaxrl_po.host.runs.segments import make_programs
from jaxrl_po.loop.parts import Given
from tests.host.runs.test_run import SMALL
from tests.host.small import RUN, config, random_walk, same

ENV = random_walk()
BONUS = 0.0


def with_bonus():
    """A walk whose rewards a global of this module is added to."""

    def step(key, state, action, params):
        observation, state, reward, *ends = ENV.step(key, state, action, params)
        return observation, state, reward + BONUS, *ends

    return Environment(ENV.reset, step, (), (2,), ENV.action_space, 5)


def test_another_seed_and_a_resumption_compile_nothing(tmp_path, caplog):
    settings = {"env": ENV, "segment_length": 2, **RUN}
    run(config(), 0, directory=tmp_path / "first", until=4, **settings)
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        run(config(), 1, **settings)
        resume(tmp_path / "first", env=ENV, quiet=True)
        assert "on_block" not in caplog.text
        run(config(gamma=0.5), 1, **settings)
        assert "compilation of jit(on_block)" in caplog.text


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        (config(gamma=0.5), Given(ENV)),
        (config("trpo"), Given(ENV)),
        (config(), Given(random_walk())),
        (config(), Given(random_walk(0.5))),
    ],
)
def test_other_parts_are_other_programs(settings, given):
    kept = make_programs(config(), Given(ENV), SMALL)
    assert make_programs(config(), Given(ENV), SMALL) is kept
    assert make_programs(settings, given, SMALL) is not kept
    assert make_programs(config(), Given(ENV), SMALL._replace(num_episodes=5)) is not kept


@pytest.mark.parametrize("switched", [jax.enable_x64, jax.debug_nans])
def test_other_switches_of_jax_are_other_programs(switched):
    kept = make_programs(config(), Given(ENV), SMALL)
    with switched(True):
        assert make_programs(config(), Given(ENV), SMALL) is not kept


def test_what_an_environment_reads_is_read_anew(monkeypatch):
    env = with_bonus()
    before, again = (run(config(), env=env, **RUN) for _ in range(2))
    monkeypatch.setitem(globals(), "BONUS", 1.0)
    after = run(config(), env=env, **RUN)
    assert same(before.evaluation, again.evaluation)
    longer = after.evaluation.episode_return - after.evaluation.episode_length
    assert not same(before.evaluation, after.evaluation)
    assert jnp.all(longer <= 0)  # the walk's own rewards are not above zero
