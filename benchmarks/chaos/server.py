"""The real server with its workers: killed, told to end, or robbed of a worker while it generates."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from app.settings import free_port
from benchmarks.chaos.kill import attempt
from benchmarks.chaos.steps import GUIDANCE, IMAGES, UNIT, generated
from benchmarks.measure import ROOT
from benchmarks.users import children
from ltg_core import workflows
from ltg_core.data.joblog import JobRecords
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled
from ltg_core.jobs import CancelToken, Job, Spec

HOW = ("server killed", "server told to end", "worker killed")
_PATIENCE = 240.0


def point(ws: Path, rng: np.random.Generator) -> dict[str, Any]:
    """One server whose work is cut off, and the next one, which finds what to go on with."""
    how = HOW[int(rng.integers(len(HOW)))]
    run = attempt(lambda ack: _begun(ws)).result
    _queue(ws, run)
    server = _Server(ws)
    wrong = []
    try:
        wanted = int(rng.integers(2 * IMAGES - 1))  # with their controls
        _until(lambda: _says(ws, "SELECT state FROM runs WHERE id = ?", run) in ("running", "done"), server)
        count = "SELECT count(*) FROM samples WHERE origin = ?"
        _until(lambda: int(_says(ws, count, run)) >= wanted, server)
        before = children(server.process.pid)
        there = int(_says(ws, count, run))
        if how == "worker killed":
            os.kill(_busiest(before[1:]), signal.SIGKILL)
            _until(lambda: _says(ws, "SELECT state FROM jobs ORDER BY seq DESC LIMIT 1") != "running", server)
            server.process.terminate()
        else:
            server.process.send_signal(signal.SIGKILL if how == "server killed" else signal.SIGTERM)
        server.process.wait(30)
    finally:
        server.end()
    left = _left(before)
    wrong += [f"{left} processes were left"] if left else []
    if int(_says(ws, count, run)) < there:
        wrong.append("finished images are gone")
    with Workspace(ws) as opened:
        state = opened.run(run).state
        jobs = JobRecords(opened.database).recover()
    if state == "running" or any(job.state in ("queued", "running") for job in jobs):
        wrong.append(f"afterwards the run is {state}, the jobs {[job.state for job in jobs]}")
    if state != "done":
        _queue(ws, run)
        server = _Server(ws)
        try:
            _until(lambda: _says(ws, "SELECT state FROM runs WHERE id = ?", run) == "done", server)
        finally:
            server.end()
    wrong += server.log()
    made = attempt(lambda ack: _made(ws, run))
    return {"how": how, "where": f"{there} of {2 * IMAGES} images there", "wrong": wrong,
            "made": made.result}  # fmt: skip


def _begun(ws: Path) -> str:
    """A generation that was stopped before its first image."""
    token = CancelToken()
    with Workspace(ws) as opened:
        classifier, generator = workflows.active_classifier(opened), workflows.active_generator(opened)
        with contextlib.suppress(Cancelled):
            workflows.generate(
                opened, classifier, generator, prompts=["a photo of a stop sign"] * IMAGES, labels=[0] * IMAGES,
                seeds=list(range(40, 40 + IMAGES)), guidance=GUIDANCE, unit=UNIT, cancel=token,
                on_progress=lambda step: token.cancel(),
            )  # fmt: skip
        return opened.runs("generate")[0].id


def _queue(ws: Path, run: str) -> None:
    """A job that waits since a server that is gone."""

    def written(ack: Any) -> None:
        with Workspace(ws) as opened:
            spec = Spec("resume_generate", {"run": run})
            JobRecords(opened.database).save(
                Job(os.urandom(16).hex(), "generate", "compute", _nothing, spec=spec)
            )

    attempt(written)


def _nothing(told: Any, cancel: Any) -> None:
    """Work is read from the record."""


def _made(ws: Path, run: str) -> Any:
    with Workspace(ws) as opened:
        return generated(opened, run)


class _Server:
    """``python app.py`` on a workspace."""

    def __init__(self, ws: Path) -> None:
        with Workspace(ws) as opened:
            model = (
                opened.models_folder / str(opened.get_state("classifier")["hash"]) / "classifier.safetensors"
            )
        words = [
            sys.executable,
            "-W",
            "ignore",
            "app.py",
            "--no-browser",
            "--workspace",
            str(ws),
            "--model",
            str(model),
        ]
        self._log = ws.parent / "server.log"
        with open(self._log, "ab") as log:
            self.process = subprocess.Popen(
                [*words, "--port", str(free_port("127.0.0.1", 0))],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def end(self) -> None:
        """Whatever it does."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log(self) -> list[str]:
        """What should not be in it."""
        text = self._log.read_text(errors="replace")
        return [text[text.index("Traceback") :][:1500]] if "Traceback" in text else []


def _says(ws: Path, question: str, *values: str) -> Any:
    with contextlib.closing(sqlite3.connect(ws / "longtail.sqlite", timeout=30)) as database:
        row = database.execute(question, values).fetchone()
        return row[0] if row else None


def _busiest(pids: list[int]) -> int:
    """The worker that has used the most time: the one that generates."""

    def used(pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    return max(pids, key=used)


def _until(done: Callable[[], bool], server: _Server) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not done():
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError("the server ended, or it did not happen: " + "".join(server.log())[:500])
        time.sleep(0.01)


def _left(pids: list[int]) -> int:
    deadline = time.monotonic() + 10
    while (left := sum(_lives(pid) for pid in pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
