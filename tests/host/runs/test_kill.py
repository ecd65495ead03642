"""SIGKILL at random moments, a few times in a row."""

import csv
import json
import multiprocessing
import random
import time

import jax
import pytest

from jaxrl_po import load_state
from jaxrl_po.host.runs import checkpoint
from tests.host import killed_run
from tests.host.small import random_walk, same

KILLS, HOST_KILLS = 3, 2


@pytest.mark.slow
def test_killed_run_loses_nothing_but_its_unfinished_segment(tmp_path):
    cache = jax.config.jax_compilation_cache_dir
    context = multiprocessing.get_context("forkserver")  # imports once, forks before JAX starts
    context.set_forkserver_preload(["jaxrl_po", "tests.host.killed_run"])
    directory, rng = tmp_path / "killed", random.Random(0)
    newest, advanced = 0, 0
    for _ in range(KILLS):
        process = context.Process(target=killed_run.go_on, args=(str(directory), cache))
        process.start()
        position = newest
        while process.is_alive() and position == newest:  # until it is under way
            time.sleep(0.01)
            position = newest_iteration(directory)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()

        saved, damaged = checkpoint.load_newest(directory / "checkpoints")
        assert not damaged
        assert saved.iteration >= newest
        advanced += saved.iteration > newest
        newest = saved.iteration
        lines = (directory / "metrics.jsonl").read_text().split("\n")[:-1]
        logged = json.loads(lines[-1])["iteration"]
        assert newest <= logged <= newest + 2 * killed_run.SEGMENT
    assert newest < killed_run.ITERATIONS, "the run ended before the last kill"
    assert advanced == KILLS

    last, env = newest + 10, random_walk()
    for path in (directory, tmp_path / "whole"):
        process = context.Process(target=killed_run.go_on, args=(str(path), cache, last))
        process.start()
        process.join()
    assert same(load_state(directory, env=env)[1], load_state(tmp_path / "whole", env=env)[1])
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (directory / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_killed_run_on_the_host_has_each_row_once(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["jaxrl_po", "tests.host.killed_run"])
    directory, rng, newest = tmp_path / "killed", random.Random(0), 0
    arguments = str(directory), jax.config.jax_compilation_cache_dir
    for _ in range(HOST_KILLS):
        process = context.Process(target=killed_run.go_on_host, args=arguments)
        process.start()
        while process.is_alive() and newest_iteration(directory) == newest:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        process.join()
        assert newest_iteration(directory) > newest
        newest = newest_iteration(directory)
    process = context.Process(target=killed_run.go_on_host, args=(*arguments, newest + 2))
    process.start()
    process.join()
    rows = [json.loads(row) for row in (directory / "metrics.jsonl").read_text().splitlines()]
    found = [(row["seed"], row["iteration"]) for row in rows]
    assert sorted(found) == [(s, i + 1) for s in range(2) for i in range(newest + 2)]
    with (directory / "metrics.csv").open() as file:
        table = [(int(row["seed"]), int(row["iteration"])) for row in csv.DictReader(file)]
    assert table == found


def newest_iteration(directory):
    folder = directory / "checkpoints"
    return max((int(p.name[:10]) for p in folder.glob("*.safetensors")), default=0)
