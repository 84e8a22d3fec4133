"""The log: lines say to which job and run they belong, in the server and in its workers."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ltg_core import logs
from ltg_core.data.workspace import Workspace
from ltg_core.jobs import CancelToken, Job, ProgressFn
from ltg_core.workflows.recording import recorded

ROOT = Path(__file__).resolve().parents[1]

_SERVER = """
import sys, time
from ltg_core import logs
from ltg_core.jobs import JobBoard
from ltg_core.workers import Worker

logs.configure()
worker = Worker("tests.test_logs:desk", name="compute")

def work(told, cancel):
    with logs.about(task="outer"):  # as in a worker whose task asks another one
        return worker.run("record", {"place": sys.argv[1]}, on_progress=told, cancel=cancel)

board = JobBoard()
job = board.submit("score", work, title="a title that somebody typed")
while not job.ended:
    time.sleep(0.01)
worker.close(5)
print(job.id, job.result, job.reason)
"""


def desk(options: dict[str, Any]) -> Any:
    """What the worker of these tests does: one run that logs a line and one that fails."""

    def perform(task: str, arguments: dict[str, Any], on_progress: ProgressFn, cancel: CancelToken) -> Any:
        with Workspace(arguments["place"]) as ws:
            with recorded(ws, "score", {}) as recording:
                logging.getLogger("ltg_core.test").warning("half way")
            try:
                with recorded(ws, "map", {}):
                    raise ValueError("broken")
            except ValueError:
                logging.getLogger("ltg_core.test").exception("a map failed")
        return recording.run.id

    return perform


def served(place: Path, form: str) -> tuple[list[str], str, str]:
    """Lines of the log, id of the job and of the run."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SERVER, str(place)],
        cwd=ROOT,
        env={**os.environ, logs.VARIABLE: form},
        capture_output=True,
        text=True,
        check=True,
    )
    job, run = done.stdout.split()[:2]
    return done.stderr.splitlines(), job, run


def test_lines_of_a_job_carry_its_id_and_its_run_also_those_of_the_worker(tmp_path: Path):
    lines, job, run = served(tmp_path / "ws", "json")
    said = [json.loads(line) for line in lines]
    assert all(one["job"] == job and one["kind"] == "score" for one in said)
    of = {(one["process"], one["message"]): one for one in said}
    assert ("server", "began: score") in of
    half = of["compute", "half way"]
    assert (half["run"], half["level"], half["logger"], half["task"]) == (
        run,
        "warning",
        "ltg_core.test",
        "record",
    )
    assert of["compute", "began: score"]["run"] == run and "run" not in of["compute", "a map failed"]
    assert "ValueError: broken" in of["compute", "a map failed"]["error"]
    ended = next(one for one in said if one["message"].startswith("ended: score, done"))
    assert ended["process"] == "server" and len({one["pid"] for one in said}) == 2
    assert not any("somebody typed" in line for line in lines), "what users write stays out of the log"


def test_people_read_the_same_in_a_line(tmp_path: Path):
    lines, job, run = served(tmp_path / "ws", "text")
    assert f"INFO ltg_core.jobs: began: score [job={job} kind=score]" in lines
    assert f"WARNING compute ltg_core.test: half way [job={job} kind=score task=record run={run}]" in lines


def test_what_the_work_is_about_ends_with_it_and_belongs_to_its_thread():
    seen = []
    with logs.about(job="a", run=""):
        with logs.about(run="b"):
            assert logs.fields() == {"job": "a", "run": "b"}
            thread = threading.Thread(target=lambda: seen.append(logs.fields()))
            thread.start()
            thread.join()
        with pytest.raises(ValueError, match="x"), logs.about(run="c"):
            raise ValueError("x")
        assert logs.fields() == {"job": "a"}
    assert logs.fields() == {} and seen == [{}]


def test_a_job_that_fails_is_said_with_its_state(caplog: pytest.LogCaptureFixture):
    from ltg_core.errors import InputError
    from ltg_core.jobs import JobBoard

    def work(told: ProgressFn, cancel: CancelToken) -> None:
        raise InputError("no such thing\nINFO forged")

    ended = threading.Event()

    class Log:
        def save(self, job: Job) -> None:
            if job.ended:
                ended.set()

    with caplog.at_level(logging.INFO):
        JobBoard(log=Log()).submit("score", work)
        assert ended.wait(60)
    assert r"'no such thing\nINFO forged'" in caplog.text and "\nINFO forged" not in caplog.text
    assert [r.getMessage().split(" after")[0] for r in caplog.records if r.name == "ltg_core.jobs"] == [
        "began: score",
        "ended: score, failed",
    ]


_FAILING = """
import threading, time, urllib.error, urllib.request
from app.serving import Server, config_of
from app.settings import free_port
from ltg_core import logs

async def broken(scope, receive, send):
    if scope["type"] == "http":
        raise ValueError("broken")

logs.configure()
port = free_port("127.0.0.1", 0)
server = Server(config_of(broken, host="127.0.0.1", port=port))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started:
    time.sleep(0.01)
try:
    urllib.request.urlopen(f"http://127.0.0.1:{port}/")
except urllib.error.HTTPError as error:
    print(error.code)
server.should_exit = True
thread.join()
"""


def test_what_the_web_server_itself_logs_has_the_same_form():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FAILING],
        cwd=ROOT,
        env={**os.environ, logs.VARIABLE: "json"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = [json.loads(line) for line in done.stderr.splitlines()]
    failed = next(one for one in said if one["logger"] == "uvicorn.error" and "error" in one)
    assert "ValueError: broken" in failed["error"] and done.stdout == "500\n"
