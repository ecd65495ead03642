"""Trust-region policy optimisation (arXiv:1502.05477) and natural policy gradient (Kakade 2001)."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl_po.algorithms.critic import CriticConfig, fit_value
from jaxrl_po.algorithms.minibatch import blank, make_descent
from jaxrl_po.config import COUNT, NON_NEGATIVE, POSITIVE, Range, pytree, setting
from jaxrl_po.fast.blocks import by_blocks
from jaxrl_po.fast.slices import policy_in_slices
from jaxrl_po.ops import (
    backtracking_line_search,
    importance_ratio,
    mean_kl,
    natural_gradient,
    surrogate_loss,
    trust_region_scale,
)
from jaxrl_po.types import Algorithm, Array, Batch, Network, Optimizer, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class NaturalGradientConfig(CriticConfig):
    """Fields of TRPO and NPG. `learning_rate` is the critic's: the policy has no Adam."""

    # step size of the critic's Adam
    learning_rate: float = setting(1e-3, NON_NEGATIVE)
    # a natural gradient takes the whole rollout at once: there are no minibatches
    advantage_normalization: str = setting("batch", ("batch", "none"))
    # δ, radius of the trust region: nats of mean KL(old‖new)
    max_kl: float = setting(0.01, POSITIVE)
    # iterations of conjugate gradient
    cg_iters: int = setting(10, COUNT)
    # λ added to the Fisher matrix's diagonal
    cg_damping: float = setting(0.1, NON_NEGATIVE)
    # part of the rollout that the Fisher matrix is averaged over (static: it sets array shapes)
    fisher_fraction: Annotated[float, "static"] = setting(1.0, Range(0.0, 1.0, open_low=True))


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class TRPOConfig(NaturalGradientConfig):
    """TRPO: the natural gradient scaled to the trust region, shrunk until it holds up there."""

    algorithm: ClassVar[str] = "trpo"

    # how often the full step may be shrunk before it is given up
    max_backtracks: int = setting(10, Range(0))
    # factor of each shrinking
    backtrack_coeff: float = setting(0.8, Range(0.0, 1.0, open_low=True, open_high=True))

    def validate(self) -> None:
        """Check that the search may shrink the step it has a factor for."""
        super().validate()
        self.check_effect("backtrack_coeff", self.max_backtracks, "max_backtracks > 0")


@pytree
@dataclasses.dataclass(frozen=True, kw_only=True)
class NPGConfig(NaturalGradientConfig):
    """NPG: the same step without the search, scaled to the trust region or by a fixed factor."""

    algorithm: ClassVar[str] = "npg"

    # "trust_region": √(2δ/xᵀAx)·x, as in truncated NPG; "fixed": step_size·x, Kakade's own
    step_rule: str = setting("trust_region", ("trust_region", "fixed"))
    # factor on x under the fixed rule
    step_size: float = setting(0.1, POSITIVE)

    def validate(self) -> None:
        """Check that the step's length is that of its rule."""
        super().validate()
        fixed = self.step_rule == "fixed"
        self.check_effect("step_size", fixed, "step_rule='fixed'")
        self.check_effect("max_kl", not fixed, "step_rule='trust_region'")


class NaturalGradientState(NamedTuple):
    """What TRPO and NPG keep between iterations: the critic's optimiser."""

    value_opt_state: PyTree


class PolicyStep(NamedTuple):
    """A step of the policy's parameters."""

    params: PyTree
    accepted: Array  # []
    scale: Array  # [] of the natural gradient; 0 when no step was taken
    num_tried: Array  # [] candidates of the line search
    improvement: Array  # [] of the surrogate


def trpo(config: TRPOConfig, network: Network, optimizer: Optimizer | None = None) -> Algorithm:
    """TRPO as an update: maximise E[r Â] subject to E[KL(π_old ‖ π)] ≤ δ (eq. 14)."""

    def take_step(policy: PyTree, natural: Any, objective: Any, baseline: Array) -> PolicyStep:
        scale = trust_region_scale(natural.damped_curvature, config.max_kl)
        search = backtracking_line_search(
            objective,
            policy,
            optax.tree.scale(scale, natural.direction),
            baseline,
            max_kl=config.max_kl,
            backtrack_coeff=config.backtrack_coeff,
            max_backtracks=config.max_backtracks,
        )
        return PolicyStep(
            search.params,
            search.accepted,
            scale * search.fraction,
            search.num_tried,
            search.improvement,
        )

    return _natural_gradient_algorithm(config, network, optimizer, take_step)


