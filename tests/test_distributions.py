import dataclasses

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl_po.distributions import Categorical, Gaussian, MultiCategorical, TanhGaussian
from tests.reference import distributions as reference

rng = np.random.default_rng(0)
LOGITS, OTHER_LOGITS = rng.normal(size=(2, 5, 3)).astype(np.float32)
MEAN, OTHER_MEAN, LOG_STD, OTHER_LOG_STD = rng.normal(0, 0.5, (4, 5, 2)).astype(np.float32)
X = rng.normal(size=(5, 2)).astype(np.float32)
NVEC = 3, 2
MULTI_LOGITS, OTHER_MULTI_LOGITS = rng.normal(size=(2, 5, 5)).astype(np.float32)
JOINT = np.array([[i, j] for i in range(3) for j in range(2)])  # its actions
DISTRIBUTIONS = {
    "categorical": Categorical(LOGITS),
    "multicategorical": MultiCategorical(MULTI_LOGITS, NVEC),
    "gaussian": Gaussian(MEAN, LOG_STD),
    "tanh": TanhGaussian(MEAN, LOG_STD),
}
EACH = pytest.mark.parametrize("distribution", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
close = np.testing.assert_allclose


def test_categorical_is_its_definition():
    action = np.array([0, 1, 2, 1, 0])
    distribution = Categorical(LOGITS)
    close(distribution.log_prob(action), reference.categorical_log_prob(LOGITS, action), rtol=1e-5)
    close(distribution.entropy(), reference.categorical_entropy(LOGITS), rtol=1e-5)
    kl = distribution.kl(Categorical(OTHER_LOGITS))
    close(kl, reference.categorical_kl(LOGITS, OTHER_LOGITS), rtol=1e-4)
    close(distribution.entropy()[0], scipy.stats.entropy(reference.probabilities(LOGITS[0])), 1e-5)
    np.testing.assert_array_equal(distribution.mode(), LOGITS.argmax(-1))


@pytest.mark.parametrize("kind", [Gaussian, TanhGaussian])
def test_gaussian_is_its_definition(kind):
    distribution, other = kind(MEAN, LOG_STD), kind(OTHER_MEAN, OTHER_LOG_STD)
    kl = reference.gaussian_kl(MEAN, LOG_STD, OTHER_MEAN, OTHER_LOG_STD)
    close(distribution.kl(other), kl, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(distribution.mode(), MEAN)


def test_gaussian_density_is_its_definition():
    distribution = Gaussian(MEAN, LOG_STD)
    expected = reference.gaussian_log_prob(MEAN, LOG_STD, X)
    close(distribution.log_prob(X), expected, rtol=1e-5, atol=1e-5)
    close(expected, scipy.stats.norm(MEAN, np.exp(LOG_STD)).logpdf(X).sum(-1), rtol=1e-5)
    close(distribution.entropy(), reference.gaussian_entropy(MEAN, LOG_STD), rtol=1e-5)


def test_tanh_gaussian_density_is_the_change_of_variables():
    expected = reference.tanh_gaussian_log_prob(MEAN, LOG_STD, X.astype(float))
    close(TanhGaussian(MEAN, LOG_STD).log_prob(X), expected, rtol=1e-4, atol=1e-5)


def test_densities_are_those_of_distrax():
    actions = np.array([0, 1, 2, 1, 0])
    close(Categorical(LOGITS).log_prob(actions), distrax.Categorical(LOGITS).log_prob(actions))
    normal = distrax.MultivariateNormalDiag(MEAN, np.exp(LOG_STD))
    close(Gaussian(MEAN, LOG_STD).log_prob(X), normal.log_prob(X), rtol=1e-5)
    squashed = distrax.Transformed(normal, distrax.Block(distrax.Tanh(), 1))
    close(TanhGaussian(MEAN, LOG_STD).log_prob(X), squashed.log_prob(np.tanh(X)), rtol=1e-3)


@EACH
def test_kl_is_zero_to_itself_and_positive_to_others(distribution):
    close(distribution.kl(distribution), 0, atol=1e-6)
    other = jax.tree.map(lambda leaf: leaf + np.linspace(0, 1, leaf.shape[-1]), distribution)
    assert (np.asarray(distribution.kl(other)) > 0).all()


def test_categorical_draws_have_the_right_frequencies():
    distribution = Categorical(LOGITS[:1])
    draws = jax.vmap(distribution.sample)(distribution.noise(jax.random.key(0), leading=(20_000,)))
    counts = np.bincount(np.ravel(draws), minlength=3)
    expected = reference.probabilities(LOGITS[0].astype(float)) * counts.sum()
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


def test_gaussian_draws_have_the_right_law():
    distribution = Gaussian(MEAN, LOG_STD)
    draws = jax.vmap(distribution.sample)(distribution.noise(jax.random.key(0), leading=(5_000,)))
    assert draws.shape == (5_000, 5, 2)
    standardised = (np.asarray(draws) - MEAN) / np.exp(LOG_STD)
    assert scipy.stats.kstest(standardised.ravel(), "norm").pvalue > 1e-3


@EACH
def test_entropy_is_the_mean_surprise(distribution):
    draws = jax.vmap(distribution.sample)(distribution.noise(jax.random.key(1), leading=(40_000,)))
    surprise = -jax.vmap(distribution.log_prob)(draws)
    close(surprise.mean(0), distribution.entropy(), atol=0.03)


@pytest.mark.parametrize("x", [-50.0, -15.0, 15.0, 50.0])
def test_tanh_gaussian_is_stable_where_tanh_saturates(x):
    point = np.full((1, 1), x, np.float32)
    distribution = TanhGaussian(point, np.zeros((1, 1), np.float32))
    # 1 - tanh²(x) = 4 e^(-2|x|) to all digits out here
    expected = -0.5 * np.log(2 * np.pi) - np.log(4.0) + 2 * abs(x)
    close(distribution.log_prob(point), [expected], rtol=1e-5)
    gradient = jax.grad(lambda p: TanhGaussian(p, distribution.log_std).log_prob(point).sum())
    assert np.isfinite(gradient(jnp.asarray(point))).all()


def test_tanh_gaussian_stays_in_its_bounds():
    distribution = TanhGaussian(MEAN, LOG_STD)
    np.testing.assert_array_equal(distribution.to_env(X), jnp.tanh(X))
    np.testing.assert_array_equal(Gaussian(MEAN, LOG_STD).to_env(X), X)


def joint_probabilities(logits):
    """Of the actions in JOINT [..., 6]."""
    first, second = (
        reference.probabilities(part.astype(float)) for part in np.split(logits, [3], -1)
    )
    return (first[..., :, None] * second[..., None, :]).reshape(*logits.shape[:-1], 6)


def points_and_weights(distribution):
    """Actions [K, D] and weights [K] that give expectations exactly, for one state."""
    if isinstance(distribution, Categorical):
        return np.arange(3), reference.probabilities(distribution.logits)
    if isinstance(distribution, MultiCategorical):
        return JOINT, joint_probabilities(distribution.logits)
    nodes, weights = np.polynomial.hermite_e.hermegauss(6)
    grid = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    weights = np.outer(weights, weights).ravel() / (2 * np.pi)
    return distribution.mean + np.exp(distribution.log_std) * grid, weights


@EACH
def test_fisher_product_is_the_mean_outer_product_of_scores(distribution):
    state = jax.tree.map(lambda leaf: leaf[0], distribution)
    actions, weights = points_and_weights(state)
    score = jax.vmap(lambda action: jax.grad(lambda d: d.log_prob(action))(state))(
        jnp.asarray(actions, dtype=int if actions.dtype.kind == "i" else np.float32)
    )
    scores = np.concatenate(jax.tree.leaves(score), axis=-1)
    fisher = np.einsum("k,ki,kj->ij", weights, scores, scores)
    flat, unflatten = jax.flatten_util.ravel_pytree(jax.tree.map(jnp.asarray, state))
    product = lambda u: jax.flatten_util.ravel_pytree(state.fisher_product(unflatten(u)))[0]  # noqa: E731
    close(jax.vmap(product)(jnp.eye(flat.size)), fisher, rtol=1e-4, atol=1e-5)


@EACH
def test_distributions_travel_through_jit_and_vmap(distribution):
    moved = jax.jit(jax.vmap(lambda one: jax.tree.map(lambda leaf: 2 * leaf, one)))(distribution)
    assert type(moved) is type(distribution)
    alone = jax.vmap(lambda one: one.entropy())(distribution)
    close(alone, distribution.entropy(), rtol=1e-6)


@EACH
def test_noise_has_leading_axes_and_precision(distribution):
    with jax.enable_x64(True):
        double = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), distribution)
        noise = double.noise(jax.random.key(0), leading=(7,))
        assert noise.shape == (7, *jax.tree.leaves(distribution)[0].shape)
        assert noise.dtype == jnp.float64
        assert double.log_prob(double.sample(noise[0])).dtype == jnp.float64


