"""Every user's workspace is their own: nobody sees anything of another's by any route or event."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from driver import Driver, running, texts
from starlette.testclient import TestClient

from app.main import mount, site_of
from app.quotas import GIB, Admission, Folder, Limits, size_of
from app.rooms import Rooms
from app.settings import Settings, free_port, parse
from app.users import Users, folder_of
from ltg_core import curation, workflows
from ltg_core.curation import sets
from ltg_core.data.records import Filter
from ltg_core.errors import InputError
from tests.conftest import draw

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery"
MARK = "quokkawort"
HANDLED = ("change", "tick", "select", "go", "act", "load", "pick", "input")
NAMES = ("sample", "result", "cancel", "again", "slice-open")


class Raw(Driver):
    """Every value that an event answers with, also of parts without a name."""

    def _named(self, dependency: dict[str, Any], values: list[Any]) -> dict[str, Any]:
        return {"all": values}


def until(done: Any, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def place(_fitted_workspace: Path, tmp_path_factory: Any) -> Settings:
    """A workspace whose prepared part is the small fitted one, and two users."""
    folder = tmp_path_factory.mktemp("rooms")
    shutil.copytree(_fitted_workspace, folder / "ws" / "prepared")
    users = Users(folder / "users.json")
    for name in ("ada", "bob"):
        users.set(name, PASSWORD)
    return Settings(workspace=folder / "ws", access="login", users=users.path)


@pytest.fixture(scope="module")
def site(place: Settings) -> Iterator[tuple[Rooms, str, Any]]:
    """The workspaces, the address, the application."""
    rooms = site_of(place)
    assert isinstance(rooms, Rooms)
    port = free_port("127.0.0.1", 0)
    app = mount(rooms, port=port)
    with running(app, port) as address:
        yield rooms, address, app
    rooms.close()


@pytest.fixture(scope="module")
def hers(site: tuple[Rooms, str, Any]) -> Iterator[SimpleNamespace]:
    """What ada has: a sample, a slice, a set, a report, an export, an upload, a job that runs, an open page."""
    rooms, address, _ = site
    with Driver(address, ("ada", PASSWORD)) as page:
        ctx = rooms.of("ada")
        ws = ctx.workspace
        mark: dict[str, Any] = {"caption": MARK, "source": MARK, "meta": {"place": MARK}}
        sample = ws.add_image(draw("stop", 5), origin="real", split="val", label_name="stop", **mark)
        workflows.score(ws, workflows.active_classifier(ws))
        curation.set_verdict(ws, [sample], "accepted")
        curation.tag(ws, [sample], add=[MARK])
        kept = workflows.save_slice(ws, MARK, Filter(tag=MARK))
        version = sets.snapshot(ws, MARK)
        report = workflows.tell(ws, workflows.Draft(MARK, MARK)).id
        ctx.changed()
        sent = page.http.post("/gradio_api/upload", files={"files": (f"{MARK}.csv", MARK.encode())})
        order = {"ids": [sample], "fmt": "imagefolder", "name": MARK, "with_real": True, "held_out": True}
        exported = ctx.run("export", MARK, "export", order)
        until(lambda: exported.ended)
        assert exported.state == "done", exported.reason
        gate = threading.Event()
        job = ctx.submit("generate", MARK, lambda progress, cancel: gate.wait())
        page.call("browse-text", "submit", browse_text="")
        yield SimpleNamespace(
            page=page, ctx=ctx, sample=sample, slice=kept, set=version, report=report,
            upload=sent.json()[0], export=exported, job=job, session=page.session,
        )  # fmt: skip
        gate.set()
        until(lambda: job.ended)


@pytest.fixture
def bob(site: tuple[Rooms, str, Any]) -> Iterator[Raw]:
    with Raw(site[1], ("bob", PASSWORD)) as page:
        yield page


def templates(app: Any) -> Iterator[tuple[str, str]]:
    """Method and path of every route, with its parameters."""
    for route in app.routes:
        for inner in (getattr(route, "app", None), getattr(route, "original_router", None)):
            if hasattr(inner, "routes"):
                yield from templates(inner)
        for method in getattr(route, "methods", None) or ():
            yield method, route.path


def test_no_route_shows_a_user_anything_of_another(
    site: tuple[Rooms, str, Any], hers: SimpleNamespace, bob: Raw
) -> None:
    own = {
        f"/media/thumb/{hers.sample}", f"/media/image/{hers.sample}", f"/media/report/{hers.report}",
        f"/media/export/{MARK}.zip", f"/gradio_api/file={hers.upload}",
    }  # fmt: skip
    for path in own:
        assert hers.page.http.get(path).status_code == 200, path
        assert bob.http.get(path).status_code == 404, path
    known = [hers.sample, hers.report, f"{MARK}.zip", hers.session, hers.upload, hers.job.id, hers.slice]
    routes = sorted(set(templates(site[2])))
    assert len(routes) > 40 and ("GET", "/media/image/{sample_id}") in routes
    for method, route in routes:
        if route == "/logout":
            continue
        for value in known if "{" in route else known[:1]:
            path = re.sub(r"\{[^}]*\}", str(value), route)
            given = {"session_hash": hers.session} if "{" not in route else {}
            with contextlib.closing(bob.http.send(
                bob.http.build_request(method, path, params=given), stream=True
            )) as answer:  # fmt: skip
                said = b""
                if "event-stream" not in answer.headers.get("content-type", ""):
                    said = answer.read()
                else:
                    assert answer.status_code == 404 or value != hers.session, path
            assert MARK.encode() not in said.replace(path.encode(), b""), (method, path)
            if "/media/" in route and method == "GET":
                assert answer.status_code == 404, path


def test_no_event_shows_a_user_anything_of_another(hers: SimpleNamespace, bob: Raw) -> None:
    data = {"id": hers.sample, "ids": [hers.sample], "job": hers.job.id, "run": hers.job.id, "tab": "browse"}
    data |= {"query": f"?tab=browse&sample={hers.sample}&slice={hers.slice}", "number": 2}
    ran, said = 0, ""
    for dependency in bob.config["dependencies"]:
        event = dependency["targets"][0][1] if dependency["targets"] else "load"
        if event not in HANDLED or not dependency["backend_fn"]:
            continue
        for name in NAMES if event == "act" else NAMES[:1]:
            with contextlib.suppress(AssertionError):  # an event that cannot be handled shows nothing
                said += json.dumps(bob.run(dependency, data | {"name": name}))
            ran += 1
    assert ran > 60 and len(said) > 10_000
    told = said + json.dumps(bob.messages)
    assert MARK not in told and not hers.job.token.cancelled
    assert "72" in said and "1 job of others" in said, "bob's samples, and of ada's job only the number"


def test_nothing_that_a_browser_receives_names_a_path_of_the_machine_or_a_secret(
    site: tuple[Rooms, str, Any], hers: SimpleNamespace
) -> None:
    """Every event and document of one's own page, failures included."""
    rooms, address, _ = site
    failed = hers.ctx.submit("generate", MARK, _full(hers.ctx.workspace.path), lane="disk")
    until(lambda: failed.ended)
    assert str(hers.ctx.workspace.path) in failed.reason
    said = ""
    with Raw(address, ("ada", PASSWORD)) as page:
        data = {
            "id": hers.sample,
            "ids": [hers.sample],
            "job": failed.id,
            "run": hers.report,
            "tab": "browse",
        }
        data |= {"query": f"?tab=browse&sample={hers.sample}", "number": 2}
        for dependency in page.config["dependencies"]:
            event = dependency["targets"][0][1] if dependency["targets"] else "load"
            if event in HANDLED and dependency["backend_fn"]:
                with contextlib.suppress(AssertionError):
                    said += json.dumps(page.run(dependency, data | {"name": "sample"}))
        secret = page.http.cookies.get("ltg_session") or next(iter(page.http.cookies.values()))
        for path in (
            "/",
            "/config",
            f"/media/report/{hers.report}",
            "/login",
            "/account",
            "/nothing",
            "/healthz",
        ):
            said += page.http.get(path).text
        said += json.dumps(page.messages)
    assert "is full" in said, "the failed job is shown"
    where = said.find(str(rooms.settings.workspace))
    assert where < 0, said[max(0, where - 200) : where + 200]
    assert str(ROOT) not in said and PASSWORD not in said and secret not in said
    assert json.loads(rooms.users.path.read_text())["users"]["ada"] not in said


