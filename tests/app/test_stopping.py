"""The end of the server: what runs comes to a point from which it goes on, what waits waits on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.context import AppContext
from app.lanes import Machine
from app.settings import Settings, parse
from app.stopping import Stopping
from ltg_core import workflows
from ltg_core.data.joblog import JobRecords
from ltg_core.data.workspace import Workspace
from ltg_core.jobs import CancelToken, Job, JobBoard, ProgressFn, Spec

ROOT = Path(__file__).resolve().parents[2]
LONG = {"train": {"scope": "whole", "epochs": 10_000, "patience": 0}}


class Uvicorn:
    should_exit = force_exit = False


def until(true: Callable[[], Any], seconds: float = 280) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_the_first_signal_asks_and_the_second_does_not_wait() -> None:
    stopping, server = Stopping(), Uvicorn()
    before = signal.getsignal(signal.SIGTERM)
    with stopping.heard(server):
        os.kill(os.getpid(), signal.SIGTERM)
        assert server.should_exit and stopping.asked.is_set()
        assert not server.force_exit and not stopping.at_once.is_set()
        os.kill(os.getpid(), signal.SIGINT)
        assert server.force_exit and stopping.at_once.is_set()
    assert signal.getsignal(signal.SIGTERM) == before


def test_jobs_are_waited_for_but_not_by_who_asks_twice(tmp_path: Path) -> None:
    def listens(on_progress: ProgressFn, cancel: CancelToken) -> None:
        until(lambda: cancel.cancelled)
        cancel.check()

    def deaf(on_progress: ProgressFn, cancel: CancelToken) -> None:
        release.wait(60)
        cancel.check()

    machine, release = Machine(Settings(workspace=tmp_path)), threading.Event()
    job = JobBoard(line=machine.line).submit("retrain", listens)
    until(lambda: job.state == "running")
    Stopping().finish(machine, 3600.0)
    assert job.state == "interrupted"
    machine, hurried = Machine(Settings(workspace=tmp_path)), Stopping()
    job = JobBoard(line=machine.line).submit("retrain", deaf)
    until(lambda: job.state == "running")
    hurried.at_once.set()
    hurried.finish(machine, 3600.0)
    assert job.state == "running"
    release.set()
    until(lambda: job.state == "interrupted")


def test_an_idle_server_waits_for_nothing(tmp_path: Path) -> None:
    machine = Machine(Settings(workspace=tmp_path))
    Stopping().finish(machine, 3600.0)


@pytest.mark.parametrize("seconds", ("-1", "inf", "nan"))
def test_a_grace_that_is_none_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--grace", seconds])
    assert "--grace" in capsys.readouterr().err
    assert parse(["--grace", "5"]).grace == 5.0 and parse([]).grace == 20.0


@pytest.mark.slow
def test_sigterm_brings_a_retraining_to_its_checkpoint(
    _fitted_workspace: Path, tiny_generator: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "ws"
    shutil.copytree(_fitted_workspace, folder)
    with Workspace(folder) as ws:
        for title, task in (("long", LONG), ("next", LONG)):
            JobRecords(ws.database).save(_left(title, task))
        with ws.database.write() as connection:
            connection.execute("UPDATE jobs SET process = '4194305:1'")  # a number that no process has
    command = [sys.executable, "app.py", "--no-browser", "--port", "0", "--grace", "200", "--device", "cpu"]
    command += ["--workspace", str(folder), "--generator", str(tiny_generator)]
    log = tmp_path / "log"
    with log.open("w") as out:
        server = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
    try:
        run = until(lambda: _running(folder / "longtail.sqlite"))
        until(lambda: list(folder.rglob("rows.json")))  # its images are chosen
        server.send_signal(signal.SIGTERM)
        assert server.wait(280) == 0, log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.kill()
        server.wait()
    assert "Traceback" not in log.read_text()
    ctx = AppContext(Settings(workspace=folder))
    found = {job.title: job for job in JobRecords(ctx.workspace.database).recover()}
    assert found["long"].state == "interrupted" and "server was stopped" in found["long"].reason
    assert found["next"].state == "queued"
    assert workflows.resumable(ctx.workspace, run)
    assert list(ctx.workspace.run_folder(run).glob("seed-*.ckpt")), "it was written when it was told to stop"
    ctx.close()
    ctx.workspace.close()


def _left(title: str, arguments: dict[str, Any]) -> Job:
    """A job that a server left that is gone."""
    return Job(title, "retrain", "compute", lambda told, cancel: None, title, spec=Spec("retrain", arguments))


def _running(database: Path) -> str:
    with contextlib.closing(sqlite3.connect(database)) as opened:
        row = opened.execute("SELECT run FROM jobs WHERE id = 'long' AND state = 'running'").fetchone()
    return str(row[0]) if row and row[0] else ""
