"""Saved policies: alike in JAX, NumPy and as exported programs, strict on what they are given."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrl_po import load_policy, make_step, save_policy
from jaxrl_po.envs import Discrete
from jaxrl_po.host import numpy_policy
from jaxrl_po.host.export import export_policy
from jaxrl_po.train import make_parts, observe
from tests.host.small import config, random_walk

ENVS = {"box": random_walk(), "discrete": random_walk()._replace(action_space=Discrete(3))}


def trained(env, jit, **changes):
    """A state whose policy and normaliser are away from their start."""
    settings = config(**changes)
    init, _ = make_step(settings, env)
    state = jit(init)(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 99))
    params = jax.tree.map(lambda x: x + jax.random.normal(next(keys), x.shape), state.params)
    if settings.normalize_observations:
        mean, variance = np.array([0.5, 2.0], np.float32), np.array([0.2, 3.0], np.float32)
        statistics = state.normalizer.observation._replace(mean=mean, variance=variance)
        state = state._replace(normalizer=state.normalizer._replace(observation=statistics))
    return settings, state._replace(params=params)


def observations(count=64):
    return np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32) * 3


def expected(settings, state, env, observation):
    """Greedy actions by the training code, in the environment's units."""
    environment, network = make_parts(settings, env)
    distribution, _ = network.policy(state.params, observe(state.normalizer, observation), ())
    action = np.asarray(distribution.to_env(distribution.mode()))
    if isinstance(environment.action_space, Discrete):
        return action
    return np.clip(action * 2.0, -2.0, 2.0)


@pytest.mark.parametrize(
    ("space", "changes"),
    [
        ("box", {}),
        ("box", {"squash_actions": True, "activation": "gelu", "hidden_sizes": (4, 3)}),
        ("box", {"shared_torso": True, "activation": "swish", "normalize_observations": False}),
        ("discrete", {"activation": "elu"}),
        ("discrete", {"activation": "relu", "shared_torso": True}),
    ],
)
def test_loaded_policy_acts_as_trained(space, changes, tmp_path, jit):
    env = ENVS[space]
    settings, state = trained(env, jit, **changes)
    save_policy(tmp_path, settings, state, env=env)
    policy, alone = load_policy(tmp_path), load_policy(tmp_path, backend="numpy")
    batch = observations()
    actions = expected(settings, state, env, batch)
    np.testing.assert_allclose(policy(batch), actions, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(alone(batch), actions, rtol=1e-4, atol=1e-5)
    for loaded in (policy, alone):
        np.testing.assert_allclose(loaded(batch[3]), actions[3], rtol=1e-4, atol=1e-5)
        grid = loaded(batch.reshape(4, 16, 2))
        np.testing.assert_allclose(grid, actions.reshape(4, 16, *actions.shape[1:]), atol=1e-5)
        assert loaded(batch.astype(np.float64)).dtype == loaded(batch).dtype


def test_samples_follow_the_policy(tmp_path, jit):
    settings, state = trained(ENVS["box"], jit, squash_actions=True)
    save_policy(tmp_path, settings, state, env=ENVS["box"])
    batch = np.repeat(observations(1), 20_000, axis=0)
    left = load_policy(tmp_path)(batch, jax.random.key(0))
    right = load_policy(tmp_path, backend="numpy")(batch, np.random.default_rng(0))
    assert np.abs(left).max() <= 2
    np.testing.assert_allclose(left.mean(), right.mean(), atol=0.05)
    np.testing.assert_allclose(left.std(), right.std(), atol=0.05)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, jit):
    path = tmp_path_factory.mktemp("policy")
    save_policy(path, *trained(ENVS["box"], jit), env=ENVS["box"], notes={"seed": 3})
    return path


@pytest.fixture
def copy(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


BACKENDS = pytest.mark.parametrize("backend", ["jax", "numpy"])


@BACKENDS
@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros(3, np.float32), r"observation has shape \[3\]; this policy takes \[2\]"),
        (np.zeros((2, 5), np.float32), r"observation has shape \[2, 5\]"),
        (np.float32(0), r"observation has shape \[\]"),
        (np.zeros(2, np.int32), "observation has dtype int32; this policy takes float32"),
        (np.zeros(2, np.complex64), "observation has dtype complex64"),
        (["a", "b"], "observation has dtype <U1"),
    ],
)
def test_observations_that_do_not_fit_are_named(backend, observation, message, folder):
    with pytest.raises(ValueError, match=message):
        load_policy(folder, backend=backend)(observation)


def change(path, **changes):
    description = json.loads((path / "policy.json").read_text())
    (path / "policy.json").write_text(json.dumps(description | changes))


