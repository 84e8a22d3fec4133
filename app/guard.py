"""The guard before every route: hosts, foreign sites, sizes, who may come in, what exists at all, and headers."""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
import ipaddress
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from app import visitors
from app.cookies import cookie, written
from app.front import Headers, Message, Receive, Scope, Send
from app.loginpage import USER_HEADER, login_address
from app.logins import COOKIE as TICKET
from app.settings import LOCAL_HOSTS, Settings

if TYPE_CHECKING:
    from app.logins import Logins

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
_UNUSED = "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=(), bluetooth=(), midi=()"
_COMMON = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", _UNUSED.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
HEADERS = (
    *_COMMON,
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"content-security-policy", _POLICY.encode()),
)
# The platform shows a Space within its own page.
_SPACE_HEADERS = (
    *_COMMON[:3],
    (b"content-security-policy", f"{_POLICY} https://huggingface.co https://*.hf.space".encode()),
)
HEALTH = "/healthz"
"""Answers also those who may not come in, with whether the server can work, and why not."""
# What the page asks for; everything else that Gradio serves (its API by name, schemas, monitoring, log-in, profiling,
# run history, proxies) is answered as if it did not exist.
_PATHS = (
    "/",
    "/config",
    "/favicon.ico",
    HEALTH,
    "/manifest.json",
    "/pulse",
    "/robots.txt",
    "/theme.css",
    "/gradio_api/cancel",
    "/gradio_api/queue/data",
    "/gradio_api/queue/join",
    "/gradio_api/theme.css",
    "/gradio_api/upload",
    "/gradio_api/upload_progress",
)
_LOGIN_PATHS = ("/login", "/account", "/logout")
_FOLDERS = (
    "/assets/",
    "/media/",
    "/static/",
    "/svelte/",
    "/vendor/",
    "/gradio_api/file=",
    "/gradio_api/heartbeat/",
)
_KEY = "ltg_key"
_READS = ("GET", "HEAD", "OPTIONS")
_PATIENCE = 60.0  # seconds for the next part of a body
_TUNNEL = ".gradio.live"


@dataclasses.dataclass(frozen=True)
class Refusal:
    """An answer that is no page."""

    status: int
    text: str
    location: str = ""


