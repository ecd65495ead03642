"""Methods and optimisers from outside the package, through every door of the library."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from examples.adamw import AdamWConfig
from examples.espo import ESPOConfig
from jaxrl_po import PPOConfig, config_from_dict, load_policy, make_train, resume, run, sweep
from jaxrl_po.config import Config, pytree
from jaxrl_po.host.cli.main import main
from tests.host.small import RUN, random_walk, same

SIZE = {"num_envs": 4, "num_steps": 16, "hidden_sizes": (4,), "total_timesteps": 4 * 64}
OWN = {ESPOConfig: "max_deviation", AdamWConfig: "weight_decay"}
EACH = pytest.mark.parametrize("cls", OWN)
ENV = random_walk()


@EACH
def test_a_float_of_ones_own_is_data_and_changes_the_result(cls, jit):
    def final(value):
        config = cls(learning_rate=0.05, **SIZE).replace(**{OWN[cls]: value})
        return make_train(config, ENV)(jax.random.key(0)).state.params

    many = jit(jax.vmap(final))(jnp.array([1e-3, 2.0]))
    assert any((x[0] != x[1]).any() for x in jax.tree.leaves(many))


@EACH
def test_it_comes_back_from_its_dict(cls):
    config = cls(**SIZE, **{OWN[cls]: 0.125})
    again = config_from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert type(again) is cls


@EACH
def test_a_run_is_resumed_to_the_bit_and_its_policy_loads(cls, tmp_path):
    config = cls(**SIZE)
    whole = run(config, env=ENV, segment_length=1, **RUN)
    run(config, env=ENV, segment_length=1, directory=tmp_path, until=2, **RUN)
    resumed = resume(tmp_path, env=ENV, quiet=True)
    assert same(resumed.state, whole.state)
    assert load_policy(tmp_path)(np.zeros(2, np.float32)).shape == (1,)


@EACH
def test_it_is_swept(cls, tmp_path):
    result = sweep(
        cls(env_id="CartPole-v1", **SIZE), {OWN[cls]: [0.1, 0.2]}, 1, directory=tmp_path, quiet=True
    )
    assert list(result.table["diverged"]) == [False, False]


@EACH
def test_the_command_line_trains_it(cls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flag = "--" + OWN[cls].replace("_", "-")
    name = f"{cls.__module__}:{cls.__qualname__}"
    sizes = ["--num-envs", "4", "--num-steps", "16", "--total-timesteps", "64"]
    main(["train", name, *sizes, flag, "0.5", "--num-episodes", "2", "--directory", "run"])
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert saved["config"]["algorithm"] == name
    assert saved["config"][OWN[cls]] == 0.5


def test_an_optimizer_of_ones_own_is_that_of_optax(jit):
    """One full-batch step from the same gradient, by optax alone on the tree of parameters."""

    @pytree
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class SGDConfig(PPOConfig):
        def make_optimizer(self, learning_rate):
            return optax.sgd(learning_rate)

    step = {"update_epochs": 1, "num_minibatches": 1, "total_timesteps": 64, "learning_rate": 0.1}
    settings = SIZE | step
    start, moved = (
        jit(make_train(SGDConfig(**settings | {"learning_rate": rate}), ENV))(jax.random.key(0))
        for rate in (0.0, 0.1)
    )
    steps = jax.tree.map(lambda new, old: new - old, moved.state.params, start.state.params)
    norm = optax.tree.norm(steps)
    np.testing.assert_allclose(norm, 0.1 * moved.metrics["grad_norm"][0], rtol=1e-3)


class Undecorated(PPOConfig):
    """Neither a dataclass of its own nor a pytree."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoPytree(PPOConfig):
    """Registered nowhere."""


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class NoUpdate(Config):
    """What to do with a rollout is not said."""


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class WrongUpdate(Config):
    """Its update is no `Algorithm`."""

    def make_algorithm(self, network):
        return lambda *_: None


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Undecorated, "decorate Undecorated with @dataclasses.dataclass"),
        (NoPytree, "decorate NoPytree with @jaxrl_po.config.pytree"),
        (NoUpdate, "NoUpdate needs make_algorithm"),
        (WrongUpdate, "WrongUpdate.make_algorithm must return a jaxrl_po.types.Algorithm"),
    ],
)
def test_what_cannot_run_is_named(cls, message):
    with pytest.raises(ValueError, match=message):
        make_train(cls(**SIZE), ENV)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Config", "cannot be imported: No module named 'nowhere'"),
        ("examples.espo:Nothing", "cannot be imported: .*has no attribute 'Nothing'"),
        ("examples.espo:dataclasses", "is not a subclass of"),
        ("ppoo", r"did you mean 'ppo'\?.*module:Class"),
        (":", "cannot be imported"),
    ],
)
def test_names_that_lead_nowhere(name, message):
    with pytest.raises(ValueError, match=message):
        config_from_dict({"algorithm": name})


@pytest.mark.parametrize("config", [None, "ppo", PPOConfig, 3])
def test_a_config_is_a_config(config):
    with pytest.raises(ValueError, match="config must be a config"):
        make_train(config)
