import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig
from jaxrl_po.distributions import Categorical, Gaussian, TanhGaussian
from jaxrl_po.envs import Box, Discrete
from jaxrl_po.networks import make_network

VECTOR, GRID = (4,), (10, 10, 3)
BOX = Box(np.full(2, -1.0), np.full(2, 1.0))
T, N = 3, 2
KEY = jax.random.key(0)


def network_of(observation_shape=VECTOR, action_space=BOX, **settings):
    config = PPOConfig(**{"hidden_sizes": (8, 6), **settings})
    return make_network(config, observation_shape, action_space)


@pytest.mark.parametrize("shared_torso", [False, True], ids=["separate", "shared"])
@pytest.mark.parametrize("space", [Discrete(5), BOX], ids=["discrete", "box"])
@pytest.mark.parametrize(
    ("shape", "kind"), [(VECTOR, "mlp"), (GRID, "mlp"), (GRID, "cnn"), (GRID[:2], "cnn")]
)
def test_shapes_over_time_and_environments(shape, kind, space, shared_torso):
    network = network_of(shape, space, network=kind, shared_torso=shared_torso)
    params = jax.eval_shape(network.init, KEY)
    size = 5 if isinstance(space, Discrete) else 2
    for batch in [(), (N,), (T, N)]:
        observation = jax.ShapeDtypeStruct((*batch, *shape), jnp.float32)
        distribution, memory = jax.eval_shape(network.policy, params, observation, ())
        value = jax.eval_shape(network.value, params, observation, ())
        assert memory == ()
        assert value.shape == batch
        assert {leaf.shape for leaf in jax.tree.leaves(distribution)} == {(*batch, size)}


@pytest.mark.parametrize(
    ("space", "squash", "expected"),
    [(Discrete(3), False, Categorical), (BOX, False, Gaussian), (BOX, True, TanhGaussian)],
)
def test_the_action_space_decides_the_distribution(space, squash, expected):
    network = network_of(action_space=space, squash_actions=squash)
    distribution, _ = jax.eval_shape(
        lambda: network.policy(network.init(KEY), jnp.zeros(VECTOR), ())
    )
    assert type(distribution) is expected


@pytest.mark.parametrize("shared_torso", [False, True])
def test_one_pass_gives_what_two_passes_give(shared_torso):
    network = network_of(shared_torso=shared_torso)
    params, observation = network.init(KEY), jax.random.normal(KEY, (N, *VECTOR))
    distribution, value = network.policy_and_value(params, observation, ())
    np.testing.assert_allclose(value, network.value(params, observation, ()), rtol=1e-6)
    expected, _ = network.policy(params, observation, ())
    np.testing.assert_allclose(distribution.mean, expected.mean, rtol=1e-6)


def gain_of(kernel):
    """The gain of an orthogonal kernel, or a failure: all its singular values are one number."""
    values = np.linalg.svd(np.reshape(kernel, (-1, kernel.shape[-1])), compute_uv=False)
    np.testing.assert_allclose(values, values[0], rtol=1e-4)
    return values[0]


def test_weights_are_orthogonal_with_the_usual_gains_and_biases_zero():
    params = network_of(GRID, network="cnn", log_std_init=-0.5).init(KEY)
    kernels = {"torso": [], "policy": [], "value": []}
    for path, leaf in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path)
        if "kernel" in name:
            owner = "policy" if "policy" in name else "value"
            kernels["torso" if "torso" in name else owner].append(gain_of(leaf))
        elif "log_std" in name:
            np.testing.assert_array_equal(leaf, -0.5)
        else:
            np.testing.assert_array_equal(leaf, 0)
    np.testing.assert_allclose(kernels["torso"], [np.sqrt(2)] * 6, rtol=1e-4)
    np.testing.assert_allclose(kernels["policy"], [0.01], rtol=1e-4)
    np.testing.assert_allclose(kernels["value"], [1.0], rtol=1e-4)