class Guard:
    """Refuses other hosts, requests from other sites, too large or too slow bodies, strangers, and unused routes.

    A plain ASGI middleware: responses stream through it.

    Args:
        app: What is behind it.
        given: How this process serves.
        max_bytes: Of a body.
        key: Needed in the address of the first visit; "" for none.
        logins: Who is logged in; None where nobody has to be.
    """

    def __init__(
        self, app: Any, *, given: Settings, max_bytes: int, key: str = "", logins: Logins | None = None
    ) -> None:
        self.app, self.given, self.max_bytes, self.key, self.logins = app, given, max_bytes, key, logins
        self.paths = (*_PATHS, *(_LOGIN_PATHS if logins else ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        user = self.logins.user(cookie(headers.get("cookie", ""), TICKET)) if self.logins else None
        refusal = self._refusal(scope, headers, user)
        if scope["type"] == "websocket":
            if refusal:
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        if refusal:
            await answer(send, refusal)
            return
        if user is not None:
            scope["headers"] = [*scope["headers"], (USER_HEADER.encode(), user.encode())]
        await self.app(scope, self._capped(receive), self._with_headers(scope, headers, send))

    def _refusal(self, scope: Scope, headers: dict[str, str], user: str | None) -> Refusal | None:
        path = str(scope.get("path", "/"))[len(scope.get("root_path", "")) :] or "/"
        return (
            self._of_hosts(scope, headers)
            or self._of_sites(scope, headers)
            or self._of_sizes(headers)
            or self._of_strangers(scope, headers, path, user)
            or (
                None
                if path in self.paths or path.startswith(_FOLDERS)
                else Refusal(404, "There is nothing here.")
            )
        )

    def _of_hosts(self, scope: Scope, headers: dict[str, str]) -> Refusal | None:
        """A name that somebody else's name server leads here (DNS rebinding) is not ours."""
        if sum(name.lower() == b"host" for name, _ in scope["headers"]) > 1:
            return Refusal(400, "The request names two hosts.")
        if self.given.space:
            return None
        name = _host_name(headers.get("host", ""))
        if self.given.local:
            fine = name in LOCAL_HOSTS
        else:
            fine = _is_address(name) or name in (*LOCAL_HOSTS, *own_names(), *self.given.hosts)
            fine = fine or (self.given.share and name.endswith(_TUNNEL))
        if fine:
            return None
        advice = "" if self.given.local else " Whoever started it can allow another one: --allow-host NAME."
        return Refusal(400, "This server answers only to its own name." + advice)

    def _of_sites(self, scope: Scope, headers: dict[str, str]) -> Refusal | None:
        """Other sites may link here, and nothing else: no write, no picture, no frame, no stream."""
        foreign = Refusal(403, "Requests from other sites are refused.")
        site, method = headers.get("sec-fetch-site", "same-origin"), scope.get("method", "")
        if scope["type"] == "websocket" or method not in _READS:
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != headers.get("host", ""):
                return foreign
            if site not in ("same-origin", "none"):
                return foreign
        linked = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") != "object"
        return foreign if site not in ("same-origin", "none") and not linked else None

    def _of_sizes(self, headers: dict[str, str]) -> Refusal | None:
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return Refusal(400, "The length of the body is no number.")
        if int(length) <= self.max_bytes:
            return None
        return Refusal(
            413,
            f"The upload is too large: {int(length) / 2**20:,.0f} MB, and {self.given.upload_mb:,} MB are allowed "
            "(--max-upload-mb).",
        )

    def _of_strangers(
        self, scope: Scope, headers: dict[str, str], path: str, user: str | None
    ) -> Refusal | None:
        if path == HEALTH:
            return None
        if self.key and not self._knows_key(scope, headers):
            return Refusal(
                401, "Open the address that was printed when the server started; it holds the key."
            )
        if self.logins is None or user is not None or path == "/login":
            return None
        if path == "/" and scope.get("method") in ("GET", "HEAD"):
            query = scope.get("query_string", b"").decode("latin-1")
            return Refusal(303, "Log in first.", login_address(query))
        return Refusal(401, "Log in first: load the page again.")

    def _knows_key(self, scope: Scope, headers: dict[str, str]) -> bool:
        given = [
            parse_qs(scope.get("query_string", b"").decode("latin-1")).get("key", [""])[0],
            cookie(headers.get("cookie", ""), _KEY),
        ]
        return any(hmac.compare_digest(one.encode(), self.key.encode()) for one in given)

    def _capped(self, receive: Receive) -> Receive:
        """Bodies without a declared length are counted as they come, and none may come drop by drop for ever."""
        seen, whole = 0, False

        async def counted() -> Message:
            nonlocal seen, whole
            if whole:  # a stream of answers waits here until the browser leaves
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), _PATIENCE)
            except TimeoutError:
                return {"type": "http.disconnect"}
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > self.max_bytes:
                return {"type": "http.disconnect"}
            return message

        return counted

    def _with_headers(self, scope: Scope, headers: dict[str, str], send: Send) -> Send:
        space = self.given.space
        greeting = visitors.greeting(scope, headers, framed=space)
        own = _SPACE_HEADERS if space else HEADERS

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                extra: Headers = [pair for pair in own if pair[0] not in present]
                if self.key and self._knows_key(scope, headers):
                    sent = written(scope, _KEY, self.key, age=None, site="Strict")
                    extra.append((b"set-cookie", sent.encode()))
                if greeting is not None:
                    extra.append((b"set-cookie", greeting.encode()))
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        return headed


def own_names() -> tuple[str, ...]:
    """What this machine calls itself."""
    name = socket.gethostname().lower()
    return (name, f"{name.split('.')[0]}.local")


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:  # a bracket that is not closed
        return ""


def _is_address(name: str) -> bool:
    """Numbers belong to no name server, so nobody can turn them to another machine."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def answer(send: Send, refusal: Refusal) -> None:
    """Say no, in plain text."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store"), *HEADERS]
    if refusal.location:
        headers.append((b"location", refusal.location.encode("latin-1", "replace")))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.text.encode()})
