"""A sweep's directory holds that sweep's members alone, and nobody else's files are touched."""

import io
import json
import shutil
import zipfile

import jax
import numpy as np
import pytest

from jaxrl_po import load_policy, make_train, save_policy
from jaxrl_po.networks import make_network
from tests.host.small import config, random_walk
from tests.host.sweeps.test_sweep import PPO, assert_same, quietly

SPACE = {"gamma": [0.9, 0.95, 0.99]}
WALK = config(num_iterations=2)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The directory of a sweep, and what it returned."""
    directory = tmp_path_factory.mktemp("sweep")
    return directory, quietly(PPO, SPACE, directory=directory)


@pytest.fixture
def directory(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "sweep")


def contents(directory):
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file() and p.name != "lock"}


def network(width):
    walk = random_walk()
    sizes = WALK.replace(hidden_sizes=(width,))
    return make_network(sizes, walk.observation_shape, walk.action_space)


PARTS = {
    "env": ({"env": random_walk(0.0)}, {"env": random_walk(0.5)}),
    "network": (
        {"env": random_walk(), "network": network(3)},
        {"env": random_walk(), "network": network(4)},
    ),
    "keep_policies or keep_best": (
        {"env": random_walk()},
        {"env": random_walk(), "keep_best": 1},
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_sweep_with_another_part_is_refused_by_name(name, tmp_path):
    one, other = PARTS[name]
    quietly(WALK, {"gamma": [0.9]}, 1, directory=tmp_path, **one)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"sweep.json is of another sweep: its {name} is "):
        quietly(WALK, {"gamma": [0.9]}, 1, directory=tmp_path, **other)
    assert contents(tmp_path) == before


def test_a_sweep_under_other_switches_or_versions_is_refused_by_name(directory):
    before = contents(directory)
    with (
        jax.enable_x64(True),
        pytest.raises(ValueError, match="another sweep: its jax_enable_x64 is False, not True"),
    ):
        quietly(PPO, SPACE, directory=directory)
    with pytest.raises(ValueError, match=r"another sweep: its gae_lambda is 0.95, not 0.5"):
        quietly(PPO.replace(gae_lambda=0.5), SPACE, directory=directory)
    assert contents(directory) == before
    description = json.loads((directory / "sweep.json").read_text())
    description["versions"]["jax"] = "0.9"
    (directory / "sweep.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"another sweep: its jax is '0.9', not "):
        quietly(PPO, SPACE, directory=directory)


@pytest.mark.parametrize("name", ["members", "members.csv", "heatmap.png", "sensitivity_gamma.png"])
def test_files_of_no_known_sweep_are_refused_and_left(name, tmp_path):
    (tmp_path / name).write_text("mine")
    (tmp_path / "notes.txt").write_text("mine too")
    with pytest.raises(ValueError, match=f"holds {name} but no sweep.json"):
        quietly(PPO, SPACE, directory=tmp_path)
    assert set(contents(tmp_path).values()) == {b"mine", b"mine too"}
    assert len(contents(tmp_path)) == 2


def test_members_without_their_description_are_refused(directory):
    (directory / "sweep.json").unlink()
    before = contents(directory)
    with pytest.raises(ValueError, match=r"holds members, members.csv, .* but no sweep.json"):
        quietly(PPO.replace(env_id="Acrobot-v1", env_params={}), SPACE, directory=directory)
    assert contents(directory) == before


def huge_header():
    """An array of 400 GB, says its header."""
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        data, {"descr": "<f4", "fortran_order": False, "shape": (10**11,)}
    )
    archive = io.BytesIO()
    np.savez(archive, seconds=1.0)
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("episode_return.npy", data.getvalue())
    return archive.getvalue()


def changed(path, **arrays):
    """A member's file with some arrays replaced."""
    data = io.BytesIO()
    with np.load(path) as file:
        np.savez(data, **{**file, **arrays})
    return data.getvalue()


def test_members_that_are_not_this_sweeps_are_trained_again(finished, directory, tmp_path, capsys):
    other = quietly(PPO, {"gamma": [0.1, 0.2, 0.3]}, directory=tmp_path / "other")
    assert not np.allclose(other.returns, finished[1].returns)
    paths = sorted((directory / "members").iterdir())
    names = [path.name for path in paths]
    last = paths[-1].read_bytes()
    paths[0].write_bytes((tmp_path / "other" / "members" / names[0]).read_bytes())
    paths[1].write_bytes(changed(paths[1], episode_return=np.zeros(7, np.float32)))
    paths[2].write_bytes(changed(paths[2], episode_return=np.array(["a", "b"])))
    paths[3].write_bytes(huge_header())
    paths[4].write_bytes(paths[5].read_bytes())  # another seed's
    again = quietly(PPO, SPACE, directory=directory, quiet=False)
    shown = capsys.readouterr().out
    for name, reason in zip(names, ["of another", *["damaged"] * 3, "of another"], strict=False):
        assert f"not used: {name} is {reason}" in shown
    assert names[5] not in shown
    assert paths[5].read_bytes() == last
    assert_same(again, finished[1])


def test_policies_of_the_best_setting_are_kept(tmp_path, jit):
    space = {"learning_rate": [1e-3, 1e-2]}
    with pytest.raises(ValueError, match="keep_policies=True needs a directory"):
        quietly(WALK, space, env=random_walk(), keep_policies=True)
    options = {"env": random_walk(), "keep_policies": True, "directory": tmp_path}
    result = quietly(WALK, space, seed=3, **options)
    best = WALK.replace(**result.best)
    observations = np.linspace(-1, 1, 6).reshape(3, 2)
    actions = []
    for seed in (3, 4):
        trained = jit(make_train(best, random_walk()))(jax.random.key(seed))
        save_policy(tmp_path / "alone", best, trained.state, env=random_walk())
        kept = load_policy(tmp_path / "policies" / f"seed{seed}")(observations)
        np.testing.assert_allclose(kept, load_policy(tmp_path / "alone")(observations), rtol=1e-4)
        actions.append(kept)
    assert not np.allclose(*actions)
    assert {path.name for path in (tmp_path / "policies").iterdir()} == {"seed3", "seed4"}
    assert_same(quietly(WALK, space, seed=3, **options), result)


def test_values_of_numpy_and_jax_and_infinities_are_kept(tmp_path):
    space = {
        "gamma": [np.float32(0.5), jax.numpy.float32(0.25)],
        "max_grad_norm": [float("inf")],
        "num_envs": np.array([2]),
    }
    result = quietly(WALK, space, 1, env=random_walk(), directory=tmp_path)
    assert sorted(result.table["gamma"]) == [0.25, 0.5]
    for path in tmp_path.glob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
    plain = {"gamma": [0.5, 0.25], "max_grad_norm": [np.inf], "num_envs": [2]}
    again = quietly(WALK, plain, 1, env=random_walk(), directory=tmp_path)
    assert again.num_compilations == 0
