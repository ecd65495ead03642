"""What belongs to a run and what does not: nothing of others is written over, edits are seen."""

import json
import shutil

import pytest

from jaxrl_po import load_state, resume, run
from jaxrl_po.host.runs import checkpoint
from jaxrl_po.host.runs.directory import (
    CURVE,
    STREAMS,
    describe,
    read_description,
    write_description,
)
from tests.host.runs.test_faults import SETTINGS_OF_RUN, contents
from tests.host.small import RUN, config, random_walk, same

ENV = random_walk()
SETTINGS = {"env": ENV, "segment_length": 2, **RUN}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    return directory, run(config(), directory=directory, **SETTINGS)


@pytest.fixture
def copied(finished, tmp_path):
    """A finished run's directory, to be damaged."""
    return shutil.copytree(finished[0], tmp_path / "run")


OTHERS = [
    *STREAMS,
    CURVE,
    "config.json",
    "policy/policy.json",
    "policy/anything",
    f"checkpoints/0000000099-{32 * 'a'}.safetensors",
    "lock",
    "wandb.json",
    "tensorboard/seed_0/events.out.tfevents.1",
]


@pytest.mark.parametrize("name", OTHERS)
def test_run_writes_over_nothing_that_is_there(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"precious, 1\n")
    taken = name if name.startswith("checkpoints") else name.split("/")[0]
    with pytest.raises(ValueError, match=taken):
        run(config(), directory=tmp_path, **SETTINGS)
    assert path.read_bytes() == b"precious, 1\n"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_files_of_others_beside_a_run_are_left_alone(tmp_path, monkeypatch, finished):
    others = {
        "checkpoints/model-00001.safetensors": b"theirs",
        "checkpoints/keep0.safetensors": b"theirs",
        "checkpoints/9999999999-short.safetensors": b"theirs",
        "checkpoints/upload.tmp": b"theirs",
        "config.json.tmp": b"theirs",
        "notes.txt": b"theirs",
    }
    (tmp_path / "checkpoints").mkdir()
    for name, data in others.items():
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    run(config(), directory=".", until=6, **SETTINGS | {"keep_checkpoints": 1})
    result = resume(".", env=ENV, quiet=True)
    assert {name: (tmp_path / name).read_bytes() for name in others} == others
    assert same(result.state, finished[1].state)
    assert checkpoint.load_newest(tmp_path / "checkpoints")[0].iteration == 8


def test_copies_beside_the_newest_checkpoint_do_not_crowd_it_out(copied, finished):
    newest = checkpoint.files(copied / "checkpoints")[-1]
    for i in range(3):
        shutil.copy(newest, newest.with_name(f"keep{i}.safetensors"))
    longer = config(num_iterations=10)
    assert resume(copied, longer, env=ENV, quiet=True).state.iteration.tolist() == [10]
    kept = [int(path.name[:10]) for path in checkpoint.files(copied / "checkpoints")]
    assert kept[-3:] == [6, 8, 10]
    assert load_state(copied, env=ENV)[1].iteration.tolist() == [10]


def test_damaged_checkpoint_is_set_aside_and_counts_no_more(copied, finished):
    newest = checkpoint.files(copied / "checkpoints")[-1]
    newest.write_bytes(b"damaged")
    result = resume(copied, env=ENV, quiet=True)
    assert same(result.state, finished[1].state)
    assert checkpoint.load_newest(newest.parent)[0].iteration == 8
    assert newest.with_name(newest.name + ".damaged").read_bytes() == b"damaged"


@pytest.mark.parametrize("kept", STREAMS)
def test_any_log_shows_that_checkpoints_are_gone(kept, copied):
    for name in STREAMS:
        if name != kept:
            (copied / name).unlink()
    for path in checkpoint.files(copied / "checkpoints"):
        path.unlink()
    with pytest.raises(ValueError, match="has no checkpoint, though its logs tell of 8 iter"):
        resume(copied, env=ENV, quiet=True)


def test_checkpoint_of_another_run_is_refused(copied, tmp_path):
    other = tmp_path / "other"
    run(config(), seed=1, directory=other, **SETTINGS)
    for path in checkpoint.files(copied / "checkpoints"):
        path.unlink()
    for path in checkpoint.files(other / "checkpoints"):
        shutil.copy(path, copied / "checkpoints")
    refused = pytest.raises(ValueError, match="belongs to another run: move it away")
    with refused:
        resume(copied, env=ENV, quiet=True)
    for best in (False, True):
        with refused:
            load_state(copied, best=best, env=ENV)


def test_checkpoint_that_says_of_no_run_is_refused_beside_one_that_does(copied):
    """As the version before wrote them."""
    folder = copied / "checkpoints"
    newest, _ = checkpoint.load_newest(folder)
    notes = {name: note for name, note in newest.notes.items() if name != "run"}
    arrays = dict(newest.arrays)
    for path in checkpoint.files(folder):
        path.unlink()
    checkpoint.save(folder, newest.iteration, arrays, notes)
    with pytest.raises(ValueError, match="belongs to another run: move it away"):
        resume(copied, env=ENV, quiet=True)


def test_lost_policy_of_a_finished_run_is_brought_back(copied, finished, capsys):
    before = contents(copied / "policy")
    shutil.rmtree(copied / "policy")
    resume(copied, env=ENV)
    assert contents(copied / "policy") == before
    assert "policy/ was gone or damaged: saved again" in capsys.readouterr().out
    resume(copied, env=ENV)
    assert "policy/" not in capsys.readouterr().out


