"""One of several processes of a run: what the test starts, kills and starts again.

python -m tests.host.process_of_run PORT NUM_PROCESSES PROCESS_ID DIRECTORY METHOD [UNTIL]
"""

import sys
from pathlib import Path

import jax

from jaxrl_po import resume, run
from jaxrl_po.host.machine import processes
from tests.host.small import RUN, config, random_walk

ITERATIONS, SEGMENT = 100_000, 2


def main(port, num_processes, process_id, directory, method, until=None):
    """Start the run in the directory, or go on with it."""
    if int(num_processes) > 1:
        processes.HEARTBEAT_SECONDS = 5
        processes.connect(f"127.0.0.1:{port}", int(num_processes), int(process_id))
    env, until = random_walk(), None if until is None else int(until)
    shared = {"env": env, "devices": "all", "until": until}
    if (Path(directory) / "config.json").exists():
        resume(directory, quiet=True, **shared)
    else:
        schedule = config(method, ITERATIONS, minibatch_shards=2)
        settings = {"num_seeds": 2, "directory": directory, "segment_length": SEGMENT, **RUN}
        run(schedule, **settings, **shared)
    assert len(jax.devices()) == 2


if __name__ == "__main__":
    main(*sys.argv[1:])
