"""Suites draw their own episodes, where they are installed."""

import itertools

import jax
import numpy as np
import pytest

from jaxrl_po import PPOConfig, load_policy, make_train
from jaxrl_po.envs import SUITES
from jaxrl_po.host.policies.drawing import check_drawing
from jaxrl_po.host.policies.play import play
from jaxrl_po.host.policies.policy import save_policy

Image = pytest.importorskip("PIL.Image")


def game(env_id):
    """What brings a mask back, which is in no file."""
    suite, _, name = env_id.partition(":")
    return pytest.importorskip(suite).make(name)


@pytest.mark.filterwarnings("ignore")  # of the suites' own code
@pytest.mark.parametrize(
    "env_id",
    [
        "brax:inverted_pendulum/spring",
        "craftax:Craftax-Classic-Symbolic-v1",
        "jumanji:Snake-v1",
        "navix:Navix-Empty-5x5-v0",
        "pgx:2048",
        "pgx:minatar-breakout",
        "playground:CartpoleBalance",
        "xminigrid:MiniGrid-Empty-5x5",
    ],
)
def test_a_film_has_a_frame_for_each_state(env_id, tmp_path, jit):
    package, _ = SUITES[env_id.split(":")[0]]
    pytest.importorskip(package)
    limit = {"max_steps_in_episode": 6}
    config = PPOConfig(env_id=env_id, env_params=limit, num_envs=2, num_steps=4, total_timesteps=8)
    masked = env_id.startswith(("jumanji", "pgx:2048"))
    with jax.numpy_rank_promotion("allow"):  # the suites' own code broadcasts ranks
        state = jit(make_train(config))(jax.random.key(0)).state
        save_policy(tmp_path / "policy", config, state)
        env = game(env_id) if masked else None
        policy = load_policy(tmp_path / "policy", env=env)
        played = play(policy, num_episodes=1, gif=tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames <= played.episode_length[0]
        frames = []
        for number in range(film.n_frames):
            film.seek(number)
            frames.append(np.asarray(film.convert("RGB")))
    assert np.std(frames[0]) > 0  # there is something in it
    changes = [np.abs(b.astype(int) - a).mean() for a, b in itertools.pairwise(frames)]
    assert not changes or max(changes) < 60  # and a frame is like the next, as noise is not


def test_what_is_not_drawn_is_refused_with_what_is(tmp_path):
    with pytest.raises(ValueError, match="environments of envpool are not drawn; those of brax"):
        check_drawing("envpool", "Hopper-v4", str(tmp_path / "film.gif"))
