"""The live page: it follows a run, and gives nothing but itself."""

import json
import socket
import struct
import threading
from http.client import HTTPConnection

import pytest

from jaxrl_po.host.cli import main as cli
from jaxrl_po.host.report.server import ADDRESS, Viewer, serve
from tests.host.report.test_report import language


@pytest.fixture
def served(tmp_path):
    directory = language(tmp_path / "lm", [])
    viewer = Viewer([directory])
    thread = threading.Thread(target=viewer.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield directory, viewer
    viewer.shutdown()
    thread.join()
    viewer.server_close()


def ask(viewer, path, **headers):
    connection = HTTPConnection(ADDRESS, viewer.server_address[1], timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.getheader("ETag"), body


def test_the_page_follows_a_run(served):
    directory, viewer = served
    assert b'"live": true' in ask(viewer, "/")[2]
    _, tag, body = ask(viewer, "/data.json")
    assert json.loads(body)["runs"][0]["groups"][0]["x"] == [1]
    assert ask(viewer, "/data.json", **{"If-None-Match": tag})[0] == 304
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"seed": 0, "iteration": 2, "objective/scores": 0.75}\n{"seed": 0, "itera')
    status, _, body = ask(viewer, "/data.json", **{"If-None-Match": tag})
    assert status == 200
    assert json.loads(body)["runs"][0]["groups"][0]["values"]["objective/scores"] == [[0.5, 0.75]]


@pytest.mark.parametrize(
    "path", ["/rlhf.json", "/../rlhf.json", "/%2e%2e/etc/passwd", "//etc/passwd", "/data.json?x"]
)
def test_nothing_else_is_served(path, served):
    assert ask(served[1], path)[0] == 404


def test_another_sites_name_for_this_machine_is_refused(served):
    assert ask(served[1], "/data.json", Host="evil.example:80")[0] == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [(ADDRESS, 200), ("localhost", 200), ("localhost:8000", 200), ("evil.example", 403)],
)
def test_the_port_may_be_left_out_as_browsers_do_with_80(host, status, served):
    assert ask(served[1], "/data.json", Host=host)[0] == status


def test_a_damaged_log_is_told_and_does_not_end_the_server(served):
    directory, viewer = served
    with (directory / "metrics.jsonl").open("a") as file:
        file.write("nonsense\n")
    status, _, body = ask(viewer, "/data.json")
    assert (status, b"metrics.jsonl, line 2" in body) == (500, True)
    assert ask(viewer, "/gone")[0] == 404


def test_a_browser_that_goes_away_is_no_fault(served, monkeypatch):
    viewer, gone, ended, faults = served[1], threading.Event(), threading.Event(), []
    monkeypatch.setattr(viewer, "data", lambda: {"runs": [], "waited": gone.wait(10)})
    monkeypatch.setattr(viewer, "handle_error", lambda *request: faults.append(request))
    close = viewer.shutdown_request
    monkeypatch.setattr(viewer, "shutdown_request", lambda request: (close(request), ended.set()))
    connection = socket.create_connection(viewer.server_address[:2])
    connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()  # at once, by a reset
    gone.set()
    assert ended.wait(10)
    assert not faults


def test_bad_input_is_refused_by_name(served, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "kept as it is")
    directory, viewer = served
    with pytest.raises(ValueError, match="it is in use by another process"):
        Viewer([directory], viewer.server_address[1])
    with pytest.raises(SystemExit) as end:
        cli.main(["view", str(tmp_path)])
    assert end.value.code == 2
    assert "holds no run" in capsys.readouterr().err
    cli.main(["report", str(directory), "--html", str(tmp_path / "a.html"), "--no-gif"])
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")


def test_ctrl_c_ends_it(served, monkeypatch):
    viewer = Viewer([served[0]])

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(viewer, "serve_forever", stop)
    serve(viewer)
    assert viewer.socket.fileno() == -1
