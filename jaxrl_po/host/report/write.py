"""A report: one HTML file about runs, sweeps and RLHF runs, to keep and to send."""

import base64
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxrl_po.host.machine.files import named, write_whole
from jaxrl_po.host.policies.play import play
from jaxrl_po.host.policies.policy import load_policy
from jaxrl_po.host.report.page import page
from jaxrl_po.host.report.sources import open_sources, page_data, stamp

MAX_GIF = 3_000_000  # bytes of a picture that goes into the page


def write_report(
    directories: Sequence[str | os.PathLike[str]],
    file: str | os.PathLike[str],
    *,
    gif: bool = True,
) -> Path:
    """Write one HTML file that shows what directories hold, and needs no network.

    Runs, sweeps and RLHF runs may be mixed, and may still be going on: what they have by now is
    shown. Curves of several are drawn over each other.

    Args:
        directories: run, sweep and RLHF directories.
        file: to write; one of the name is replaced.
        gif: show an episode of each run's saved policy: a GIF that is in its directory, or else
            one that is played now, where the environment can be drawn. Where it cannot, the page
            says why.

    Returns:
        The file.

    Raises:
        ValueError: naming the directory that is no run, or the file in it that cannot be read.
        OSError: when the file cannot be written.
    """
    path = Path(file)
    data = page_data(open_sources(directories))
    if path.is_dir():
        raise ValueError(f"file={str(path)!r} is a directory")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise named(error, f"cannot write {path}") from None
    for run, directory in zip(data["runs"], map(Path, directories), strict=True):
        run |= picture(directory, play_it=gif)
    write_whole(path, page(data, live=False, stamp=stamp()).encode())
    return path


def picture(directory: Path, play_it: bool) -> dict[str, Any]:
    """A GIF of a directory's policy as an address of its own, or why there is none."""
    found = sorted(path for path in directory.glob("*.gif") if path.is_file())
    if found:
        return _embedded(found[0])
    if not play_it or not (directory / "policy").is_dir():
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episode.gif"
        try:
            play(load_policy(directory), num_episodes=1, gif=path)
        except (ValueError, ImportError) as error:
            return {"no_gif": f"its episodes are not drawn: {error}"}
        return _embedded(path)


def _embedded(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    if len(data) > MAX_GIF:
        return {"no_gif": f"{path.name} has {len(data):,} bytes: too many for the page"}
    return {"gif": f"data:image/gif;base64,{base64.b64encode(data).decode()}"}
