"""Loggers: what each of them makes of a segment."""

import importlib
import json
import struct
import time

import numpy as np
import pytest

from jaxrl_po import PPOConfig, resume, run
from jaxrl_po.algorithms.ppo import ppo
from jaxrl_po.host.machine.files import AppendFile
from jaxrl_po.host.machine.imports import import_extra
from jaxrl_po.host.runs.logging import (
    Logger,
    Start,
    Visit,
    checked_names,
    table_logger,
    tensorboard_logger,
    wandb_logger,
)
from tests.host.small import RUN, config, random_walk


def visit(**changes):
    """Iterations 3 and 4 of two seeds, the second of which diverged in iteration 3."""
    metrics = {
        "timesteps": np.array([[48, 64], [48, 48]], np.uint32),
        "episode_return": np.array([[np.nan, 0.1], [np.inf, 9.0]], np.float32),
        "policy_loss": np.array([[1 / 3, -1e-12], [-np.inf, 9.0]], np.float32),
    }
    fields = {
        "seeds": [5, 6],
        "iterations": np.array([3, 4]),
        "metrics": metrics,
        "num_done": np.array([2, 1]),
        "events": [],
        "train_seconds": 1.0,
        "other_seconds": 0.1,
    }
    return Visit(**(fields | changes))


def test_tables_have_the_same_numbers_to_the_bit(tmp_path):
    files = [AppendFile(tmp_path / name) for name in ("m.jsonl", "m.csv")]
    table_logger(*files).write(visit())
    for file in files:
        file.close()
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(r["iteration"], r["seed"], r["timesteps"]) for r in records] == [
        (3, 5, 48),
        (3, 6, 48),
        (4, 5, 64),
    ]
    assert records[0]["episode_return"] is None
    assert records[1]["episode_return"] == np.inf
    assert records[1]["policy_loss"] == -np.inf
    assert np.float32(records[0]["policy_loss"]) == np.float32(1 / 3)
    assert "NaN" not in lines[0]
    table = np.genfromtxt(tmp_path / "m.csv", delimiter=",", names=True, dtype=np.float32)
    assert table["policy_loss"].tolist() == [r["policy_loss"] for r in map(_float32, records)]


def _float32(record):
    return {name: np.float32(value) for name, value in record.items()}


EVALUATION = {
    "event": "evaluation",
    "seed": 5,
    "iteration": 4,
    "num_episodes": 2,
    "greedy_return": 3.0,
    "sampled_return": None,
}
START = Start({"gamma": 0.9, "max_grad_norm": np.inf}, [5, 6], 2, 16)


