"""Sweeps: members are runs, grids are one program, and what is stopped goes on."""

import csv
import errno
import itertools
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxrl_po import config_from_dict, make_train, sweep
from jaxrl_po.host.machine import execution
from jaxrl_po.host.machine.files import lock
from jaxrl_po.host.machine.signals import Interrupted
from jaxrl_po.host.sweeps import member_files
from jaxrl_po.host.sweeps import members as sweep_members
from jaxrl_po.host.sweeps.groups import make_groups
from jaxrl_po.host.sweeps.members import MAX_POINTS
from jaxrl_po.host.sweeps.ranges import configure, linear, log, settings_of
from jaxrl_po.loop.parts import Given

TINY = {
    "env_id": "Pendulum-v1",
    "env_params": {"max_steps_in_episode": 4},
    "num_envs": 2,
    "num_steps": 8,
    "total_timesteps": 64,
    "hidden_sizes": (4,),
    "learning_rate": 0.01,
}
PPO = config_from_dict({"algorithm": "ppo", **TINY})
TRPO = config_from_dict({"algorithm": "trpo", **TINY})


@pytest.fixture
def vmapped(monkeypatch):
    """Execute members as on an accelerator: vmapped, three at a time."""

    def plan(function, example, shared, chunk_size):
        devices = jax.devices()[:1]
        return execution._plan_chunks(function, example, shared, 100, chunk_size or 3, devices)

    monkeypatch.setattr(execution, "_plan_threads", plan)


@pytest.fixture
def compiled(monkeypatch):
    """The members' functions that are compiled."""
    functions = []
    jit = jax.jit

    def counting(function, **options):
        if function.__module__ == sweep_members.__name__:
            functions.append(function)
        return jit(function, **options)

    monkeypatch.setattr(jax, "jit", counting)
    return functions


def quietly(config, space, num_seeds=2, **options):
    return sweep(config, space, num_seeds, **{"quiet": True, **options})


def outcomes(result):
    """All of a table but the time that it took."""
    return {name: list(column) for name, column in result.table.items() if name != "seconds"}


def assert_same(one, other):
    np.testing.assert_equal(outcomes(one), outcomes(other))
    np.testing.assert_array_equal(one.returns, other.returns)


@pytest.fixture(scope="module", params=["ppo_penalty", "trpo"])  # a coefficient, a second critic
def eventful(request):
    """A config under which a state holds all that it may."""
    algorithm = request.param
    changes = ("anneal_lr", "normalize_observations", "normalize_rewards")
    settings = {**TINY, "total_timesteps": 256, **dict.fromkeys(changes, True)}
    return config_from_dict({"algorithm": algorithm, **settings})


def test_a_member_is_the_same_config_trained_alone(eventful, jit):
    config = eventful
    result = quietly(config, {"gamma": [0.0, 0.99], "learning_rate": [1e-3, 3e-2]}, seed=5)
    alone = quietly(config.replace(learning_rate=3e-2), {"gamma": [0.0]}, 1, seed=6)
    np.testing.assert_array_equal(result.returns[1, 1], alone.returns[0, 0])

    train = jit(make_train(config.replace(gamma=0.0, learning_rate=3e-2)))
    trained = train(jax.random.key(6))
    expected = np.asarray(trained.metrics["episode_return"])
    np.testing.assert_allclose(result.returns[1, 1], expected, rtol=1e-4)
    # Another setting or seed would not have passed for it.
    for others in (result.returns[0, 1], result.returns[3, 1], result.returns[1, 0]):
        assert not np.allclose(others, expected, rtol=1e-3)


GRIDS = {
    "ppo": {
        "gamma": linear(0.9, 0.99, 2),
        "gae_lambda": [0.9, 0.95],
        "learning_rate": log(1e-4, 1e-2, 3),
        "env_params.l": [0.4, 0.6],
    },
    "trpo": {"max_kl": [0.01, 0.02], "cg_damping": log(1e-3, 1e-1, 2), "backtrack_coeff": [0.5]},
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_of_floats_is_one_compilation(name, compiled):
    config = config_from_dict({"algorithm": name, **TINY, "anneal_lr": True})
    quietly(config, {}, 1)  # small programs of JAX's own are compiled once a process
    compiled.clear()
    compilations = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compilations.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    result = quietly(config, GRIDS[name], 1)
    jax.monitoring.unregister_event_duration_listener(listen)
    assert result.num_compilations == len(compiled) == len(compilations) == 1
    assert len(np.unique(result.returns, axis=0)) > 1
    for field in result.fields:
        assert field in result.table


def test_groups_are_as_few_as_structures():
    space = {"learning_rate": [1e-3, 1e-2], "num_envs": [1, 2], "hidden_sizes": [(4,), (3, 3)]}
    configs = [configure(PPO, setting) for setting in settings_of(PPO, space)]
    groups = make_groups(configs, [1.0], Given())
    assert sorted(len(group.configs) for group in groups) == [2, 2, 2, 2]


def test_algorithms_are_compared_in_one_sweep(compiled):
    result = quietly(PPO, {"algorithm": ["ppo", "vpg"], "gamma": [0.9, 0.99]}, 1)
    assert list(result.table["algorithm"]) == ["ppo", "ppo", "vpg", "vpg"]
    assert result.num_compilations == len(compiled) == 2
    assert len(np.unique(result.returns, axis=0)) == 4


def test_vmapped_members_are_the_same(eventful, vmapped):
    space = {"gamma": [0.9, 0.99]}
    chunked = quietly(eventful, space)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "_plan_threads", REAL_THREADS)
        threaded = quietly(eventful, space)
    np.testing.assert_allclose(chunked.returns, threaded.returns, rtol=1e-4)


