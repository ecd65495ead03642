"""Callbacks see each visit and may end a run, which is evaluated, saved, drawn, and resumable."""

import json

import numpy as np
import pytest

from jaxrl_po import load_policy, resume, run, stop_at_return
from tests.host.small import RUN, config, random_walk, same

ENV = random_walk()
OPTIONS = {"env": ENV, "segment_length": 1, "evaluate_every": 3, **RUN}


@pytest.fixture(scope="module")
def whole():
    return run(config(), **OPTIONS)


def test_they_see_what_the_host_sees(whole):
    seen = []

    def look(moment):
        seen.append((moment.iteration, moment.evaluation is not None, moment.metrics["kl"].shape))
        assert moment.seeds == [0]
        assert int(moment.state.iteration[0]) == moment.iteration

    result = run(config(), callbacks=[look], **OPTIONS)
    assert [iteration for iteration, *_ in seen] == list(range(1, 9))
    assert [iteration for iteration, evaluated, _ in seen if evaluated] == [3, 6, 8]
    assert {shape for *_, shape in seen} == {(1, 1)}
    assert same(result.state, whole.state)


def test_one_that_ends_a_run_leaves_everything_in_place(whole, tmp_path):
    result = run(
        config(), directory=tmp_path, callbacks=[lambda m: m.iteration == 4, print], **OPTIONS
    )
    assert int(result.state.iteration[0]) == 4
    assert result.metrics["kl"].shape == (1, 4)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(e["event"], e["iteration"]) for e in events] == [
        *[("evaluation", 3), ("evaluation", 4), ("ended", 4)]
    ]
    assert list((tmp_path / "checkpoints").glob("0000000004-*"))
    assert (tmp_path / "learning_curve.png").exists()
    assert load_policy(tmp_path)(np.zeros(2, np.float32)).shape == (1,)
    assert same(resume(tmp_path, env=ENV, quiet=True).state, whole.state)


@pytest.mark.parametrize(("value", "iteration"), [(-1e9, 3), (1e9, 8)])
def test_stop_at_return(value, iteration):
    result = run(config(), callbacks=[stop_at_return(value)], **OPTIONS)
    assert int(result.state.iteration[0]) == iteration


def test_an_answer_that_is_none_is_named():
    with pytest.raises(ValueError, match="callbacks: one must return True"):
        run(config(), callbacks=[lambda moment: "stop"], **OPTIONS)
