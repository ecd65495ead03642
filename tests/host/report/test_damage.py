"""Logs that hold what no run writes, or very much of it: told by name, and each time."""

import json
import re

import pytest

from jaxrl_po import write_report
from jaxrl_po.host.report import tail as tails
from jaxrl_po.host.report.sources import open_sources, page_data
from tests.host.report.test_report import Page, language

ROW = '{"seed": 0, "iteration": 1, "x": %s}\n'
EVALUATION = '{"event": "evaluation", "seed": 0, "iteration": %s, "score": %s}\n'


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("metrics.jsonl", ROW % '"a"', "x='a' of metrics"),
        ("metrics.jsonl", ROW % "{}", r"x=\{\} of metrics"),
        ("metrics.jsonl", ROW % ("1" * 400), "x=1+ of metrics"),
        ("metrics.jsonl", '{"seed": 0, "iteration": null}\n', "iteration=None of metrics"),
        ("metrics.jsonl", '{"seed": 0, "iteration": 0}\n', "iteration=0 of metrics"),
        ("metrics.jsonl", '{"seed": 0, "iteration": 1e999}\n', "iteration=inf of metrics"),
        ("samples.jsonl", '{"iteration": 1, "prompt": null}\n', "cannot be shown"),
        ("samples.jsonl", "{}\n", "there is no 'iteration'"),
        ("events.jsonl", '{"event": "diverged"}\n', "there is no"),
        ("events.jsonl", EVALUATION % ("1e999", 1), "no seed or iteration"),
        ("events.jsonl", EVALUATION % (1, '"x"'), "cannot be shown"),
    ],
)
def test_what_a_log_should_not_hold_is_told_each_time(file, line, said, tmp_path):
    directory = language(tmp_path / "lm", [])
    (directory / file).write_text(line)
    sources = open_sources([directory])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"directory='.*lm' cannot be shown: ") as error:
            page_data(sources)
        assert re.search(said, str(error.value))
    (directory / file).write_text("")
    assert page_data(sources)["runs"][0]["kind"] == "rlhf"


def test_numbers_that_are_none_are_strict_json(tmp_path):
    sample = {"iteration": 1, "prompt": "", "response": "", "score": float("nan")}
    directory = language(tmp_path / "lm", [sample, {**sample, "score": float("inf")}])
    with (directory / "samples.jsonl").open("a") as file:
        file.write('{"iteration": 1, "score": 1e999}\n')
    (directory / "metrics.jsonl").write_text(ROW % "NaN" + ROW % "1e999")
    (told,) = json.loads(
        Page(write_report([directory], tmp_path / "a.html").read_text()).text["data"],
        parse_constant=pytest.fail,
    )["runs"]
    assert [sample["score"] for sample in told["samples"]] == [None] * 3
    assert told["groups"][0]["values"]["x"] == [[None]]


@pytest.mark.parametrize(
    "update", [{"num_envs": 0}, {"num_envs": None}, {"num_steps": "Infinity"}, {"algorithm": None}]
)
def test_a_description_that_cannot_be_used_names_its_directory(update, tmp_path):
    directory = language(tmp_path / "lm", [])
    found = json.loads((directory / "rlhf.json").read_text())
    found["config"]["update"] |= update
    if update == {"algorithm": None}:
        del found["config"]["update"]["algorithm"]
    (directory / "rlhf.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match="lm' cannot be shown"):
        write_report([directory], tmp_path / "a.html")


def test_long_logs_are_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(tails, "BLOCK", 64)
    directory = language(tmp_path / "lm", [{"iteration": 1, "prompt": "p" * 200}] * 3)
    rows = [{"seed": 0, "iteration": i, "x": i} for i in range(1, 51)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (told,) = page_data(open_sources([directory]))["runs"]
    assert told["groups"][0]["values"]["x"] == [list(range(1, 51))]
    assert len(told["samples"]) == 3


def test_a_file_that_cannot_be_is_refused_before_an_episode_is_played(tmp_path, monkeypatch):
    directory = language(tmp_path / "lm", [])
    (directory / "policy").mkdir()
    (directory / "no.gif").mkdir()  # not a picture
    monkeypatch.setattr("jaxrl_po.host.report.write.load_policy", pytest.fail)
    with pytest.raises(ValueError, match="is a directory"):
        write_report([directory], tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write"):
        write_report([directory], tmp_path / "file" / "a.html")