@BACKENDS
def test_folder_from_the_future_is_refused(backend, copy):
    change(copy, format=2)
    with pytest.raises(ValueError, match="has format 2, from a newer version"):
        load_policy(copy, backend=backend)


@BACKENDS
@pytest.mark.parametrize("field", numpy_policy.FIELDS)
def test_description_without_a_field_is_named(backend, field, copy):
    description = json.loads((copy / "policy.json").read_text())
    description.pop(field)
    (copy / "policy.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=f"policy.json lacks {field}"):
        load_policy(copy, backend=backend)


def test_keys_of_the_other_backend_are_refused(folder):
    observation = observations(1)
    with pytest.raises(ValueError, match=r"key must be a key of jax\.random"):
        load_policy(folder)(observation, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"key must be a numpy\.random\.Generator"):
        load_policy(folder, backend="numpy")(observation, jax.random.key(0))


def test_policy_shows_what_it_is(folder):
    shown = repr(load_policy(folder))
    assert shown.startswith("Policy(ppo on CartPole-v1: observation [2], action {'kind': 'box'")
    assert len(shown) < 200


@BACKENDS
def test_tampered_weights_are_refused(backend, copy):
    (weights,) = copy.glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match="is not the file that was saved"):
        load_policy(copy, backend=backend)


@BACKENDS
def test_incomplete_folders_are_named(backend, copy):
    (weights,) = copy.glob("*.safetensors")
    weights.unlink()
    with pytest.raises(ValueError, match=r"weights-.*is missing"):
        load_policy(copy, backend=backend)
    (copy / "policy.json").write_text("{")
    with pytest.raises(ValueError, match="not readable"):
        load_policy(copy, backend=backend)
    (copy / "policy.json").unlink()
    with pytest.raises(ValueError, match="holds no policy"):
        load_policy(copy, backend=backend)


def test_weights_that_do_not_fit_the_config_are_named(copy):
    description = json.loads((copy / "policy.json").read_text())
    change(copy, config=description["config"] | {"hidden_sizes": [5]})
    with pytest.raises(ValueError, match=r"Dense_0/\w+ is float32\[.*is needed"):
        load_policy(copy)


def test_network_given_as_an_object_is_asked_for(copy):
    change(copy, network="given")
    with pytest.raises(ValueError, match="pass it as network="):
        load_policy(copy)
    with pytest.raises(ValueError, match="backend='torch'"):
        load_policy(copy, backend="torch")


def test_saving_again_replaces_the_policy(copy, jit):
    before = load_policy(copy)(observations())
    settings, state = trained(ENVS["box"], jit, squash_actions=True)
    save_policy(copy, settings, state, env=ENVS["box"])
    assert len(list(copy.iterdir())) == 2
    assert not np.array_equal(load_policy(copy)(observations()), before)


def test_nothing_is_unpickled():
    import jaxrl_po

    for path in Path(jaxrl_po.__file__).parent.rglob("*.py"):
        source = path.read_text().replace("unpickled", "").replace("allow_pickle=False", "")
        assert "pickle" not in source, path
        for call in re.findall(r"np\.load\(.*\)", path.read_text()):
            assert "allow_pickle=False" in call, path


WITHOUT_THE_LIBRARY = """
import sys
import numpy as np
from jax import export
folder, observations = sys.argv[1], np.load(sys.argv[2])
def read(name):
    return export.deserialize(bytearray(open(f"{folder}/{name}.jax", "rb").read()))
greedy, sampled = read("policy_greedy"), read("policy_sampled")
assert greedy.platforms == ("cpu", "cuda")
assert "jaxrl_po" not in sys.modules
np.save(f"{folder}/greedy.npy", greedy.call(observations))
assert np.abs(np.asarray(sampled.call(observations[:5], np.uint32(1)))).max() <= 2
"""

WITH_NUMPY_ALONE = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import numpy_policy
actions = numpy_policy.load(sys.argv[3])(np.load(sys.argv[2]))
assert not {"jax", "jaxrl_po", "safetensors"} & set(sys.modules)
np.save(f"{sys.argv[1]}/alone.npy", actions)
"""


def test_exported_policy_runs_without_the_library(folder, tmp_path):
    export_policy(folder, tmp_path)
    np.save(tmp_path / "observations.npy", observations())
    arguments = [str(tmp_path), str(tmp_path / "observations.npy"), str(folder)]
    for program in (WITHOUT_THE_LIBRARY, WITH_NUMPY_ALONE):
        subprocess.run([sys.executable, "-c", program, *arguments], check=True, cwd=tmp_path)
    actions = load_policy(folder)(observations())
    np.testing.assert_allclose(np.load(tmp_path / "greedy.npy"), actions, rtol=1e-6)
    np.testing.assert_allclose(np.load(tmp_path / "alone.npy"), actions, rtol=1e-4, atol=1e-5)
