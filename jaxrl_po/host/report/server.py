"""The same page, live: a server for this machine alone, which gives the page and its data."""

import errno
import hashlib
import os
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jaxrl_po.host.report.page import json_text, page
from jaxrl_po.host.report.sources import Source, open_sources, page_data
from jaxrl_po.host.report.write import picture

ADDRESS = "127.0.0.1"
PAGE, DATA = "/", "/data.json"


class Viewer(ThreadingHTTPServer):
    """Serves the page and its data, and nothing else."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, directories: Sequence[str | os.PathLike[str]], port: int = 0) -> None:
        """Open the directories and a port of 127.0.0.1; 0 for a free one.

        Raises:
            ValueError: naming the directory that is no run, or the port that is in use.
        """
        self._sources: list[Source] = open_sources(directories)
        self._pictures = [picture(Path(path), play_it=False) for path in directories]
        self._lock = threading.Lock()  # what was read of the files is kept between requests
        try:
            super().__init__((ADDRESS, port), Handler)
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            reason = "it is in use by another process" if taken else str(error)
            raise ValueError(f"port={port}: {reason}; 0 takes a free one") from None

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"

    def data(self) -> dict[str, Any]:
        """All that the page shows, as it is now."""
        with self._lock:
            found = page_data(self._sources)
        for run, shown in zip(found["runs"], self._pictures, strict=True):
            run |= shown
        return found


class Handler(BaseHTTPRequestHandler):
    """Answers a request."""

    server: Viewer
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Answer until the connection ends; a browser that goes away is no fault."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        """Give the page or its data; any other address is not there."""
        # A page of another site whose name was made to lead here must not read it. Browsers leave
        # out port 80, which another port here may be reached by, through a tunnel.
        host = (self.headers.get("Host") or "").partition(":")[0]
        if host not in (ADDRESS, "localhost"):
            self._answer(403, b"only 127.0.0.1 and localhost are served here", "text/plain")
            return
        if self.path not in (PAGE, DATA):
            self._answer(404, b"there is only / and /data.json here", "text/plain")
            return
        try:
            data = self.server.data()
        except (ValueError, OSError) as error:  # the page shows it, and asks again
            self._answer(500, str(error).encode(errors="replace"), "text/plain")
            return
        if self.path == PAGE:
            self._answer(200, page(data, live=True).encode(), "text/html")
            return
        body = json_text(data).encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        if self.headers.get("If-None-Match") == tag:
            self._answer(304, b"", "application/json", tag)
        else:
            self._answer(200, body, "application/json", tag)

    def _answer(self, status: int, body: bytes, kind: str, tag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if tag:
            self.send_header("ETag", tag)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not told: the page asks every few seconds."""


def serve(viewer: Viewer) -> None:
    """Serve until Ctrl-C."""
    try:
        viewer.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        viewer.server_close()
