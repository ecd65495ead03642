"""Runs: to the bit the same however they are cut, stopped and resumed; logs that tell all."""

import csv
import json
import os
import signal

import jax
import numpy as np
import pytest

from jaxrl_po import load_state, resume, run
from jaxrl_po.host.machine import execution
from jaxrl_po.host.machine.signals import Interrupted
from jaxrl_po.host.policies.numpy_policy import read_folder
from jaxrl_po.host.policies.policy import policy_arrays
from jaxrl_po.host.runs import checkpoint, training
from jaxrl_po.host.runs.directory import RunSettings, describe, read_description, write_description
from jaxrl_po.host.runs.logging import Logger
from jaxrl_po.host.runs.segments import make_programs
from jaxrl_po.loop import rollout
from jaxrl_po.loop.parts import Given
from tests.conftest import AS_SHIPPED
from tests.host.small import RUN, config, random_walk, same

ENV = random_walk()
SMALL = RunSettings(
    seed=0,
    num_seeds=1,
    segment_length=2,
    evaluate_every=1,
    num_episodes=4,
    max_episode_steps=8,
    keep_checkpoints=3,
    given=["env"],
)


def falling(done):
    return 0.2 * (1.0 - 0.5 * done)


def rows(directory):
    with (directory / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def events(directory, kind):
    lines = (directory / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_a_run_tells_of_a_bounded_pool_of_start_states(tmp_path, monkeypatch, capsys):
    """Of the walk's observation and state, 4 · 4 + 1 bytes: none is too large, or each."""
    settings = {"env": ENV, "num_episodes": 4, "max_episode_steps": 8}
    run(config(num_iterations=1), directory=tmp_path / "all", **settings)
    assert "start states" not in capsys.readouterr().out
    monkeypatch.setattr(rollout, "START_STATE_BYTES", 3 * 2 * 17)
    run(config(num_iterations=1), directory=tmp_path / "few", **settings)
    assert "start states: 6 of 17 bytes are drawn anew" in capsys.readouterr().out
    [event] = events(tmp_path / "few", "start_states")
    assert event == {"event": "start_states", "drawn": 6, "bytes": 17, "steps": 16}
    assert not events(tmp_path / "all", "start_states")


@pytest.mark.parametrize("algorithm", ["trpo", "ppo_penalty"])  # each keeps more than the others
def test_resumed_run_is_the_uninterrupted_one_to_the_bit(algorithm, tmp_path, monkeypatch):
    monkeypatch.setattr(execution, "CPU_OPTIONS", execution.CPU_OPTIONS | AS_SHIPPED)
    settings = {"num_seeds": 2, "segment_length": 2, "env": ENV, **RUN}
    schedule = config(algorithm, num_iterations=8, anneal_lr=True)
    whole = run(schedule, directory=tmp_path / "whole", **settings)
    first = run(schedule, directory=tmp_path / "halves", until=3, **settings)
    second = resume(tmp_path / "halves", schedule, env=ENV, quiet=True)

    assert same(whole.state, second.state)
    assert whole.state.iteration.tolist() == [8, 8]
    for name, values in whole.metrics.items():
        halves = np.concatenate([first.metrics[name], second.metrics[name]], axis=1)
        np.testing.assert_array_equal(values, halves)
    assert same(whole.greedy_evaluation, second.greedy_evaluation)
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "halves" / name).read_bytes()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of three seeds."""
    directory = tmp_path_factory.mktemp("runs") / "finished"
    result = run(config(), 5, 3, directory, env=ENV, segment_length=2, evaluate_every=2, **RUN)
    return directory, result


def test_metrics_are_one_ordered_stream_tagged_by_seed(finished):
    directory, result = finished
    table = rows(directory)
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert [(int(r["iteration"]), int(r["seed"])) for r in table] == [
        (i, s) for i in range(1, 9) for s in (5, 6, 7)
    ]
    for name, values in result.metrics.items():
        np.testing.assert_array_equal(
            np.array([float(r[name]) for r in table], values.dtype), values.T.ravel()
        )
        np.testing.assert_array_equal(
            np.array([r[name] if r[name] is not None else np.nan for r in lines], values.dtype),
            values.T.ravel(),
        )


def test_the_last_checkpoints_and_the_best_are_kept(finished):
    directory, _ = finished
    kept = [int(p.name[:10]) for p in sorted((directory / "checkpoints").iterdir())]
    means = {}
    for event in events(directory, "evaluation"):
        means.setdefault(event["iteration"], []).append(event["greedy_return"])
    best = max(means, key=lambda i: (np.mean(means[i]), i))
    assert set(means) == {4, 8}
    assert kept == sorted({best, 4, 6, 8} if best == 4 else {4, 6, 8})
    assert load_state(directory, env=ENV, best=True)[1].iteration.tolist() == [best] * 3


def test_saved_policy_is_the_one_that_was_evaluated(finished):
    directory, _ = finished
    policy = json.loads((directory / "policy" / "policy.json").read_text())["notes"]
    evaluations = events(directory, "evaluation")
    best = max(evaluations, key=lambda e: e["greedy_return"])
    assert policy["greedy_return"] == best["greedy_return"]
    assert (policy["seed"], policy["iteration"]) == (best["seed"], best["iteration"])

    again = run(config(), 5, 3, env=ENV, segment_length=2, until=best["iteration"], **RUN)
    _, arrays = read_folder(directory)
    evaluated = policy_arrays(config(), again.state, best["seed"] - 5)
    assert arrays.keys() == evaluated.keys()
    assert all(arrays[name].tobytes() == x.tobytes() for name, x in evaluated.items())


def test_evaluation_has_keys_of_its_own(jit):
    programs = make_programs(config(), Given(ENV), SMALL)
    state = jit(programs.start)(np.uint32(0))
    assess = jit(programs.assess)
    first, again, later = (assess((state, np.uint32(0)), i) for i in (1, 1, 2))
    assert same(first, again)
    assert not same(first, later)
    assert not same(first.greedy, first.sampled)


def test_learning_curve_is_drawn(finished):
    assert (finished[0] / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_signal_finishes_the_segment_and_saves(tmp_path, capfd):
    def send(visit):
        if visit.iterations[-1] == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    settings = {"segment_length": 2, "env": ENV, **RUN}
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=r"SIGTERM after iteration 4 of 8.*jaxrl_po resume"):
        run(
            config(),
            directory=tmp_path / "stopped",
            loggers=[Logger(send, lambda: None)],
            **settings | {"quiet": False},
        )
    assert "SIGTERM: finishing what is under way; once more to stop" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is handler
    stopped = resume(tmp_path / "stopped", env=ENV, quiet=True)
    assert same(stopped.state, run(config(), **settings).state)


def test_a_signal_while_programs_are_compiled_is_not_lost(tmp_path, monkeypatch):
    def make_and_stop(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return make_programs(*given)

    monkeypatch.setattr(training, "make_programs", make_and_stop)
    with pytest.raises(Interrupted, match=r"SIGTERM after iteration 0 of 8.*jaxrl_po resume"):
        run(config(), directory=tmp_path / "run", env=ENV, **RUN)


def test_budget_may_grow_and_nothing_else_may_change(finished, tmp_path):
    settings = {"segment_length": 2, "env": ENV, **RUN}
    short, long = config(num_iterations=4), config(num_iterations=8)
    run(short, directory=tmp_path / "grown", **settings)
    os.utime(tmp_path / "grown" / "config.json", (1e9, 1e9))
    grown = resume(tmp_path / "grown", long, env=ENV, quiet=True)
    assert same(grown.state, run(long, **settings).state)
    assert read_description(tmp_path / "grown")[0] == long
    assert (tmp_path / "grown" / "config.json").stat().st_mtime == 1e9  # when the run began
    with pytest.raises(ValueError, match="other values of total_timesteps:"):
        resume(tmp_path / "grown", short, env=ENV)
    with pytest.raises(ValueError, match="other values of hidden_sizes, gamma:"):
        resume(tmp_path / "grown", long.replace(gamma=0.5, hidden_sizes=(5,)), env=ENV)
    with pytest.raises(ValueError, match="other values of"):
        resume(tmp_path / "grown", config("trpo"), env=ENV)
    with pytest.raises(ValueError, match="with env given as objects; given now: none"):
        resume(tmp_path / "grown")
    (tmp_path / "annealed").mkdir()
    write_description(tmp_path / "annealed", describe(short.replace(anneal_lr=True), SMALL))
    with pytest.raises(ValueError, match="other values of total_timesteps"):
        resume(tmp_path / "annealed", long.replace(anneal_lr=True), env=ENV)
    (tmp_path / "scheduled").mkdir()
    write_description(tmp_path / "scheduled", describe(short.replace(clip_eps=falling), SMALL))
    with pytest.raises(ValueError, match="or scheduled over it"):
        resume(tmp_path / "scheduled", long.replace(clip_eps=falling), env=ENV)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("num_seeds", 0),
        ("seed", -1),
        ("seed", 2**32),
        ("segment_length", 0),
        ("num_episodes", 0),
        ("until", -3),
    ],
)
def test_arguments_out_of_range_are_named(argument, value):
    with pytest.raises(ValueError, match=f"{argument}={value} is out of range"):
        run(config(), env=ENV, **{argument: value})


@pytest.mark.parametrize(
    ("argument", "value"), [("num_seeds", 2.5), ("seed", "a"), ("until", True)]
)
def test_arguments_of_another_type_are_named(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be an integer .* not {value!r}"):
        run(config(), env=ENV, **{argument: value})


def test_what_cannot_be_run_leaves_no_directory(tmp_path):
    for wrong in ({"env_id": "CartPole"}, {"env_params": {"lenght": 1.0}}):
        with pytest.raises(ValueError, match="did you mean"):
            run(config(**wrong), directory=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_finished_run_has_nothing_left_to_do(finished, capsys):
    directory, result = finished
    again = resume(directory, env=ENV)
    assert same(again.state, result.state)
    assert again.timesteps == 0
    shown = capsys.readouterr().out
    assert "final return" in shown
    assert "steps/s" not in shown


def test_shares_of_the_time_are_told(capsys, tmp_path):
    result = run(config(), directory=tmp_path, env=ENV, segment_length=2, **RUN | {"quiet": False})
    running = result.train_seconds + result.evaluation_seconds + result.host_seconds
    assert min(result.train_seconds, result.evaluation_seconds, result.host_seconds) > 0
    shown = capsys.readouterr().out
    assert f"evaluation took {result.evaluation_seconds / running:.1%} of the time" in shown
    assert f"compiling took {result.compile_seconds:.1f} s" in shown


def test_diverged_seed_is_frozen_and_its_neighbours_are_not(tmp_path, capsys):
    broken = random_walk(hazard=0.02)
    settings = {"segment_length": 3, "env": broken, **RUN}
    result = run(config(), num_seeds=4, directory=tmp_path / "run", **settings | {"quiet": False})
    shown = capsys.readouterr().out
    healthy = [s for s in range(4) if s not in result.diverged]
    assert result.diverged
    assert healthy
    for leaf in jax.tree.leaves((result.state.params, result.state.algorithm)):
        assert np.isfinite(leaf).all()

    flagged = {e["seed"]: e for e in events(tmp_path / "run", "diverged")}
    for seed, iteration in result.diverged.items():
        assert result.state.iteration[seed] == iteration - 1
        assert flagged[seed]["iteration"] == iteration
        assert f"seed {seed} in iteration {iteration}" in shown
        assert flagged[seed]["not_finite"]["value_loss"] == "nan"
        table = [r for r in rows(tmp_path / "run") if int(r["seed"]) == seed]
        assert int(table[-1]["iteration"]) == iteration
        assert table[-1]["value_loss"] == "nan"
        # Frozen at the last state that an uninterrupted run of this seed alone was finite in.
        if iteration > 1:
            alone = run(config(), seed, until=iteration - 1, **settings)
            assert same(jax.tree.map(lambda x, s=seed: x[s], result.state), first(alone.state))
    for seed in healthy:
        alone = run(config(), seed, **settings)
        assert same(jax.tree.map(lambda x, s=seed: x[s], result.state), first(alone.state))
    assert resume(tmp_path / "run", env=broken, quiet=True).diverged == result.diverged


def first(state):
    return jax.tree.map(lambda x: x[0], state)


def test_neighbours_of_a_diverged_member_keep_their_bits_under_vmap(jit):
    programs = make_programs(config(), Given(ENV), SMALL)
    start, advance = jax.vmap(programs.start), jax.vmap(programs.advance, (0, None))
    states = [jit(start)(np.array(seeds, np.uint32)) for seeds in ([0, 1], [0, 2])]
    poisoned = states[0]._replace(
        params=jax.tree.map(lambda x: x.at[1].set(np.nan), states[0].params)
    )
    left, right = (jit(advance)(s, 2)[0] for s in (poisoned, states[1]))
    assert same(first(left), first(right))
    assert left.iteration.tolist() == [2, 0]


def test_checkpoint_restores_every_leaf(finished):
    directory, result = finished
    assert same(load_state(directory, env=ENV)[1], result.state)
    saved, damaged = checkpoint.load_newest(directory / "checkpoints")
    assert not damaged
    assert saved.iteration == 8
