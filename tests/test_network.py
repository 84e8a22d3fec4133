"""Nothing leaves the machine unasked: every process is listened to, and none may connect to anything but itself."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
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


NETWORK = "connect,sendto,sendmsg,sendmmsg"
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')


def traced(file: Path) -> list[str]:
    """Words before a command that write down what it and all its children send; [] where that cannot be."""
    found = shutil.which("strace")
    if found is None:
        return []
    command = [found, "-D", "-f", "-qq", "-e", f"trace={NETWORK}", "-o", str(file)]
    works = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    return command if works else []


def outside(file: Path) -> list[str]:
    """System calls that named an address of another machine."""
    found = []
    for line in file.read_text(errors="replace").splitlines():
        named = [one or other for one, other in ADDRESS.findall(line)]
        if any(not ipaddress.ip_address(one).is_loopback for one in named):
            found.append(line)
    return found


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which every interpreter listens to its own sockets, also that of a child."""
    tmp_path = tmp_path_factory.mktemp("closed")
    (tmp_path / "listener").mkdir()
    (tmp_path / "listener" / "sitecustomize.py").write_text(LISTENER)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "GRADIO_"))}
    return {**kept, "PYTHONPATH": str(tmp_path / "listener"), "HEARD": str(tmp_path / "heard")}


def test_the_listener_hears_what_would_leave_the_machine(closed: dict[str, str], tmp_path: Path) -> None:
    code = "import urllib.request as u\ntry: u.urlopen('http://example.org')\nexcept OSError: print('closed')"
    heard = {**closed, "HEARD": str(tmp_path / "heard")}
    done = subprocess.run([sys.executable, "-c", code], env=heard, capture_output=True, text=True)
    assert "closed" in done.stdout and "example.org" in Path(heard["HEARD"]).read_text()


def healthy(port: int) -> bool:
    """Whether the server answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def session(
    tiny_world: TinyWorld,
    tiny_classifier_file: Path,
    tiny_generator: Path,
    tmp_path_factory: pytest.TempPathFactory,
    closed: dict[str, str],
) -> SimpleNamespace:
    """A server that imports and fits a head, and a command that generates; what was heard meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tests" / "app"))
        from driver import Driver

    from app.settings import free_port

    folder = tmp_path_factory.mktemp("session")
    port, ws, trace = free_port("127.0.0.1", 0), folder / "ws", folder / "trace"
    watching = traced(trace)
    command = [sys.executable, "app.py", str(tiny_world.folder), "--model", str(tiny_classifier_file)]
    command += ["--generator", str(tiny_generator), "--workspace", str(ws)]
    command += ["--port", str(port), "--no-browser"]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(
            [*watching, *command], cwd=ROOT, env=closed, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait(lambda: healthy(port))
        wait(lambda: state(ws, "classifier") and state(ws, "generator"))
        with Driver(f"http://127.0.0.1:{port}") as page:
            page.call("setup-fit", "click")
            wait(lambda: state(ws, "head") or heads(ws))
    finally:
        server.terminate()
        server.wait(180)
    asked = [sys.executable, "-m", "ltg_core", "generate", "--class", "stop", "--number", "1", "--steps", "2"]
    done = subprocess.run(
        [*asked, "--workspace", str(ws)], cwd=ROOT, env=closed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(trace=trace if watching else None, heard=Path(closed["HEARD"]))


def test_the_app_imports_fits_and_generates_without_a_connection_to_anywhere(
    session: SimpleNamespace,
) -> None:
    processes = Path(str(session.heard) + ".processes").read_text().split()
    assert len(set(processes)) >= 3, "the server, a worker and the command"
    assert not session.heard.exists(), session.heard.read_text()


def test_no_library_connects_past_python_either(session: SimpleNamespace, tmp_path: Path) -> None:
    if session.trace is None:
        pytest.skip("strace is not here, or may not trace: what libraries send past Python is not heard")
    code = "import socket as s\none = s.socket()\none.setblocking(False)\none.connect_ex(('192.0.2.1', 9))"
    subprocess.run([*traced(tmp_path / "known"), sys.executable, "-c", code], check=True)
    assert len(outside(tmp_path / "known")) == 1, "it hears"
    assert len(session.trace.read_text().splitlines()) > 3, "the server's own, on this machine"
    assert outside(session.trace) == []


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
