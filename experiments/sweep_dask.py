"""A sweep over a Dask cluster: two workers on this machine, or those of a scheduler elsewhere.

    python experiments/sweep_dask.py                          # a LocalCluster of two workers
    python experiments/sweep_dask.py --scheduler tcp://10.0.0.1:8786

Needs the extra `dask`. Stopped, it goes on where it was: members are kept in runs/sweep_dask.
"""

import argparse
import contextlib
from pathlib import Path

import jax
from distributed import Client, LocalCluster

from jaxrl_po import PPOConfig, sweep
from jaxrl_po.host.sweeps.ranges import log

CONFIG = PPOConfig(env_id="CartPole-v1", total_timesteps=50_000, anneal_lr=True)
SPACE = {"clip_eps": [0.1, 0.2, 0.4], "learning_rate": log(1e-4, 1e-2, 3)}
NUM_SEEDS = 4
RUN = Path("runs") / "sweep_dask"


def main() -> None:
    """9 settings x 4 seeds, in tasks of four members."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--scheduler", help="address of a cluster that is there")
    address = parser.parse_args().scheduler
    # Each program is compiled once, and not once a worker, where they see the same files.
    jax.config.update("jax_compilation_cache_dir", str((RUN / "compiled").absolute()))
    with contextlib.ExitStack() as stack:
        if address is None:
            cluster = LocalCluster(n_workers=2, threads_per_worker=1)
            address = stack.enter_context(cluster).scheduler_address
        client = stack.enter_context(Client(address))
        executor = client.get_executor()
        result = sweep(
            CONFIG, SPACE, NUM_SEEDS, directory=RUN, executor=executor, chunk_size=NUM_SEEDS
        )
    print(result.summary)


if __name__ == "__main__":  # workers import this file
    main()
