"""The web server around the page: checked routes for images, a guard against foreign sites, response headers."""

from __future__ import annotations

import functools
import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse
from starlette.middleware.cors import CORSMiddleware

from app.context import AppContext
from app.settings import LOCAL_HOSTS
from ltg_core.errors import LtgError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", _POLICY.encode()),
)
# What the page asks for; everything else that Gradio serves (its API by name, schemas, monitoring, log-in, profiling,
# run history, proxies) is answered as if it did not exist.
_PATHS = (
    "/",
    "/config",
    "/favicon.ico",
    "/healthz",
    "/manifest.json",
    "/robots.txt",
    "/theme.css",
    "/gradio_api/cancel",
    "/gradio_api/queue/data",
    "/gradio_api/queue/join",
    "/gradio_api/theme.css",
    "/gradio_api/upload",
    "/gradio_api/upload_progress",
)
_FOLDERS = (
    "/assets/",
    "/media/",
    "/static/",
    "/svelte/",
    "/vendor/",
    "/gradio_api/file=",
    "/gradio_api/heartbeat/",
)
_COOKIE = "ltg_key"
_READS = ("GET", "HEAD", "OPTIONS")


def make_server(ctx: AppContext, *, key: str = "") -> FastAPI:
    """The web application without the page; the page is mounted on it.

    Args:
        ctx: The process.
        key: Needed in the address of the first visit; "" for none (only this machine can reach the server).
    """
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # Having a policy of our own, Gradio adds none: its own answers every origin, with credentials.
    server.add_middleware(CORSMiddleware, allow_origins=[], allow_methods=["GET"])
    server.add_middleware(
        Guard, local=ctx.settings.local, max_bytes=(ctx.settings.upload_mb + 1) * 2**20, key=key
    )
    _routes(server, ctx)
    return server


def new_key() -> str:
    """A key that cannot be guessed."""
    return secrets.token_urlsafe(18)


def _routes(server: FastAPI, ctx: AppContext) -> None:
    forever = {"Cache-Control": "private, max-age=31536000, immutable"}

    @server.get("/media/thumb/{sample_id}")
    def thumb(sample_id: str) -> FileResponse:
        return FileResponse(_existing(ctx, sample_id, small=True), media_type="image/webp", headers=forever)

    @server.get("/media/image/{sample_id}")
    def image(sample_id: str) -> FileResponse:
        return FileResponse(_existing(ctx, sample_id, small=False), headers=forever)

    @server.get("/media/export/{name}")
    def export(name: str) -> FileResponse:
        return FileResponse(
            _exported(ctx, name.removesuffix(".zip")), media_type="application/zip", filename=name
        )

    @server.get("/vendor/plotly.min.js")
    def plotly() -> FileResponse:
        return FileResponse(
            _plotly_script(), media_type="text/javascript", headers={"Cache-Control": "max-age=86400"}
        )

    @server.get("/healthz")
    def health() -> dict[str, str]:
        return {"state": "ok"}


def _existing(ctx: AppContext, sample_id: str, *, small: bool) -> Path:
    """The file of a sample's picture. The id is looked up in the database; no part of a path comes from outside."""
    if not sample_id.isalnum() or len(sample_id) > 64:
        raise HTTPException(404)
    try:
        path = ctx.workspace.thumb_path(sample_id) if small else ctx.workspace.image_path(sample_id)
    except LtgError as error:
        raise HTTPException(404) from error
    if not path.is_file():
        raise HTTPException(404)
    return path


def _exported(ctx: AppContext, name: str) -> Path:
    """The zip of an export that this workspace holds; made at the first request."""
    from ltg_core.export import zip_export

    folder = ctx.workspace.exports_folder
    found = next((one for one in folder.iterdir() if one.is_dir() and one.name == name), None)
    if found is None or found.is_symlink():
        raise HTTPException(404)
    packed = folder / f"{name}.zip"
    return packed if packed.is_file() else zip_export(found)


@functools.cache
def _plotly_script() -> Path:
    import importlib.util

    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise HTTPException(404)
    return Path(found.origin).parent / "package_data" / "plotly.min.js"


class Guard:
    """Refuses other hosts, writes from other sites, too large bodies, visitors without the key, and unused routes.

    A plain ASGI middleware: responses stream through it.
    """

    def __init__(self, app: Any, *, local: bool, max_bytes: int, key: str = "") -> None:
        self.app, self.local, self.max_bytes, self.key = app, local, max_bytes, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        status = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            if status:
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self.app(scope, receive, send)
            return
        if status:
            await _answer(send, *status)
            return
        await self.app(scope, self._capped(receive), self._with_headers(scope, send))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if self.local and (urlsplit(f"//{host}").hostname or "") not in LOCAL_HOSTS:
            return 400, "This server answers only to its own name."
        if scope["type"] == "websocket" or scope["method"] not in _READS:
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != host:
                return 403, "Requests from other sites are refused."
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return 403, "Requests from other sites are refused."
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.max_bytes:
            return 413, "The upload is too large."
        if self.key and not self._knows_key(scope, headers):
            return 401, "Open the address that was printed when the server started; it holds the key."
        path = str(scope.get("path", "/"))
        if path not in _PATHS and not path.startswith(_FOLDERS):
            return 404, "There is nothing here."
        return None

    def _knows_key(self, scope: Scope, headers: dict[str, str]) -> bool:
        given = [parse_qs(scope.get("query_string", b"").decode("latin-1")).get("key", [""])[0]]
        cookie = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
        given.append(cookie.value if cookie else "")
        return any(hmac.compare_digest(one.encode(), self.key.encode()) for one in given)

    def _capped(self, receive: Receive) -> Receive:
        """Bodies without a declared length are counted as they come."""
        seen = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                return {"type": "http.disconnect"}
            return message

        return counted

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        async def headed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                extra = [pair for pair in _HEADERS if pair[0] not in present]
                if self.key:
                    extra.append(
                        (b"set-cookie", f"{_COOKIE}={self.key}; Path=/; HttpOnly; SameSite=Strict".encode())
                    )
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        return headed


async def _answer(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
