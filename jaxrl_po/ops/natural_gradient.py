"""Natural gradients: Fisher-vector products, conjugate gradient, and the trust-region step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl_po.fast.dense import forward_derivatives
from jaxrl_po.ops.shapes import check_one_shape
from jaxrl_po.types import Array, Distribution, PyTree

# CG rests once the squared residual has fallen by this factor: float32 has no more to give.
TOLERANCE = 1e-10


def mean_kl(old: Distribution, new: Distribution, mask: Array | None = None) -> Array:
    """E[KL(π_old(·|s) ‖ π(·|s))] over a batch of states, or those a mask leaves, in nats."""
    kl = old.kl(new)
    check_one_shape(kl=kl, mask=mask)
    return kl.mean(where=mask)


def fisher_vector_product(
    policy_fn: Callable[[PyTree], Distribution],
    params: PyTree,
    damping: float | Array = 0.0,
    mask: Array | None = None,
) -> Callable[[PyTree], PyTree]:
    """The map v -> (F + damping I) v, with F the Fisher matrix averaged over a batch of states.

        F = E_s[Jᵀ M J]        (Schulman et al. 2015, arXiv:1502.05477, appendix C)

    J is the Jacobian of the distribution's parameters in `params`, M the distribution's own Fisher
    matrix, in closed form. J is linearised once, forwards and back; each product then costs one
    pass through each of the two linear maps. F is positive semi-definite by construction, which
    the Hessian of a KL estimate in float32 is not. At `params` the two are the same matrix.

    Args:
        policy_fn: params -> a `Distribution` over a batch of states.
        params: where to linearise, a pytree.
        damping: λ ≥ 0 added to the diagonal.
        mask: the states that count, shaped like the batch; all of them if None.

    Returns:
        A function from tangents to tangents, both like `params`.

    Examples:
        >>> from jaxrl_po.distributions import Categorical
        >>> logits = jnp.zeros((1, 2))  # of one state: p = ½, so F = diag(p) - p pᵀ
        >>> fisher_vector_product(Categorical, logits)(jnp.array([[1.0, 0.0]]))
        Array([[ 0.25, -0.25]], dtype=float32)
    """
    with forward_derivatives():
        distribution, jvp = jax.linearize(policy_fn, params)
    _, vjp = jax.vjp(policy_fn, params)  # traced again: a linear map is fast in one direction only
    batch = jax.eval_shape(lambda: distribution.entropy())
    batch_size = batch.size if mask is None else mask.sum()

    def average(u: Array) -> Array:
        if mask is not None:
            u = jnp.where(mask.reshape(*mask.shape, *[1] * (u.ndim - batch.ndim)), u, 0.0)
        return u / batch_size

    def product(v: PyTree) -> PyTree:
        cotangent = distribution.fisher_product(jvp(v))
        (Fv,) = vjp(jax.tree.map(average, cotangent))
        return optax.tree.add_scale(Fv, damping, v)

    return product


def conjugate_gradient(
    matvec: Callable[[PyTree], PyTree], b: PyTree, num_iters: int
) -> tuple[PyTree, Array]:
    """Approximate x = A⁻¹ b for a symmetric positive definite A (Hestenes & Stiefel 1952).

    A fixed number of iterations, which rest once ‖r‖ ≤ 1e-5 ‖b‖ or on a direction without positive
    curvature; b = 0 gives x = 0, and so does a b that is not finite.

    Args:
        matvec: v -> A v.
        b: right-hand side, a pytree.
        num_iters: iterations, each one `matvec`.

    Returns:
        x like b, and the relative residual ‖b - A x‖ / ‖b‖ (0 for b = 0).

    Examples:
        >>> x, residual = conjugate_gradient(lambda v: 2.0 * v, jnp.array([2.0, 4.0]), num_iters=2)
        >>> x, float(residual)
        (Array([1., 2.], dtype=float32), 0.0)
    """
    x, residual = _solve(matvec, b, num_iters)
    return x, _relative(residual, b)


def _relative(residual: PyTree, b: PyTree) -> Array:
    """‖residual‖ / ‖b‖, 0 for b = 0."""
    norm, scale = optax.tree.norm(residual), optax.tree.norm(b)
    return jnp.where(scale == 0, 0.0, norm / jnp.where(scale == 0, 1.0, scale))


def _solve(matvec: Callable[[PyTree], PyTree], b: PyTree, num_iters: int) -> tuple[PyTree, PyTree]:
    """CG's x and its residual vector b - A x."""
    threshold = TOLERANCE * optax.tree.vdot(b, b)

    def iterate(carry: Any, _: None) -> tuple[Any, None]:
        x, r, p, rr = carry
        Ap = matvec(p)
        curvature = optax.tree.vdot(p, Ap)
        active = (rr > threshold) & (curvature > 0) & jnp.isfinite(curvature)
        alpha = jnp.where(active, rr / jnp.where(active, curvature, 1.0), 0.0)
        new_r = optax.tree.add_scale(r, -alpha, Ap)
        new_rr = optax.tree.vdot(new_r, new_r)
        beta = jnp.where(active, new_rr / jnp.where(active, rr, 1.0), 0.0)
        moved = optax.tree.add_scale(x, alpha, p), new_r, optax.tree.add_scale(new_r, beta, p)
        kept = jax.tree.map(lambda n, o: jnp.where(active, n, o), moved, (x, r, p))
        return (*kept, jnp.where(active, new_rr, rr)), None

    start = optax.tree.zeros_like(b), b, b, optax.tree.vdot(b, b)
    (x, residual, _, _), _ = jax.lax.scan(iterate, start, length=num_iters)
    return x, residual