def _full(folder: Path) -> Any:
    from ltg_core.data.database import explained

    def work(progress: Any, cancel: Any) -> None:
        with explained(folder):
            raise OSError(28, "No space left on device")

    return work


def test_a_page_of_one_user_takes_no_events_of_another(hers: SimpleNamespace, bob: Raw) -> None:
    stream = bob.http.get("/gradio_api/queue/data", params={"session_hash": hers.session})
    assert stream.status_code == 404
    assert bob.http.get(f"/gradio_api/heartbeat/{hers.session}").status_code == 404
    assert "73" in texts(hers.page.call("browse-text", "submit", browse_text="")["browse-count"])


def test_an_upload_of_one_user_cannot_be_used_by_another(hers: SimpleNamespace, bob: Raw) -> None:
    given = {"path": hers.upload, "orig_name": "a.csv", "meta": {"_type": "gradio.FileData"}}
    bob.call("setup-import", "click", setup_file=given)
    assert any("choose it again" in one for one in bob.messages), bob.messages
    hers.page.call("setup-import", "click", setup_file=given)
    assert hers.ctx.latest("setup") is not None and not hers.page.messages


def test_a_stranger_to_both_and_a_forged_name_get_nothing(
    site: tuple[Rooms, str, Any], hers: SimpleNamespace
) -> None:
    with httpx.Client(base_url=site[1], timeout=240) as http:
        path = f"/media/image/{hers.sample}"
        assert http.get(path).status_code == 401
        assert http.get(path, headers={"x-ltg-user": "ada"}).status_code == 401
    with Driver(site[1], ("bob", PASSWORD)) as bob:
        assert bob.http.get(path, headers={"x-ltg-user": "ada"}).status_code == 404


