"""The outermost layer of the server: what a proxy says is believed of known proxies only; the page's path is cut off.

Everything behind it may take the request's client, scheme, host and path as they are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers = list[tuple[bytes, bytes]]

# Headers with which a request could pretend to be another: Gradio takes the first group from anybody.
_PRETENDED = (b"x-forwarded-", b"x-gradio-", b"x-ltg-", b"x-original-")
_PRETENDED_NAMES = (b"forwarded", b"x-real-ip", b"x-ip-token")

# Gradio would take these names for pages of an app of several pages and for stored states, and fail on unknown ones.
_GRADIO = ("/", "/config")
_ITS_NAMES = (b"page", b"deep_link")


def network(text: str) -> Network:
    """An address or a network of addresses.

    Raises:
        ValueError: It is neither.
    """
    return ipaddress.ip_network(text, strict=False)


def _without_its_names(query: bytes) -> bytes:
    """The names in an address are this app's; those that Gradio would take for its own are not passed on to it."""
    return b"&".join(
        part for part in query.split(b"&") if unquote_to_bytes(part.partition(b"=")[0]) not in _ITS_NAMES
    )


class Front:
    """A plain ASGI middleware.

    Args:
        app: What is behind it.
        root: Path under which the page is seen from outside, such as "/longtail"; "" for none. A proxy may cut it off
            or leave it.
        trusted: Proxies whose ``X-Forwarded-*`` headers are believed.
    """

    def __init__(self, app: Any, *, root: str = "", trusted: Sequence[Network] = ()) -> None:
        self.app, self.root, self.trusted = app, root, tuple(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        path = str(scope.get("path", "/"))
        if self.root and path == self.root and scope["type"] == "http":
            query = scope.get("query_string", b"")
            await _redirect(send, self.root.encode() + b"/" + (b"?" + query if query else b""))
            return
        if self.root and path.startswith(self.root + "/"):
            path = path[len(self.root) :]
        seen = {**scope, **self._seen(scope), "path": self.root + path, "root_path": self.root}
        if path in _GRADIO:
            seen["query_string"] = _without_its_names(scope.get("query_string", b""))
        if self.root and path == "/":
            seen["headers"] = [pair for pair in seen["headers"] if pair[0].lower() != b"accept-encoding"]
            send = _relative(send)
        await self.app(seen, receive, send)

    def _seen(self, scope: Scope) -> dict[str, Any]:
        """Client, scheme and headers as they are for the browser."""
        given: Headers = list(scope["headers"])
        kept = [
            pair
            for pair in given
            if not pair[0].lower().startswith(_PRETENDED) and pair[0].lower() not in _PRETENDED_NAMES
        ]
        client = scope.get("client")
        found: dict[str, Any] = {"headers": kept}
        if not client or not self._trusts(client[0]):
            return found
        came_by = _last(given, b"x-forwarded-proto")
        if came_by in ("http", "https"):
            found["scheme"] = came_by.replace("http", "ws") if scope["type"] == "websocket" else came_by
        host = _last(given, b"x-forwarded-host")
        if host:
            found["headers"] = [pair for pair in kept if pair[0].lower() != b"host"]
            found["headers"].append((b"host", host.encode("latin-1")))
        address = self._browser(_all(given, b"x-forwarded-for"))
        if address:
            found["client"] = (address, 0)
        return found

    def _browser(self, chain: list[str]) -> str:
        """The nearest address that is no trusted proxy: what stands before it, anybody may have written."""
        for one in reversed(chain):
            address = one.strip("[]")
            try:
                ipaddress.ip_address(address)
            except ValueError:
                return ""
            if not self._trusts(address):
                return address
        return ""

    def _trusts(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:  # a socket of the machine, or a test
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in one for one in self.trusted if one.version == found.version)


def _all(headers: Headers, name: bytes) -> list[str]:
    values = [value.decode("latin-1") for key, value in headers if key.lower() == name]
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _last(headers: Headers, name: bytes) -> str:
    """What the nearest proxy added."""
    found = _all(headers, name)
    return found[-1] if found else ""


def _relative(send: Send) -> Send:
    """The one address in Gradio's page that does not know the path, made relative; the length stays."""

    async def changed(message: Message) -> None:
        if message["type"] == "http.response.body":
            body = message.get("body", b"").replace(b'href="/manifest.json"', b'href=" manifest.json"')
            message = {**message, "body": body}
        await send(message)

    return changed


async def _redirect(send: Send, where: bytes) -> None:
    headers = [(b"location", where), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
