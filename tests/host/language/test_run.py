"""RLHF runs: what they write, that they go on to the bit, and what they refuse."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_po import PPOConfig, load_pretrained
from jaxrl_po.host.language.run import run_rlhf
from jaxrl_po.host.language.text import Tokenizer, text_reward
from jaxrl_po.host.machine.files import lock
from jaxrl_po.host.runs import checkpoint
from jaxrl_po.rlhf import (
    LoRAConfig,
    RewardModel,
    RLHFConfig,
    learned_reward,
    make_rlhf,
    merge,
    policy_params,
)

SOURCE = pathlib.Path(__file__).with_name("checkpoints") / "llama"
P, T, N, ITERATIONS = 3, 4, 8, 5
CONFIG = RLHFConfig(
    update=PPOConfig(
        num_envs=N,
        num_steps=T,
        total_timesteps=ITERATIONS * N * T,
        learning_rate=1e-2,
        num_minibatches=2,
        update_epochs=1,
        gamma=1.0,
    ),
    lora=LoRAConfig(rank=2),
    eos_id=2,
    pad_id=-1,
)
PROMPTS = np.array([[-1, 5, 6], [7, 8, 9], [10, 11, 12], [13, 14, 15]])
OPTIONS = {"visit_every": 2, "quiet": True}


def count_small(prompt, response):
    """The share of an answer's tokens below half of the vocabulary."""
    return ((response.ids < 24) & response.mask).sum(axis=1) / T


@pytest.fixture(scope="module")
def pretrained():
    return load_pretrained(SOURCE)


@pytest.fixture(scope="module")
def whole(pretrained, tmp_path_factory):
    """A run that nothing interrupted."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    result = run_rlhf(
        CONFIG, pretrained, count_small, PROMPTS, directory, test_prompts=PROMPTS[:2], **OPTIONS
    )
    return directory, result


def rows(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def assert_same_state(one, other):
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        if jax.numpy.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = map(jax.random.key_data, (a, b))
        np.testing.assert_array_equal(a, b)


def test_a_run_is_make_rlhf_with_files(whole, pretrained):
    directory, result = whole
    train = jax.jit(make_rlhf(CONFIG, count_small, PROMPTS, pretrained.model))
    expected = train(jax.random.key(0), pretrained.params)
    written = rows(directory / "metrics.jsonl")
    assert [row["iteration"] for row in written] == list(range(1, ITERATIONS + 1))
    for name, values in expected.metrics.items():
        np.testing.assert_allclose(result.metrics[name], values, rtol=1e-4, atol=1e-5)
        found = [row[name] for row in written]
        np.testing.assert_allclose(found, result.metrics[name], rtol=1e-6, err_msg=name)
    header, *lines = (directory / "metrics.csv").read_text().splitlines()
    assert header.split(",") == list(written[0])
    assert len(lines) == ITERATIONS


def test_visits_evaluate_and_show_answers(whole):
    directory, result = whole
    events = rows(directory / "events.jsonl")
    evaluations = [event for event in events if event["event"] == "evaluation"]
    assert [event["iteration"] for event in evaluations] == [0, 2, 4, 5]
    first, last = evaluations[0], evaluations[-1]
    assert first["score"] == first["reference_score"]
    assert (first["win_rate"], first["kl"]) == (0.5, 0.0)
    assert last["kl"] > 1e-4
    assert last["reference_score"] == first["reference_score"]
    assert result.evaluations[-1][1].kl == pytest.approx(last["kl"])
    samples = rows(directory / "samples.jsonl")
    assert [row["iteration"] for row in samples] == [2] * 4 + [4] * 4 + [5] * 4
    for row in samples:
        assert row["score"] == pytest.approx(sum(i < 24 for i in row["response"]) / T)


def test_the_policies_are_left_as_folders(whole, pretrained):
    directory, result = whole
    found = load_pretrained(directory / "last").params
    learned = policy_params(result.state.params)
    expected = merge(pretrained.params, learned, CONFIG.lora)
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    scores = {at: found.score for at, found in result.evaluations}
    best = max(scores, key=lambda at: (scores[at], -at))
    kept = {int(path.name[:10]) for path in checkpoint.files(directory / "checkpoints")}
    assert kept == {best, 4, 5}
    assert (directory / "best" / "config.json").exists()


def test_a_run_that_paused_goes_on_to_the_bit(whole, pretrained, tmp_path):
    directory, expected = whole
    arguments = CONFIG, pretrained, count_small, PROMPTS, tmp_path / "run"
    options = {"test_prompts": PROMPTS[:2], **OPTIONS}
    run_rlhf(*arguments, until=3, **options)
    result = run_rlhf(*arguments, resume=True, **options)
    assert_same_state(result.state, expected.state)
    for name in ("metrics.jsonl", "metrics.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (directory / name).read_bytes()
    kinds = [event["event"] for event in rows(tmp_path / "run" / "events.jsonl")]
    assert kinds.count("resumed") == 1
    assert result.metrics["objective/kl"].shape == (2,)


PROGRAM = """
import sys
from tests.host.language.test_run import *

