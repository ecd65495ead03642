"""Action distributions as pytrees of their parameters, on distrax's densities.

distrax distributions cannot leave `jit` or `vmap`; these can, and they sample from noise drawn
beforehand. A tangent or cotangent of a distribution is again one, which is what makes the
Fisher-vector product a one-liner: Jᵀ M J v with M the `fisher_product` below.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.types import Array

# tanh(x) ≈ Σ w erf(x / (s √2)), to 1e-5 everywhere: the logistic law as a mixture of normals
# (Monahan & Stefanski 1989), by a minimax fit. Used for the entropy of a squashed Gaussian.
_WEIGHTS = np.array([0.1065534, 0.4583832, 0.3741197, 0.0609437])
_SCALES = np.array([0.4887271, 0.7155861, 1.0523910, 1.5573275])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Categorical:
    """Categorical over A actions."""

    logits: Array  # [..., A]; -∞ for what is impossible

    def masked(self, mask: Array) -> "Categorical":
        """Only the actions that a mask [..., A] allows: the others get probability 0."""
        return Categorical(jnp.where(mask, self.logits, -jnp.inf))

    def noise(self, key: Array, leading: tuple[int, ...] = ()) -> Array:
        """Standard Gumbel noise [*leading, ..., A]."""
        return jax.random.gumbel(key, (*leading, *self.logits.shape), self.logits.dtype)

    def sample(self, noise: Array) -> Array:
        """argmax(logits + Gumbel noise): an exact draw (Gumbel-max trick)."""
        return jnp.argmax(self.logits + noise, axis=-1)

    def mode(self) -> Array:
        return jnp.argmax(self.logits, axis=-1)

    # Not distrax's own: that normalises the logits twice over, forwards and backwards, which is
    # a sixth of the kernels of a minibatch step.
    def log_prob(self, action: Array) -> Array:
        """log p of each action, and -∞ of an index that names none."""
        num_actions = self.logits.shape[-1]
        chosen = jax.nn.one_hot(action, num_actions, dtype=bool)
        log_p = jnp.where(chosen, jax.nn.log_softmax(self.logits), 0.0).sum(-1)
        return jnp.where((action >= 0) & (action < num_actions), log_p, -jnp.inf)

    def entropy(self) -> Array:
        """-Σ p log p, in which an impossible action (logit -∞) counts nothing."""
        log_p = jax.nn.log_softmax(self.logits)
        p = jnp.exp(log_p)
        return -(p * jnp.where(p > 0, log_p, 0.0)).sum(-1)

    def kl(self, other: "Categorical") -> Array:
        """Σ p (log p - log q), in which an action impossible under p counts nothing."""
        log_p, log_q = jax.nn.log_softmax(self.logits), jax.nn.log_softmax(other.logits)
        p = jnp.exp(log_p)
        return (p * jnp.where(p > 0, log_p - log_q, 0.0)).sum(-1)

    def fisher_product(self, tangent: "Categorical") -> "Categorical":
        """M u = p ⊙ u - p (pᵀu) in the logits."""
        p, u = jax.nn.softmax(self.logits), tangent.logits
        return Categorical(p * (u - (p * u).sum(-1, keepdims=True)))

    def to_env(self, action: Array) -> Array:
        return action


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MultiCategorical:
    """K independent categoricals, the k-th over nvec[k] actions. An action is K indices [..., K].

    The choices being independent, log-probability, entropy and KL are sums over them, and the
    Fisher matrix has a block for each.
    """

    logits: Array  # [..., Σ nvec], one choice beside the other; -∞ for what is impossible
    nvec: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def _choices(self, numbers: Array) -> list[Categorical]:
        """Numbers [..., Σ nvec], cut into those of each choice."""
        ends = np.cumsum(self.nvec)[:-1].tolist()
        return [Categorical(part) for part in jnp.split(numbers, ends, axis=-1)]

    def masked(self, mask: Array) -> "MultiCategorical":
        """Only the actions that a mask [..., Σ nvec] allows: the others get probability 0."""
        return MultiCategorical(jnp.where(mask, self.logits, -jnp.inf), self.nvec)

    def noise(self, key: Array, leading: tuple[int, ...] = ()) -> Array:
        """Standard Gumbel noise [*leading, ..., Σ nvec]."""
        return jax.random.gumbel(key, (*leading, *self.logits.shape), self.logits.dtype)

    def sample(self, noise: Array) -> Array:
        """argmax(logits + Gumbel noise) of each choice."""
        return self._largest(self.logits + noise)

    def mode(self) -> Array:
        return self._largest(self.logits)

    def _largest(self, numbers: Array) -> Array:
        return jnp.stack([choice.mode() for choice in self._choices(numbers)], axis=-1)

    def log_prob(self, action: Array) -> Array:
        """Σ_k log p_k, and -∞ where an index names no action."""
        choices = self._choices(self.logits)
        return _total(choice.log_prob(action[..., k]) for k, choice in enumerate(choices))

    def entropy(self) -> Array:
        return _total(choice.entropy() for choice in self._choices(self.logits))

    def kl(self, other: "MultiCategorical") -> Array:
        pairs = zip(self._choices(self.logits), self._choices(other.logits), strict=True)
        return _total(choice.kl(another) for choice, another in pairs)

    def fisher_product(self, tangent: "MultiCategorical") -> "MultiCategorical":
        """M u, block by block: p_k ⊙ u_k - p_k (p_kᵀu_k)."""
        pairs = zip(self._choices(self.logits), self._choices(tangent.logits), strict=True)
        products = [choice.fisher_product(u).logits for choice, u in pairs]
        return MultiCategorical(jnp.concatenate(products, axis=-1), self.nvec)

    def to_env(self, action: Array) -> Array:
        return action


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Gaussian over D independent action coordinates."""

    mean: Array  # [..., D]
    log_std: Array  # [..., D]

    @property
    def _distrax(self) -> Any:
        return distrax.Normal(self.mean, jnp.exp(self.log_std))

    def noise(self, key: Array, leading: tuple[int, ...] = ()) -> Array:
        """Standard normal noise [*leading, ..., D]."""
        return jax.random.normal(key, (*leading, *self.mean.shape), self.mean.dtype)

    def sample(self, noise: Array) -> Array:
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> Array:
        return self.mean

    def log_prob(self, action: Array) -> Array:
        log_density: Array = self._distrax.log_prob(action).sum(-1)
        return log_density

    def entropy(self) -> Array:
        entropy: Array = self._distrax.entropy().sum(-1)
        return entropy

    def kl(self, other: "Gaussian") -> Array:
        divergence: Array = self._distrax.kl_divergence(other._distrax).sum(-1)
        return divergence

    def fisher_product(self, tangent: "Gaussian") -> "Gaussian":
        """M u = (u_μ / σ², 2 u_s) in the mean and the log standard deviation."""
        return type(self)(tangent.mean * jnp.exp(-2 * self.log_std), 2 * tangent.log_std)

    def to_env(self, action: Array) -> Array:
        """As sampled: the environment clips it to its bounds."""
        return action


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TanhGaussian(Gaussian):
    """The law of tanh(x), x ~ Gaussian. Samples are x, before the squash.

    tanh is a bijection, so KL and Fisher matrix are the Gaussian's own, and so is every ratio of
    densities; `log_prob` and `entropy` are those of tanh(x).
    """

    def log_prob(self, action: Array) -> Array:
        return super().log_prob(action) - _log_tanh_slope(action).sum(-1)

    def entropy(self) -> Array:
        """H[x] + E[log |d tanh(x)/dx|], right to 1e-4 whatever the mean and deviation.

        With tanh as a mixture of error functions, log |d tanh(x)/dx| = 2 log 2 - 2 Σ w E|x + s ε|,
        ε ~ Normal, whose expectation over a Gaussian x is that of a folded normal.
        """
        weights, scales = (
            jnp.asarray(x, self.mean.dtype).reshape(-1, *[1] * self.mean.ndim)
            for x in (_WEIGHTS, _SCALES)
        )
        std = jnp.sqrt(jnp.exp(2 * self.log_std)[None] + jnp.square(scales))
        z = self.mean[None] / std
        distance = std * (
            np.sqrt(2 / np.pi) * jnp.exp(-0.5 * jnp.square(z)) + z * jax.lax.erf(z * np.sqrt(0.5))
        )
        slope = 2 * np.log(2.0) - 2 * (weights * distance).sum(0)
        entropy: Array = super().entropy() + slope.sum(-1)
        return entropy

    def to_env(self, action: Array) -> Array:
        return jnp.tanh(action)


def _total(terms: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, terms)


def _log_tanh_slope(x: Array) -> Array:
    """log(1 - tanh²(x)), stable for large |x|."""
    log_slope: Array = 2 * (np.log(2.0) - x - jax.nn.softplus(-2 * x))
    return log_slope