@pytest.mark.parametrize("index", [-1, 3, 1000])
def test_an_index_that_names_no_action_is_impossible(index):
    log_prob = lambda logits: Categorical(logits).log_prob(jnp.array([index, 0, 1, 2, 0]))  # noqa: E731
    assert log_prob(LOGITS)[0] == -np.inf
    assert np.isfinite(log_prob(LOGITS)[1:]).all()
    # Where a mask leaves it out it reaches no gradient.
    mask = jnp.arange(5) > 0
    slope = jax.grad(lambda logits: jnp.where(mask, log_prob(logits), 0.0).sum())(LOGITS)
    np.testing.assert_array_equal(slope[0], 0)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("log_std", [-3.0, -1.0, 0.0, 0.5, 1.0, 2.0, 4.0])
def test_entropy_of_a_squashed_gaussian_and_its_slopes(log_std):
    mean = np.array([-10.0, -3.0, -1.75, -0.3, 0.0, 0.7, 1.75, 3.0, 5.0])
    z = np.linspace(-10, 10, 40_001)
    weight = scipy.stats.norm.pdf(z) * (z[1] - z[0])
    x = mean[:, None] + np.exp(log_std) * z
    entropy = 0.5 * np.log(2 * np.pi * np.e) + log_std
    entropy += (weight * 2 * (np.log(2) - np.abs(x) - np.log1p(np.exp(-2 * np.abs(x))))).sum(1)
    slopes = (
        (weight * -2 * np.tanh(x)).sum(1),
        1 - 2 * (weight * np.tanh(x) * (x - mean[:, None])).sum(1),
    )
    found, gradient = jax.vmap(
        jax.value_and_grad(lambda m, s: TanhGaussian(m[None], s[None]).entropy(), (0, 1))
    )(jnp.asarray(mean, jnp.float32), jnp.full(mean.shape, log_std, jnp.float32))
    close(found, entropy, atol=2e-4)
    close(gradient[0], slopes[0], atol=1e-4)
    close(gradient[1], slopes[1], atol=1e-3)


