"""Programs of an RLHF run: what a process has compiled serves again, and nothing that changed."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import load_pretrained
from jaxrl_po.host.language.programs import make_programs
from jaxrl_po.host.language.run import run_rlhf
from jaxrl_po.host.language.text import text_reward
from jaxrl_po.rlhf import RewardModel, as_prompts, learned_reward
from tests.host.language.test_run import CONFIG, OPTIONS, PROMPTS, SOURCE, WORDS, count_small

PRICE = 0.0
POOL, TESTS = (as_prompts(rows, -1, 48) for rows in (PROMPTS, PROMPTS[:2]))
MODEL, PARAMS = load_pretrained(SOURCE)[:2]


def priced(prompt, response):
    """A score that a global of this module is taken from."""
    return count_small(prompt, response) - PRICE


def score(prompts, answers):
    return [float(len(answer)) for answer in answers]


def reward_of(bias, dtype=jnp.float32):
    head = {"kernel": jnp.ones(16, dtype), "bias": jnp.asarray(bias, dtype)}
    params = {"torso": PARAMS, "head": head}
    return learned_reward(MODEL, RewardModel(params, jnp.zeros(()), jnp.ones(())))


def programs(config=CONFIG, model=MODEL, reward_fn=count_small, prompts=POOL, tests=TESTS):
    return make_programs(config, model, reward_fn, prompts, tests)


def test_another_seed_and_a_resumption_compile_nothing(tmp_path, caplog):
    arguments = CONFIG, (MODEL, PARAMS), count_small, PROMPTS
    options = {"test_prompts": PROMPTS[:2], **OPTIONS}
    run_rlhf(*arguments, tmp_path / "first", until=1, **options)
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        run_rlhf(*arguments, tmp_path / "second", seed=1, until=1, **options)
        run_rlhf(*arguments, tmp_path / "first", until=2, resume=True, **options)
        for name in ("init", "iterate", "answer"):
            assert f"jit({name})" not in caplog.text
        arguments = CONFIG.replace(kl_coef=0.5), *arguments[1:]
        run_rlhf(*arguments, tmp_path / "other", until=1, **options)
        for name in ("init", "iterate", "answer"):
            assert f"compilation of jit({name})" in caplog.text


@pytest.mark.parametrize(
    "other",
    [
        {"config": CONFIG.replace(kl_coef=0.5)},
        {"model": load_pretrained(SOURCE).model},
        {"reward_fn": priced},
        {"reward_fn": lambda prompt, response: count_small(prompt, response)},
        {"reward_fn": text_reward(score, WORDS)},
        {"prompts": as_prompts(PROMPTS[:3], -1, 48)},
        {"tests": None},
    ],
    ids=lambda other: next(iter(other)),
)
def test_other_parts_are_other_programs(other):
    kept = programs()
    assert programs(prompts=as_prompts(PROMPTS, -1, 48)) is kept
    assert programs(**other) is not kept
    with jax.debug_nans(True):
        assert programs() is not kept


def test_a_traced_reward_is_looked_at_anew_and_one_of_texts_is_not(monkeypatch):
    of_texts = text_reward(score, WORDS)
    traced, called = programs(reward_fn=priced), programs(reward_fn=of_texts)
    monkeypatch.setitem(globals(), "PRICE", 1.0)
    assert programs(reward_fn=priced) is not traced
    assert programs(reward_fn=of_texts) is called


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Scaled:
    """A reward of arrays, which reads a global."""

    scale: jax.Array

    def __call__(self, prompt, response):
        return self.scale * priced(prompt, response)


def test_a_reward_of_arrays_is_looked_at_anew(monkeypatch):
    kept = programs(reward_fn=Scaled(jnp.ones(())))
    assert programs(reward_fn=Scaled(jnp.zeros(()))) is kept
    monkeypatch.setitem(globals(), "PRICE", 1.0)
    assert programs(reward_fn=Scaled(jnp.ones(()))) is not kept


def test_what_cannot_be_taken_apart_is_made_anew():
    class Endless:
        """Of which every part has a part."""

        @property
        def __dict__(self):
            return {"next": Endless()}

    endless = Endless()
    reward = lambda prompt, response: count_small(prompt, response) + (endless is None)  # noqa: E731
    assert programs(reward_fn=reward) is not programs(reward_fn=reward)


def test_weights_of_a_learned_reward_are_given_to_the_program():
    kept = programs(reward_fn=reward_of(1.0))
    assert programs(reward_fn=reward_of(2.0)) is kept
    assert programs(reward_fn=reward_of(1.0, jnp.bfloat16)) is not kept
    key = jax.random.key(0)
    answers = [kept.answer(CONFIG, None, PARAMS, key, reward_of(b)) for b in (1.0, 2.0)]
    np.testing.assert_allclose(answers[1].score - answers[0].score, 1.0, rtol=1e-4)
