"""Sweeps by executors: the local sweep's table, whatever becomes of the workers."""

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import distributed
import jax
import numpy as np
import pytest
from dask import config as dask_config
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from jaxrl_po import load_policy, sweep
from jaxrl_po.envs import HostEnvironment
from jaxrl_po.host.machine.signals import Interrupted
from jaxrl_po.host.sweeps import groups, member_files
from jaxrl_po.host.sweeps.workers import Workers
from tests.host.simulators.lines import Line
from tests.host.small import config, random_walk
from tests.host.sweeps.test_sweep import PPO, assert_same, compiled, quietly

__all__ = ["compiled"]  # a fixture

SPACE = {"gamma": [0.9, 0.99], "learning_rate": [1e-3, 1e-2]}
LONG = PPO.replace(total_timesteps=16 * 2_000)


def pool(count=1):
    """Spawned processes."""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


@pytest.fixture(scope="module")
def threads():
    """An executor that is soon there."""
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def client():
    """Of a Dask cluster of two workers, which gives a call up when its worker dies."""
    with (
        dask_config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def local():
    return quietly(LONG, SPACE)


@contextlib.contextmanager
def at_first_save(act):
    """Do something when the first member is kept."""
    save, saves = member_files.save_member, []

    def acting(path, *contents):
        save(path, *contents)
        saves.append(path)
        if len(saves) == 1:
            act()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member_files, "save_member", acting)
        yield saves


def test_a_dask_cluster_gives_the_same_table_and_goes_on_with_it(local, client, tmp_path):
    executor = client.get_executor()
    result = quietly(LONG, SPACE, executor=executor, chunk_size=3, directory=tmp_path)
    assert_same(result, local)
    assert result.num_compilations == 1
    lost = sorted((tmp_path / "members").iterdir())[::3]
    for path in lost:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "members").iterdir()}
    assert_same(quietly(LONG, SPACE, directory=tmp_path), local)  # by this process
    again = quietly(LONG, SPACE, directory=tmp_path, executor=executor)
    assert again.num_compilations == 0
    assert_same(again, local)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_dask_worker_killed_in_the_middle_changes_nothing(local, client, tmp_path, capsys):
    pids = client.run(os.getpid)

    def kill():
        busy = next(worker for worker, calls in client.processing().items() if calls)
        os.kill(pids[busy], signal.SIGKILL)

    with at_first_save(kill):
        result = sweep(
            LONG, SPACE, 2, executor=client.get_executor(), chunk_size=1, directory=tmp_path
        )
    assert "the worker was lost, submitted again (KilledWorker" in capsys.readouterr().out
    assert_same(result, local)
    client.wait_for_workers(2)
    assert len(set(client.run(os.getpid).values()) & set(pids.values())) == 1


def test_a_pool_broken_in_the_middle_is_made_anew(local, tmp_path, capsys):
    pools = []

    def make():
        pools.append(pool())
        return pools[-1]

    def kill():
        os.kill(next(iter(pools[-1]._processes)), signal.SIGKILL)

    with at_first_save(kill):
        result = sweep(LONG, SPACE, 2, executor=make, chunk_size=1, directory=tmp_path)
    assert "the worker was lost, submitted again (BrokenProcessPool" in capsys.readouterr().out
    assert len(pools) == 2
    assert_same(result, local)


def test_a_broken_pool_of_the_callers_is_named_and_what_ended_is_kept(local, tmp_path):
    with pool() as executor:

        def kill():
            os.kill(next(iter(executor._processes)), signal.SIGKILL)

        with (
            at_first_save(kill) as saves,
            pytest.raises(RuntimeError, match="give a function that makes executors"),
        ):
            quietly(LONG, SPACE, executor=executor, chunk_size=1, directory=tmp_path)
    assert set((tmp_path / "members").iterdir()) == set(saves)
    assert len(saves) < 8
    assert_same(quietly(LONG, SPACE, directory=tmp_path), local)


def test_submitit_gives_the_same_table(local, tmp_path):
    submitit = pytest.importorskip("submitit")
    executor = submitit.LocalExecutor(tmp_path)
    executor.update_parameters(timeout_min=5)
    assert_same(quietly(LONG, SPACE, executor=executor), local)


def test_halving_and_policies_are_those_of_the_local_sweep(tmp_path):
    config = PPO.replace(total_timesteps=64 * 16)
    space = {"learning_rate": [1e-5, 1e-4, 1e-3, 3e-3]}
    options = {"prune": "halving", "keep_policies": True}
    here = quietly(config, space, directory=tmp_path / "here", **options)
    executor = Lossy(99)
    there = quietly(
        config, space, directory=tmp_path / "there", executor=executor, chunk_size=3, **options
    )
    assert_same(there, here)
    assert sorted(set(there.table["timesteps"])) == [512, 1536]
    tasks = [arguments[-1] for arguments in executor.calls[1:]]
    assert [(task.first, len(task.before)) for task in tasks] == [*[(0, 0)] * 3, (32, 3), (32, 1)]
    observations = np.linspace(-1, 1, 6).reshape(2, 3)
    for seed in ("seed0", "seed1"):
        kept = [load_policy(tmp_path / x / "policies" / seed) for x in ("here", "there")]
        np.testing.assert_array_equal(*(policy(observations) for policy in kept))


def test_a_worker_compiles_a_group_once(threads, compiled):
    config = PPO.replace(total_timesteps=48)  # compiled by nobody yet
    space = {"num_envs": [1, 2], "gamma": [0.9, 0.99]}
    compiled.clear()
    quietly(config, space, executor=threads, chunk_size=1)
    assert len(compiled) == 2


