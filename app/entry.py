"""Where users have workspaces of their own: the door between the log-in and the page."""

from __future__ import annotations

import asyncio
import html
from typing import Any
from urllib.parse import parse_qs

from app.discreet import discreet
from app.front import Message, Receive, Scope, Send
from app.guard import Refusal, answer
from app.loginpage import USER_HEADER, waiting_page
from app.rooms import Rooms
from ltg_core.errors import LtgError

_STREAM, _HEARTBEAT = "/gradio_api/queue/data", "/gradio_api/heartbeat/"
_OUTSIDE = ("/login", "/logout", "/account", "/healthz", "/favicon.ico")


class Entry:
    """Opens the workspace of whoever comes in, and keeps the pages of users apart.

    A plain ASGI middleware behind the guard.

    Args:
        app: What is behind it.
        rooms: The workspaces.
    """

    def __init__(self, app: Any, *, rooms: Rooms) -> None:
        self.app, self.rooms = app, rooms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":  # the page has none
            await send({"type": "websocket.close", "code": 1008})
            return
        path = str(scope["path"])[len(scope.get("root_path", "")) :]
        if path in _OUTSIDE:
            await self.app(scope, receive, send)
            return
        name = USER_HEADER.encode()
        user = next((value.decode() for key, value in scope["headers"] if key == name), "")
        waits = self.rooms.waits_for(user)
        if waits:
            await _not_yet(send, waits, page=path == "/")
            return
        try:
            await asyncio.to_thread(self.rooms.of, user)
        except LtgError as error:
            await answer(send, Refusal(503, f"Your workspace cannot be opened: {discreet(str(error))}"))
            return
        if not self._owns(scope, path, user):
            await answer(send, Refusal(404, "There is nothing here."))
            return
        await self.app(scope, receive, send)

    def _owns(self, scope: Scope, path: str, user: str) -> bool:
        """Whether a stream of events is that of a page of this user."""
        page = path[len(_HEARTBEAT) :].strip("/") if path.startswith(_HEARTBEAT) else ""
        if path == _STREAM:
            query = scope.get("query_string", b"").decode("latin-1")
            page = parse_qs(query).get("session_hash", [""])[-1]
        return not page or self.rooms.owns(user, page)


async def _not_yet(send: Send, waits: str, *, page: bool) -> None:
    """A page that asks again by itself, or a short word where no page was asked for."""
    if not page:
        await answer(send, Refusal(503, "Your workspace is being prepared. " + waits))
        return
    shown = waiting_page(html.escape(waits))
    headers = [(name.lower(), value) for name, value in shown.raw_headers]
    start: Message = {"type": "http.response.start", "status": 503, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": shown.body})
