"""Loggers: what each of them makes of a segment."""

import importlib
import json

import numpy as np
import pytest

from jaxrl_po.host.files import AppendFile
from jaxrl_po.host.imports import import_extra
from jaxrl_po.host.logging import (
    Visit,
    table_logger,
    tensorboard_logger,
    wandb_logger,
)


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


def test_tensorboard_gets_segment_means(tmp_path):
    pytest.importorskip("tensorboardX")
    logger = tensorboard_logger(tmp_path)
    logger.write(visit())
    logger.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    data = file.read_bytes()
    assert b"policy_loss/seed_5" in data
    assert b"policy_loss/seed_6" not in data  # it has no finite value


def test_wandb_works_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = wandb_logger("project", {"gamma": 0.9}, tmp_path)
    logger.write(visit())
    logger.close()
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


def test_missing_extra_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"pip install 'jaxrl-po\[tensorboard\]'"):
        import_extra("tensorboardX", "tensorboard")