@pytest.mark.parametrize("shared_torso", [False, True])
def test_policy_and_value_share_a_torso_only_when_asked(shared_torso):
    network = network_of(shared_torso=shared_torso)
    params, observation = network.init(KEY), jnp.ones((N, *VECTOR))
    gradient = jax.grad(lambda p: network.value(p, observation, ()).sum())(params)
    policy, torso, value = (any(np.any(x) for x in jax.tree.leaves(part)) for part in gradient)
    assert (policy, torso, value) == (False, shared_torso, True)
    if not shared_torso:
        torsos = [jax.tree.leaves(own["torso"]) for own in (params.policy, params.value)]
        assert all((a != b).any() for a, b in zip(*torsos, strict=True) if a.ndim == 2)


@pytest.mark.parametrize("shape", [VECTOR, (2, 10, 3), (10, 10, 3, 2)])
def test_a_cnn_needs_a_grid(shape):
    with pytest.raises(ValueError, match=r"network='cnn' needs .*network='mlp'"):
        network_of(shape, network="cnn")


def test_the_activation_is_the_one_asked_for():
    observation = jax.random.normal(KEY, (N, *VECTOR))
    values = []
    for activation in ("tanh", "relu", "swish", "elu", "gelu"):
        network = network_of(activation=activation)
        values.append(tuple(network.value(network.init(KEY), observation, ()).tolist()))
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int32, jnp.bool, jnp.float16])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_observations_of_any_dtype_are_seen_as_floats(kind, dtype):
    network = network_of(GRID, network=kind)
    params, observation = network.init(KEY), jax.random.bernoulli(KEY, 0.5, (N, *GRID))
    expected = network.policy_and_value(params, observation.astype(float), ())
    found = network.policy_and_value(params, observation.astype(dtype), ())
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("x64", [False, True])
def test_weights_and_outputs_have_jaxs_precision(x64):
    with jax.enable_x64(x64):
        network = network_of(GRID, network="cnn")
        params = network.init(KEY)
        outputs = network.policy_and_value(params, jnp.zeros((N, *GRID)), ())
        dtype = jnp.float64 if x64 else jnp.float32
        assert {leaf.dtype for leaf in jax.tree.leaves((params, outputs))} == {jnp.dtype(dtype)}


def test_the_initial_standard_deviation_can_be_traced():
    network = lambda value: network_of(log_std_init=value)  # noqa: E731
    log_std = jax.vmap(
        lambda value: network(value).policy(network(value).init(KEY), jnp.zeros(VECTOR), ())[0]
    )(jnp.array([-1.0, 0.5])).log_std
    np.testing.assert_array_equal(log_std, [[-1.0] * 2, [0.5] * 2])


def test_weights_are_drawn_one_member_at_a_time_under_vmap():
    # Batched QR factorisations that run at once can wait for each other for ever on a CPU.
    network = make_network(PPOConfig(hidden_sizes=(8, 8)), (3,), Discrete(2))
    keys = jax.random.split(jax.random.key(0), 5)
    program = jax.jit(jax.vmap(network.init)).lower(keys).as_text()
    factorisations = [line for line in program.splitlines() if "geqrf" in line]
    assert factorisations
    assert not [line for line in factorisations if "tensor<5x" in line]
    for batched, key in zip(range(5), keys, strict=True):
        alone = network.init(key)
        together = jax.tree.map(lambda x, i=batched: x[i], jax.vmap(network.init)(keys))
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("platform", "one_by_one"), [("cpu", True), ("cuda", False)])
def test_weights_of_many_members_are_drawn_at_once_but_on_a_cpu(platform, one_by_one):
    network = make_network(PPOConfig(hidden_sizes=(8,)), (4,), Discrete(2))
    keys = jax.random.split(jax.random.key(0), 3)
    lowered = jax.jit(jax.vmap(network.init)).trace(keys).lower(lowering_platforms=(platform,))
    factorisations = re.findall(r"call @qr\S*\(%\w+\) : \(tensor<(.*?)xf32>", lowered.as_text())
    assert factorisations
    assert all(shape.startswith("3x") != one_by_one for shape in factorisations)