def test_several_choices_are_one_choice_among_their_products():
    distribution = MultiCategorical(MULTI_LOGITS, NVEC)
    p, q = joint_probabilities(MULTI_LOGITS), joint_probabilities(OTHER_MULTI_LOGITS)
    log_prob = jax.vmap(lambda a: distribution.log_prob(jnp.broadcast_to(a, (5, 2))), out_axes=1)
    close(log_prob(JOINT), np.log(p), rtol=1e-5)
    close(distribution.entropy(), scipy.stats.entropy(p, axis=-1), rtol=1e-5)
    kl = distribution.kl(MultiCategorical(OTHER_MULTI_LOGITS, NVEC))
    close(kl, scipy.stats.entropy(p, q, axis=-1), rtol=1e-4)
    np.testing.assert_array_equal(distribution.mode(), JOINT[p.argmax(-1)])
    assert (distribution.log_prob(jnp.full((5, 2), 2)) == -np.inf).all()  # the second has no third
    draws = jax.vmap(distribution.sample)(distribution.noise(jax.random.key(0), leading=(5_000,)))
    counts = np.bincount(np.asarray(draws)[:, 0] @ [2, 1], minlength=6)
    assert scipy.stats.chisquare(counts, p[0] * counts.sum()).pvalue > 1e-3