def test_a_restart_finds_what_every_user_had(site: Any, hers: SimpleNamespace, place: Settings) -> None:
    again = Rooms(place)
    try:
        ada, bob = again.of("ada"), again.of("bob")
        assert ada.workspace.count(Filter(verdict="accepted")) == 1 and bob.workspace.count() == 72
        assert hers.export.id in [job.id for job in ada.jobs.all()] and bob.jobs.all() == []
        with pytest.raises(InputError, match="log in"):
            again.of("eve")
    finally:
        again.close()


def test_shared_keeps_one_workspace_and_names_cannot_leave_the_folder(place: Settings) -> None:
    given = ["--login", "--users", str(place.users), "--workspace", str(place.workspace)]
    assert parse(given).apart and not parse([*given, "--shared"]).apart and not parse([]).apart
    common = site_of(parse([*given, "--shared"]))
    assert not isinstance(common, Rooms) and common.settings.workspace == place.workspace
    names = ("ada", "a..", "a.", "con", "ada-1")
    folders = {folder_of(place.workspace, name) for name in names}
    assert len(folders) == len(names) and all(one.parent == place.workspace / "users" for one in folders)


def small(tmp_path: Path, **more: Any) -> Rooms:
    """Workspaces with nothing in them."""
    users = Users(tmp_path / "users.json")
    users.set("ada", PASSWORD)
    users.set("bob", PASSWORD)
    return Rooms(Settings(workspace=tmp_path / "ws", access="login", users=users.path), **more)


def test_an_unused_workspace_is_closed_when_its_jobs_have_ended_and_opened_again(tmp_path: Path) -> None:
    rooms = small(tmp_path, idle=0.0)
    gate = threading.Event()
    ctx = rooms.of("ada")
    job = ctx.submit("export", "Slow", lambda progress, cancel: gate.wait())
    waiting = rooms.of("bob").submit("export", "Next", lambda progress, cancel: None)
    assert rooms.of("bob").before(waiting) == 1 and rooms.of("bob").strangers(waiting) == 1
    rooms.sweep()
    assert rooms.of("ada") is ctx, "it has work"
    gate.set()
    until(lambda: waiting.ended and job.ended)
    rooms.sweep()
    assert rooms.of("ada") is not ctx and [one.title for one in rooms.of("ada").jobs.all()] == ["Slow"]
    rooms.close()


def test_a_removed_user_loses_the_page_and_keeps_the_data_unless_it_is_deleted(tmp_path: Path) -> None:
    rooms = small(tmp_path)
    job = rooms.of("ada").submit(
        "export", "Endless", lambda progress, cancel: until(lambda: cancel.cancelled)
    )
    folder, other = (folder_of(tmp_path / "ws", name) for name in ("ada", "bob"))
    rooms.of("bob")

    def run(*words: str) -> str:
        given = ["--users", str(tmp_path / "users.json"), "--workspace", str(tmp_path / "ws")]
        command = [sys.executable, "app.py", "users", *words, *given]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    said = run("remove", "ada")
    assert "no longer log in" in said and "--delete-data" in said and folder.is_dir()
    rooms.sweep()
    until(lambda: job.ended)
    rooms.sweep()
    with pytest.raises(InputError):
        rooms.of("ada")
    assert "deleted" in run("remove", "ada", "--delete-data")
    assert not folder.exists() and other.is_dir()
    rooms.close()


def test_a_new_user_waits_while_the_first_workspace_is_filled(tmp_path: Path) -> None:
    rooms, gate = small(tmp_path), threading.Event()
    opening = rooms.prepared.submit("open", "Opening <b>it</b>", lambda progress, cancel: gate.wait())
    client = TestClient(mount(rooms, port=7860), base_url="http://127.0.0.1", follow_redirects=False)
    assert client.post("/login", data={"name": "ada", "password": PASSWORD}).status_code == 303
    page = client.get("/")
    assert page.status_code == 503 and page.headers["refresh"] and "&lt;b&gt;it" in page.text
    assert client.get("/config").status_code == 503 and client.get("/account").status_code == 200
    gate.set()
    until(lambda: opening.ended)
    assert client.get("/").status_code == 200
    rooms.close()


def test_limits_hold_for_each_user_and_for_all(tmp_path: Path) -> None:
    own = tmp_path / "users" / "ada"
    own.mkdir(parents=True)
    (own / "x").write_bytes(bytes(1000))
    (own / "y").hardlink_to(own / "x")
    assert size_of(tmp_path) == 1000, "a file with two names takes its place once"
    folders = Folder(tmp_path), Folder(own)
    for folder in folders:
        folder.count()
    Admission(folders[0], Limits(), folders[1]).check(0, 0)
    with pytest.raises(InputError, match=r"your workspace takes .* --max-user-workspace-gb"):
        Admission(folders[0], Limits(own_gb=900 / GIB), folders[1]).check(0, 0)
    with pytest.raises(InputError, match=r"the workspaces of all take .* --max-workspace-gb"):
        Admission(folders[0], Limits(workspace_gb=900 / GIB), folders[1]).check(0, 0)
