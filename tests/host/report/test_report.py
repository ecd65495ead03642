"""The page of runs: their numbers, told once each, and nothing that a text could make of it."""

import base64
import json
from html.parser import HTMLParser

import pytest

from jaxrl_po import read_sweep, run, sweep, write_report
from jaxrl_po.host.report.curves import MAX_POINTS, MetricTable
from jaxrl_po.host.report.page import page
from jaxrl_po.host.report.sources import open_sources, page_data
from jaxrl_po.host.report.tail import Tail
from tests.host.small import RUN, config, random_walk

HOSTILE = "</script><script>alert(1)</script><!-- & <b>@@script@@"


class Page(HTMLParser):
    """Elements of a page, and its data."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.inside, self.text = [], None, {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = dict(attrs).get("id") or tag

    def handle_data(self, data):
        self.text[self.inside] = self.text.get(self.inside, "") + data

    def handle_endtag(self, tag):
        self.inside = None


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "walk"
    run(config(num_iterations=4), num_seeds=2, directory=directory, env=random_walk(), **RUN)
    return directory


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sweeps") / "grid"
    base = config(num_iterations=16, env_id="CartPole-v1")
    space = {"learning_rate": [1e-3, 1e-2, 1e-1]}
    return directory, sweep(base, space, 2, directory=directory, keep_best=2, quiet=True)


def language(directory, samples):
    """An RLHF run's directory, as its logs have it."""
    update = {"algorithm": "ppo", "num_envs": 8, "num_steps": 4, "total_timesteps": 64}
    description = {"config": {"update": update, "estimator": "gae"}, "settings": {"seed": 0}}
    directory.mkdir()
    (directory / "rlhf.json").write_text(json.dumps({**description, "conditions": {"jax": "1"}}))
    row = {"seed": 0, "iteration": 1, "objective/scores": 0.5}
    (directory / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (directory / "samples.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples))
    return directory


def test_the_page_holds_the_numbers_of_the_run(finished, tmp_path):
    text = write_report([finished], tmp_path / "a.html", gif=False).read_text()
    parsed = Page(text)
    (told,) = json.loads(parsed.text["data"])["runs"]
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    (group,) = told["groups"]
    assert group["seeds"] == ["seed 0", "seed 1"]
    assert group["x"] == [16, 32, 48, 64]
    for metric in ("value_loss", "entropy"):
        for seed, curve in enumerate(group["values"][metric]):
            assert curve == pytest.approx([r[metric] for r in rows if r["seed"] == seed], rel=1e-4)
    assert told["status"] == "complete: 4 iterations"
    assert told["config"]["num_envs"] == "2"
    assert told["evaluations"][0]["x"][-1] == 64
    assert told["versions"]["backend"] == "cpu"


def test_the_page_needs_no_network(finished, tmp_path):
    text = write_report([finished], tmp_path / "a.html", gif=False).read_text()
    addresses = [
        v for _, attrs in Page(text).tags for k, v in attrs.items() if k in ("src", "href")
    ]
    assert addresses == ["data:,"]
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_texts_stay_texts(tmp_path):
    sample = {"iteration": 1, "prompt": HOSTILE, "response": [5, 6], "score": "NaN"}
    text = write_report([language(tmp_path / "lm", [sample])], tmp_path / "a.html").read_text()
    parsed = Page(text)
    assert [tag for tag, _ in parsed.tags].count("script") == 2
    assert HOSTILE not in text
    (shown,) = json.loads(parsed.text["data"])["runs"][0]["samples"]
    assert shown == {"iteration": 1, "prompt": HOSTILE, "response": "5 6", "score": None}


def test_a_hostile_name_of_a_directory_is_escaped():
    data = {"version": "1", "runs": [{"name": HOSTILE}]}
    assert [tag for tag, _ in Page(page(data, live=False)).tags].count("script") == 2


def test_a_sweep_tells_its_best_and_how_it_depends_on_the_field(swept):
    directory, result = swept
    (told,) = page_data(open_sources([directory]))["runs"]
    (found,) = told["sweep"]["sensitivities"]
    assert found["values"] == [1e-3, 1e-2, 1e-1]
    assert [len(points) for points in found["points"]] == [2, 2, 2]
    assert found["logarithmic"]
    assert told["sweep"]["best"] == result.summary_text().splitlines()[0]
    assert len(told["groups"]) == 3
    again = read_sweep(directory)
    assert str(again.summary) == str(result.summary)
    assert (again.best, again.edges) == (result.best, result.edges)


def test_a_sweep_that_goes_on_says_how_far_it_is(swept, tmp_path):
    directory = tmp_path / "going"
    (directory / "members").mkdir(parents=True)
    (directory / "sweep.json").write_bytes((swept[0] / "sweep.json").read_bytes())
    (directory / "members" / "rung0-setting00000-seed00000.npz").touch()
    (told,) = page_data(open_sources([directory]))["runs"]
    assert told["status"] == "1 of 6 members trained"


@pytest.mark.parametrize(
    ("course", "files", "status"),
    [
        ({"prune": "halving"}, {}, "rung 1 of 2: 0 of 8 members trained"),
        ({"prune": "halving"}, {0: 8}, "rung 1 of 2: 8 of 8 members trained"),
        ({"prune": "halving"}, {0: 8, 1: 1}, "rung 2 of 2: 1 of 4 members trained"),
        ({"evolve": {"num_rounds": 3}}, {0: 8, 1: 3}, "round 2 of 3: 3 of 8 members trained"),
    ],
)
def test_a_sweep_of_several_rungs_says_which_it_has_reached(course, files, status, tmp_path):
    settings = [{"gamma": gamma} for gamma in (0.6, 0.7, 0.8, 0.9)]
    described = {"prune": None, "config": config().to_dict(), "num_seeds": 2, "seed": 0, **course}
    (tmp_path / "sweep.json").write_text(json.dumps({**described, "settings": settings}))
    (tmp_path / "members").mkdir()
    for rung, count in files.items():
        for i in range(count):
            (tmp_path / "members" / f"rung{rung}-setting{i // 2:05d}-seed{i % 2:05d}.npz").touch()
    assert page_data(open_sources([tmp_path]))["runs"][0]["status"] == status


def test_a_picture_is_in_the_page(tmp_path):
    directory = language(tmp_path / "lm", [])
    (directory / "policy.gif").write_bytes(b"GIF89a")
    data = json.loads(Page(write_report([directory], tmp_path / "a.html").read_text()).text["data"])
    assert data["runs"][0]["gif"].endswith(base64.b64encode(b"GIF89a").decode())


def test_what_is_no_run_is_refused_by_name(finished, tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        write_report([tmp_path], tmp_path / "a.html")
    with pytest.raises(ValueError, match="is no directory"):
        write_report([tmp_path / "gone"], tmp_path / "a.html")
    with pytest.raises(ValueError, match="is named twice"):
        write_report([finished, finished], tmp_path / "a.html")


def test_a_file_is_read_on_where_it_ended(tmp_path):
    path = tmp_path / "a.jsonl"
    tail = Tail(path)
    assert tail.read() == (False, [])
    path.write_text('{"a": 1}\n{"a": 2')
    assert tail.read() == (True, [{"a": 1}])
    with path.open("a") as file:
        file.write('5}\n{"a": 3}\n')
    assert tail.read() == (False, [{"a": 25}, {"a": 3}])
    assert tail.read() == (False, [])
    with path.open("r+") as file:  # cut back, as a resumed run does
        file.truncate(9)
    assert tail.read() == (True, [{"a": 1}])
    with path.open("a") as file:
        file.write("nonsense\n")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"a\.jsonl, line 2, holds no JSON object"):
            tail.read()


def test_long_curves_are_means_weighted_by_episodes():
    table, count = MetricTable(), 2 * MAX_POINTS
    rows = [
        {"seed": 0, "iteration": i, "episode_return": float(i % 2), "num_episodes": 1 + 2 * (i % 2)}
        for i in range(1, count + 1)
    ]
    rows[2]["episode_return"], rows[2]["num_episodes"] = None, 0
    rows[3]["episode_return"], rows[3]["num_episodes"] = None, 0
    table.add(rows)
    group = table.group("a")
    assert len(group["x"]) == MAX_POINTS
    # three episodes of return 1 and one of 0; where none finished, the latest ones
    assert group["values"]["episode_return"][0][:3] == [0.75, 0.75, 0.75]