REAL_THREADS = execution._plan_threads


@pytest.mark.parametrize("path", ["threads", "chunks"])
def test_a_diverging_member_is_flagged_and_alone(path, request):
    if path == "chunks":
        request.getfixturevalue("vmapped")
    result = quietly(PPO, {"learning_rate": [1e-3, 1e3, 1e-2]}, 2)
    assert list(result.table["diverged"]) == [False, False, True, True, False, False]
    assert sorted(result.summary["num_diverged"]) == [0, 0, 2]
    others = quietly(PPO, {"learning_rate": [1e-3, 1e-4, 1e-2]}, 2)
    np.testing.assert_array_equal(result.returns[[0, 2]], others.returns[[0, 2]])


def test_a_member_that_is_not_a_number_is_flagged_and_alone():
    result = quietly(PPO, {"env_params.dt": [0.05, np.inf, 0.04]}, 1)
    assert list(result.table["diverged"]) == [False, True, False]


def test_a_diverged_member_is_never_the_best():
    # A pole without end turns NaN and never falls: its returns are the highest, and mean nothing.
    cartpole = PPO.replace(env_id="CartPole-v1", env_params={}, total_timesteps=2048)
    result = quietly(cartpole, {"env_params.length": [0.5, np.inf]}, 2)
    raw = result.table["final_return"].reshape(2, 2)
    assert raw[1].min() > raw[0].min()
    assert result.best == {"env_params.length": 0.5}
    np.testing.assert_array_equal(result.compared[0], raw[0])
    assert np.isnan(result.compared[1]).all()
    assert result.summary["num_diverged"].tolist() == [0, 2]


SCRIPT = """
import json, sys
from jaxrl_po import config_from_dict, sweep
config, directory, prune = json.loads(sys.argv[1])
space = {"learning_rate": [1e-4, 1e-3, 1e-2, 3e-2]}
sweep(config_from_dict(config), space, 3, directory=directory, prune=prune, quiet=True)
"""


def test_a_killed_sweep_continues_to_the_same_table(tmp_path):
    prune = "halving"
    settings = {**TINY, "algorithm": "ppo", "total_timesteps": 4_000, "hidden_sizes": [4]}
    directory = tmp_path / "sweep"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps([settings, str(directory), prune])]
    )
    files = lambda: list((directory / "members").glob("*.npz"))  # noqa: E731
    wanted = random.randint(1, 11)
    while len(files()) < wanted and process.poll() is None:
        time.sleep(0.001)
    time.sleep(random.random() * 0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in files()}

    config, space = config_from_dict(settings), {"learning_rate": [1e-4, 1e-3, 1e-2, 3e-2]}
    resumed = quietly(config, space, 3, directory=directory, prune=prune)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert_same(resumed, quietly(config, space, 3, prune=prune))

    again = quietly(config, space, 3, directory=directory, prune=prune)
    assert again.num_compilations == 0
    assert_same(again, resumed)


def test_signal_lets_members_finish_and_saves_them(tmp_path, monkeypatch):
    save, saves = member_files.save_member, []

    def stop(path, *contents):
        save(path, *contents)
        saves.append(path)
        if len(saves) == 1:  # a second signal would act at once
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)

    space = {"gamma": [0.9, 0.95, 0.99]}
    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(member_files, "save_member", stop)
        patch.setattr(execution, "num_cores", lambda: 1)
        with pytest.raises(Interrupted, match=f"stopped by SIGTERM.* directory {tmp_path}"):
            quietly(PPO, space, directory=tmp_path)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert set((tmp_path / "members").iterdir()) == set(saves)
    assert len(saves) < 6
    assert_same(quietly(PPO, space, directory=tmp_path), quietly(PPO, space))


