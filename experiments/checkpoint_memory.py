"""What saving and restoring a large state over devices takes in memory.

    python experiments/checkpoint_memory.py     # writes experiments/results/checkpoint_memory.md

A state of 1 GiB, four arrays cut over the devices that a CPU pretends to be, goes through the
functions that a run saves and resumes by. Each stage is a process of its own.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

RESULTS = pathlib.Path(__file__).with_name("results") / "checkpoint_memory.md"
STAGES = (("save", 4), ("restore", 4), ("restore", 2))  # on so many devices
PAGE = """\
# Memory of a checkpoint: `python experiments/checkpoint_memory.py`

{measured}

A state of {size:.2f} GiB in four arrays, cut over devices. "Beside the state": the most anonymous
memory that the process had at a time, less what it has with the state alone; a saved state is
copied once, so that it is written while training goes on.

| stage | devices | beside the state, GiB | of its size | seconds |
|---|---|---|---|---|
{rows}
"""


def anonymous() -> float:
    """Bytes of memory that are no file's."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024.0 * float(status.partition("RssAnon:")[2].split()[0])


def stage(name: str, num_devices: int, folder: pathlib.Path, rows: int) -> dict[str, float]:
    """The peak beside the state, and seconds."""
    import threading

    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from jaxrl_po.host.machine.arrays import from_host, to_host
    from jaxrl_po.host.runs import checkpoint

    mesh = Mesh(np.array(jax.devices()[:num_devices]), ("envs",))
    cut = NamedSharding(mesh, PartitionSpec(None, "envs"))
    shape = jax.ShapeDtypeStruct((1, rows, 1 << 16), np.float32)
    shapes = {str(i): shape for i in range(4)}
    most, ended = [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.002):
            most[0] = max(most[0], anonymous())

    def value(i: int) -> jax.Array:
        numbers = jax.lax.broadcasted_iota(np.float32, shape.shape, 1)
        return numbers + 1000.0 * i

    make = jax.jit(value, out_shardings=cut)
    jax.block_until_ready(make(0))
    before = anonymous()
    state = {n: make(int(n)) for n in shapes} if name == "save" else {}
    jax.block_until_ready(state)
    held = anonymous()
    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    if name == "save":
        checkpoint.save(folder, 1, to_host([state]), {})
    else:
        saved, _ = checkpoint.load_newest(folder)
        assert saved is not None
        state = from_host(shapes, saved.arrays, dict.fromkeys(shapes, cut))
        jax.block_until_ready(state)
        held = before + sum(x.nbytes for x in state.values())
    seconds = time.perf_counter() - started
    ended.set()
    watcher.join()
    for n, x in state.items():
        assert len(x.sharding.device_set) == num_devices
        assert bool((x == make(int(n))).all())
    size = sum(x.nbytes for x in state.values())
    return {"beside": max(0.0, most[0] - held), "size": size, "seconds": seconds}


def alone(name: str, num_devices: int, folder: str, rows: int) -> dict[str, float]:
    """The same in a process of its own."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}",
        "JAX_PLATFORMS": "cpu",
        "NPROC": "16",
    }
    command = [sys.executable, __file__, "--stage", name, str(num_devices), folder]
    done = subprocess.run(
        [*command, "--rows", str(rows)], env=environment, check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """All stages, and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", nargs=3)
    parser.add_argument("--rows", type=int, default=1024)  # of 256 KiB, in each of four arrays
    parser.add_argument("--page", type=pathlib.Path, default=RESULTS)
    asked = parser.parse_args()
    if asked.stage:
        name, num_devices, folder = asked.stage
        print(json.dumps(stage(name, int(num_devices), pathlib.Path(folder), asked.rows)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = [alone(name, count, folder, asked.rows) for name, count in STAGES]
    from scores import machine

    rows = [
        f"| {name} | {count} | {x['beside'] / 2**30:.3f} | {x['beside'] / x['size']:.2f} "
        f"| {x['seconds']:.1f} |"
        for (name, count), x in zip(STAGES, found, strict=True)
    ]
    measured = f"{time.strftime('%Y-%m-%d')}; {machine()}."
    size = found[0]["size"] / 2**30
    asked.page.write_text(PAGE.format(measured=measured, size=size, rows="\n".join(rows)))
    print(asked.page.read_text())


if __name__ == "__main__":
    main()
