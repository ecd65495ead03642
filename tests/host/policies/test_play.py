"""Policies in the real Gymnasium and in gymnax."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxrl_po import PPOConfig, load_policy, make_step, save_policy
from jaxrl_po.host.policies import drawing
from jaxrl_po.host.policies.play import own_environment, play
from tests.host.small import config, random_walk

pytest.importorskip("pygame")
gymnasium = pytest.importorskip("gymnasium")
spaces = gymnasium.spaces


def policy(tmp_path, jit, env_id, **changes):
    config = PPOConfig(env_id=env_id, hidden_sizes=(4,), **changes)
    init, _ = make_step(config)
    save_policy(tmp_path, config, jit(init)(jax.random.key(0)))
    return load_policy(tmp_path)


class Endless(gymnasium.Env):
    """As CartPole's spaces are unless others are given; it never ends, and draws text."""

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012

    def __init__(self, render_mode=None, **given):
        self.render_mode = render_mode
        self.observation_space = given.get("observed", spaces.Box(0, 9, (4,), np.uint8))
        self.action_space = given.get("acts", spaces.Discrete(2))

    def reset(self, *, seed=None, options=None):
        return np.ones(4, np.uint8), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return np.full(4, 2, np.uint8), 1.0, False, False, {}

    def render(self):
        return "text"


class Painter(Endless):
    """One that promises pictures."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012


class Undrawable(Painter):
    """One whose library is missing."""

    def render(self):
        raise gymnasium.error.DependencyNotInstalled("mujoco is not installed")


UNUSUAL = {
    "Endless": (Endless, {}),
    "Painter": (Painter, {}),
    "Undrawable": (Undrawable, {}),
    "FromOne": (Endless, {"acts": spaces.Discrete(2, start=1)}),
    "Switches": (Endless, {"acts": spaces.MultiBinary(2)}),
    "Several": (Endless, {"acts": spaces.MultiDiscrete([2, 2])}),
    "Numbered": (Endless, {"observed": spaces.Discrete(4)}),
    "Named": (Endless, {"observed": spaces.Dict(x=spaces.Box(0, 1, (4,)))}),
}


@pytest.fixture(scope="module", autouse=True)
def _unusual_environments():
    for name, (entry_point, given) in UNUSUAL.items():
        options = {"disable_env_checker": True, "kwargs": given}
        gymnasium.register(f"{name}-v0", entry_point=entry_point, **options)
    yield
    for name in UNUSUAL:
        gymnasium.registry.pop(f"{name}-v0")


@pytest.fixture
def cartpole(tmp_path, jit):
    return policy(tmp_path, jit, "CartPole-v1")


def test_whole_numbers_are_observed_and_long_episodes_end(cartpole):
    for name in ("Endless", "FromOne"):
        played = play(cartpole, f"gymnasium:{name}-v0", 2, max_steps=7)
        assert played.episode_return.tolist() == played.episode_length.tolist() == [7, 7]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Switches", "Switches-v0 acts in MultiBinary"),
        ("Several", "Several-v0 acts in MultiDiscrete"),
        ("Numbered", "Numbered-v0 observes Discrete"),
        ("Named", "Named-v0 observes Dict"),
        ("no_such_module:Any", "gymnasium:no_such_module:Any-v0: .*no_such_module"),
    ],
)
def test_environments_that_do_not_fit_are_named(name, message, cartpole):
    with pytest.raises(ValueError, match=message):
        play(cartpole, f"gymnasium:{name}-v0", 1, max_steps=2)


def test_gymnax_environments_that_do_not_fit_are_named(tmp_path, jit):
    pendulum = policy(tmp_path, jit, "Pendulum-v1", env_params={"max_speed": 8.0})
    for name, message in (
        ("CartPole-v1", r"gymnax:CartPole-v1 observes \[4\]; this policy takes \[3\]"),
        ("UmbrellaChain-bsuite", "gymnax:UmbrellaChain-bsuite acts in Discrete"),
    ):
        with pytest.raises(ValueError, match=message):
            play(pendulum, f"gymnax:{name}", 1, max_steps=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Endless", "Endless-v0 draws no pictures: it has no render mode rgb_array, only ansi"),
        ("Painter", r"Painter-v0 draws no pictures: its render\(\) gave str"),
        ("Undrawable", "Undrawable-v0 cannot be drawn: mujoco is not installed"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_a_step(name, message, cartpole, tmp_path):
    gif = tmp_path / "no.gif"
    with pytest.raises(ValueError, match=message):
        play(cartpole, f"gymnasium:{name}-v0", 1, gif=str(gif))  # it would never end
    assert not gif.exists()


@pytest.mark.parametrize("module", ["pygame", "PIL.Image"])
@pytest.mark.parametrize("suite", ["gymnasium", "gymnax"])
def test_drawing_without_the_extra_is_one_sentence(module, suite, cartpole, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    cartpole = cartpole._replace(act=None)  # nothing is played
    message = rf"needs {module}, which is not installed: pip install 'jaxrl-po\[play\]'$"
    with pytest.raises(ValueError, match=message):
        play(cartpole, f"{suite}:CartPole-v1", 1, gif=str(tmp_path / "no.gif"))
    with pytest.raises(ValueError, match="there is no folder"):
        play(cartpole, f"{suite}:CartPole-v1", 1, gif=tmp_path / "no" / "no.gif")


def test_long_films_are_thinned_out(tmp_path):
    film, drawn = drawing.Film(), []

    def draw():
        drawn.append(len(drawn))
        return np.full((4, 6, 3), 7 * len(drawn) % 256, np.uint8)

    for _ in range(3 * drawing.MAX_FRAMES):
        film.add(draw)
    assert len(drawn) < 2 * drawing.MAX_FRAMES
    film.save(str(tmp_path / "film.gif"))
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF89a")


def test_a_policy_knows_where_it_was_trained(cartpole, tmp_path, jit):
    assert own_environment(cartpole) == "gymnasium:CartPole-v1"
    played, named = play(cartpole, None, 2), play(cartpole, "gymnasium:CartPole-v1", 2)
    np.testing.assert_array_equal(played.episode_return, named.episode_return)
    for env_id, env_params in (("Catch-bsuite", {}), ("CartPole-v1", {"length": 1.0})):
        changed = policy(tmp_path / env_id, jit, env_id, env_params=env_params)
        assert own_environment(changed) == f"gymnax:{env_id}"
    catch = load_policy(tmp_path / "Catch-bsuite")
    assert play(catch, num_episodes=3).episode_length.tolist() == [9, 9, 9]
    init, _ = make_step(config(), random_walk())
    save_policy(tmp_path / "given", config(), jit(init)(jax.random.key(0)), env=random_walk())
    with pytest.raises(ValueError, match=r"env=None: .* given as an object"):
        play(load_policy(tmp_path / "given"))


WITHOUT_A_HOME = """
import os, pathlib, pwd, sys
def nobody(number):
    raise KeyError(number)
