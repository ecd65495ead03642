"""What a run in a directory goes on from: its newest intact checkpoint, and what may differ."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl_po.envs.hosted import host_environment
from jaxrl_po.host.machine.conditions import differences
from jaxrl_po.host.machine.processes import Peers
from jaxrl_po.host.machine.wording import counted
from jaxrl_po.host.runs import checkpoint, logs
from jaxrl_po.host.runs.checkpoint import Checkpoint
from jaxrl_po.host.runs.directory import Description


class Resumption(NamedTuple):
    """What a run goes on from."""

    checkpoint: Checkpoint
    notices: list[str]  # what may differ from an uninterrupted run, or had to be mended


def find_checkpoint(
    path: Path, description: Description, env: Any, num_devices: int, warn: Callable[[str], None]
) -> Resumption | None:
    """What a run in a directory goes on from; None where it has not come to a checkpoint.

    Raises:
        ValueError: when there was one, and none that is intact is left.
    """
    folder, (config, settings, began, run_id) = path / "checkpoints", description
    restored, damaged = checkpoint.load_newest(folder)
    if damaged and restored is None:
        raise ValueError(f"no checkpoint in {folder} is intact: put one back")
    if restored is None:
        reached = logs.reached(path)
        # A first segment is logged before its checkpoint is written.
        if reached > min(settings.segment_length, config.num_iterations) or (
            reached and not folder.is_dir()
        ):
            raise ValueError(
                f"{path} has no checkpoint, though its logs tell of {reached} iterations: put "
                f"{folder} back, or begin again in another directory"
            )
        if "params" in settings.given:
            raise ValueError(
                f"{path} was stopped before the parameters that it was to start from were saved: "
                "begin again in another directory"
            )
        if reached:
            warn(
                "the run was stopped before its first checkpoint: it begins again, and does anew "
                f"the {counted(reached, 'iteration')} in its logs"
            )
        return None
    check_run(restored, run_id, folder)
    notices = [
        f"not used: {file.reason}; it is now {checkpoint.set_aside(file.path).name}"
        for file in damaged
    ]
    if differing := differences(began, num_devices):
        notices.append(
            f"the run began under other conditions ({'; '.join(differing)}): from here on it may "
            "differ in the last bits from an uninterrupted one"
        )
    if host_environment(config.env_id, env, config.env_params):
        notices.append(
            "environments on the host are in no checkpoint: each begins a new episode, and what "
            "follows differs from an uninterrupted run"
        )
    return Resumption(restored, notices)


def check_run(saved: Checkpoint, run_id: str, folder: Path) -> None:
    """Raise unless a checkpoint is of the run with this id; before there were ids it says none."""
    if saved.notes.get("run", "") != run_id:
        name = checkpoint.find(folder, saved.iteration)
        raise ValueError(f"{name} belongs to another run: move it away")


def found_by_first(peers: Peers, find: Callable[[], Resumption | None]) -> Resumption | None:
    """What the first process finds, in each; the arrays go over as they are asked for.

    Raises:
        ValueError: where `find` does.
    """
    found: list[Resumption] = []

    def head() -> dict[str, Any] | None:
        resumption = find()
        if resumption is None:
            return None
        found.append(resumption)
        saved, notices = resumption
        return {"iteration": saved.iteration, "notes": saved.notes, "notices": notices}

    said = peers.told(head)
    if said is None:
        return None
    arrays = peers.arrays(found[0].checkpoint.arrays if found else {})
    return Resumption(Checkpoint(said["iteration"], arrays, said["notes"]), said["notices"])