class NaturalGradient(NamedTuple):
    """x ≈ (F + λI)⁻¹ g, and the quadratic forms that scale it."""

    direction: PyTree  # x
    slope: Array  # [] gᵀx, the surrogate's first-order gain along x
    damped_curvature: Array  # [] xᵀ(F + λI)x
    curvature: Array  # [] xᵀFx: twice the KL that a step x spends, to second order
    cg_residual: Array  # [] ‖g - (F + λI)x‖ / ‖g‖


def natural_gradient(
    policy_fn: Callable[[PyTree], Distribution],
    params: PyTree,
    gradient: PyTree,
    *,
    damping: float | Array,
    cg_iters: int,
    mask: Array | None = None,
) -> NaturalGradient:
    """Solve (F + λI) x = g by conjugate gradient on Fisher-vector products.

    CG's residual gives the curvature for nothing: xᵀ(F + λI)x = xᵀ(g - residual).
    """
    matvec = fisher_vector_product(policy_fn, params, damping, mask)
    x, residual = _solve(matvec, gradient, cg_iters)
    damped = optax.tree.vdot(x, optax.tree.sub(gradient, residual))
    damped = jnp.where(optax.tree.vdot(x, x) > 0, damped, 0.0)  # 0, not NaN, for a bad gradient
    return NaturalGradient(
        direction=x,
        slope=jnp.where(damped > 0, optax.tree.vdot(gradient, x), 0.0),
        damped_curvature=damped,
        curvature=damped - damping * optax.tree.vdot(x, x),
        cg_residual=_relative(residual, gradient),
    )


def trust_region_scale(damped_curvature: Array, max_kl: float | Array) -> Array:
    """β = √(2δ / xᵀAx), the length of the step βx whose quadratic KL is δ (TRPO, appendix C).

    Examples:
        >>> round(float(trust_region_scale(jnp.array(0.5), max_kl=0.01)), 4)
        0.2
    """
    usable = damped_curvature > 0
    return jnp.where(usable, jnp.sqrt(2 * max_kl / jnp.where(usable, damped_curvature, 1.0)), 0.0)


class LineSearch(NamedTuple):
    """What a backtracking line search found."""

    params: PyTree  # the accepted candidate, or the old parameters to the bit
    accepted: Array  # [] bool
    fraction: Array  # [] of the full step, 0 when none was accepted
    num_tried: Array  # [] candidates
    improvement: Array  # [] of the surrogate, 0 when none was accepted


def backtracking_line_search(
    objective: Callable[[PyTree], tuple[Array, Array]],
    params: PyTree,
    full_step: PyTree,
    baseline: Array,
    *,
    max_kl: float | Array,
    backtrack_coeff: float | Array,
    max_backtracks: int,
) -> LineSearch:
    """Shrink a step until the surrogate rises within the trust region (TRPO, appendix C).

    Tries params + cʲ·full_step for j = 0 … max_backtracks, and takes the first where the surrogate
    is above `baseline` and the KL is at most `max_kl`, both finite.

    Args:
        objective: params -> surrogate [], mean KL(old‖new) [].
        params: where the step starts.
        full_step: like params.
        baseline: the surrogate at `params`.
        max_kl: trust-region radius δ, in nats.
        backtrack_coeff: c, in (0, 1).
        max_backtracks: how often to shrink the full step.

    Examples:
        >>> def objective(x):  # rises up to x = 1; its KL is x² / 2
        ...     return -((x - 1.0) ** 2), x**2 / 2
        >>> found = backtracking_line_search(
        ...     objective, jnp.array(0.0), jnp.array(1.0), jnp.array(-1.0),
        ...     max_kl=0.2, backtrack_coeff=0.5, max_backtracks=5,
        ... )
        >>> float(found.params), int(found.num_tried)
        (0.5, 2)
    """

    def candidate(j: Array) -> tuple[PyTree, Array]:
        fraction = jnp.power(jnp.asarray(backtrack_coeff, baseline.dtype), j)
        moved = optax.tree.add_scale(params, fraction, full_step)
        return jax.tree.map(lambda new, old: new.astype(old.dtype), moved, params), fraction

    def searching(carry: tuple[Array, Array, Array]) -> Array:
        j, accepted, _ = carry
        return ~accepted & (j <= max_backtracks)

    def attempt(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        j, _, _ = carry
        surrogate, kl = objective(candidate(j)[0])
        gain = surrogate - baseline
        accepted = jnp.isfinite(surrogate) & jnp.isfinite(kl) & (kl <= max_kl) & (gain > 0)
        return j + 1, accepted, gain

    start = jnp.zeros((), jnp.int32), jnp.zeros((), bool), jnp.zeros_like(baseline)
    num_tried, accepted, gain = jax.lax.while_loop(searching, attempt, start)
    new_params, fraction = candidate(num_tried - 1)
    return LineSearch(
        params=jax.tree.map(lambda new, old: jnp.where(accepted, new, old), new_params, params),
        accepted=accepted,
        fraction=jnp.where(accepted, fraction, 0.0),
        num_tried=num_tried,
        improvement=jnp.where(accepted, gain, 0.0),
    )