@pytest.mark.parametrize("prune", [None, "halving"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "flipped"])
def test_damaged_members_are_reported_and_trained_again(damage, prune, tmp_path, capsys):
    space = {"gamma": [0.9, 0.95, 0.99]}
    config = PPO.replace(total_timesteps=256)
    whole = quietly(config, space, directory=tmp_path, prune=prune)
    path = sorted((tmp_path / "members").iterdir())[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"truncated": data[:-100], "emptied": b"", "flipped": data}[damage])
    again = sweep(config, space, 2, directory=tmp_path, prune=prune)
    assert f"not used: {path.name} is damaged" in capsys.readouterr().out
    assert_same(again, whole)


def test_full_disk_is_an_error_and_what_was_saved_stays(tmp_path, monkeypatch):
    space, files = {"gamma": [0.9, 0.95, 0.99]}, itertools.count(1)

    def fsync(file, real=os.fsync):
        # The description and two members fit; members are written side by side, folders too.
        if stat.S_ISREG(os.fstat(file).st_mode) and next(files) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(OSError, match=r"cannot write .*\.npz: No space left on device"):
            quietly(PPO, space, directory=tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))
    assert len(list((tmp_path / "members").iterdir())) == 2
    assert_same(quietly(PPO, space, directory=tmp_path), quietly(PPO, space))


def test_second_process_on_a_sweep_is_refused(tmp_path):
    with (
        lock(tmp_path),
        pytest.raises(ValueError, match=f"in use by another process .pid {os.getpid()}"),
    ):
        quietly(PPO, {"gamma": [0.9]}, directory=tmp_path)


def test_corrupt_description_is_named(tmp_path):
    for text in ("", "[1]"):
        (tmp_path / "sweep.json").write_text(text)
        with pytest.raises(ValueError, match=r"sweep.json cannot be used"):
            quietly(PPO, {"gamma": [0.9]}, directory=tmp_path)


def test_seeds_are_those_of_runs(jit):
    seed = 2**32 - 2
    result = quietly(PPO, {}, 2, seed=seed)
    train = jit(make_train(PPO))
    for k in range(2):
        trained = train(jax.random.key(np.uint32(seed + k)))
        expected = np.asarray(trained.metrics["episode_return"])
        np.testing.assert_allclose(result.returns[0, k], expected, rtol=1e-4)
    assert result.table["seed"].tolist() == [seed, seed + 1]


def test_a_directory_holds_one_sweep(tmp_path):
    quietly(PPO, {"gamma": [0.9]}, 1, directory=tmp_path)
    with pytest.raises(ValueError, match="is of another sweep: its num_seeds is 1, not 2"):
        quietly(PPO, {"gamma": [0.9]}, 2, directory=tmp_path)


def test_halving_gives_the_budget_of_the_worst_to_the_best():
    config = PPO.replace(total_timesteps=64 * 16)
    space = {"learning_rate": [1e-5, 1e-4, 1e-3, 3e-3]}
    pruned = quietly(config, space, prune="halving")
    steps = pruned.table["timesteps"]
    assert 0.9 * 8 * config.total_timesteps < steps.sum() <= 8 * config.total_timesteps
    assert sorted(steps)[::2] == [512, 512, 1536, 1536]
    assert list(pruned.summary["pruned"]) == [False, False, True, True]
    assert pruned.num_compilations == 1
    # Those that train on go on as if nothing had stopped them.
    alone = quietly(
        config.replace(total_timesteps=1536), {"learning_rate": [pruned.best["learning_rate"]]}
    )
    assert list(pruned.table) == list(alone.table)
    kept = int(pruned.summary["setting"][0])
    np.testing.assert_array_equal(pruned.returns[kept], alone.returns[0])


def threads(num_members, wanted):
    return execution._plan_threads(lambda x: x * 2, np.float32(0), (), wanted)


@pytest.mark.parametrize("path", ["threads", "chunks"])
def test_memory_is_bounded_by_the_chunk(path, monkeypatch):
    monkeypatch.setattr(execution, "num_cores", lambda: 8)
    make = {"threads": threads, "chunks": chunks}[path]
    few, many = make(2, 2), make(200, 2)
    assert few.chunk_size == many.chunk_size == 2
    assert few.chunk_bytes == many.chunk_bytes < make(200, 8).chunk_bytes
    held, most = [], []

    def load(members):
        held.extend(members)
        most.append(len(held))
        return np.array(list(members), np.float32)

    def save(members, output, seconds):
        for member in members:
            held.remove(member)

    many.run(201, load, save)
    assert len(most) >= 100
    assert max(most) <= 2
    assert not held


def chunks(num_members, wanted=None):
    return execution._plan_chunks(
        lambda x: x * 2, np.float32(0), (), num_members, wanted, jax.devices()[:1]
    )


