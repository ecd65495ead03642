"""The pool of prompts, and the order in which a run goes through it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.rlhf.checks import LARGEST_ID, check_ids, check_left_padded, check_one_text, is_traced
from jaxrl_po.rlhf.types import Tokens
from jaxrl_po.types import Array


def as_prompts(
    prompts: Any, pad_id: int, vocab_size: int = LARGEST_ID + 1, name: str = "prompts"
) -> Tokens:
    """Token ids [number, P], padded on the left, with their mask; or `Tokens`, checked alike."""
    ids: Any
    if isinstance(prompts, Tokens):
        check_one_text(name, prompts)
        ids, mask = prompts.ids, prompts.mask
    else:
        try:
            ids = prompts if is_traced(prompts) else np.asarray(prompts)
        except ValueError as error:
            raise ValueError(f"{name} must be rows of one length: {error}") from error
        mask = ids != pad_id
    if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(
            f"{name} must be integer token ids [number of prompts, P], "
            f"not {ids.dtype} {list(ids.shape)}"
        )
    if not ids.size:
        raise ValueError(f"{name}: there are none, or no slots in them: {list(ids.shape)}")
    check_left_padded(name, Tokens(ids, mask))
    if not is_traced((ids, mask)):
        check_ids(name, np.asarray(ids)[np.asarray(mask)], vocab_size)
    return Tokens(jnp.asarray(ids, jnp.int32), jnp.asarray(mask))


def prompt_rows(key: Array, iteration: Array, num_rows: int, num_prompts: int) -> Array:
    """Which prompts an iteration answers [num_rows]: the next of one pass after another.

    Each pass takes all prompts in an order of its own, which the key and the pass's number give:
    a run that goes on at some iteration goes on with the same prompts.
    """
    start = iteration * num_rows
    slot = start % num_prompts + jnp.arange(num_rows, dtype=jnp.uint32)
    num_passes = (num_rows - 1 + num_prompts - 1) // num_prompts + 1  # that a batch may touch
    passes = start // num_prompts + jnp.arange(num_passes, dtype=jnp.uint32)

    def order(number: Array) -> Array:
        return jax.random.permutation(jax.random.fold_in(key, number), num_prompts)

    return jax.vmap(order)(passes).ravel()[slot]