def test_lost_policy_and_its_checkpoint_are_told_of(tmp_path, capsys):
    run(config(), 5, 2, tmp_path / "run", **SETTINGS | {"keep_checkpoints": 1})
    (path,) = [
        p
        for p in checkpoint.files(tmp_path / "run" / "checkpoints")
        if int(p.name[:10]) != 8 or len(list(p.parent.iterdir())) == 1
    ]
    if int(path.name[:10]) != 8:
        path.unlink()
    shutil.rmtree(tmp_path / "run" / "policy")
    resume(tmp_path / "run", env=ENV)
    assert "saved again, from iteration 8" in capsys.readouterr().out
    assert (tmp_path / "run" / "policy" / "policy.json").exists()


def edit(directory, change):
    path = directory / "config.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["config"].update(gamma=0.5),
        lambda d: d["config"].update(total_timesteps=10**6),
        lambda d: d["config"].pop("learning_rate"),
        lambda d: d["run"].update(seed=1),
        lambda d: d["run"].update(segment_length=0),
        lambda d: d["versions"].update(jax="0.0.1"),
        lambda d: d.update(id="another"),
        lambda d: d.update(sha256=None),
    ],
)
def test_edited_description_is_refused(change, copied):
    edit(copied, change)
    with pytest.raises(ValueError, match=r"config.json cannot be used: it is not what was written"):
        resume(copied, env=ENV)


PLAIN = {"format": 1, "config": {"algorithm": "ppo"}, "run": SETTINGS_OF_RUN._asdict()}
PLAIN |= {"versions": {"jax": "0", "backend": "cpu"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", ""),
        ("", ""),
        ("[]", "holds a list"),
        ("7", "holds a int"),
        ("null", ""),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "'format'"),
        ('{"format": 99}', "format is 99.*upgrade jaxrl_po"),
        ('{"format": "1"}', "format must be an integer"),
        ('{"format": true}', "format must be an integer"),
        ('{"format": 0}', "format=0 is out of range"),
        ('{"format": 2}', "'sha256'"),
        (b"\xff\xfe\x00", ""),
        ({"config": {"algorithm": "ppo", "gama": 1}}, "no field 'gama'"),
        ({"config": {"algorithm": []}}, ""),
        ({"config": {"algorithm": "ppo", "num_envs": 0}}, "num_envs=0 is out of range"),
        ({"config": {"algorithm": "ppo", "gamma": 10**400}}, ""),
        ({"config": []}, "config must be an object"),
        ({"run": None}, "run must be an object"),
        ({"run": {"sed": 1}}, "sed"),
        ({"run": PLAIN["run"] | {"segment_length": 0}}, "segment_length=0 is out of range"),
        ({"run": PLAIN["run"] | {"evaluate_every": 0}}, "evaluate_every=0 is out of range"),
        ({"run": PLAIN["run"] | {"num_seeds": "2"}}, "num_seeds must be an integer"),
        ({"run": PLAIN["run"] | {"seed": 2**32}}, "seed=4294967296 is out of range"),
        ({"run": PLAIN["run"] | {"keep_checkpoints": 1.5}}, "keep_checkpoints must be an integer"),
        ({"run": PLAIN["run"] | {"given": "env"}}, "given='env'"),
        ({"run": PLAIN["run"] | {"given": [["env"]]}}, "given="),
        ({"versions": {"jax": 1}}, "versions must be strings"),
    ],
)
def test_malformed_description_is_one_error_that_names_the_file(text, message, tmp_path):
    if isinstance(text, dict):
        text = json.dumps(PLAIN | text)
    (tmp_path / "config.json").write_bytes(text.encode() if isinstance(text, str) else text)
    for attempt in (lambda: resume(tmp_path, env=ENV), lambda: load_state(tmp_path, env=ENV)):
        with pytest.raises(ValueError, match=rf"(?s)config.json cannot be used: .*({message})"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_description_is_json_and_reads_back(tmp_path):
    unbounded = config(max_grad_norm=float("inf"))
    description = describe(unbounded, SETTINGS_OF_RUN)
    write_description(tmp_path, description)
    assert read_description(tmp_path) == description

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    json.loads((tmp_path / "config.json").read_text(), parse_constant=refuse)


def test_run_of_the_first_format_goes_on(copied, finished):
    """As version 1 left it: no digest, no identity, fewer conditions, checkpoints without them."""
    description = json.loads((copied / "config.json").read_text())
    versions = {name: description["versions"][name] for name in ("jax", "backend")}
    old = {"format": 1, "config": description["config"], "run": description["run"]}
    (copied / "config.json").write_text(json.dumps({**old, "versions": versions}))
    folder = copied / "checkpoints"
    for path in checkpoint.files(folder):
        saved = checkpoint.load(path)
        arrays = dict(saved.arrays)
        path.unlink()
        notes = {name: saved.notes[name] for name in ("positions", "best")}
        if saved.iteration < 8:
            checkpoint.save(folder, saved.iteration, arrays, notes)
    result = resume(copied, config(num_iterations=10), env=ENV, quiet=True)
    whole = run(config(num_iterations=10), **SETTINGS)
    assert same(result.state, whole.state)
    assert read_description(copied).config == config(num_iterations=10)
    assert resume(copied, env=ENV, quiet=True).timesteps == 0
