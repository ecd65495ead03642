"""Runs that start from given parameters."""

import jax
import jax.numpy as jnp
import pytest

from jaxrl_po import make_step, resume, run
from jaxrl_po.host.runs.training import Training
from tests.host.small import RUN, config, random_walk, same

ENV = random_walk()
OPTIONS = {"env": ENV, "segment_length": 2, **RUN}
STILL = config(num_iterations=4, learning_rate=0.0)
MOVING = config(num_iterations=4)


@pytest.fixture(scope="module")
def params():
    """Of two members."""
    init, _ = make_step(MOVING, ENV)
    return jax.vmap(lambda seed: init(jax.random.key(seed)).params)(jnp.arange(100, 102))


def member(params, index):
    return jax.tree.map(lambda x: x[index], params)


def test_all_seeds_start_from_one_or_each_from_its_own(params):
    each = run(STILL, 3, 2, params=params, **OPTIONS)
    assert same(each.state.params, params)
    one = run(STILL, 3, 2, params=member(params, 1), **OPTIONS)
    for index in range(2):
        assert same(member(one.state.params, index), member(params, 1))
    random = run(STILL, 3, 2, **OPTIONS)
    assert not same(random.state.params, params)
    assert same(random.state.key, each.state.key)  # all else is as it would be


def test_a_run_killed_before_its_first_visit_goes_on_from_them(params, tmp_path, monkeypatch):
    whole = run(MOVING, 3, 2, tmp_path / "whole", params=params, **OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "advance", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(MOVING, 3, 2, tmp_path / "killed", params=params, **OPTIONS)
    second = resume(tmp_path / "killed", env=ENV, quiet=True)
    assert same(second.state, whole.state)
    assert not same(run(MOVING, 3, 2, **OPTIONS).state.params, whole.state.params)


def test_a_run_stopped_before_they_were_saved_is_not_begun_without_them(
    params, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(Training, "__init__", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(MOVING, 3, 2, tmp_path / "killed", params=params, **OPTIONS)
    with pytest.raises(ValueError, match="stopped before the parameters that it was to start from"):
        resume(tmp_path / "killed", env=ENV, quiet=True)


def with_bias(params, change):
    """The parameters with another bias of the policy's head."""
    change_leaf = lambda path, x: change(x) if "head']['params']['Dense_0']['bias" in path else x  # noqa: E731
    policy = jax.tree.map_with_path(
        lambda path, x: change_leaf(jax.tree_util.keystr(path), x), params.policy
    )
    return params._replace(policy=policy)


REFUSED = {
    "a dict": (lambda p: p._asdict(), r"params must be a jaxrl_po.types.Params.*not a dict"),
    "a part": (lambda p: p._replace(value=()), "params: they are not this network's; .*value/head"),
    "three seeds'": (
        lambda p: jax.tree.map(lambda x: jnp.concatenate([x, x[:1]]), p),
        r"params: policy/head/params/Dense_0/bias has shape \[3, 1\]; wanted is \[1\], or \[2, 1\]",
    ),
    "shape": (lambda p: with_bias(p, lambda x: jnp.zeros((2, 3))), r"bias has shape \[2, 3\]"),
    "type": (lambda p: with_bias(p, lambda x: x.astype(jnp.bfloat16)), "is bfloat16; wanted is f"),
    "NaN": (lambda p: with_bias(p, lambda x: x * jnp.nan), "bias holds numbers that are not fin"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_parameters_that_do_not_fit_are_named(change, message, params, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(MOVING, 3, 2, tmp_path / "run", params=change(params), **OPTIONS)
    assert not (tmp_path / "run").exists()
