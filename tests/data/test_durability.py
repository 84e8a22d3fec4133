"""What survives a reopening, a kill, a full disk and a newer version."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ltg_core.data.blobs import temporary_name
from ltg_core.data.database import Database, explained
from ltg_core.data.schema import SCHEMA_VERSION
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, WorkspaceError

_WRITER = """
import sys
import numpy as np
from ltg_core.data.workspace import Workspace

ws = Workspace(sys.argv[1])
run = ws.start_run("generate", {"steps": 20}, seed=7, hashes={"classifier": "abc"})
rng = np.random.default_rng(0)
for i in range(100_000):
    ws.add_image(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), origin=run.id, meta={"seed": i})
    if i == 20:
        print(run.id, flush=True)
"""


def test_a_new_database_that_several_open_at_once_is_opened_by_all_of_them(tmp_path: Path) -> None:
    gate = threading.Barrier(6)

    def opened(number: int) -> int:
        gate.wait(60)
        database = Database(tmp_path / f"{number}.sqlite")  # "has been writing for more than 10 seconds"
        try:
            return len(database.rows("SELECT version FROM schema_version"))
        finally:
            database.close()

    with ThreadPoolExecutor(6) as at_once:
        for number in range(30):
            assert list(at_once.map(opened, [number] * 6)) == [1] * 6


def test_connections_are_lent_to_whatever_thread_asks_and_few_lie_ready(tmp_path: Path) -> None:
    database = Database(tmp_path / "longtail.sqlite")
    opened: list[int] = []
    connect = database._connect

    def counted() -> Any:
        opened.append(1)
        return connect()

    database._connect = counted
    for _ in range(20):  # threads that come one after another
        with ThreadPoolExecutor(1) as other:
            assert other.submit(database.row, "SELECT 1").result()[0] == 1
    assert len(opened) == 0 and len(database._ready) == 1, "the one that made the tables served them all"
    gate = threading.Barrier(9)

    def writes(number: int) -> None:
        gate.wait(60)
        with database.write() as connection, database.write():
            connection.execute("INSERT INTO state (key, value) VALUES (?, '1')", (f"number {number}",))
            # what the transaction has written so far is seen by its own questions, and by their parts
            asked = "SELECT key FROM state WHERE key = ?"
            assert database.row(asked, (f"number {number}",)) is not None
            assert len(list(database.parts(asked, (f"number {number}",)))) == 1

    with ThreadPoolExecutor(9) as at_once:
        list(at_once.map(writes, range(9)))
    assert database.row("SELECT count(*) FROM state")[0] == 9
    assert len(database._ready) <= 4 and not database._lent
    for part in database.parts("SELECT key FROM state", size=2):  # a question between two parts has its own
        assert database.row("SELECT count(*) FROM state")[0] == 9 and len(part) <= 2
    reading = database.parts("SELECT key FROM state", size=2)
    next(reading)
    assert len(database._lent) == 1
    reading.close()
    assert not database._lent
    with pytest.raises(ValueError), database.write() as connection:
        connection.execute("DELETE FROM state")
        raise ValueError
    assert database.row("SELECT count(*) FROM state")[0] == 9
    database.close()
    with pytest.raises(WorkspaceError, match="was closed"):
        database.row("SELECT 1")


def test_reopening_shows_what_was_there(tmp_path: Path, make):
    with Workspace(tmp_path / "ws") as ws:
        id = ws.add_image(make(1), origin="real", caption="hello")
        run = ws.start_run("score", {"batch": 3}, seed=1, hashes={"classifier": "abc"})
        ws.finish_run(run.id, "done", result={"n": 1})
    with Workspace(tmp_path / "ws") as ws:
        assert ws.sample(id).caption == "hello"
        again = ws.run(run.id)
        assert (again.state, again.settings, again.seed, again.result) == ("done", {"batch": 3}, 1, {"n": 1})
        assert again.finished >= again.started and again.versions["python"]
        assert [r.id for r in ws.runs("score")] == [run.id] and ws.runs("map") == []
        assert ws.run_folder(run.id).is_dir()


def test_a_killed_process_leaves_every_finished_image_and_its_run_is_interrupted(tmp_path: Path):
    folder = tmp_path / "ws"
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    run_id = writer.stdout.readline().strip()
    with Workspace(folder) as ws:
        assert ws.run(run_id).state == "running"  # somebody else's living run is left alone
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    with Workspace(folder) as ws:
        assert ws.interrupted == (run_id,)
        run = ws.run(run_id)
        assert run.state == "interrupted" and "process" in run.reason and run.finished
        ids = ws.query()
        assert len(ids) > 20
        for id in ids:
            assert ws.image(id).size == (16, 16) and ws.thumb_path(id).exists()
        assert ws.resume_run(run_id).state == "running"
        assert ws.finish_run(run_id, "done").state == "done"
        with pytest.raises(InputError, match="done"):
            ws.resume_run(run_id)


def test_a_newer_workspace_is_refused_in_words(tmp_path: Path):
    with Workspace(tmp_path / "ws") as ws, ws.database.write() as connection:
        connection.execute("UPDATE schema_version SET version = ?", (SCHEMA_VERSION + 1,))
    with pytest.raises(WorkspaceError, match="newer version"):
        Workspace(tmp_path / "ws")


def test_a_damaged_database_is_told(tmp_path: Path):
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "longtail.sqlite").write_bytes(b"this is no database, " * 100)
    with pytest.raises(WorkspaceError, match="damaged"):
        Workspace(tmp_path / "ws")


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path):
    (tmp_path / "ws").write_text("x")
    with pytest.raises(WorkspaceError, match="ws"):
        Workspace(tmp_path / "ws")


def test_a_full_database_says_so_and_keeps_what_was_there(ws: Workspace, make):
    kept = ws.add_image(make(1), origin="real")
    pages = ws.database.rows("PRAGMA page_count")[0][0]
    ws.database.rows(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(WorkspaceError, match="full"):
        for i in range(200):
            ws.add_image(make(2 + i), origin="real", caption="x" * 5000)
    ws.database.rows("PRAGMA max_page_count = 1000000")
    ids = ws.query()
    assert ids[0] == kept and all(ws.image(id).size == (8, 8) for id in ids)
    ws.add_image(make(1000), origin="real")
    assert ws.count() == len(ids) + 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_a_full_disk_says_so_and_leaves_no_half_file(ws: Workspace):
    target = ws.path / "images" / "ab" / "x.png"
    with pytest.raises(WorkspaceError, match="full"):
        ws.blobs.write(target, lambda file: Path("/dev/full").write_bytes(b"x") and None)
    assert not target.exists() and list((ws.path / "tmp").iterdir()) == []
    with pytest.raises(WorkspaceError, match="export folder"), explained(ws.path, "export folder"):
        Path("/dev/full").write_bytes(b"x")


def test_a_failed_transaction_leaves_nothing(ws: Workspace):
    with pytest.raises(RuntimeError), ws.database.write():
        ws.put_state("a", 1)
        raise RuntimeError("stop")
    assert ws.get_state("a") is None


def test_old_leftovers_are_swept(tmp_path: Path):
    Workspace(tmp_path / "ws").close()
    leftover = tmp_path / "ws" / "tmp" / "1-abc"
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    Workspace(tmp_path / "ws").close()
    assert not leftover.exists()


def test_a_dead_process_loses_its_leftovers_at_once_and_a_living_one_keeps_them_whatever_the_clock_says(
    tmp_path: Path,
):
    Workspace(tmp_path / "ws").close()
    room = tmp_path / "ws" / "tmp"
    mine = room / temporary_name()
    mine.write_bytes(b"half")
    os.utime(mine, (0, 0))  # as after a clock that was set forward by years
    code = "from ltg_core.data.blobs import temporary_name; print(temporary_name())"
    gone = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    (room / gone).mkdir()
    (room / gone / "inside").write_bytes(b"half")
    Workspace(tmp_path / "ws").close()
    assert list(room.iterdir()) == [mine]


def test_a_closed_workspace_says_so(tmp_path: Path):
    ws = Workspace(tmp_path / "ws")
    ws.close()
    with pytest.raises(WorkspaceError, match="closed"):
        ws.count()


def test_runs_have_safe_names_and_known_states(ws: Workspace):
    with pytest.raises(InputError):
        ws.start_run("../evil", {})
    with pytest.raises(InputError):
        ws.run_folder("../../evil")
    run = ws.start_run("map", {"path": Path("a"), "set": {2, 1}}, parent="other")
    assert run.settings == {"path": "a", "set": [1, 2]} and run.parent == "other"
    with pytest.raises(InputError, match="sleeping"):
        ws.finish_run(run.id, "sleeping")
    with pytest.raises(InputError, match="no run"):
        ws.run("unknown")
