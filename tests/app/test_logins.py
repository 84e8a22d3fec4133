"""Who may come in: users, passwords, waits, tickets, and every route behind them."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driver import awaited
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from app.logins import IDLE, LONGEST, Logins, Refused, Throttle
from app.settings import Settings, parse
from app.users import Users
from ltg_core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery"
HOST = "http://127.0.0.1"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def users(tmp_path: Path) -> Users:
    made = Users(tmp_path / "users.json")
    made.set("ada", PASSWORD)
    return made


def tried(logins: Logins, name: str, password: str, address: str = "10.0.0.1") -> int:
    """The status of an attempt, 200 for a ticket."""
    try:
        awaited(logins.enter(name, password, address))
    except Refused as no:
        return no.status
    return 200


def test_passwords_are_kept_as_argon2id_in_a_file_of_its_owner(users: Users) -> None:
    text = users.path.read_text()
    assert "$argon2id$" in text and PASSWORD not in text
    assert users.path.stat().st_mode & 0o077 == 0
    assert users.check("ada", PASSWORD) and not users.check("ada", PASSWORD + "x")
    assert not users.check("nobody", PASSWORD) and not users.check("ada", "")


def test_a_users_file_that_others_can_change_lets_nobody_in(users: Users) -> None:
    logins = Logins(users)
    ticket = awaited(logins.enter("ada", PASSWORD, "10.0.0.1"))
    users.path.chmod(0o666)
    with pytest.raises(InputError, match="chmod 600"):
        Users(users.path).names()
    assert logins.user(ticket) is None and tried(logins, "ada", PASSWORD) == 503


@pytest.mark.parametrize("name", ("", "a b", "../x", "Ada", "-a", "a" * 33, "a\n", "<b>"))
def test_names_that_will_not_do_are_refused(users: Users, name: str) -> None:
    with pytest.raises(InputError, match="is no name"):
        users.set(name, PASSWORD)


def test_the_command_adds_lists_and_removes_users_without_a_password_on_the_command_line(
    tmp_path: Path,
) -> None:
    def run(*words: str, said: str = "") -> tuple[int, str]:
        command = [sys.executable, "app.py", "users", *words, "--users", str(tmp_path / "u.json")]
        done = subprocess.run(command, cwd=ROOT, input=said, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    assert run("add", "ada", "--password-stdin", said=PASSWORD + "\n")[0] == 0
    assert run("list") == (0, "ada\n")
    code, text = run("add", "ada", "--password-stdin", said=PASSWORD + "\n")
    assert code == 2 and "users password ada" in text
    code, text = run("password", "ada", "--password-stdin", said="short\n")
    assert code == 2 and "10 to 200 characters" in text
    assert run("remove", "ada")[0] == 0
    assert Users(tmp_path / "u.json").names() == []


@pytest.mark.parametrize(
    "arguments",
    (
        ["--host", "0.0.0.0"],
        ["--host", "192.168.1.7"],
        ["--root-path", "/longtail"],
        ["--trust-proxy", "10.0.0.7"],
    ),
)
def test_a_page_that_others_could_reach_starts_only_with_users_or_a_flag(
    arguments: list[str], users: Users, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setenv("LONGTAIL_USERS", str(tmp_path / "none.json"))
    with pytest.raises(SystemExit):
        parse(arguments)
    said = capsys.readouterr().err
    assert "users add NAME" in said and "--no-login" in said and "--key" in said
    assert parse([*arguments, "--key"]).access == "key"
    assert parse([*arguments, "--no-login"]).access == "open"
    monkeypatch.setenv("LONGTAIL_USERS", str(users.path))
    found = parse(arguments)
    assert found.access == "login" and not found.local


def test_this_machine_alone_asks_for_nothing_unless_told_to(
    users: Users, tmp_path: Path, capsys: Any
) -> None:
    assert parse([]).access == "open" and parse([]).local
    asked = parse(["--login", "--users", str(users.path)])
    assert asked.access == "login" and not asked.local, "who logs in does not sit at the machine"
    with pytest.raises(SystemExit):
        parse(["--login", "--users", str(tmp_path / "none.json")])
    assert "add a user first" in capsys.readouterr().err


def test_waits_grow_with_every_wrong_password_and_a_right_one_ends_them() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert [throttle.attempt("ada", "10.0.0.1") for _ in range(3)] == [0, 0, 0]
    waits = []
    for _ in range(12):
        waits.append(throttle.attempt("ada", "10.0.0.1"))
        clock.now += waits[-1]
        assert throttle.attempt("ada", "10.0.0.1") == 0, "after the wait it may be tried"
    assert waits[:5] == [1, 2, 4, 8, 16] and max(waits) == 900
    assert throttle.attempt("ada", "10.0.0.1") > 0
    assert 0 <= throttle.attempt("ada", "10.0.0.2") <= 60, "strangers cannot lock a user out for long"
    clock.now += 900
    assert throttle.attempt("ada", "10.0.0.1") == 0
    throttle.succeeded("ada", "10.0.0.1")
    assert throttle.attempt("ada", "10.0.0.1") == 0


def test_many_names_from_one_address_wait_also_when_one_of_them_is_ones_own() -> None:
    throttle = Throttle(Clock())
    waits = []
    for number in range(30):
        waits.append(throttle.attempt(f"name{number}", "2001:db8::%x" % (number + 1)))  # one household
        if throttle.attempt("own", "2001:db8::1") == 0:
            throttle.succeeded("own", "2001:db8::1")
    assert waits[:20] == [0] * 20 and all(waits[20:])


def test_attempts_at_the_same_time_are_counted_too(users: Users) -> None:
    async def many(logins: Logins) -> list[int]:
        one = [logins.enter("ada", "wrong wrong wrong", "10.0.0.1") for _ in range(12)]
        return [no.status for no in await asyncio.gather(*one, return_exceptions=True)]

    found = awaited(many(Logins(users)))
    assert found.count(401) == 3 and found.count(429) == 9


def test_tickets_end_with_time_with_the_log_out_and_with_the_password(users: Users) -> None:
    clock = Clock()
    logins = Logins(users, clock)

    def ticket() -> str:
        return awaited(logins.enter("ada", PASSWORD, "10.0.0.1"))

    first, second = ticket(), ticket()
    assert first != second and logins.user(first) == logins.user(second) == "ada"
    logins.leave(first)
    assert logins.user(first) is None and logins.user(second) == "ada"
    clock.now += IDLE + 1
    assert logins.user(second) is None
    third = ticket()
    for _ in range(LONGEST // (IDLE // 2)):
        clock.now += IDLE // 2
        assert logins.user(third) == "ada", "what is used goes on"
    clock.now += IDLE // 2
    assert logins.user(third) is None, "but not for ever"
    fourth = ticket()
    Users(users.path).set("ada", "another password")  # another process
    assert logins.user(fourth) is None
    assert tried(logins, "ada", PASSWORD) == 401 and tried(logins, "ada", "another password") == 200
    assert logins.user("") is None and logins.user("x" * 10_000) is None


def test_a_restart_logs_nobody_out_and_keeps_when_a_ticket_ends(users: Users, tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "ws" / "logins.json"
    before = Logins(users, clock, file=file)
    kept, left = (awaited(before.enter("ada", PASSWORD, "10.0.0.1")) for _ in range(2))
    before.leave(left)
    assert file.stat().st_mode & 0o777 == 0o600 and kept not in file.read_text()
    after = Logins(users, clock, file=file)
    clock.now += IDLE - 1
    assert after.user(kept) == "ada" and after.user(left) is None
    clock.now += IDLE - 1
    assert Logins(users, clock, file=file).user(kept) == "ada", "that it was used was written too"
    clock.now += LONGEST
    assert Logins(users, clock, file=file).user(kept) is None
    fresh = awaited(after.enter("ada", PASSWORD, "10.0.0.1"))
    users.set("ada", "another password")
    assert Logins(users, clock, file=file).user(fresh) is None


@pytest.mark.parametrize("damage", ("", "[]", '{"tickets": {"a": {}}}', '{"tickets": 3}'))
def test_a_damaged_or_open_file_of_log_ins_lets_nobody_in(users: Users, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "logins.json"
    ticket = awaited(Logins(users, file=file).enter("ada", PASSWORD, "10.0.0.1"))
    file.chmod(0o644)
    assert Logins(users, file=file).user(ticket) is None
    file.chmod(0o600)
    assert Logins(users, file=file).user(ticket) == "ada"
    file.write_text(damage)
    assert Logins(users, file=file).user(ticket) is None


@pytest.fixture(scope="module")
def guarded(ctx: Any, tmp_path_factory: Any) -> Iterator[Any]:
    """The whole page behind a log-in, without a network."""
    from app.context import AppContext
    from app.main import mount

    users = Users(tmp_path_factory.mktemp("users") / "users.json")
    for name in ("ada", "bob"):
        users.set(name, PASSWORD)
    inner = AppContext(Settings(workspace=ctx.settings.workspace, access="login", users=users.path))
    yield mount(inner, port=7860)
    inner.close()
    inner.workspace.close()


def routes_of(app: Any) -> Iterator[tuple[str, str]]:
    """Method and path of every route, of the mounted page and its routers too."""
    for route in app.routes:
        if hasattr(getattr(route, "app", None), "routes"):
            yield from routes_of(route.app)
        if hasattr(route, "original_router"):
            yield from routes_of(route.original_router)
        if getattr(route, "methods", None):
            path = re.sub(r"\{[^}]*\}", "x", route.path)
            yield from ((method, path) for method in route.methods)


def test_no_route_answers_a_stranger(guarded: Any, ctx: Any) -> None:
    client = TestClient(guarded, base_url=HOST, follow_redirects=False)
    routes = {*routes_of(guarded), ("GET", f"/media/thumb/{ctx.workspace.query(limit=1)[0]}")}
    assert len(routes) > 40 and ("POST", "/gradio_api/upload") in routes and ("GET", "/config") in routes
    for method, path in sorted(routes):
        answer = client.request(method, path)
        if path == "/login":
            assert answer.status_code in (200, 401, 405)
        elif path == "/" and method in ("GET", "HEAD"):
            assert (answer.status_code, answer.headers["location"]) == (303, "login")
        elif path == "/healthz":  # for those who look after machines
            assert answer.status_code == 200 and answer.text in ("", '{"status":"ok"}')
        else:
            assert answer.status_code == 401, (method, path)
    forged = {"x-ltg-user": "ada", "cookie": "ltg_session=" + "x" * 43 + "; ltg_visitor=" + "y" * 30}
    assert client.get("/config", headers=forged).status_code == 401
    with pytest.raises(WebSocketDisconnect) as shut, client.websocket_connect("/gradio_api/queue/join"):
        pass
    assert shut.value.code == 1008


def test_logging_in_leads_to_the_view_that_was_asked_for_and_logging_out_ends_it(
    guarded: Any, ctx: Any
) -> None:
    sample = ctx.workspace.query(limit=1)[0]
    with TestClient(guarded, base_url=HOST, follow_redirects=False) as client:
        asked = client.get("/?tab=browse&q=a%20b")
        form = client.get("/" + asked.headers["location"])
        assert 'value="?tab=browse&amp;q=a%20b"' in form.text and "script" not in form.text
        assert form.headers["content-security-policy"].startswith("default-src 'none'")
        wrong = client.post("/login", data={"name": "<b>ada", "password": "x"})
        assert wrong.status_code == 401 and "&lt;b&gt;ada" in wrong.text and "set-cookie" not in wrong.headers
        right = client.post("/login", data={"name": "Ada", "password": PASSWORD, "next": "?tab=browse"})
        assert right.status_code == 303 and right.headers["location"] == "./?tab=browse"
        sent = right.headers["set-cookie"]
        assert "HttpOnly" in sent and "SameSite=Lax" in sent and "Secure" not in sent
        for path in ("/", "/config", f"/media/thumb/{sample}", f"/media/image/{sample}", "/account"):
            assert client.get(path).status_code == 200, path
        assert "logged in as <b>ada</b>" in client.get("/account").text
        sent = client.post("/gradio_api/upload", files={"files": ("a.txt", b"x")})
        assert sent.status_code == 200
        ticket = client.cookies["ltg_session"]
        cross = client.post("/logout", headers={"Origin": "https://evil.example"})
        assert cross.status_code == 403 and client.get("/config").status_code == 200
        out = client.post("/logout", headers={"Origin": HOST})
        assert out.status_code == 303 and "Max-Age=0" in out.headers["set-cookie"]
        old = {"cookie": f"ltg_session={ticket}"}
        assert client.get("/config", headers=old).status_code == 401, "the ticket itself is worth nothing now"


@pytest.mark.parametrize(
    "wanted",
    (
        "https://evil.example",
        "//evil.example",
        "?a\r\nset-cookie: x=y",
        "javascript:alert(1)",
        "?" + "a" * 3000,
    ),
)
def test_a_log_in_never_leads_to_another_site(guarded: Any, wanted: str) -> None:
    client = TestClient(guarded, base_url=HOST, follow_redirects=False)
    answer = client.post("/login", data={"name": "ada", "password": PASSWORD, "next": wanted})
    assert (
        answer.status_code == 303 and answer.headers["location"] == "./" and "x=y" not in str(answer.headers)
    )


def test_forms_that_are_none_and_too_many_attempts_are_answered_in_words(guarded: Any) -> None:
    client = TestClient(guarded, base_url=HOST, follow_redirects=False)
    for body in (b"", b"x" * 10_000, b"&".join(b"a=1" for _ in range(99)), b"\xff\x00=%zz"):
        assert client.post("/login", content=body).status_code in (401, 429)
    for _ in range(
        20
    ):  # each further one doubles the wait, so that a slow machine cannot sit all of them out
        late = client.post("/login", data={"name": "bob", "password": "x"})
        if late.status_code == 429:
            break
    assert late.status_code == 429 and "Too many attempts to log in" in late.text
    assert int(late.headers["retry-after"]) >= 1


def test_jobs_belong_to_the_user_and_not_to_the_browser(users: Users) -> None:
    from gradio.context import LocalContext

    from app import visitors

    def owner(**headers: str) -> str | None:
        token = LocalContext.request.set(type("Request", (), {"headers": headers, "session_hash": "s"})())
        try:
            return visitors.current()
        finally:
            LocalContext.request.reset(token)

    named = {"x-ltg-user": "ada"}
    assert owner(**named, cookie="ltg_visitor=" + "a" * 30) == owner(**named, cookie="") != owner(cookie="")
