"""How much a visitor may take, and that every refusal says what to do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.quotas import GIB, Admission, Folder, Limits, Uploads, size_of, texts_in
from app.settings import Settings, parse
from ltg_core.errors import InputError

HOST = "http://127.0.0.1"


def put(uploads: Uploads, name: str, size: int, owner: str = "ada") -> Path:
    """An upload that has arrived."""
    path = uploads.folder / f"hash-{name}" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(size))
    uploads.arrived(owner, size, [str(path)])
    return path


def test_limits_are_generous_and_can_be_changed_and_switched_off(capsys: Any) -> None:
    assert parse([]).limits == Limits()
    told = parse(["--max-user-gb", "0.5", "--max-jobs", "0"]).limits
    assert (told.user_gb, told.jobs, told.user_jobs) == (0.5, 0, Limits().user_jobs)
    for wrong in ("-1", "nan", "inf"):
        with pytest.raises(SystemExit):
            parse(["--max-user-gb", wrong])
    assert "give 0 or more" in capsys.readouterr().err


def test_uploads_of_one_and_of_all_visitors_end_at_their_limits(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, Limits(user_gb=3000 / GIB, uploads_gb=5000 / GIB))
    assert uploads.admit("ada", 2000) == "", "it is on its way"
    assert "Your uploads" in uploads.admit("ada", 2000), "what is on its way counts"
    put(uploads, "a.zip", 2000)
    refused = uploads.admit("ada", 2000)
    assert "--max-user-gb" in refused and "a day after" in refused
    assert uploads.admit("bob", 2000) == ""
    put(uploads, "b.zip", 2000, "bob")
    assert "of all visitors" in uploads.admit("eve", 2000)
    assert uploads.admit("eve", 500) == "" and size_of(tmp_path) == 4000
    assert Uploads(tmp_path, Limits(user_gb=0, uploads_gb=0)).admit("ada", 10**6) == "", "0 is no limit"
    assert "disk has" in Uploads(tmp_path, Limits(user_gb=0, uploads_gb=0)).admit("ada", 10**18)


def test_old_uploads_go_and_those_that_a_waiting_job_needs_stay(tmp_path: Path) -> None:
    needed: list[str] = []
    uploads = Uploads(tmp_path, Limits(), lambda: needed)
    old, waiting, new = (put(uploads, name, 10) for name in ("old.zip", "waiting.zip", "new.zip"))
    needed += texts_in({"path": str(waiting), "split": "", "more": [{"x": 1}]})
    long_ago = time.time() - 2 * 24 * 3600
    for path in (old, waiting):
        os.utime(path, (long_ago, long_ago))
    assert uploads.admit("ada", 1) == ""
    assert not old.parent.exists() and waiting.exists() and new.exists()
    assert uploads.owner(str(old)) is None and uploads.owner(str(new)) == "ada"


def test_too_many_jobs_and_a_full_workspace_are_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(1000))
    limits = Limits(user_jobs=2, jobs=3, workspace_gb=2000 / GIB)
    admission = Admission(Folder(tmp_path), limits)
    admission.disk.count()
    admission.check(1, 1)
    with pytest.raises(InputError, match="cancel one under Jobs"):
        admission.check(2, 0)
    with pytest.raises(InputError, match="on this server"):
        admission.check(1, 2)
    (tmp_path / "y").write_bytes(bytes(1000))
    admission.disk.count()
    with pytest.raises(InputError, match="--max-workspace-gb"):
        admission.check(0, 0)
    Admission(Folder(tmp_path), Limits(user_jobs=0, jobs=0, workspace_gb=0)).check(1000, 1000)
    assert Folder(tmp_path / "nowhere").count() == 0


def test_a_context_refuses_the_job_too_many(tmp_path: Path) -> None:
    import threading

    from app.context import AppContext

    limits = Limits(user_jobs=1)
    ctx = AppContext(Settings(workspace=tmp_path / "ws", limits=limits))
    go = threading.Event()
    ctx.submit("export", "First", lambda progress, cancel: go.wait(60))
    with pytest.raises(InputError, match="1 jobs of yours"):
        ctx.submit("export", "Second", lambda progress, cancel: None)
    go.set()
    ctx.close()
    ctx.workspace.close()


def test_a_job_that_runs_too_long_is_stopped_and_says_so(tmp_path: Path) -> None:
    from app.context import AppContext

    ctx = AppContext(Settings(workspace=tmp_path / "ws", limits=Limits(job_hours=0.1 / 3600)))

    def endless(progress: Any, cancel: Any) -> None:
        while True:
            cancel.check()
            time.sleep(0.01)

    job = ctx.submit("export", "Endless", endless)
    while not job.ended:
        time.sleep(0.01)
    assert job.state == "failed" and "--max-job-hours" in job.reason
    ctx.close()
    ctx.workspace.close()


@pytest.fixture
def two(ctx: Any) -> Iterator[tuple[TestClient, TestClient]]:
    """Two browsers at one page with small limits."""
    from app.context import AppContext
    from app.main import mount

    inner = AppContext(Settings(workspace=ctx.settings.workspace, limits=Limits(user_gb=100_000 / GIB)))
    page = mount(inner, port=7860)
    ada, bob = TestClient(page, base_url=HOST), TestClient(page, base_url=HOST)
    for one in (ada, bob):
        assert one.get("/healthz").status_code == 200  # brings the visitor's cookie
    yield ada, bob
    inner.close()
    inner.workspace.close()


def test_an_upload_is_read_by_nobody_but_its_visitor_and_too_much_is_refused(
    two: tuple[TestClient, TestClient],
) -> None:
    ada, bob = two
    name = f"{time.time_ns()}.html"
    sent = ada.post("/gradio_api/upload", files={"files": (name, name.encode())})
    path = "/gradio_api/file=" + sent.json()[0]
    found = ada.get(path)
    assert found.status_code == 200 and found.text == name
    assert "attachment" in found.headers["content-disposition"], "never shown as a page of this site"
    assert bob.get(path).status_code == 404
    assert bob.get(path + "/../" + name).status_code == 404
    full = ada.post("/gradio_api/upload", files={"files": ("b.zip", os.urandom(120_000))})
    assert full.status_code == 413 and "Your uploads would take" in full.text
    assert bob.post("/gradio_api/upload", files={"files": ("b.zip", os.urandom(60_000))}).status_code == 200

    def parts() -> Iterator[bytes]:
        yield b"x"

    assert bob.post("/gradio_api/upload", content=parts()).status_code == 411


def test_clicks_beyond_what_may_wait_are_refused_in_words(ctx: Any) -> None:
    from app.context import AppContext
    from app.main import mount

    inner = AppContext(Settings(workspace=ctx.settings.workspace, limits=Limits(events=2)))
    # Without ``with`` the server is not started, so that nothing takes events out of the queue.
    client = TestClient(mount(inner, port=7860), base_url=HOST)
    dependency = next(one for one in client.get("/config").json()["dependencies"] if one["backend_fn"])
    body = {"data": [None] * len(dependency["inputs"]), "fn_index": dependency["id"], "session_hash": "a"}
    answers = [client.post("/gradio_api/queue/join", json=body, headers={"Origin": HOST}) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 503]
    assert "Queue is full" in answers[2].json()["detail"], "the page's script shows that it is busy"
    inner.close()
    inner.leave()
