"""VADER as an array program: a gold reward that runs inside the compiled loop.

The rules of Hutto & Gilbert 2014 that words in lower case can trigger: valence from the lexicon,
boosters and negations among the three words before, "but", and emphasis by ! and ?. Left out: what
needs capitals, and the handful of idioms.
"""

from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_po.rlhf.types import RewardFn, Tokens, concatenate
from jaxrl_po.types import Array

NEGATION = -0.74  # factor of a negation
REACH = (1.0, 0.95, 0.9)  # factor of a booster one, two and three words before
EXCLAMATION, QUESTION = 0.292, 0.18  # emphasis of one ! (at most four), and of one of 2 or 3 ?
MANY_QUESTIONS = 0.96
SCALE = 15.0


class Lexicon(NamedTuple):
    """What VADER knows of each word of a vocabulary [V]."""

    valence: Array  # mean rating; 0 if unknown
    known: Array  # bool, in the lexicon
    booster: Array  # what it adds to a positive word after it
    negation: Array  # bool
    no: Array  # bool, "no" itself
    but: Array  # bool
    exclamation: Array  # how many !
    question: Array  # how many ?
    word: Array  # bool, counts when three words back are looked at


def make_lexicon(words: list[str], vader: ModuleType) -> Lexicon:
    """Look the words of a vocabulary up in the package's tables."""
    ratings = vader.SentimentIntensityAnalyzer().lexicon
    negations = set(vader.NEGATE)

    def table(function: object, dtype: type) -> Array:
        assert callable(function)
        return jnp.asarray(np.array([function(word) for word in words], dtype))

    return Lexicon(
        valence=table(
            lambda w: 0.0 if w in vader.BOOSTER_DICT else ratings.get(w, 0.0), np.float32
        ),
        known=table(lambda w: w in ratings, bool),
        booster=table(lambda w: vader.BOOSTER_DICT.get(w, 0.0), np.float32),
        negation=table(lambda w: w in negations or "n't" in w, bool),
        no=table(lambda w: w == "no", bool),
        but=table(lambda w: w == "but", bool),
        exclamation=table(lambda w: w.count("!"), np.float32),
        question=table(lambda w: w.count("?"), np.float32),
        word=table(lambda w: any(c.isalnum() for c in w) or w in ratings, bool),
    )


def vader_score(lexicon: Lexicon, tokens: Tokens) -> Array:
    """VADER's compound score [N] in (-1, 1) of token sequences [N, L].

    score = s / √(s² + 15),   s = Σ valence after boosters, negations and "but", + emphasis
    """
    mask = tokens.mask
    # One row of all that is known of each token; a row of zeros for empty slots and "no word".
    ids = jnp.where(mask, tokens.ids, 0)
    slot = jnp.arange(ids.shape[1])

    def look_up(table: Array) -> Array:
        return jnp.where(mask, table[ids], jnp.zeros((), table.dtype))

    each = jax.tree.map(look_up, lexicon)
    last_word = jax.lax.cummax(jnp.where(each.word, slot[None], -1), axis=1)
    before = jnp.pad(last_word[:, :-1], ((0, 0), (1, 0)), constant_values=-1)

    def at(table: Array, index: Array) -> Array:
        """The table at slots of the same row, 0 where there is no such slot."""
        found = jnp.take_along_axis(table, jnp.maximum(index, 0), axis=1)
        return jnp.where(index >= 0, found, jnp.zeros((), table.dtype))

    first = before
    second = jnp.where(first >= 0, jnp.take_along_axis(before, jnp.maximum(first, 0), 1), -1)
    third = jnp.where(second >= 0, jnp.take_along_axis(before, jnp.maximum(second, 0), 1), -1)

    valence = each.valence
    negated_by_no = at(each.no, first) | at(each.no, second)
    valence = jnp.where(negated_by_no, NEGATION * valence, valence)
    for index, reach in zip((first, second, third), REACH, strict=True):
        counts = (index >= 0) & ~at(each.known, index) & each.known
        boost = reach * at(each.booster, index) * jnp.where(valence < 0, -1.0, 1.0)
        valence = jnp.where(counts & (each.valence != 0), valence + boost, valence)
        valence = jnp.where(counts & at(each.negation, index), NEGATION * valence, valence)
    after = jnp.pad(each.known[:, 1:], ((0, 0), (0, 1)))
    valence = jnp.where(each.no & after, 0.0, valence)

    first_but = jnp.where(each.but, slot[None], ids.shape[1]).min(axis=1, keepdims=True)
    weight = jnp.where(slot[None] < first_but, 0.5, 1.5)
    weight = jnp.where(first_but < ids.shape[1], weight, 1.0)
    total = (weight * valence).sum(axis=1)

    questions = each.question.sum(axis=1)
    emphasis = EXCLAMATION * jnp.minimum(each.exclamation.sum(axis=1), 4.0) + jnp.where(
        questions > 3, MANY_QUESTIONS, jnp.where(questions > 1, QUESTION * questions, 0.0)
    )
    total = total + jnp.sign(total) * emphasis
    return total / jnp.sqrt(jnp.square(total) + SCALE)


def vader_reward(lexicon: Lexicon) -> RewardFn:
    """The compound score of prompt and response together."""

    def reward(prompt: Tokens, response: Tokens) -> Array:
        return vader_score(lexicon, concatenate(prompt, response))

    return reward