pwd.getpwuid = nobody
try:
    pathlib.Path.home()
except RuntimeError:
    print("homeless")
from jaxrl_po import load_policy
from jaxrl_po.host.policies.export import export_policy
from jaxrl_po.host.policies.play import play
policy, out = load_policy(sys.argv[1]), sys.argv[2]
play(policy, None, 1, gif=f"{out}/a.gif")
play(policy, "gymnax:CartPole-v1", 1, max_steps=3, gif=f"{out}/b.gif")
export_policy(sys.argv[1], out)
print(*sorted(os.listdir(out)))
"""


def test_policies_work_without_a_home(cartpole, tmp_path):
    (tmp_path / "out").mkdir()
    environment = {name: x for name, x in os.environ.items() if name not in ("HOME", "USER")}
    arguments = [sys.executable, "-c", WITHOUT_A_HOME, str(tmp_path), str(tmp_path / "out")]
    shown = subprocess.run(arguments, check=True, env=environment, capture_output=True, text=True)
    programs = ["numpy_policy.py", "policy_greedy.jax", "policy_sampled.jax"]
    assert shown.stdout.split() == ["homeless", "a.gif", "b.gif", *programs]


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
        (("CartPole-v1",), "must be one of brax:NAME, .*gymnasium:NAME, gymnax:NAME"),
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
def test_drawing_opens_neither_screen_nor_sound_and_greets_nobody(
    suite, tmp_path, jit, monkeypatch
):
    found = {}
    variables = ("SDL_AUDIODRIVER", "SDL_VIDEODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT")
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)

    def check_drawing(*given):  # which imports pygame
        found.update({variable: os.environ.get(variable) for variable in variables})

    monkeypatch.setattr("jaxrl_po.host.policies.play.check_drawing", check_drawing)
    gif = tmp_path / "episode.gif"
    play(policy(tmp_path, jit, "CartPole-v1"), f"{suite}:CartPole-v1", 1, gif=gif, max_steps=2)
    assert list(found.values()) == ["dummy", "dummy", "1"]


def test_gymnax_draws_its_own(tmp_path, jit):
    catch = policy(tmp_path, jit, "Catch-bsuite")
    gif = tmp_path / "catch.gif"
    played = play(catch, "gymnax:Catch-bsuite", 2, gif=str(gif))
    assert set(played.episode_length) == {9}
    assert gif.read_bytes().startswith(b"GIF89a")
    with pytest.raises(ValueError, match="no renderer for 'DeepSea-bsuite'"):
        play(catch, "gymnax:DeepSea-bsuite", gif=str(gif))
