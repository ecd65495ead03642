"""The description of a run in its directory: what is being run, and what may change."""

import json
from pathlib import Path
from typing import NamedTuple

import jax

from jaxrl_po.algorithms import config_from_dict
from jaxrl_po.config import Config
from jaxrl_po.host.files import write_whole

FORMAT = 1


class RunSettings(NamedTuple):
    """What a run is beside its config; fixed when it starts."""

    seed: int
    num_seeds: int
    segment_length: int  # iterations between two visits of the host
    evaluate_every: int  # segments
    num_episodes: int  # of an evaluation
    max_episode_steps: int
    keep_checkpoints: int
    given: list[str]  # "env", "network": passed as objects, to be passed again on resume


def write_description(directory: Path, config: Config, settings: RunSettings) -> None:
    """Write config.json."""
    description = {
        "format": FORMAT,
        "config": config.to_dict(),
        "run": settings._asdict(),
        "versions": {"jax": jax.__version__, "backend": jax.default_backend()},
    }
    write_whole(directory / "config.json", (json.dumps(description, indent=2) + "\n").encode())


def read_description(directory: Path) -> tuple[Config, RunSettings, dict[str, str]]:
    """Read config.json: the config, the settings, and the versions it was written under.

    Raises:
        ValueError: naming what is missing, unreadable, or from a newer version.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise ValueError(
            f"directory={str(directory)!r} holds no run: there is no {path.name} in it"
        )
    try:
        description = json.loads(path.read_text())
        if description["format"] > FORMAT:
            raise ValueError(
                f"its format is {description['format']}; this version of jaxrl_po reads up to "
                f"{FORMAT}: upgrade jaxrl_po"
            )
        config = config_from_dict(description["config"])
        return config, RunSettings(**description["run"]), description["versions"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be used: {error or type(error).__name__}") from error


def changed_fields(old: Config, new: Config) -> list[str]:
    """Names of the fields in which two configs differ, less what a resumed run may change."""
    before, after = old.to_dict(), new.to_dict()
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    longer = new.total_timesteps >= old.total_timesteps and not new.anneal_lr
    return [name for name in changed if not (name == "total_timesteps" and longer)]
