"""A reward that is a Python function of texts, called from within the compiled program."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.host.language.text.tokenizer import Tokenizer
from jaxrl_po.rlhf.types import RewardFn, Tokens
from jaxrl_po.types import Array

Score = Callable[[list[str], list[str]], Sequence[float]]  # prompts, answers -> scores


class TextReward:
    """What `text_reward` makes; the exceptions of its function are kept until they are told."""

    def __init__(self, score: Score, tokenizer: Tokenizer, skip_special: bool) -> None:
        self._score, self._tokenizer, self._skip_special = score, tokenizer, skip_special
        self.failures: list[Exception] = []

    def __call__(self, prompt: Tokens, response: Tokens) -> Array:
        """The scores [N], by a call from within the program."""
        shape = jax.ShapeDtypeStruct(response.ids.shape[:1], jnp.float32)
        found: Array = jax.pure_callback(
            self._call, shape, prompt, response, vmap_method="sequential"
        )
        return found

    def _call(self, prompt: Tokens, response: Tokens) -> np.ndarray:
        try:
            return self._scores(*(self._texts(x.ids, x.mask) for x in (prompt, response)))
        except Exception as error:  # of which JAX reports only the text
            self.failures.append(error)
            raise

    def _texts(self, ids: Any, mask: Any) -> list[str]:
        rows = zip(np.asarray(ids), np.asarray(mask), strict=True)
        decode = self._tokenizer.decode
        return [decode(row[kept].tolist(), self._skip_special) for row, kept in rows]

    def _scores(self, prompts: list[str], answers: list[str]) -> np.ndarray:
        found = np.asarray(self._score(prompts, answers))
        number = found.dtype == bool or np.issubdtype(found.dtype, np.number)
        if found.shape != (len(answers),) or not number:
            raise ValueError(
                f"the reward function must return one number for each of {len(answers)} answers, "
                f"not {found.dtype} {list(found.shape)}"
            )
        return found.astype(np.float32)


def text_reward(score: Score, tokenizer: Tokenizer, skip_special: bool = True) -> RewardFn:
    """score(prompts, answers) -> a number each, as a reward function of tokens.

    The program waits for the function, which may call whatever it likes. It must be a function of
    the texts alone: a run that goes on after a checkpoint calls it again. Where it raises or gives
    anything but one number an answer, the run stops with that error; a NaN leaves the answer out
    of the update.

    Args:
        score: the function.
        tokenizer: turns tokens into text.
        skip_special: leave out special tokens, such as the one that ends an answer.
    """
    return TextReward(score, tokenizer, skip_special)
