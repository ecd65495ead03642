"""`python -m jaxrl_po report | view DIR…`: runs to look at."""

import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxrl_po.host.machine.arguments import integer
from jaxrl_po.host.report.server import Viewer, serve
from jaxrl_po.host.report.write import write_report

DEFAULT_PORT = 8421


def report_command(directories: list[Path], html: Path | None = None, no_gif: bool = False) -> None:
    """Write one HTML file that shows runs, sweeps and RLHF runs, and needs no network.

    Args:
        directories: of runs, sweeps and RLHF runs
        html: the file to write; by default report.html in the first directory
        no_gif: do not play an episode of the saved policy for a picture of it
    """
    path = write_report(directories, html or directories[0] / "report.html", gif=not no_gif)
    print(f"{path}: {path.stat().st_size / 1e3:,.0f} kB")


def view_command(directories: list[Path], port: int = DEFAULT_PORT, browser: bool = False) -> None:
    """Serve the same page on this machine alone, live, until Ctrl-C.

    Args:
        directories: of runs, sweeps and RLHF runs, which may be going on
        port: of 127.0.0.1; 0 for a free one
        browser: open the page in a browser
    """
    viewer = Viewer(directories, integer("port", port, 0))
    print(f"{viewer.url} shows {', '.join(map(str, directories))} (Ctrl-C ends)", flush=True)
    if browser:
        webbrowser.open(viewer.url)
    serve(viewer)


COMMANDS: dict[str, Callable[..., Any]] = {"report": report_command, "view": view_command}