def test_workers_share_the_callers_compiled_programs(tmp_path, monkeypatch, local):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        with pool() as executor:
            assert_same(quietly(LONG, SPACE, executor=executor), local)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert list(tmp_path.glob("jit_train_on-*"))


def lines(num_envs, seeds, env=Line):
    return SyncVectorEnv([env] * num_envs, autoreset_mode=AutoresetMode.DISABLED)


class GoneError(Exception):
    """Cannot be pickled and read again."""

    def __init__(self, what, where):
        super().__init__(f"{what} is gone from {where}")


class Failing(Line):
    """Fails in the workers, by an error that travels."""

    def step(self, action):
        raise OSError("the simulator is gone from here")


def fail(_):
    raise GoneError("the simulator", "here")


def test_what_fails_by_itself_is_raised_by_name_and_not_tried_again():
    host = HostEnvironment(functools.partial(lines, env=Failing))
    executor = Lossy(9)
    with pytest.raises(Exception, match="the simulator is gone from here") as caught:
        quietly(config(num_iterations=3), {"gamma": [0.9]}, 1, env=host, executor=executor)
    assert caught.value.__notes__[-1] == "in a worker, setting 0 seed 0, attempt 1"
    assert len(executor.calls) == 2  # the first asked what the worker is


def test_an_error_that_cannot_travel_comes_in_words():
    with (
        Workers(Lossy(9), None, print) as workers,
        pytest.raises(RuntimeError, match="GoneError: the simulator is gone from here") as caught,
    ):
        list(workers.call(fail, {"a call": None}))
    assert pickle.loads(pickle.dumps(caught.value)).__notes__ == ["in a worker, a call, attempt 1"]


class Lossy:
    """An executor whose workers are lost again and again, but for the first call."""

    def __init__(self, answers=1):
        self.calls, self.answers = [], answers

    def submit(self, function, *arguments):
        self.calls.append(arguments)
        future = Future()
        if len(self.calls) <= self.answers:
            future.set_result(function(*arguments))
        else:
            future.set_exception(OSError("node 7 is down"))
        return future


@pytest.mark.parametrize("retries", [0, 2, None])
def test_members_are_submitted_again_so_often(retries):
    executor = Lossy()
    wanted = 3 if retries is None else retries
    message = rf"setting 0 seed 0 to setting 1 seed 1: .* lost {wanted + 1} time.* node 7 is down"
    with pytest.raises(RuntimeError, match=message):
        quietly(PPO, {"gamma": [0.9, 0.99]}, executor=executor, retries=retries)
    assert len(executor.calls) == 2 + wanted


def test_an_executor_of_one_method_will_do_and_may_be_made(local):
    assert_same(quietly(LONG, SPACE, executor=lambda: Lossy(9), chunk_size=4), local)


def test_a_stop_request_keeps_what_came_back_and_cancels_the_rest(tmp_path):
    with (
        ThreadPoolExecutor(1) as executor,
        at_first_save(lambda: os.kill(os.getpid(), signal.SIGTERM)) as saves,
        pytest.raises(Interrupted, match=f"stopped by SIGTERM.* directory {tmp_path}"),
    ):
        quietly(LONG, SPACE, executor=executor, chunk_size=1, directory=tmp_path)
    assert 0 < len(saves) < 8
    assert set((tmp_path / "members").iterdir()) == set(saves)


def test_chunks_and_devices_are_those_of_the_workers(threads, monkeypatch):
    plan, asked = groups.plan_members, []

    def spy(*arguments, **options):
        asked.append(options)
        return plan(*arguments, **options)

    monkeypatch.setattr(groups, "plan_members", spy)
    config = PPO.replace(total_timesteps=80)
    quietly(config, {}, 3, executor=threads, chunk_size=2, devices="all")
    assert asked == [{"chunk_size": 2, "devices": "all"}]
    quietly(config, {}, 3, executor=threads)
    assert asked[1:] == [{"chunk_size": 8, "devices": None}]


def test_workers_of_other_switches_are_refused_by_name(threads):
    with (
        jax.enable_x64(True),  # in this thread alone
        pytest.raises(ValueError, match="jax_enable_x64 is False in a worker, not True"),
    ):
        quietly(PPO, {}, executor=threads)


class Silent(Lossy):
    def submit(self, function, *arguments):
        self.calls.append(arguments)


def test_what_is_no_executor_is_refused_by_name(client):
    fork = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    refused = {
        "executor: a int has no `submit`": 3,
        "executor: what it makes is a dict, without a `submit`": dict,
        r"client.Client is none itself: give .get_executor\(\)": client,
        "executor: the pool forks": fork,
        "its `submit` returns a NoneType, not a future": Silent(),
    }
    for message, executor in refused.items():
        with pytest.raises(ValueError, match=message):
            quietly(PPO, {}, executor=executor)


def test_what_cannot_be_sent_is_refused_by_name_before_anything_is():
    executor = Lossy()
    walk = random_walk()
    given = {
        "env": {"env": walk},
        "network": {"network": lambda: None},
        "optimizer": {"optimizer": lambda rate: None},
    }
    for name, part in given.items():
        with pytest.raises(ValueError, match=f"{name}: .* cannot be sent to an executor's workers"):
            quietly(PPO, {}, executor=executor, **part)
    for message, options in {
        "retries=-1": {"retries": -1},
        "chunk_size=0": {"chunk_size": 0},
        "devices='both'": {"devices": "both"},
        "prune='half'": {"prune": "half"},
    }.items():
        with pytest.raises(ValueError, match=message):
            quietly(PPO, {}, **{"executor": executor, **options})
    assert not executor.calls
    with pytest.raises(ValueError, match="retries=3 has no effect without an executor"):
        quietly(PPO, {}, retries=3)
