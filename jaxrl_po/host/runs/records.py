"""What a run keeps in its directory while it goes on: logs, checkpoints, the best policy."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl_po.config import Config
from jaxrl_po.host.machine.files import AppendFile, sync_directory
from jaxrl_po.host.policies.numpy_policy import read_folder
from jaxrl_po.host.policies.policy import policy_arrays, write_policy
from jaxrl_po.host.runs import checkpoint, logs
from jaxrl_po.host.runs.checkpoint import Checkpoint
from jaxrl_po.host.runs.directory import STREAMS
from jaxrl_po.host.runs.logging import Logger, event_logger, table_logger
from jaxrl_po.host.runs.segments import Assessment
from jaxrl_po.types import PyTree


class Best(NamedTuple):
    """The best greedy evaluation so far."""

    iteration: int | None = None  # with the highest mean over seeds: its checkpoint is kept
    mean_return: float = -np.inf
    policy_return: float = -np.inf  # of the policy that is saved: the best of any seed


class Records:
    """The files of one run, open for writing.

    A thread of its own brings checkpoints and policies to the disk while the next segment runs:
    waiting for a disk takes longer than all else a visit does.
    """

    def __init__(
        self,
        directory: Path,
        keep: int,
        policy_description: dict[str, Any],
        run_id: str,
        restored: Checkpoint | None,
    ) -> None:
        """Open the files, mended and cut back to where the restored checkpoint was made.

        Raises:
            ValueError: naming a log that cannot be mended.
        """
        self.checkpoints = directory / "checkpoints"
        self._keep = keep
        self._directory = directory
        self._policy_description = policy_description
        self._run_id = run_id
        notes: dict[str, Any] = {"positions": dict.fromkeys(STREAMS, 0)}
        if restored:
            notes = restored.notes
        positions, self.mended = logs.mend(directory, notes["positions"], notes.get("digests", {}))
        self.checkpoints.mkdir(exist_ok=True)
        self._files = {name: AppendFile(directory / name, positions[name]) for name in STREAMS}
        sync_directory(directory)
        jsonl, csv, events = self._files.values()
        self.loggers: list[Logger] = [table_logger(jsonl, csv), event_logger(events)]
        self._best = Best(**notes["best"]) if restored else Best()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._pending: list[Future[Any]] = []

    def lost_policy(self) -> tuple[int, float] | None:
        """Where the saved policy is gone: iteration of the best evaluation, and its own return.

        The next evaluation then counts as the best so far.
        """
        best = self._best
        if best.iteration is None or best.policy_return == -np.inf:
            return None
        try:
            read_folder(self._directory / "policy")
        except (ValueError, OSError):
            self._best = Best()
            return best.iteration, best.policy_return
        return None

    def evaluated(
        self,
        iteration: int,
        assessment: Assessment,
        blocks: list[PyTree],
        seeds: list[int],
        config: Config,
    ) -> None:
        """Take note of an evaluation; save the policy whose greedy return is the best so far."""
        returns = np.asarray(assessment.greedy.episode_return).mean(axis=1)
        returns = np.where(np.isnan(returns), -np.inf, returns)
        if returns.mean() >= self._best.mean_return:
            self._best = self._best._replace(iteration=iteration, mean_return=float(returns.mean()))
        member = int(returns.argmax())
        if returns[member] < self._best.policy_return:
            return
        self._best = self._best._replace(policy_return=float(returns[member]))
        size = len(seeds) // len(blocks)
        notes = {
            "seed": seeds[member],
            "iteration": iteration,
            "greedy_return": self._best.policy_return,
        }
        self._submit(
            write_policy,
            self._directory / "policy",
            self._policy_description,
            policy_arrays(config, blocks[member // size], member % size),
            notes,
        )

    def checkpoint(self, iteration: int, state: dict[str, np.ndarray]) -> None:
        """Save the state of all seeds, as `to_host` gives it, and where the logs stand."""
        notes = {
            "run": self._run_id,
            "positions": {name: file.position for name, file in self._files.items()},
            "digests": {name: file.digest for name, file in self._files.items()},
            "best": self._best._asdict(),
        }
        self._submit(self._write_checkpoint, iteration, state, notes)

    def wait(self) -> None:
        """Wait for what is being written.

        Raises:
            OSError: when it could not be.
        """
        pending, self._pending = self._pending, []
        for future in pending:
            future.result()

    def close(self) -> None:
        """Finish writing, and close the files."""
        self._writer.shutdown()
        for file in self._files.values():
            file.close()

    def _submit(self, function: Callable[..., None], *args: Any) -> None:
        self._pending.append(self._writer.submit(function, *args))

    def _write_checkpoint(
        self, iteration: int, arrays: dict[str, np.ndarray], notes: dict[str, Any]
    ) -> None:
        for file in self._files.values():
            file.sync()
        checkpoint.save(self.checkpoints, iteration, arrays, notes)
        checkpoint.keep_only(self.checkpoints, self._keep, notes["best"]["iteration"])
