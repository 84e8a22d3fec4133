"""Jobs in the workspace: found again after a restart, with their places, ends and owners."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ltg_core.data.joblog import JobRecords
from ltg_core.data.workspace import Workspace
from ltg_core.errors import WorkerLost
from ltg_core.jobs import CancelToken, Job, Spec, no_progress

ROOT = Path(__file__).resolve().parents[2]

# A server: one job of it runs, two wait, one of these a function; then it says so and is killed.
_SERVER = """
import sys, threading, time
from ltg_core.data.joblog import JobRecords
from ltg_core.data.workspace import Workspace
from ltg_core.jobs import JobBoard, Progress, Spec

ws = Workspace(sys.argv[1])
board = JobBoard(log=JobRecords(ws.database))
begun = threading.Event()

def work(on_progress, cancel):
    on_progress(Progress(0, 1, run="generate-1"))
    begun.set()
    threading.Event().wait(600)

done = board.submit("export", lambda p, c: {"n": 3}, lane="disk", title="Exporting", owner="ann")
board.submit("generate", work, title="Imagining", owner="ann", spec=Spec("generate", {"seeds": [1]}))
board.submit("explain", work, title="Explaining", owner="bob", spec=Spec("explain", {"ids": ["a"]}), about={"x": 1})
board.submit("other", work, title="A function", owner="bob")
board.submit("open", work, title="Opening", owner="", kept=False)
begun.wait(60)
while not done.ended:
    time.sleep(0.01)
print("under way", flush=True)
threading.Event().wait(600)
"""


def test_after_a_kill_waiting_jobs_wait_again_and_the_running_one_was_interrupted(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(tmp_path / "ws")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "under way\n"
        with Workspace(tmp_path / "ws") as ws:
            alive = JobRecords(ws.database).recover()
            assert [job.title for job in alive] == ["Exporting"], "what a living server does is left to it"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with Workspace(tmp_path / "ws") as ws:
        found = {job.title: job for job in JobRecords(ws.database).recover()}
        again = {job.title: job.state for job in JobRecords(ws.database).recover()}
    assert {title: job.state for title, job in found.items()} == {
        "Exporting": "done",
        "Imagining": "interrupted",
        "Explaining": "queued",
        "A function": "interrupted",
    }
    assert found["Imagining"].run == "generate-1" and "what was finished is kept" in found["Imagining"].reason
    assert "start it again" in found["A function"].reason
    waiting = found["Explaining"]
    assert waiting.spec == Spec("explain", {"ids": ["a"]}) and waiting.about == {"x": 1}
    assert waiting.owner == "bob" and waiting.lane == "compute" and waiting.started is None
    assert found["Exporting"].result == {"n": 3} and found["Exporting"].finished is not None
    with pytest.raises(WorkerLost):
        found["A function"].work(no_progress, CancelToken())
    assert "Explaining" not in again, "it is this process's now, which lives"


def test_results_that_are_objects_do_not_outlive_their_process(empty_workspace: Workspace) -> None:
    records = JobRecords(empty_workspace.database)
    job = Job("a1", "export", "disk", lambda p, c: None, "Exporting", {"path": Path("x")})
    job.state, job.result = "done", object()
    records.save(job)
    (found,) = records.recover()
    assert found.result is None and found.about == {"path": "x"} and found.spec is None


def test_only_the_newest_ends_are_kept(empty_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ltg_core.data.joblog.KEEP", 5)
    records = JobRecords(empty_workspace.database)
    for number in range(12):
        job = Job(f"j{number}", "map", "map", lambda p, c: None)
        records.save(job)
        job.state = "done"
        records.save(job)
    assert [job.id for job in records.recover()] == [f"j{i}" for i in range(6, 12)]
