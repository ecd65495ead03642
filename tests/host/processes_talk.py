"""What two processes of a run say: python -m tests.host.processes_talk PORT ID FOLDER."""

import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrl_po import load_policy, resume, run
from jaxrl_po.host.machine.devices import device_mesh
from jaxrl_po.host.machine.processes import connect, peers_of
from jaxrl_po.host.runs.logging import Logger
from tests.host.small import RUN, config, random_walk


def main(port, process_id, folder):
    """Each process of the two."""
    connect(f"127.0.0.1:{port}", 2, int(process_id))
    first, folder = process_id == "0", Path(folder) / process_id
    peers = peers_of(device_mesh("all"))
    assert (peers.several, peers.first) == (True, first)
    talk(peers)

    with pytest.raises(ValueError, match=r"devices belong to the processes \d of 2: a run has"):
        device_mesh([device for device in jax.devices() if device not in jax.local_devices()])
    with pytest.raises(ValueError, match="devices=2: of several processes give"):
        device_mesh(2)
    assert not peers_of(device_mesh(jax.local_devices())).several

    # Only the first has files; what it refuses, each refuses.
    steps = config("ppo", 8, minibatch_shards=2)
    settings = {"env": random_walk(), "devices": "all", "segment_length": 2, **RUN}
    run(steps, directory=folder, until=4, evaluate_every=1, **settings)
    assert folder.exists() == first
    with pytest.raises(ValueError, match="already holds a run"):
        run(steps, directory=folder, **settings)
    if first:
        shutil.rmtree(folder / "policy")
    resume(folder, env=settings["env"], devices="all", quiet=True)
    if first:
        load_policy(folder, env=settings["env"])
        events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
        assert "policy/ was gone" in str(events), events
    broken = {**settings, "env": random_walk(hazard=0.2)}
    seen = []
    logger = Logger(lambda visit: seen.extend(visit.events), lambda: None)
    assert run(steps, loggers=[logger], **broken).diverged == {0: 1}
    assert bool(seen) == first
    assert not first or seen[0]["not_finite"]["reward"] == "nan or inf"
    with pytest.raises(ValueError, match="callbacks: the first process has 1"):
        run(steps, callbacks=[print] * first, **settings)

    # What fails in the first alone, fails in each.
    def full(visit):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        run(steps, loggers=[Logger(full, lambda: None)], **settings)
    ended = run(steps, callbacks=[lambda moment: not first], **settings)  # one says so to all
    assert ended.timesteps == 2 * 16


def talk(peers):
    """A value, an error, arrays, an agreement."""
    number = 3 if peers.first else 4
    assert peers.told(lambda: {"number": number, "infinite": -np.inf}) == {
        "number": 3,
        "infinite": -np.inf,
    }
    for error in (ValueError("of the first"), OSError("of the disk"), MemoryError("of it")):

        def fail(error=error):
            raise error

        kind = RuntimeError if isinstance(error, MemoryError) and not peers.first else type(error)
        with pytest.raises(kind, match=str(error)):
            peers.told(fail)
    sent = {
        "flags": np.array([True, False]),
        "half": np.array([[1.5], [-0.0]], jax.numpy.bfloat16),
        "none": np.zeros((0, 3)),
        "whole": np.array(2**63, np.uint64),
    }
    got = peers.arrays(sent if peers.first else {})
    for name, array in sent.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
        assert got[name].tobytes() == array.tobytes()
    assert [peers.some(flag) for flag in (False, peers.first, not peers.first)] == [0, 1, 1]


if __name__ == "__main__":
    main(*sys.argv[1:])
