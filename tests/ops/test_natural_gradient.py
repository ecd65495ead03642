"""Natural-gradient pieces against dense linear algebra and against autodiff of the KL."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrl_po.distributions import Categorical, Gaussian, TanhGaussian
from jaxrl_po.ops import (
    backtracking_line_search,
    conjugate_gradient,
    fisher_vector_product,
    mean_kl,
    natural_gradient,
    trust_region_scale,
)

BATCH, INPUTS, ACTIONS, HIDDEN = 16, 3, 2, 4


def make_policy(family, key, scale=1.0):
    """A two-layer policy on fixed observations, and its parameters."""
    keys = jax.random.split(key, 4)
    observations = jax.random.normal(keys[0], (BATCH, INPUTS))
    params = {
        "w1": jax.random.normal(keys[1], (INPUTS, HIDDEN)),
        "w2": scale * jax.random.normal(keys[2], (HIDDEN, ACTIONS)),
        "log_std": 0.3 * jax.random.normal(keys[3], (ACTIONS,)) - 0.5,
    }

    def policy(params):
        out = jnp.tanh(observations @ params["w1"]) @ params["w2"]
        if family is Categorical:
            return Categorical(out)
        return family(out, jnp.broadcast_to(params["log_std"], out.shape))

    return policy, params if family is not Categorical else {
        k: v for k, v in params.items() if k != "log_std"
    }


def tangent_like(params, seed=7):
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return tree.unflatten(
        [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    )


def dense_fisher(policy, params):
    """E_s E_a[∇log π(a|s) ∇log π(a|s)ᵀ], the expectation over actions exact."""
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    distribution = policy(params)
    if isinstance(distribution, Categorical):
        actions = [jnp.full(BATCH, a) for a in range(ACTIONS)]
        weights = [jnp.exp(distribution.log_prob(a)) for a in actions]
    else:  # Gauss-Hermite quadrature: exact for the quadratic scores of a Gaussian
        nodes, node_weights = np.polynomial.hermite_e.hermegauss(5)
        node_weights = node_weights / node_weights.sum()
        grid = [(i, j) for i in range(5) for j in range(5)]
        noise = [jnp.broadcast_to(jnp.array([nodes[i], nodes[j]]), (BATCH, 2)) for i, j in grid]
        actions = [distribution.sample(n) for n in noise]
        weights = [jnp.full(BATCH, node_weights[i] * node_weights[j]) for i, j in grid]
    fisher = np.zeros((flat.size, flat.size))
    for action, weight in zip(actions, weights, strict=True):
        scores = np.asarray(jax.jacobian(lambda f, a=action: policy(unravel(f)).log_prob(a))(flat))
        fisher += np.einsum("b,bi,bj->ij", np.asarray(weight), scores, scores) / BATCH
    return fisher


@pytest.mark.parametrize("family", [Categorical, Gaussian, TanhGaussian])
def test_fisher_product_is_the_score_covariance_and_the_hessian_of_the_kl(family):
    policy, params = make_policy(family, jax.random.key(0))
    v = tangent_like(params)
    product = fisher_vector_product(policy, params)(v)

    old = policy(params)
    gradient = jax.grad(lambda p: mean_kl(old, policy(p)))
    _, hessian_product = jax.jvp(gradient, (params,), (v,))
    for a, b in zip(jax.tree.leaves(product), jax.tree.leaves(hessian_product), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)

    flat_v = jax.flatten_util.ravel_pytree(v)[0]
    expected = dense_fisher(policy, params) @ np.asarray(flat_v)
    np.testing.assert_allclose(
        jax.flatten_util.ravel_pytree(product)[0], expected, rtol=1e-3, atol=1e-4
    )


def test_damping_adds_a_multiple_of_the_vector():
    policy, params = make_policy(Categorical, jax.random.key(0))
    v = tangent_like(params)
    plain = fisher_vector_product(policy, params)(v)
    damped = fisher_vector_product(policy, params, damping=0.3)(v)
    for a, b, c in zip(*map(jax.tree.leaves, (damped, plain, v)), strict=True):
        np.testing.assert_allclose(a, b + 0.3 * c, rtol=1e-5, atol=1e-6)


@given(seed=st.integers(0, 2**31 - 1), size=st.integers(1, 8))
@settings(max_examples=25, deadline=None)
def test_conjugate_gradient_solves_positive_definite_systems(seed, size):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    matrix = (root @ root.T + np.eye(size)).astype(np.float32)
    b = rng.normal(size=size).astype(np.float32)
    x, residual = conjugate_gradient(lambda v: jnp.asarray(matrix) @ v, jnp.asarray(b), size + 4)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), rtol=2e-3, atol=2e-3)
    true_residual = np.linalg.norm(b - matrix @ np.asarray(x)) / np.linalg.norm(b)
    assert float(residual) < 1e-3
    assert true_residual < 1e-3


def test_conjugate_gradient_takes_pytrees_and_improves_with_iterations():
    scales = {"a": jnp.array([1.0, 4.0]), "b": jnp.array([[9.0, 16.0]])}
    b = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0, 4.0]])}

    def matvec(v):
        return jax.tree.map(jnp.multiply, scales, v)

    residuals = [float(conjugate_gradient(matvec, b, n)[1]) for n in (1, 2, 4)]
    assert residuals[0] > residuals[1] > residuals[2]
    x, _ = conjugate_gradient(matvec, b, 4)
    np.testing.assert_allclose(x["b"], b["b"] / scales["b"], rtol=1e-4)


@pytest.mark.parametrize("b", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_a_zero_or_bad_right_hand_side_gives_a_zero_solution(b):
    x, residual = conjugate_gradient(lambda v: 2.0 * v, jnp.array(b), 5)
    np.testing.assert_array_equal(x, [0.0, 0.0])
    assert float(residual) == 0.0 if b == [0.0, 0.0] else not np.isfinite(residual)


def test_no_gradient_gives_no_direction_and_divides_by_nothing():
    """Eagerly, where `jax_debug_nans` raises for each 0 / 0."""
    zero = jnp.zeros(1)
    with jax.debug_nans(True):
        found = natural_gradient(
            lambda x: Categorical(jnp.ones((4, 1)) * x[None]), zero, zero, damping=0.1, cg_iters=2
        )
    np.testing.assert_array_equal(jnp.stack([*found.direction, *found[1:]]), 0.0)


def test_negative_curvature_stops_the_iterations():
    x, _ = conjugate_gradient(lambda v: -v, jnp.array([1.0, 2.0]), 5)
    np.testing.assert_array_equal(x, [0.0, 0.0])


@pytest.mark.parametrize("family", [Categorical, Gaussian])
def test_full_step_is_the_dense_natural_gradient_step(family):
    policy, params = make_policy(family, jax.random.key(3))
    gradient = tangent_like(params, seed=1)
    damping, max_kl = 0.1, 0.01
    natural = natural_gradient(policy, params, gradient, damping=damping, cg_iters=30)
    scale = trust_region_scale(natural.damped_curvature, max_kl)

    g = np.asarray(jax.flatten_util.ravel_pytree(gradient)[0], np.float64)
    fisher = dense_fisher(policy, params)
    x = np.linalg.solve(fisher + damping * np.eye(g.size), g)
    step = np.sqrt(2 * max_kl / (x @ g)) * x
    direction = jax.flatten_util.ravel_pytree(natural.direction)[0]
    np.testing.assert_allclose(scale * direction, step, rtol=5e-3, atol=1e-4)
    np.testing.assert_allclose(natural.curvature, x @ fisher @ x, rtol=5e-3)
    np.testing.assert_allclose(natural.slope, g @ x, rtol=1e-3)
    assert float(natural.cg_residual) < 1e-3


@pytest.mark.parametrize("family", [Categorical, Gaussian, TanhGaussian])
def test_realised_kl_approaches_the_radius_as_it_shrinks(family):
    with jax.enable_x64(True):
        policy, params = make_policy(family, jax.random.key(5))
        old = policy(params)
        action = old.sample(old.noise(jax.random.key(6)))
        advantage = jax.random.normal(jax.random.key(7), (BATCH,))
        gradient = jax.grad(lambda p: (policy(p).log_prob(action) * advantage).mean())(params)
        natural = natural_gradient(policy, params, gradient, damping=0.0, cg_iters=10)
        radii = np.array([1e-2, 1e-4, 1e-6, 1e-8])
        realised = []
        for max_kl in radii:
            scale = trust_region_scale(natural.damped_curvature, max_kl)
            new = jax.tree.map(lambda p, d, s=scale: p + s * d, params, natural.direction)
            realised.append(float(mean_kl(old, policy(new))))
    errors = np.abs(realised / radii - 1)
    assert errors[-1] < 2e-3
    assert (np.diff(errors) < 0).all()


def quadratic(params):
    """Surrogate -(x - 1)² with a KL of x² from the start at 0."""
    return -jnp.square(params - 1.0), jnp.square(params)


def search(step, **changes):
    settings = {"max_kl": 0.25, "backtrack_coeff": 0.5, "max_backtracks": 4} | changes
    start = jnp.zeros(())
    return backtracking_line_search(
        quadratic, start, jnp.asarray(step), quadratic(start)[0], **settings
    )


def test_line_search_takes_the_first_candidate_that_fits():
    found = search(2.0)  # 2 and 1 spend too much KL; 0.5 just fits
    assert bool(found.accepted)
    assert float(found.params) == 0.5
    assert int(found.num_tried) == 3
    assert float(found.fraction) == 0.25
    np.testing.assert_allclose(found.improvement, 0.75)


@pytest.mark.parametrize(
    "changes", [{"step": -1.0}, {"step": 2.0, "max_backtracks": 1}, {"step": np.nan}, {"step": 0.0}]
)
def test_line_search_that_fails_leaves_the_parameters(changes):
    found = search(**changes)
    assert not bool(found.accepted)
    assert float(found.params) == 0.0
    assert float(found.fraction) == 0.0
    assert float(found.improvement) == 0.0


def test_line_search_refuses_what_is_not_finite():
    def objective(params):
        surrogate, kl = quadratic(params)
        return jnp.where(params > 0.3, jnp.inf, surrogate), kl

    found = backtracking_line_search(
        objective,
        jnp.zeros(()),
        jnp.asarray(0.4),
        jnp.asarray(-1.0),
        max_kl=0.25,
        backtrack_coeff=0.5,
        max_backtracks=3,
    )
    assert float(found.params) == np.float32(0.2)