MASKED = {
    "categorical": (Categorical(LOGITS), Categorical(OTHER_LOGITS), [True, False, True]),
    "multicategorical": (
        MultiCategorical(MULTI_LOGITS, NVEC),
        MultiCategorical(OTHER_MULTI_LOGITS, NVEC),
        [False, True, True, True, False],
    ),
}


@pytest.mark.parametrize(("distribution", "other", "mask"), MASKED.values(), ids=MASKED)
def test_a_mask_is_the_distribution_over_what_it_allows(distribution, other, mask):
    """Entropy, KL and Fisher product are those of the allowed logits alone; no gradient else."""
    mask = np.array(mask)
    masked, masked_other = distribution.masked(mask[None]), other.masked(mask[None])
    left, left_other = (d.logits[..., mask] for d in (distribution, other))
    if isinstance(distribution, Categorical):
        alone, alone_other = Categorical(left), Categorical(left_other)
    else:  # (2, 1) actions are left, and a choice of one is none
        alone, alone_other = MultiCategorical(left, (2, 1)), MultiCategorical(left_other, (2, 1))
    close(masked.entropy(), alone.entropy(), rtol=1e-5)
    close(masked.kl(masked_other), alone.kl(alone_other), rtol=1e-5)
    u = np.random.default_rng(1).normal(size=distribution.logits.shape).astype(np.float32)
    product = masked.fisher_product(dataclasses.replace(distribution, logits=u)).logits
    expected = alone.fisher_product(dataclasses.replace(alone, logits=u[..., mask])).logits
    close(product[..., mask], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(product[..., ~mask], 0.0)

    action = masked.sample(masked.noise(jax.random.key(0)))

    def numbers(logits):
        d = dataclasses.replace(distribution, logits=logits).masked(mask[None])
        kl = d.kl(masked_other) + masked_other.kl(d)
        return (d.log_prob(action) + d.entropy() + kl).sum()

    gradient = jax.grad(numbers)(distribution.logits)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[..., ~mask], 0.0)
    assert (gradient[..., mask][..., :2] != 0).any()


@pytest.mark.parametrize("distribution", [each for each, *_ in MASKED.values()], ids=MASKED)
def test_one_allowed_action_leaves_no_entropy_and_all_of_them_no_trace(distribution):
    size = distribution.logits.shape[-1]
    one = np.isin(np.arange(size), [1, 3])  # of three actions one, of two choices one each
    only = distribution.masked(one[None])
    np.testing.assert_array_equal(only.entropy(), 0.0)
    np.testing.assert_array_equal(only.kl(only), 0.0)
    np.testing.assert_array_equal(only.fisher_product(distribution).logits, 0.0)
    draw = only.sample(only.noise(jax.random.key(0)))
    np.testing.assert_array_equal(only.log_prob(draw), 0.0)

    def numbers(logits):
        d = dataclasses.replace(distribution, logits=logits).masked(one[None])
        return jnp.stack([d.log_prob(draw), d.entropy(), d.kl(only), only.kl(d)]).sum(1)

    np.testing.assert_array_equal(jax.jacobian(numbers)(distribution.logits), 0.0)
    everything = distribution.masked(np.ones((1, size), bool))
    np.testing.assert_array_equal(everything.logits, distribution.logits)