def npg(config: NPGConfig, network: Network, optimizer: Optimizer | None = None) -> Algorithm:
    """NPG as an update: a step along F⁻¹g."""

    def take_step(policy: PyTree, natural: Any, objective: Any, baseline: Array) -> PolicyStep:
        if config.step_rule == "fixed":
            scale = jnp.where(natural.damped_curvature > 0, config.step_size, 0.0)
        else:
            scale = trust_region_scale(natural.damped_curvature, config.max_kl)
        params = optax.tree.add_scale(policy, scale, natural.direction)
        surrogate, _ = objective(params)
        return PolicyStep(params, scale > 0, scale, jnp.zeros((), jnp.int32), surrogate - baseline)

    return _natural_gradient_algorithm(config, network, optimizer, take_step)


def _natural_gradient_algorithm(
    config: NaturalGradientConfig,
    network: Network,
    optimizer: Optimizer | None,
    take_step: Callable[[PyTree, Any, Any, Array], PolicyStep],
) -> Algorithm:
    """The update that TRPO and NPG share: natural gradient, a step along it, critic."""
    descent = make_descent(config, network, optimizer)
    distribution_of = policy_in_slices(network, config.minibatch_shards)

    def init(params: PyTree) -> NaturalGradientState:
        return NaturalGradientState(descent.init(params.value))

    def update(
        key: Array, params: PyTree, state: NaturalGradientState, batch: Batch, anneal: Array
    ) -> tuple[PyTree, NaturalGradientState, dict[str, Array]]:
        batch = blank(batch)
        # TF32 or bfloat16 products would spoil CG and the acceptance test.
        with jax.default_matmul_precision("float32"):
            policy, metrics = improve_policy(params, batch)
        params, opt_state, fitted = fit_value(
            config,
            network,
            descent,
            key,
            params._replace(policy=policy),
            state.value_opt_state,
            batch,
            config.learning_rate * anneal,
        )
        return params, NaturalGradientState(opt_state), metrics | fitted

    def improve_policy(params: PyTree, batch: Batch) -> tuple[PyTree, dict[str, Array]]:
        def policy_on(batch: Batch) -> Callable[[PyTree], Any]:
            return lambda policy: distribution_of(
                params._replace(policy=policy), batch.observation, batch.memory
            )

        def objective(policy: PyTree) -> tuple[Array, Array]:
            distribution = policy_on(batch)(policy)
            log_prob = distribution.log_prob(batch.action)
            ratio = importance_ratio(log_prob, batch.log_prob, batch.mask)
            kl = mean_kl(batch.distribution, distribution, batch.mask)
            return -surrogate_loss(ratio, batch.advantage).mean(where=batch.mask), kl

        old = params.policy
        (baseline, _), gradient = jax.value_and_grad(objective, has_aux=True)(old)
        thin = by_blocks(lambda b: _thin(b, config.fisher_fraction), config.minibatch_shards)
        thinned = thin(batch)
        natural = natural_gradient(
            policy_on(thinned),
            old,
            gradient,
            damping=config.cg_damping,
            cg_iters=config.cg_iters,
            mask=thinned.mask,
        )
        step = take_step(old, natural, objective, baseline)
        return step.params, {
            "policy_loss": -baseline,
            "entropy": batch.distribution.entropy().mean(where=batch.mask),
            "grad_norm": optax.tree.norm(gradient),
            "step_accepted": step.accepted.astype(baseline.dtype),
            "line_search_steps": step.num_tried,
            "surrogate_improvement": step.improvement,
            "predicted_improvement": step.scale * natural.slope,
            "predicted_kl": 0.5 * step.scale**2 * natural.curvature,
            "cg_residual": natural.cg_residual,
        }

    return Algorithm(init, update)


def _thin(batch: Batch, fraction: float) -> Batch:
    """Evenly spread samples, `fraction` of the batch."""
    size = batch.log_prob.shape[0]
    kept = max(1, round(size * fraction))
    index = np.arange(kept) * size // kept
    return batch if kept == size else jax.tree.map(lambda x: x[index], batch)
