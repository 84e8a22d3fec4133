"""Nothing leaves the machine unasked: every process is listened to, and none may connect to anything but itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import TinyWorld

ROOT = Path(__file__).resolve().parent.parent
LISTENER = """
import ipaddress, os, sys

def local(host):
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False

def hear(event, given):
    if event == "socket.getaddrinfo":
        where = given[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(given[1], tuple):
        where = given[1][0]
    elif event in ("socket.gethostbyname", "socket.gethostbyaddr"):
        where = given[0]
    else:
        return
    known = event == "socket.gethostbyname" and where == os.uname().nodename
    if not local(where) and not known:
        with open(os.environ["HEARD"], "a") as file:
            file.write(f"{event} {where!r} {sys.argv[:3]}\\n")
        raise OSError("the network is closed")

sys.addaudithook(hear)
with open(os.environ["HEARD"] + ".processes", "a") as file:
    file.write(f"{os.getpid()}\\n")
"""


@pytest.fixture
def closed(tmp_path: Path) -> dict[str, str]:
    """An environment in which every interpreter listens to its own sockets, also that of a child."""
    (tmp_path / "listener").mkdir()
    (tmp_path / "listener" / "sitecustomize.py").write_text(LISTENER)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "GRADIO_"))}
    return {**kept, "PYTHONPATH": str(tmp_path / "listener"), "HEARD": str(tmp_path / "heard")}


def test_the_listener_hears_what_would_leave_the_machine(closed: dict[str, str]) -> None:
    code = "import urllib.request as u\ntry: u.urlopen('http://example.org')\nexcept OSError: print('closed')"
    done = subprocess.run([sys.executable, "-c", code], env=closed, capture_output=True, text=True)
    assert "closed" in done.stdout and "example.org" in Path(closed["HEARD"]).read_text()


def test_the_app_imports_fits_and_generates_without_a_connection_to_anywhere(
    tiny_world: TinyWorld,
    tiny_classifier_file: Path,
    tiny_generator: Path,
    tmp_path: Path,
    closed: dict[str, str],
    monkeypatch: Any,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "app"))
    from driver import Driver

    from app.settings import free_port

    port, ws = free_port("127.0.0.1", 0), tmp_path / "ws"
    command = [sys.executable, "app.py", str(tiny_world.folder), "--model", str(tiny_classifier_file)]
    command += [
        "--generator",
        str(tiny_generator),
        "--workspace",
        str(ws),
        "--port",
        str(port),
        "--no-browser",
    ]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=closed, stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(transport=httpx.HTTPTransport(retries=9), timeout=60) as client:
            assert client.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        wait(lambda: state(ws, "classifier") and state(ws, "generator"))
        with Driver(f"http://127.0.0.1:{port}") as page:
            page.call("setup-fit", "click")
            wait(lambda: state(ws, "head") or heads(ws))
    finally:
        server.terminate()
        server.wait(60)
    asked = [sys.executable, "-m", "ltg_core", "generate", "--class", "stop", "--number", "1", "--steps", "2"]
    done = subprocess.run(
        [*asked, "--workspace", str(ws)], cwd=ROOT, env=closed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    processes = Path(closed["HEARD"] + ".processes").read_text().split()
    assert len(set(processes)) >= 3, "the server, a worker and the command"
    heard = Path(closed["HEARD"])
    assert not heard.exists(), heard.read_text()


def state(ws: Path, name: str) -> Any:
    from ltg_core.data.workspace import Workspace

    if not ws.exists():
        return None
    opened = Workspace(ws)
    try:
        return opened.get_state(name)
    finally:
        opened.close()


def heads(ws: Path) -> Any:
    from ltg_core.data.workspace import Workspace

    opened = Workspace(ws)
    try:
        return [run for run in opened.runs() if "head" in run.kind and run.state == "done"]
    finally:
        opened.close()


def wait(done: Any, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not end"
        time.sleep(0.3)
