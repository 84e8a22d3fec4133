"""Uploads on their way in: who sends how much, and that nobody reads those of others."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from app import visitors
from app.front import Message, Receive, Scope, Send
from app.guard import Refusal, answer
from app.quotas import Uploads

_UPLOAD, _FILE = "/gradio_api/upload", "/gradio_api/file="
_AS_DOWNLOAD = (
    (b"content-disposition", b"attachment"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
)
_REPLACED = tuple(name for name, _ in _AS_DOWNLOAD)
_ANSWER = 2**20  # bytes of a list of paths


class Intake:
    """A plain ASGI middleware behind the guard.

    Args:
        app: What is behind it.
        uploads: Whose they are, and how much there may be.
    """

    def __init__(self, app: Any, *, uploads: Uploads) -> None:
        self.app, self.uploads = app, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = str(scope["path"])[len(scope.get("root_path", "")) :]
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        owner = visitors.owner_of_headers(headers)
        if path == _UPLOAD and scope["method"] == "POST":
            await self._take(scope, receive, send, owner, headers.get("content-length", ""))
        elif path.startswith(_FILE) and self.uploads.owner(path[len(_FILE) :]) != owner:
            await answer(send, Refusal(404, "There is nothing here."))
        elif path.startswith(_FILE):
            await self.app(scope, receive, _downloaded(send))
        else:
            await self.app(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send, owner: str, length: str) -> None:
        if not length:
            await answer(send, Refusal(411, "An upload has to say how long it is."))
            return
        size = int(length)  # the guard has looked at it
        full = await asyncio.to_thread(self.uploads.admit, owner, size)
        if full:
            await answer(send, Refusal(413, full))
            return
        said, paths = bytearray(), []

        async def heard(message: Message) -> None:
            if message["type"] == "http.response.body" and len(said) < _ANSWER:
                said.extend(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive, heard)
            paths = _paths(bytes(said))
        finally:
            self.uploads.arrived(owner, size, paths)


def _downloaded(send: Send) -> Send:
    """The same answer, never shown as a page of this site."""

    async def headed(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message["headers"] if pair[0].lower() not in _REPLACED]
            message = {**message, "headers": [*kept, *_AS_DOWNLOAD]}
        await send(message)

    return headed


def _paths(said: bytes) -> list[str]:
    try:
        found = json.loads(said)
    except ValueError:
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