def run_all(plan, count):
    outputs = {}

    def save(members, output, seconds):
        assert len(output) == len(members)
        outputs.update(zip(members, output.tolist(), strict=True))

    plan.run(count, lambda members: np.array(list(members), np.float32), save)
    return [outputs[i] for i in range(count)]


def test_chunks_fit_in_free_memory(monkeypatch):
    whole = chunks(64)
    assert whole.chunk_size == 64
    monkeypatch.setattr(execution, "_free_bytes", lambda devices: whole.chunk_bytes / 4)
    assert chunks(64).chunk_size == 16
    assert run_all(chunks(64), 64) == [2.0 * i for i in range(64)]


def test_chunks_are_halved_when_memory_runs_out(monkeypatch):
    compile_fitting = execution._compile_fitting
    widths = []

    def scarce(function, example, shared, width, devices):
        _, compiled = compile_fitting(function, example, shared, width, devices)

        def call(batch):
            widths.append(width)
            if width > 3:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return compiled(batch)

        call.memory_analysis = compiled.memory_analysis
        return width, call

    monkeypatch.setattr(execution, "_compile_fitting", scarce)
    assert run_all(chunks(13), 13) == [2.0 * i for i in range(13)]
    assert widths == [13, 6, 3, 3, 3, 3, 3]


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(batch):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    broken.memory_analysis = lambda: chunk_memory
    chunk_memory = jax.jit(lambda x: x).lower(1.0).compile().memory_analysis()
    monkeypatch.setattr(execution, "_compile_fitting", lambda *a: (4, broken))
    with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
        run_all(chunks(4), 4)


SHARDED = """
import json, sys
import jax
from jaxrl_po import config_from_dict, sweep
assert jax.device_count() == 4
space = {"gamma": [0.9, 0.95, 0.99]}
result = sweep(config_from_dict(json.loads(sys.argv[1])), space, 3, devices="all", quiet=True)
print(json.dumps(result.returns.tolist()))
"""


def test_members_shard_over_all_devices():
    environment = {
        **os.environ,
        "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4",
        "NPROC": "16",  # jax 0.10 deadlocks with fewer
    }
    settings = {**TINY, "algorithm": "ppo"}
    output = subprocess.run(
        [sys.executable, "-c", SHARDED, json.dumps(settings)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    one_device = quietly(PPO, {"gamma": [0.9, 0.95, 0.99]}, 3)
    np.testing.assert_allclose(json.loads(output), one_device.returns, rtol=1e-4)


def test_bad_options_are_refused_by_name(compiled):
    with pytest.raises(ValueError, match="num_seeds=0"):
        quietly(PPO, {}, 0)
    with pytest.raises(ValueError, match=r"num_seeds must be an integer .* not 2.5"):
        quietly(PPO, {}, 2.5)
    with pytest.raises(ValueError, match="seed=-1 is out of range"):
        quietly(PPO, {}, seed=-1)
    with pytest.raises(ValueError, match=r"prune='halvin': it must be None or \"halving\""):
        quietly(PPO, {}, prune="halvin")
    with pytest.raises(ValueError, match="devices='both'"):
        quietly(PPO, {}, devices="both")
    with pytest.raises(ValueError, match="chunk_size=0"):
        quietly(PPO, {}, chunk_size=0)
    with pytest.raises(
        ValueError, match="env_params: no parameter 'max_sped': did you mean 'max_speed'"
    ):
        quietly(PPO, {"env_params.max_sped": [1.0]})
    with pytest.raises(ValueError, match="the first rung of 2 no iteration"):
        quietly(PPO.replace(total_timesteps=16), {"gamma": [0.1, 0.2, 0.3]}, prune="halving")
    assert not compiled


def test_curves_are_short_and_tables_tidy(tmp_path):
    config = PPO.replace(total_timesteps=16 * 250)
    result = quietly(config, {"learning_rate": [1e-3, 1e-2], "gamma": [0.9, 0.99]}, 2)
    assert result.returns.shape[:2] == (4, 2)
    assert result.returns.shape[2] <= MAX_POINTS
    assert result.timesteps[0, -1] == 16 * 250
    result.write(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"heatmap.png", "learning_curves.png", "sensitivity_gamma.png"} <= names
    with (tmp_path / "members.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["final_return"]) for row in rows] == list(result.table["final_return"])

    pandas = pytest.importorskip("pandas")
    assert len(result.table.to_pandas()) == 8
    result.table.write_parquet(tmp_path / "members.parquet")
    frame = pandas.read_parquet(tmp_path / "members.parquet")
    assert frame["final_return"].tolist() == list(result.table["final_return"])
    assert result.summary.to_pandas()["score"].is_monotonic_decreasing