def events(folder):
    """The events of TensorBoard's files, oldest first, as its reader keeps them."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    kept = []
    for path in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.name):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = event_pb2.Event.FromString(data[12 : 12 + length]), data[16 + length :]
            if event.HasField("session_log"):  # a start: what comes later is done again
                kept = [(step, value) for step, value in kept if step < event.step]
            kept += [(event.step, value) for value in event.summary.value]
    return kept


@pytest.mark.parametrize("name", ["clip_%", 'a"b', "a,b", "a b", "", "line\n"])
def test_a_metric_whose_name_no_file_of_rows_can_hold_is_refused(name):
    with pytest.raises(ValueError, match=r"metrics: the name .* must be of letters"):
        checked_names(["policy_loss", name])
    assert checked_names(["loss/policy_avg", "k1-k2", "β.1"]) == ["loss/policy_avg", "k1-k2", "β.1"]


def test_such_a_metric_ends_no_run_in_the_middle(tmp_path):
    def method(config, network, *, optimizer=None):
        algorithm = ppo(config, network, optimizer)

        def update(*arguments):
            params, state, metrics = algorithm.update(*arguments)
            return params, state, {**metrics, "clip_%": metrics["clip_fraction"]}

        return algorithm._replace(update=update)

    config = PPOConfig(num_envs=2, num_steps=8, total_timesteps=32)
    with pytest.raises(ValueError, match="metrics: the name 'clip_%'"):
        run(config, algorithm=method, directory=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_tensorboard_gets_means_speed_evaluations_and_config(tmp_path):
    logger = tensorboard_logger(tmp_path)
    assert not list(tmp_path.iterdir())  # what is refused now leaves nothing behind
    logger.open(START)
    logger.write(visit(events=[EVALUATION]))
    logger.close()
    assert {path.name for path in (tmp_path / "tensorboard").iterdir()} == {"seed_5", "seed_6"}
    (_, text), *scalars = events(tmp_path / "tensorboard" / "seed_5")
    assert '"max_grad_norm": "Infinity"' in text.tensor.string_val[0].decode()
    assert {step for step, _ in scalars} == {64}
    means = {value.tag: value.simple_value for _, value in scalars}
    assert means == {
        "episode_return": np.float32(0.1),
        "policy_loss": np.float32((1 / 3 - 1e-12) / 2),
        "steps_per_second": 48.0,  # three iterations in a second
        "evaluation/greedy_return": 3.0,
    }
    names = [value.tag for _, value in events(tmp_path / "tensorboard" / "seed_6")]
    assert names == ["config/text_summary", "steps_per_second"]  # it has no finite value


def test_a_resumed_run_has_no_step_twice(tmp_path, monkeypatch):
    """Stopped after a segment that was logged and not saved, as by a power cut."""
    pytest.importorskip("tensorboardX")
    now = time.time()  # the second that a file has in its name
    monkeypatch.setattr(time, "time", lambda: now)
    starts, visits = [], []
    seen = Logger(visits.append, lambda: None, starts.append)
    arguments = {"env": random_walk(), "quiet": True}
    options = {**RUN, **arguments, "segment_length": 1, "evaluate_every": 2}
    loggers = [tensorboard_logger(tmp_path), seen]
    run(config(num_iterations=6), 5, 2, tmp_path, until=4, loggers=loggers, **options)
    for path in (tmp_path / "checkpoints").glob("0000000004-*"):
        path.unlink()
    resume(tmp_path, loggers=[tensorboard_logger(tmp_path), seen], **arguments)
    assert [(start.seeds, start.iteration) for start in starts] == [([5, 6], 0), ([5, 6], 3)]
    assert starts[0].config == config(num_iterations=6).to_dict()
    for seed in (5, 6):
        kept = events(tmp_path / "tensorboard" / f"seed_{seed}")
        names = {value.tag for _, value in kept}
        assert {"config/text_summary", "kl", "steps_per_second"} < names
        for name, steps in (("kl", range(1, 7)), ("evaluation/sampled_return", (2, 4, 6))):
            assert [step for step, value in kept if value.tag == name] == [16 * n for n in steps]
    assert [int(v.iterations[-1]) for v in visits] == [1, 2, 3, 4, 4, 5, 6]


def chunks(data, block=2**15, header=7):
    """The records of a file in the format of LevelDB's log, which W&B's are."""
    place, parts = header, b""
    while place + header <= len(data):
        if block - place % block < header:  # too short for one: padding
            place += block - place % block
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + header])
        parts += data[place + header : place + header + length]
        place += header + length
        if place > len(data):  # it is being written
            return
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def finished(path):
    """The records of a run of Weights & Biases, whose process may still be writing them."""
    parse = importlib.import_module("wandb.proto.wandb_internal_pb2").Record.FromString
    for _ in range(100):
        records = [parse(data) for data in chunks(path.read_bytes())]
        if records and records[-1].HasField("exit"):
            return records
        time.sleep(0.1)
    raise AssertionError(f"{path} was not finished")


def history(path):
    """The config of a run of Weights & Biases, and its rows by step."""
    settings, rows = {}, {}
    for record in finished(path):
        if record.HasField("run"):
            settings = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            settings |= {"id": record.run.run_id, "group": record.run.run_group}
        if record.HasField("history"):
            row = {i.key or i.nested_key[0]: i.value_json for i in record.history.item}
            rows[int(row["_step"])] = {name: json.loads(value) for name, value in row.items()}
    return settings, rows


def test_wandb_has_a_run_a_seed_and_goes_on_with_it(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    path = tmp_path / "walk"
    logger = wandb_logger("project", {"gamma": 0.9}, path)
    assert not path.exists()
    for iteration in (0, 2, 0):  # begun, resumed, begun again
        logger.open(START._replace(iteration=iteration))
        logger.write(visit(events=[EVALUATION]))
        logger.close()
    found = sorted((path / "wandb").glob("offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime)
    runs = [history(file) for file in found]
    assert {(run["group"], run["gamma"], run["seed"]) for run, _ in runs} == {
        ("walk", 0.9, 5),
        ("walk", 0.9, 6),
    }
    ids = {seed: [run["id"] for run, _ in runs if run["seed"] == seed] for seed in (5, 6)}
    for begun, resumed, again in ids.values():
        assert begun == resumed != again
    assert not set(ids[5]) & set(ids[6])
    rows = next(rows for run, rows in runs if run["seed"] == 5)
    assert list(rows) == [64]
    assert rows[64]["steps_per_second"] == 48
    assert rows[64]["evaluation/greedy_return"] == 3
    assert rows[64]["policy_loss"] == pytest.approx(1 / 6)


def test_wandb_without_an_account_or_a_home_says_so(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")

    def refuse(**settings):
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(ValueError, match=r"wandb: No API key configured\. \(WANDB_MODE=offline"):
        wandb_logger("project", {}, tmp_path).open(START)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", homeless)
    with pytest.raises(ValueError, match="wandb needs a home directory"):
        wandb_logger("project", {}, tmp_path)


def test_missing_extra_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"pip install 'jaxrl-po\[tensorboard\]'"):
        import_extra("tensorboardX", "tensorboard")
