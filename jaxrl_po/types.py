"""Records that travel between the parts of the loop. Shapes: T steps, N environments, I iterations.

Every record is a pytree of arrays, or (for replaceable parts) a NamedTuple of pure functions.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import optax

Array = jax.Array
PyTree = Any
# Any optax transformation; or what makes one of a learning rate, such as `optax.adamw`.
Optimizer = optax.GradientTransformation | Callable[[Array | float], optax.GradientTransformation]


class Distribution(Protocol):
    """A batch of action distributions π(·|s): a pytree whose leaves are its parameters.

    `jaxrl_po.distributions` has the implementations.
    """

    def noise(self, key: Array, leading: tuple[int, ...] = ()) -> Array:
        """Everything random that `sample` needs, with `leading` axes in front of the batch."""

    def sample(self, noise: Array) -> Array:
        """The action that this noise draws."""

    def mode(self) -> Array:
        """The most likely action."""

    def log_prob(self, action: Array) -> Array:
        """log π(a|s)."""

    def entropy(self) -> Array:
        """H[π(·|s)], in nats."""

    def kl(self, other: Any) -> Array:
        """KL[self ‖ other], in nats."""

    def fisher_product(self, tangent: Any) -> Any:
        """M·u, with M the Fisher matrix of the distribution in its own parameters."""

    def to_env(self, action: Array) -> Array:
        """The action as the environment takes it."""


class MaskedObservation(NamedTuple):
    """What a state shows and what it allows, of an environment with an `action_mask`."""

    observation: PyTree  # [..., *observation]
    mask: Array  # [..., num_outputs] the allowed actions


class Params(NamedTuple):
    """What a network learns, by what is learnt from it. Of one torso for both, the heads."""

    policy: PyTree
    torso: PyTree = ()  # of policy and value both
    value: PyTree = ()


class Unroll(NamedTuple):
    """A network with memory over stretches of L steps: the same as L of its steps, one by one.

    Each takes params, observations [L, n, ...], the memory before the first of them [n, ...], and
    where an episode begins [L, n], that is, where memory is that of `initial_memory`.
    """

    policy: Callable[[Params, PyTree, PyTree, Array], Any]  # -> π(·|s) [L, n]
    value: Callable[[Params, PyTree, PyTree, Array], Array]  # -> V(s) [L, n]
    policy_and_value: Callable[[Params, PyTree, PyTree, Array], tuple[Any, Array]]


class Network(NamedTuple):
    """An actor-critic as pure functions. Observations are [..., *observation], of the dtypes that
    the environment gives them, or floats where they are normalised.

    Memory is a pytree of arrays [..., H], whatever policy and value remember of the episode before
    the observation; () for a network that remembers nothing. The policy takes all of it on.
    """

    init: Callable[[Array], Params]  # key -> params
    # params, observation, memory
    policy: Callable[[Params, PyTree, PyTree], tuple[Any, PyTree]]  # -> π(·|s), next memory
    value: Callable[[Params, PyTree, PyTree], Array]  # -> V(s)
    # one pass for both; a policy whose params have no value, and so no critic, has None for it
    policy_and_value: Callable[[Params, PyTree, PyTree], tuple[Any, Any]]
    initial_memory: Callable[[int], PyTree]  # number of environments -> memory, always the same
    unroll: Unroll | None = None  # of a network that remembers
    flat_params: bool = True  # optimise them as one vector; False where they are cut over devices


class Transition(NamedTuple):
    """One rollout, time-major.

    What comes next is the next row's observation, but where an episode ended. `next_observation`
    has all T rows; or, where observations are so large that they are held once, the last alone,
    and `bootstrap` the values that the rollout took at time limits.
    """

    observation: PyTree  # [T, N, ...] o_t, raw
    memory: PyTree  # [T, N, ...] m_t, what the network remembered when it saw o_t
    distribution: Any  # [T, N, ...] π(·|o_t)
    action: Array  # [T, N, ...] a_t, as sampled: before any clipping or squashing
    reward: Array  # [T, N] r_{t+1}, raw
    next_observation: PyTree  # [T or 1, N, ...] o_{t+1}, before any reset
    next_memory: PyTree  # [T or 1, N, ...] m_{t+1}, before any reset
    terminated: Array  # [T, N] the episode ended in s_{t+1}
    truncated: Array  # [T, N] a time limit cut it off in s_{t+1}
    bootstrap: Array | None = None  # [T, N] V(o_{t+1}) where truncated, else 0


class Stretch(NamedTuple):
    """L steps of an environment, one after the other, as a network that remembers sees them."""

    observation: PyTree  # [B, L, ...]
    starts: Array  # [B, L] whether an episode begins at a step


class Batch(NamedTuple):
    """What an update learns from: samples that minibatches take whole, each a stretch of L steps.

    Of a feed-forward policy a sample is one step, without an axis for L: [B], B = T·N. Of one that
    remembers it is a `Stretch` of L = `sequence_length` steps, B = T·N / L, with the memory before
    the first. Of a language model it is a response, L = T, and its observation all tokens of the
    sequence but the last. An update need not know: it takes samples by the first axis, asks the
    network for what belongs to them, and means over all slots that count.
    """

    observation: PyTree  # [B, ...] o_t, normalised if the config says so
    memory: PyTree  # [B, ...] m_t
    distribution: Any  # [B, L, ...] π_old(·|o_t)
    action: Array  # [B, L, ...] a_t
    log_prob: Array  # [B, L] log π_old(a_t|o_t)
    value: Array  # [B, L] V_old(o_t)
    advantage: Array  # [B, L] Â_t
    target: Array  # [B, L] Â_t + V_old(o_t), the λ-return
    mask: Array | None = None  # [B, L] the slots that count; None for all of them


class RolloutState(NamedTuple):
    """Where the environments stand between two rollouts."""

    env_state: PyTree  # [N, ...]
    observation: PyTree  # [N, ...] o_t, raw
    memory: PyTree  # [N, ...] m_t
    episode_return: Array  # [N] undiscounted reward of the running episode
    episode_length: Array  # [N] its steps


class TrainState(NamedTuple):
    """Everything a run is: saved and loaded, it continues to the bit."""

    params: Params
    algorithm: PyTree  # the algorithm's own: optimiser state, coefficients
    rollout: RolloutState
    normalizer: PyTree  # running statistics
    key: Array  # randomness of all that is to come
    iteration: Array  # [] iterations done


class TrainResult(NamedTuple):
    """What `train(key)` returns."""

    state: TrainState
    metrics: dict[str, Array]  # [I] each


class Algorithm(NamedTuple):
    """A method of policy optimisation: its state's start and its update."""

    init: Callable[[Params], PyTree]  # params -> algorithm state
    # key, params, algorithm state, batch, factor on learning rates
    #   -> params, algorithm state, metrics (each [])
    update: Callable[[Array, Params, PyTree, Batch, Array], tuple[Params, PyTree, dict[str, Array]]]
    passes: int = 1  # updates on a rollout, each on values and advantages estimated anew


# config, network -> Algorithm; with `optimizer=` where one is to take its steps
AlgorithmFactory = Callable[..., Algorithm]
