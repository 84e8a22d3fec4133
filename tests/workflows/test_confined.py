"""What looks at uploads is locked in: it reads the upload and nothing that it need not, and says so where it cannot."""

from __future__ import annotations

import ctypes
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ltg_core.errors import LtgError
from ltg_core.workers import Worker
from ltg_core.workflows import confined
from tests.conftest import draw

locked = pytest.mark.skipif(not confined.available(), reason="this kernel has no Landlock")
DESK = "ltg_core.workflows.looking:desk"

# Tries everything as the process itself and as one look of it; prints what worked.
TRY = """
import json, os, socket, sys, threading
from pathlib import Path
from ltg_core.workflows import confined
given = json.loads(sys.argv[1])
server = socket.create_server(("127.0.0.1", 0))

def works(act):
    try:
        act()
    except OSError:
        return False
    return True

def tries():
    return {
        "upload": works(lambda: open(given["upload"]).read()),
        "beside": works(lambda: open(given["upload"] + ".json").read()),
        "other": works(lambda: open(given["other"]).read()),
        "passwd": works(lambda: open("/etc/passwd").read()),
        "room": works(lambda: Path(given["room"], "a").write_text("x")),
        "workspace": works(lambda: Path(given["workspace"], "b").write_text("x")),
        "elsewhere": works(lambda: Path(given["elsewhere"], "c").write_text("x")),
        "connect": works(lambda: socket.create_connection(server.getsockname(), 5).close()),
        "library": works(lambda: open(json.__file__).read()),
    }

found = {"before": tries()}
confined.process({"readable": given["readable"], "writable": given["workspace"]})
found["process"] = tries()
def look():
    confined.look(Path(given["upload"]), Path(given["room"]))
    found["look"] = tries()
thread = threading.Thread(target=look)
thread.start()
thread.join()
found["after"] = tries()
print(json.dumps(found))
"""


@pytest.fixture
def tried(tmp_path: Path) -> Callable[..., dict[str, dict[str, bool]]]:
    def run(*readable: str) -> dict[str, dict[str, bool]]:
        for name in ("ws/uploads/1", "ws/uploads/2", "ws/tmp/room", "elsewhere"):
            (tmp_path / name).mkdir(parents=True)
        uploads = tmp_path / "ws" / "uploads"
        for file in (uploads / "1" / "net", uploads / "1" / "net.json", uploads / "2" / "net"):
            file.write_text("x")
        given = {
            "upload": str(uploads / "1" / "net"),
            "other": str(uploads / "2" / "net"),
            "room": str(tmp_path / "ws" / "tmp" / "room"),
            "workspace": str(tmp_path / "ws"),
            "elsewhere": str(tmp_path / "elsewhere"),
            "readable": list(readable) or [str(tmp_path / "ws")],
        }
        done = subprocess.run(
            [sys.executable, "-c", TRY, json.dumps(given)], capture_output=True, text=True, check=True
        )
        return dict(json.loads(done.stdout))

    return run


def kernel_version() -> int:
    """Of its Landlock; 4 knows TCP."""
    return int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def allowed(found: dict[str, bool]) -> set[str]:
    return {name for name, worked in found.items() if worked}


@locked
def test_the_process_reads_the_workspace_and_a_look_its_own_upload(
    tried: Callable[..., dict[str, dict[str, bool]]],
) -> None:
    found = tried()
    everything = set(found["before"])
    offline = {"connect"} if kernel_version() >= 4 else set()
    assert allowed(found["before"]) == everything, "nothing else forbids it"
    assert allowed(found["process"]) == everything - {"passwd", "elsewhere"} - offline
    assert allowed(found["look"]) == {"upload", "beside", "room", "library", "connect"} - offline
    assert found["after"] == found["process"], "the next look is not bound to the first one's file"


@locked
def test_where_any_file_may_be_named_a_look_still_reads_its_own_alone(
    tried: Callable[..., dict[str, dict[str, bool]]],
) -> None:
    found = tried("/")
    assert allowed(found["process"]) - {"connect"} == set(found["before"]) - {"elsewhere", "connect"}
    assert allowed(found["look"]) - {"connect"} == {"upload", "beside", "room", "library"}


@locked
def test_the_reader_cannot_follow_an_upload_out_of_its_folder(tmp_path: Path) -> None:
    for name in ("sent", "private", "room"):
        (tmp_path / name).mkdir()
    draw("stop", 3).save(tmp_path / "private" / "a.png")
    (tmp_path / "sent" / "a.png").symlink_to(tmp_path / "private" / "a.png")
    draw("stop", 3).save(tmp_path / "sent" / "b.png")
    options = {"readable": [str(tmp_path)], "writable": str(tmp_path)}
    worker = Worker(DESK, options, name="reader", first="ltg_core.workflows.confined:process")
    given = {"room": str(tmp_path / "room")}
    try:
        with pytest.raises(LtgError, match=r"Permission denied|cannot be read"):
            worker.run("picture", {"path": str(tmp_path / "sent" / "a.png"), **given})
        assert worker.run("picture", {"path": str(tmp_path / "sent" / "b.png"), **given}) == [32, 32]
        assert "NoNewPrivs:\t1" in Path(f"/proc/{worker.pid}/status").read_text()
    finally:
        worker.close()


def test_a_kernel_without_it_is_said_in_the_log_and_looks_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(confined, "available", lambda: False)
    with caplog.at_level(logging.WARNING):
        confined.process({"readable": [], "writable": str(tmp_path)})
    assert "has no Landlock" in caplog.text
    thread = threading.Thread(target=confined.look, args=(tmp_path / "a", tmp_path))
    thread.start()
    thread.join()
    (tmp_path / "still").write_text("writable")
