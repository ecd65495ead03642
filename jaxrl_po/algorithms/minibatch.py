"""Stochastic gradient descent over a rollout: fresh orders, minibatches, one scan."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl_po.config import Config
from jaxrl_po.fast.blocks import by_blocks, join
from jaxrl_po.fast.optimizer import adam, clip_by_norm, to_vector
from jaxrl_po.fast.packing import Packed, pack
from jaxrl_po.types import Array, Batch, Network, Optimizer, PyTree


def check_minibatches(config: Config, field: str, remembers: bool | None = None) -> None:
    """Raise unless the named number of minibatches divides the samples of a rollout.

    Args:
        config: the config.
        field: the name.
        remembers: whether the network does, and samples are stretches; None for what the config's
            own network does.
    """
    size, count = config.num_envs * config.num_steps, getattr(config, field)
    if size % count:
        raise ValueError(f"{field}={count} does not divide num_envs * num_steps = {size}")
    if remembers is None:
        remembers = config.memory_kind != ""
    num_stretches = size // config.stretch_length
    if remembers and num_stretches % count:
        raise ValueError(
            f"{field}={count} does not divide num_envs * num_steps / sequence_length = "
            f"{num_stretches}: minibatches of a network with memory take whole stretches"
        )
    num_samples = num_stretches if remembers else size
    if num_samples % (count * config.minibatch_shards):
        raise ValueError(
            f"{field}={count} does not divide the {num_samples // config.minibatch_shards} samples "
            f"of each of minibatch_shards={config.minibatch_shards} blocks: a minibatch takes as "
            "many from each"
        )


def blank(batch: Batch) -> Batch:
    """Zeros in the slots that the mask leaves out, so that no NaN there can reach a gradient.

    A batch without a mask comes back as it is.
    """
    if batch.mask is None:
        return batch
    mask = batch.mask

    def choose(x: Array) -> Array:
        return jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim)), x, 0)

    return batch._replace(
        distribution=jax.tree.map(choose, batch.distribution),
        action=choose(batch.action),
        log_prob=choose(batch.log_prob),
        value=choose(batch.value),
        advantage=choose(batch.advantage),
        target=choose(batch.target),
    )


def random_orders(key: Array, num: int, size: int) -> Array:
    """`num` random orders of `size` samples [num, size].

    Random integers that carry the samples' indices in their low bits are sorted: on a CPU plain
    integers sort 5 to 12 times as fast as an argsort. Samples whose random bits tie keep their
    order, so more than 2^16 samples, whose indices leave too few bits, are ordered again and
    again until there have been as many random bits as bits of an index: two samples then tie
    about once, and what tied in one pass is in the order of the pass before.
    """
    bits = (size - 1).bit_length()
    low_bits = jnp.uint32((1 << bits) - 1)
    index = jnp.broadcast_to(jnp.arange(size, dtype=jnp.uint32), (num, size))

    def one_pass(key: Array) -> Array:
        random = jax.random.bits(key, (num, size), jnp.uint32) & ~low_bits
        order: Array = jnp.sort(random | index, axis=-1) & low_bits
        return order

    order = one_pass(key)
    for number in range(1, math.ceil(bits / (32 - bits))):
        again = one_pass(jax.random.fold_in(key, number))
        order = jnp.take_along_axis(order, again, axis=-1)
    return order


def orders_of_blocks(key: Array, num: int, num_epochs: int, size: int, num_blocks: int) -> Array:
    """What each of `num` minibatches takes of `size` samples, in random orders [num, b].

    Of several blocks the numbers of the samples within each stand side by side.
    """
    if num_blocks == 1:
        return random_orders(key, num_epochs, size).reshape(num, -1)
    keys = jax.random.split(key, num_blocks)
    orders = jax.vmap(lambda key: random_orders(key, num_epochs, size // num_blocks))(keys)
    of_minibatches: Array = join(orders.reshape(num_blocks, num, -1).swapaxes(0, 1), axis=1)
    return of_minibatches


Loss = Callable[[PyTree, Batch], tuple[Array, dict[str, Array]]]


class Descent(NamedTuple):
    """Minimising a loss over minibatches with one optimiser: see `make_descent`."""

    init: Callable[[PyTree], PyTree]  # params -> optimiser state
    # key, loss, params, optimiser state, batch, learning rate, epochs, minibatches, stop
    #   -> params, optimiser state, metrics
    run: Callable[..., tuple[PyTree, PyTree, dict[str, Array]]]


def make_descent(config: Config, network: Network, optimizer: Optimizer | None = None) -> Descent:
    """Minibatch descent with the optimiser given, or `config.make_optimizer`, or else Adam.

    Adam sees small networks as one vector, which changes no number; an optimiser of one's own sees
    the parameters as they are, for it may treat them by name. One that is given stands behind the
    bound `max_grad_norm`, as Adam does; `config.make_optimizer` makes all of it.
    """

    def at(learning_rate: Array | float) -> tuple[optax.GradientTransformation, bool]:
        if optimizer is not None:
            own = optimizer(learning_rate) if callable(optimizer) else optimizer
            return optax.chain(clip_by_norm(config.max_grad_norm), own), False
        made = config.make_optimizer(learning_rate)
        if made is not None:
            return made, False
        return adam(learning_rate, config.max_grad_norm), network.flat_params

    def init(params: PyTree) -> PyTree:
        transformation, flat = at(config.learning_rate)
        return transformation.init(to_vector(params, flat)[0])

    def run(
        key: Array,
        loss: Loss,
        params: PyTree,
        opt_state: PyTree,
        batch: Batch,
        learning_rate: Array | float,
        *,
        num_epochs: int,
        num_minibatches: int,
        stop: Callable[[dict[str, Array]], Array] | None = None,
    ) -> tuple[PyTree, PyTree, dict[str, Array]]:
        transformation, flat = at(learning_rate)
        return descend(
            key,
            loss,
            transformation,
            params,
            opt_state,
            batch,
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
            flat=flat,
            stop=stop,
            num_blocks=config.minibatch_shards,
        )

    return Descent(init, run)


def descend(
    key: Array,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    batch: Batch,
    *,
    num_epochs: int,
    num_minibatches: int,
    flat: bool,
    stop: Callable[[dict[str, Array]], Array] | None = None,
    num_blocks: int = 1,
) -> tuple[PyTree, PyTree, dict[str, Array]]:
    """Minimise a loss by `num_epochs` passes over minibatches of a batch, each in a new order.

    Args:
        key: randomness of the orders.
        loss: params, minibatch [B / num_minibatches, ...] -> loss [], metrics.
        optimizer: what makes a step of a gradient.
        params: where to start.
        opt_state: the optimizer's, for `to_vector(params, flat)`.
        batch: samples [B, ...].
        num_epochs: passes over the batch.
        num_minibatches: minibatches of a pass; they divide B.
        flat: see `to_vector`.
        stop: metrics -> whether to leave the parameters alone from this minibatch on.
        num_blocks: M, blocks of B / M samples that are shuffled by themselves; each minibatch
            takes as many from one as from another.

    Returns:
        Params, optimizer state, and the metrics [num_epochs · num_minibatches] with "grad_norm".
    """
    samples = pack(batch, num_axes=1)
    size = samples.arrays[0].shape[0]
    vector, unravel = to_vector(params, flat)

    def step(carry: Any, samples: Packed) -> tuple[Any, Packed]:
        vector, opt_state, stopped = carry
        minibatch = samples.unpack()
        gradient, metrics = jax.grad(lambda vector: loss(unravel(vector), minibatch), has_aux=True)(
            vector
        )
        updates, new_opt_state = optimizer.update(gradient, opt_state, vector)
        new = optax.apply_updates(vector, updates), new_opt_state
        if stop is not None:
            stopped |= stop(metrics)
            new = jax.tree.map(lambda n, o: jnp.where(stopped, o, n), new, (vector, opt_state))
        metrics["grad_norm"] = optax.tree.norm(gradient)
        return (*new, stopped), pack(metrics, num_axes=0)

    start = vector, opt_state, jnp.zeros((), bool)
    if num_minibatches == 1:  # the order within a full batch does not matter
        end, metrics = jax.lax.scan(lambda c, _: step(c, samples), start, length=num_epochs)
    else:
        order = orders_of_blocks(key, num_epochs * num_minibatches, num_epochs, size, num_blocks)
        take = by_blocks(lambda x, index: x[index], num_blocks)
        end, metrics = jax.lax.scan(
            lambda c, index: step(c, jax.tree.map(lambda x: take(x, index), samples)), start, order
        )
    vector, opt_state, _ = end
    return unravel(vector), opt_state, metrics.unpack()
