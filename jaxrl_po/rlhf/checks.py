"""What a language model can read: checked at every door that takes tokens."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.rlhf.types import LanguageModel, Tokens, predicted
from jaxrl_po.types import Array, PyTree

LARGEST_ID = np.iinfo(np.int32).max


def is_traced(tree: object) -> bool:
    """Whether any leaf's values are unknown."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def check_precision(params: PyTree) -> None:
    """Raise where weights that are to learn have too few digits for steps as short as Adam's."""
    for leaf in jax.tree.leaves(params):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype.itemsize < 4:
            raise ValueError(
                f"params: weights of {leaf.dtype} cannot learn, for steps as short as Adam's are "
                "lost in their rounding: load them in float32, where compute_dtype='bfloat16' "
                "still computes in half precision, or let adapters learn beside them "
                "(lora=LoRAConfig(rank=16))"
            )


def vocabulary_size(model: LanguageModel) -> int:
    """V, the tokens that a model knows."""

    def score(key: Array) -> Array:
        return model.logits(model.init(key), jnp.zeros((1, model.num_features)))

    size: int = jax.eval_shape(score, jax.random.key(0)).shape[-1]
    return size


def check_tokens(name: str, tokens: Tokens, model: LanguageModel, num_steps: int = 0) -> None:
    """Raise unless a model can read the rows [rows, L], and `num_steps` tokens more.

    Of traced tokens only shapes and types are looked at.
    """
    ids, mask = tokens.ids, tokens.mask
    integer = jnp.issubdtype(ids.dtype, jnp.integer) and mask.dtype == bool
    if not integer or ids.ndim != 2 or ids.shape != mask.shape:
        raise ValueError(
            f"{name} must be integer ids and a bool mask of one shape [rows, L], "
            f"not {ids.dtype} {list(ids.shape)} and {mask.dtype} {list(mask.shape)}"
        )
    if not ids.size:
        raise ValueError(f"{name}: there are no rows, or no slots in them: {list(ids.shape)}")
    check_segments(name, tokens)
    check_length(name, ids.shape[1], model, num_steps)
    if not is_traced(tokens):
        check_ids(name, np.asarray(ids)[np.asarray(mask)], vocabulary_size(model))


def check_segments(name: str, tokens: Tokens) -> None:
    """Raise unless segments are integers, one a slot, that do not decrease along a row."""
    segment = tokens.segment
    if segment is None:
        return
    if not jnp.issubdtype(segment.dtype, jnp.integer) or segment.shape != tokens.ids.shape:
        raise ValueError(
            f"{name}.segment must be integers of the ids' shape {list(tokens.ids.shape)}, "
            f"not {segment.dtype} {list(segment.shape)}"
        )
    if not is_traced(tokens):
        mask, number = np.asarray(tokens.mask), np.asarray(segment)
        so_far = np.maximum.accumulate(np.where(mask, number, number.min()), axis=1)
        if (number < so_far)[mask].any():
            raise ValueError(f"{name}.segment decreases along a row: a text must be in one piece")


def check_one_text(name: str, tokens: Tokens) -> None:
    """Raise if a row may hold several texts."""
    if tokens.segment is not None:
        raise ValueError(f"{name}.segment must be None: here a row is one text")


def check_completion(tokens: Tokens, completion: Array | None) -> None:
    """Raise unless `completion` says of each slot whether it counts."""
    if completion is None:
        return
    if completion.dtype != bool or completion.shape != tokens.ids.shape:
        raise ValueError(
            f"completion must be a bool mask of the tokens' shape {list(tokens.ids.shape)}, "
            f"not {completion.dtype} {list(completion.shape)}"
        )


def check_length(name: str, length: int, model: LanguageModel, num_steps: int = 0) -> None:
    """Raise unless rows of a length, and `num_steps` tokens more, fit in the model's context."""
    if length + num_steps > model.context_length:
        more = f" with responses of num_steps={num_steps}" if num_steps else ""
        raise ValueError(
            f"{name} of length {length}{more} do not fit in context_length={model.context_length}"
        )


def check_ids(name: str, ids: np.ndarray, vocab_size: int = LARGEST_ID + 1) -> None:
    """Raise unless all token ids are of the vocabulary."""
    if ids.size and (ids.min() < 0 or ids.max() >= vocab_size):
        raise ValueError(
            f"{name}: token ids must be from 0 to {vocab_size - 1}, "
            f"found {ids.min()} to {ids.max()}"
        )


def check_some_token(name: str, tokens: Tokens) -> None:
    """Raise if a row holds no token."""
    if not is_traced(tokens) and not np.asarray(tokens.mask).any(axis=1).all():
        raise ValueError(f"{name}: each needs a token, and some row has none")


def check_some_pair(name: str, tokens: Tokens, completion: Array | None = None) -> None:
    """Raise if nowhere a token follows another, so that there is nothing to predict."""
    if is_traced((tokens, completion)):
        return
    if not predicted(*jax.tree.map(np.asarray, (tokens, completion))).any():
        of = "" if completion is None else " of the completion"
        raise ValueError(f"{name}: in no row does a token{of} follow another: nothing to predict")


def check_left_padded(name: str, tokens: Tokens) -> None:
    """Raise unless each row holds tokens, and they are its last slots."""
    check_some_token(name, tokens)
    if not is_traced(tokens) and (np.diff(np.asarray(tokens.mask, int), axis=1) < 0).any():
        raise ValueError(f"{name} must be padded on the left: an empty slot follows a token")


def check_end(model: LanguageModel, eos_id: int, stop_ids: tuple[int, ...], pad_id: int) -> None:
    """Raise unless the model knows the tokens that end a response, and padding is another."""
    vocab_size = vocabulary_size(model)
    if not 0 <= eos_id < vocab_size:
        raise ValueError(f"eos_id={eos_id} is not in the model's vocabulary of {vocab_size}")
    for token in stop_ids:
        if not 0 <= token < vocab_size:
            raise ValueError(f"stop_ids: {token} is not in the model's vocabulary of {vocab_size}")
    check_padding(eos_id, stop_ids, pad_id)


def check_padding(eos_id: int, stop_ids: tuple[int, ...], pad_id: int) -> None:
    """Raise if padding is a token that ends a response."""
    if pad_id == eos_id or pad_id in stop_ids:
        end = "equals eos_id" if pad_id == eos_id else f"is one of stop_ids={stop_ids}"
        raise ValueError(
            f"pad_id={pad_id} {end}: the end of a response would be taken for padding; "
            "give pad_id a token of its own (it may lie outside the vocabulary)"
        )
