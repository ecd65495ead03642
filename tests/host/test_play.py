"""Policies in the real Gymnasium and in gymnax."""

import os

import jax
import numpy as np
import pytest

from jaxrl_po import PPOConfig, load_policy, make_step, save_policy
from jaxrl_po.host.play import play

pytest.importorskip("pygame")


def policy(tmp_path, jit, env_id):
    config = PPOConfig(env_id=env_id, hidden_sizes=(4,))
    init, _ = make_step(config)
    save_policy(tmp_path, config, jit(init)(jax.random.key(0)))
    return load_policy(tmp_path)


def test_cartpole_is_played_and_drawn(tmp_path, jit):
    cartpole = policy(tmp_path, jit, "CartPole-v1")
    gif = tmp_path / "played.gif"
    played = play(cartpole, "gymnasium:CartPole-v1", 3, gif=str(gif))
    np.testing.assert_array_equal(played.episode_return, played.episode_length)
    assert played.episode_return.shape == (3,)
    assert gif.read_bytes().startswith(b"GIF89a")
    again, sampled = (
        play(cartpole, "gymnasium:CartPole-v1", 3, sampled=sampled) for sampled in (False, True)
    )
    np.testing.assert_array_equal(played.episode_return, again.episode_return)
    assert not np.array_equal(sampled.episode_return, again.episode_return)
    with pytest.raises(ValueError, match=r"MountainCar-v0 observes .* this policy takes"):
        play(cartpole, "gymnasium:MountainCar-v0")
    for arguments, message in (
        (("CartPole-v1",), "must be gymnasium:NAME or gymnax:NAME"),
        (("gymnasium:CartPol-v1",), "gymnasium:CartPol-v1: .*CartPole"),
        (("gymnasium:CartPole-v1", 0), "num_episodes=0 is out of range"),
    ):
        with pytest.raises(ValueError, match=message):
            play(cartpole, *arguments)
    with pytest.raises(ValueError, match="seed=-1 is out of range"):
        play(cartpole, "gymnasium:CartPole-v1", seed=-1)
    with pytest.raises(ValueError, match=r"gif='a.txt': its name must end with .gif"):
        play(cartpole, "gymnasium:CartPole-v1", gif="a.txt")


def test_pendulum_pays_the_same_in_both_suites(tmp_path, jit):
    pendulum = policy(tmp_path, jit, "Pendulum-v1")
    real, ours = (
        play(pendulum, f"{suite}:Pendulum-v1", 2).episode_return
        for suite in ("gymnasium", "gymnax")
    )
    assert np.isfinite(real).all()
    assert np.abs(real - ours).max() < 1500  # other start states, the same scale
    pendulum.description["action"]["high"] = [1.0]
    with pytest.raises(ValueError, match="Pendulum-v1 acts in"):
        play(pendulum, "gymnasium:Pendulum-v1")


@pytest.mark.parametrize("suite", ["gymnasium", "gymnax"])
def test_drawing_opens_neither_screen_nor_sound(suite, tmp_path, jit, monkeypatch):
    drivers = ("SDL_AUDIODRIVER", "SDL_VIDEODRIVER")
    for driver in drivers:
        monkeypatch.delenv(driver, raising=False)
    play(policy(tmp_path, jit, "CartPole-v1"), f"{suite}:CartPole-v1", 1)
    assert [os.environ[driver] for driver in drivers] == ["dummy", "dummy"]


def test_gymnax_draws_its_own(tmp_path, jit):
    catch = policy(tmp_path, jit, "Catch-bsuite")
    gif = tmp_path / "catch.gif"
    played = play(catch, "gymnax:Catch-bsuite", 2, gif=str(gif))
    assert set(played.episode_length) == {9}
    assert gif.read_bytes().startswith(b"GIF89a")
    with pytest.raises(ValueError, match="no renderer for 'DeepSea-bsuite'"):
        play(catch, "gymnax:DeepSea-bsuite", gif=str(gif))
