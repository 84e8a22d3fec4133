"""What the server refuses, and what it says with every answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from driver import awaited

from app.guard import Guard
from app.settings import Settings


@pytest.fixture
def http(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=240) as client:
        yield client


def test_the_page_answers_with_a_policy_and_keeps_its_machinery_to_itself(http: httpx.Client) -> None:
    answer = http.get("/")
    assert answer.status_code == 200 and "Longtail" in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert (
        "access-control-allow-origin" not in http.get("/", headers={"Origin": "https://evil.example"}).headers
    )
    assert http.get("/monitoring/summary").status_code in (403, 404)


@pytest.mark.parametrize(
    "path",
    (
        *("openapi.json", "docs", "redoc", "login", "logout", "monitoring", "monitoring/summary", "pwa_icon"),
        *("config/x", "gradio_api/openapi.json", "gradio_api/info", "gradio_api/info/", "gradio_api/app_id"),
        *("gradio_api/token", "gradio_api/user", "gradio_api/login_check", "gradio_api/startup-events"),
        *("gradio_api/runs", "gradio_api/queue/status", "gradio_api/deep_link", "gradio_api/vibe-code"),
        *("gradio_api/proxy=http://127.0.0.1", "gradio_api/profiling/summary", "gradio_api/dev/reload"),
        *("openapi.json/", "//openapi.json", "media/../openapi.json", "%6fpenapi.json"),
    ),
)
def test_what_lists_or_serves_internals_is_not_there(http: httpx.Client, path: str) -> None:
    assert http.get("/" + path, follow_redirects=False).status_code == 404


@pytest.mark.parametrize(
    "path", ("run/browse", "api/browse", "call/browse", "call/v2/browse", "component_server")
)
def test_handlers_cannot_be_called_by_name(http: httpx.Client, path: str) -> None:
    assert http.post(f"/gradio_api/{path}", json={"data": []}).status_code == 404


def test_what_the_page_needs_is_there(http: httpx.Client) -> None:
    for path in ("/", "/config", "/theme.css", "/healthz"):
        assert http.get(path).status_code == 200
    sent = http.post("/gradio_api/upload", files={"files": ("a.txt", b"x")})
    assert sent.status_code == 200 and len(sent.json()) == 1


@pytest.mark.parametrize("headers", ({"Origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}))
def test_writes_from_other_sites_are_refused(http: httpx.Client, headers: dict[str, str]) -> None:
    upload = {"files": ("a.txt", b"x")}
    assert http.post("/gradio_api/upload", files=upload, headers=headers).status_code == 403
    assert http.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403


def test_other_host_names_are_refused(http: httpx.Client) -> None:
    assert http.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_images_come_by_id_and_nothing_comes_by_path(http: httpx.Client, ctx: Any) -> None:
    one = ctx.workspace.query(limit=1)[0]
    large = ctx.workspace.add_image(
        np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8), origin="real"
    )
    kinds = {
        f"{what} {id == large}": http.get(f"/media/{what}/{id}").headers["content-type"]
        for what in ("thumb", "image")
        for id in (one, large)
    }
    assert kinds == {
        "thumb True": "image/webp",
        "thumb False": "image/png",
        "image True": "image/png",
        "image False": "image/png",
    }
    assert http.get(f"/media/thumb/{one}").content == http.get(f"/media/image/{one}").content
    for wrong in ("nobody", "..%2f..%2flongtail.sqlite", "..", "a" * 100, "%00"):
        assert http.get(f"/media/image/{wrong}").status_code == 404
    for path in ("/media/export/..zip", "/media/export/%2e%2e%2fapp.zip", "/media/export/none.zip"):
        assert http.get(path).status_code == 404
    assert http.get("/gradio_api/file=" + str(ctx.workspace.path / "longtail.sqlite")).status_code in (
        403,
        404,
    )


def test_plotly_is_served_from_the_package(http: httpx.Client) -> None:
    answer = http.get("/vendor/plotly.min.js")
    assert answer.status_code == 200 and "plotly" in answer.text[:400]


def test_with_a_key_only_those_who_know_it_come_in(ctx: Any) -> None:
    from starlette.testclient import TestClient

    from app.server import make_server

    with TestClient(make_server(ctx, key="let-me-in"), base_url="http://127.0.0.1") as client:
        assert client.get("/healthz").status_code == 200, "that it lives, anybody may know"
        assert not client.cookies.get("ltg_key"), "but not the key"
        assert client.get("/robots.txt").status_code == 401
        assert client.get("/robots.txt?key=wrong").status_code == 401
        assert client.get("/robots.txt?key=let-me-in").status_code != 401
        assert client.get("/robots.txt").status_code != 401, "the cookie of the first visit is enough"


def test_bodies_that_are_too_large_are_refused_or_cut() -> None:
    assert status_of([(b"host", b"127.0.0.1"), (b"content-length", b"26")])[0] == 413
    status, read = status_of([(b"host", b"127.0.0.1")])
    assert status == 200 and read <= 25, "without a declared length it is counted as it comes"


def status_of(headers: list[tuple[bytes, bytes]]) -> tuple[int, int]:
    """What the guard answers to an endless upload, and how much of it came through."""
    read, answers = [0], []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            read.append(len(message["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 10, "more_body": True}

    async def send(message: Any) -> None:
        answers.append(message)

    scope = {"type": "http", "method": "POST", "headers": headers}
    awaited(Guard(application, given=Settings(), max_bytes=25)(scope, receive, send))
    return answers[0]["status"], sum(read)
