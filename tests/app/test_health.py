"""Whether the server can work, told to anybody who asks, in words that name nothing of the machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app import health
from app.context import AppContext
from app.server import make_server
from app.settings import Settings
from app.users import Users


@pytest.fixture
def served(_fitted_workspace: Path, tmp_path: Path) -> Iterator[tuple[AppContext, TestClient]]:
    shutil.copytree(_fitted_workspace, tmp_path / "ws")
    ctx = AppContext(Settings(workspace=tmp_path / "ws"))
    with TestClient(make_server(ctx), base_url="http://127.0.0.1") as client:
        yield ctx, client
    ctx.close()
    ctx.leave()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is looked at anew."""
    monkeypatch.setattr(health, "_KEPT", -1.0)


def test_a_server_that_can_work_says_so(served: tuple[AppContext, TestClient]) -> None:
    answer = served[1].get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["cache-control"] == "no-store"
    head = served[1].head("/healthz")
    assert head.status_code == 200 and not head.content


def test_what_hinders_it_is_said_without_a_path(
    served: tuple[AppContext, TestClient], at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx, client = served

    def reasons() -> Any:
        answer = client.get("/healthz")
        assert answer.status_code == client.head("/healthz").status_code == 503
        assert answer.json()["status"] == "failing" and "/" not in answer.text
        return answer.json()["reasons"]

    database = ctx.settings.workspace / "longtail.sqlite"
    kept = database.read_bytes()
    database.write_bytes(b"no database" * 1000)
    assert reasons() == ["the database does not answer"]
    database.write_bytes(kept)
    ctx.machine.trouble = "networks cannot run where they were told to (--device)"
    assert reasons() == [ctx.machine.trouble]
    ctx.machine.trouble = ""
    with monkeypatch.context() as full:
        full.setattr(health, "SPARE", 2**80)
        assert reasons() == ["less than a gigabyte of the disk is free"]
    away = ctx.settings.workspace.rename(ctx.settings.workspace.with_name("away"))
    assert reasons() == ["the workspace is not there"]
    away.rename(ctx.settings.workspace)
    assert client.get("/healthz").status_code == 200


def test_a_worker_that_ended_is_started_again(served: tuple[AppContext, TestClient], at_once: None) -> None:
    ctx, client = served
    worker = ctx.lanes.workers["compute"]
    assert client.get("/healthz").status_code == 200 and worker.pid is None, "none that nobody asked for"
    ctx.lanes.start("compute")
    first = worker.pid
    assert first is not None
    os.kill(first, 9)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    assert client.get("/healthz").status_code == 200
    assert worker.pid not in (None, first)


def test_an_answer_holds_for_a_second(served: tuple[AppContext, TestClient]) -> None:
    ctx, client = served
    assert client.get("/healthz").status_code == 200
    ctx.machine.trouble = "something"
    assert client.get("/healthz").status_code in (200, 503)
    made = health.Health(ctx)
    assert made.wrong() == ["something"]
    ctx.machine.trouble, made._looked = "", made._looked + 3600
    assert made.wrong() == ["something"], "as it was found, while that is fresh"


def test_who_has_to_log_in_may_ask_too_and_learns_nothing_else(tmp_path: Path) -> None:
    Users(tmp_path / "users.json").set("ada", "a long password")
    given = Settings(
        workspace=tmp_path / "ws", access="login", users=tmp_path / "users.json", shared=True, host="0.0.0.0"
    )
    ctx = AppContext(given)
    _ = ctx.workspace
    with TestClient(make_server(ctx), base_url="http://127.0.0.1") as client:
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert client.get("/pulse").status_code == 401 and client.get("/healthz/").status_code == 401
    ctx.close()
    ctx.leave()