run_rlhf(
    CONFIG, load_pretrained(SOURCE), count_small, PROMPTS, sys.argv[1],
    test_prompts=PROMPTS[:2], resume=len(sys.argv) > 2, visit_every=1, quiet=True,
    callbacks=[lambda moment: time.sleep(0.3)],
)
"""


def test_killed_runs_go_on_to_the_bit(whole, tmp_path):
    """Killed by SIGKILL at a moment that nothing chose, until it gets to its end."""
    _, expected = whole
    directory, environment = tmp_path / "run", {"PYTHONPATH": ":".join(sys.path)}
    reached, kills = [], 0
    while not reached or reached[-1] < ITERATIONS:
        arguments = [sys.executable, "-c", PROGRAM, str(directory)]
        arguments += ["resume"] * (directory / "rlhf.json").exists()
        process = subprocess.Popen(arguments, env=os.environ | environment)
        before = reached[-1] if reached else -1
        while process.poll() is None:
            found = checkpoint.files(directory / "checkpoints")
            newest = int(found[-1].name[:10]) if found else -1
            if newest > before and kills < 2:
                time.sleep(0.1 * kills)
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.02)
        process.wait()
        found = checkpoint.files(directory / "checkpoints")
        reached.append(int(found[-1].name[:10]))
    assert kills == 2
    written = rows(directory / "metrics.jsonl")
    assert [row["iteration"] for row in written] == list(range(1, ITERATIONS + 1))
    samples = rows(directory / "samples.jsonl")
    assert [row["iteration"] for row in samples] == [i for i in range(1, 6) for _ in range(4)]
    found = load_pretrained(directory / "last").params
    base, adapters = load_pretrained(SOURCE).params, policy_params(expected.state.params)
    learned = merge(base, adapters, CONFIG.lora)
    for one, other in zip(*map(jax.tree.leaves, (found, learned)), strict=True):
        np.testing.assert_array_equal(one, other)


WORDS = Tokenizer(
    encode=lambda text, begin=False: [int(word) for word in text.split()],
    decode=lambda ids, skip_special=True: " ".join(str(i) for i in ids),
    apply_chat_template=lambda messages, add_generation_prompt=True: "",
    stop_ids=(2,),
    pad_id=-1,
    bos_id=None,
    vocab_size=48,
)


@pytest.fixture(scope="module")
def texts():
    """A reward of whatever function of texts is current: one program for all of them."""
    current = []
    return text_reward(lambda *texts: current[-1](*texts), WORDS), current


def test_a_reward_may_be_a_function_of_texts(pretrained, whole, texts, tmp_path):
    seen, (reward_fn, current) = [], texts

    def score(prompts, answers):
        seen.extend(prompts)
        return [sum(int(word) < 24 for word in answer.split()) / T for answer in answers]

    current.append(score)
    result = run_rlhf(
        CONFIG,
        pretrained,
        reward_fn,
        PROMPTS,
        tmp_path / "run",
        tokenizer=WORDS,
        until=2,
        **OPTIONS,
    )
    _, expected = whole
    found, known = (r.metrics["objective/scores"][:2] for r in (result, expected))
    np.testing.assert_allclose(found, known, rtol=1e-4)
    assert set(seen) == {"5 6", "7 8 9", "10 11 12", "13 14 15"}
    samples = rows(tmp_path / "run" / "samples.jsonl")
    assert samples[0]["prompt"] in seen
    assert samples[0]["score"] == score([""], [samples[0]["response"]])[0]


def test_callbacks_see_visits_and_may_end_the_run(pretrained, tmp_path):
    moments = []

    def stop(moment):
        moments.append((moment.iteration, len(moment.metrics.get("objective/kl", ()))))
        return moment.iteration == 2

    run_rlhf(
        CONFIG, pretrained, count_small, PROMPTS, tmp_path / "run", callbacks=[stop], **OPTIONS
    )
    assert moments == [(0, 0), (2, 2)]
    assert rows(tmp_path / "run" / "events.jsonl")[-1]["event"] == "ended"
    assert (tmp_path / "run" / "last" / "model.safetensors").exists()


def test_what_differs_or_is_in_the_way_is_named(whole, pretrained, tmp_path):
    directory, _ = whole
    options = {"test_prompts": PROMPTS[:2], **OPTIONS}
    again = {"resume": True, **options}
    with pytest.raises(ValueError, match=r"holds rlhf.json.*resume=True"):
        run_rlhf(CONFIG, pretrained, count_small, PROMPTS, directory, **options)
    other = CONFIG.replace(kl_coef=0.3)
    with pytest.raises(ValueError, match=r"other values of config.kl_coef: a run goes on"):
        run_rlhf(other, pretrained, count_small, PROMPTS, directory, **again)
    with pytest.raises(ValueError, match="other values of prompts"):
        run_rlhf(CONFIG, pretrained, count_small, PROMPTS[:3], directory, **again)
    moved = pretrained._replace(params=jax.tree.map(lambda x: x + 1, pretrained.params))
    with pytest.raises(ValueError, match="other values of model"):
        run_rlhf(CONFIG, moved, count_small, PROMPTS, directory, **again)
    with pytest.raises(ValueError, match="holds no RLHF run to go on with"):
        run_rlhf(CONFIG, pretrained, count_small, PROMPTS, tmp_path / "a", **again)
    assert not (tmp_path / "a").exists()
    with pytest.raises(ValueError, match="visit_every=0 is out of range"):
        run_rlhf(CONFIG, pretrained, count_small, PROMPTS, tmp_path / "b", visit_every=0)
    with lock(tmp_path / "c"), pytest.raises(ValueError, match="in use by another process"):
        run_rlhf(CONFIG, pretrained, count_small, PROMPTS, tmp_path / "c", **options)
    with pytest.raises(ValueError, match="token ids must be from 0 to 47"):
        run_rlhf(CONFIG, pretrained, count_small, PROMPTS + 40, tmp_path / "d", **options)
    assert not (tmp_path / "d").exists()
    large = WORDS._replace(vocab_size=50)
    with pytest.raises(ValueError, match="does not fit the model"):
        run_rlhf(CONFIG, pretrained, count_small, PROMPTS, tmp_path / "e", tokenizer=large)


def test_a_reward_that_fails_says_so(pretrained, texts, tmp_path):
    reward_fn, current = texts

    def down(prompts, answers):
        raise RuntimeError("the server is down")

    calls = []

    def down_later(prompts, answers):
        calls.append(None)
        return down(prompts, answers) if len(calls) == 3 else [0.0] * len(answers)

    of_answers = "ValueError: .* one number for each of 8 answers, not"
    cases = {
        f"after iteration 0: {of_answers} float64": lambda prompts, answers: [1.0],
        f"after iteration 0: {of_answers} object": lambda prompts, answers: [None] * 8,
        "after iteration 0: RuntimeError: the server is down": down,
        "after iteration 2: RuntimeError: the server is down": down_later,
    }
    for number, (message, score) in enumerate(cases.items()):
        directory = tmp_path / str(number)
        current.append(score)
        # JAX has another error for what fails in the first call of a program.
        given = text_reward(score, WORDS) if score is down else reward_fn
        with pytest.raises(ValueError, match=message):
            run_rlhf(CONFIG, pretrained, given, PROMPTS, directory, **OPTIONS)


def falling(done):
    """A schedule."""
    return 32.0 - 16.0 * done


def test_a_run_on_half_precision_is_saved_and_goes_on(tmp_path):
    half = load_pretrained(SOURCE, dtype="bfloat16")
    arguments = CONFIG, half, count_small, PROMPTS
    options = {"test_prompts": PROMPTS[:2], **OPTIONS}
    whole = run_rlhf(*arguments, tmp_path / "whole", **options)
    run_rlhf(*arguments, tmp_path / "run", until=2, **options)
    result = run_rlhf(*arguments, tmp_path / "run", resume=True, **options)
    assert_same_state(result.state, whole.state)
    found = load_pretrained(tmp_path / "run" / "last", dtype="bfloat16").params
    assert_same_state(found, merge(half.params, policy_params(whole.state.params), CONFIG.lora))
    assert found["norm"]["scale"].dtype == jnp.bfloat16


def test_a_run_that_ended_and_went_on_leaves_its_last_policy(pretrained, tmp_path):
    """With a schedule of α, whose value in the last iteration is what is merged."""
    config = CONFIG.replace(lora=LoRAConfig(rank=2, alpha=falling), temperature=1.0)
    arguments = config, pretrained, count_small, PROMPTS, tmp_path / "run"
    options = {"test_prompts": PROMPTS[:2], **OPTIONS}
    run_rlhf(*arguments, callbacks=[lambda moment: moment.iteration == 2], **options)
    (tmp_path / "run" / "last" / "config.json").write_text("")  # torn
    result = run_rlhf(*arguments, resume=True, **options)
    found = load_pretrained(tmp_path / "run" / "last").params
    alpha = falling((ITERATIONS - 1) / ITERATIONS)
    learned = policy_params(result.state.params)
    expected = merge(pretrained.params, learned, LoRAConfig(rank=2, alpha=alpha))
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_scores_that_are_not_finite_count_in_no_evaluation(pretrained, texts, tmp_path):
    calls, (reward_fn, current) = [], texts

    def score(prompts, answers):
        calls.append(len(answers))
        first = [float("nan")] if len(calls) <= 2 else [1.0]
        return first + [float(len(calls))] * (len(answers) - 1)

    current.append(score)
    result = run_rlhf(
        CONFIG, pretrained, reward_fn, PROMPTS, tmp_path / "run",
        test_prompts=PROMPTS[:2], visit_every=1, until=2, quiet=True,
    )  # fmt: skip
    first, *later = [found for _, found in result.evaluations]
    assert (first.left_out, first.score) == (1, 2.0)
    assert later[-1].left_out == 1  # of the reference's answers, which are scored once
    newest = checkpoint.load_newest(tmp_path / "run" / "checkpoints")[0]
    assert newest.notes["best"]["iteration"] == 2
    assert np.isfinite(newest.notes["best"]["score"])


def test_another_reward_or_way_of_computing_is_another_run(pretrained, tmp_path):
    def scorer(bias):
        head = {"kernel": jnp.ones(16), "bias": jnp.asarray(bias)}
        params = {"torso": pretrained.params, "head": head}
        return learned_reward(pretrained.model, RewardModel(params, jnp.zeros(()), jnp.ones(())))

    arguments = PROMPTS, tmp_path / "run"
    run_rlhf(CONFIG, pretrained, scorer(1.0), *arguments, until=1, **OPTIONS)
    with pytest.raises(ValueError, match="other values of reward: a run goes on"):
        run_rlhf(CONFIG, pretrained, scorer(2.0), *arguments, resume=True, **OPTIONS)
    half = load_pretrained(SOURCE, compute_dtype="bfloat16")
    with pytest.raises(ValueError, match=r"other values of model_config.compute_dtype"):
        run_rlhf(CONFIG, half, scorer(1.0), *arguments, resume=True, **OPTIONS)
    run_rlhf(CONFIG, pretrained, scorer(1.0), *arguments, until=2, resume=True, **OPTIONS)
    for bad, message in (
        ({"test_prompts": np.full((2, 40), 5)}, "test_prompts of length 40"),
        ({"test_prompts": np.full((2, 3), 500)}, "test_prompts: token ids must be from 0 to 47"),
        ({"test_prompts": [[1, 2], [3]]}, "test_prompts must be rows of one length"),
    ):
        with pytest.raises(ValueError, match=message):
            run_rlhf(CONFIG, pretrained, count_small, PROMPTS, tmp_path / "new", **bad, **OPTIONS)
    with pytest.raises(ValueError, match="policy must be what load_pretrained gave"):
        run_rlhf(CONFIG, "folder", count_small, PROMPTS, tmp_path / "new", **OPTIONS)
    with pytest.raises(ValueError, match="reward_fn must return one score a sequence"):
        run_rlhf(CONFIG, pretrained, lambda p, r: r.ids, PROMPTS, tmp_path / "new", **OPTIONS)
    assert not (tmp_path / "new").exists()


def test_a_critic_may_begin_as_the_reward_model(pretrained, tmp_path):
    config = CONFIG.replace(lora=LoRAConfig())

    def reward_model(bias):
        head = {"kernel": jnp.linspace(-1.0, 1.0, 16), "bias": jnp.asarray(bias)}
        params = {"torso": pretrained.params, "head": head}
        return RewardModel(params, jnp.asarray(0.5), jnp.asarray(2.0))

    arguments = config, pretrained, count_small, PROMPTS
    begun = run_rlhf(
        *arguments, tmp_path / "begun", critic_from=reward_model(1.0), until=2, **OPTIONS
    )
    plain = run_rlhf(*arguments, tmp_path / "plain", until=1, **OPTIONS)
    train = make_rlhf(config, count_small, PROMPTS, pretrained.model)
    train = jax.jit(train, static_argnums=2)
    expected = train(jax.random.key(0), pretrained.params, count_small, reward_model(1.0)).metrics
    name = "loss/value_avg"
    np.testing.assert_allclose(begun.metrics[name], expected[name][:2], rtol=1e-4)
    assert abs(begun.metrics[name][0] - plain.metrics[name][0]) > 0.01
    again = {"resume": True, **OPTIONS}
    with pytest.raises(ValueError, match="other values of critic_from"):
        run_rlhf(*arguments, tmp_path / "begun", critic_from=reward_model(2.0), **again)
    with pytest.raises(ValueError, match="other values of critic_from"):
        run_rlhf(*arguments, tmp_path / "begun", **again)
    with pytest.raises(ValueError, match="other values of critic_from"):
        run_rlhf(*arguments, tmp_path / "plain", critic_from=reward_model(1.0), **again)
    with pytest.raises(ValueError, match=r"critic_from needs lora\.rank=0"):
        run_rlhf(CONFIG, *arguments[1:], tmp_path / "new", critic_from=reward_model(1.0))
    assert not (tmp_path / "new").exists()


def test_a_model_of_ones_own_takes_no_folder(pretrained, tmp_path):
    policy = pretrained.model, jax.tree.map(jnp.copy, pretrained.params)
    result = run_rlhf(CONFIG, policy, count_small, PROMPTS, tmp_path / "run", until=1, **OPTIONS)
    assert result.metrics["objective/kl"].shape == (1,)
    assert not (tmp_path / "run" / "last").exists()
