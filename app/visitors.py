"""Who is asking: whoever is logged in, else a random cookie a browser; so nobody sees the jobs of others.

The cookie is HttpOnly and SameSite=Strict; on a Hugging Face Space, which is shown within the platform's page, it is
partitioned instead: known within that page and nowhere else. What the server and the workspace keep is its hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from gradio.context import LocalContext
from starlette.requests import Request

from app.cookies import cookie, written
from app.loginpage import USER_HEADER

COOKIE = "ltg_visitor"
_YEAR = 365 * 24 * 3600
_FORM = re.compile(r"[A-Za-z0-9_-]{20,64}")


def current() -> str | None:
    """The owner of the event that is being handled; None outside of events, where the process itself acts."""
    request = LocalContext.request.get(None)
    if request is None:
        return None
    # A browser without cookies is told apart by page.
    return owner_of_headers(request.headers, f"page {getattr(request, 'session_hash', '')}")


@contextlib.contextmanager
def asking(request: Request) -> Iterator[None]:
    """What is asked within is asked by whoever sent this request, as in an event of the page."""
    token = LocalContext.request.set(request)
    try:
        yield
    finally:
        LocalContext.request.reset(token)


def known(headers: Mapping[str, str]) -> bool:
    """Whether a request says whose it is: a log-in, or this server's cookie."""
    return bool(headers.get(USER_HEADER) or _token(str(headers.get("cookie", ""))))


def uploader() -> str | None:
    """The owner that uploads of this event's browser have; None outside of events."""
    request = LocalContext.request.get(None)
    return None if request is None else owner_of_headers(request.headers)


def owner_of_headers(headers: Mapping[str, str], otherwise: str = "nobody") -> str:
    """The owner that a request names: whoever is logged in, else its browser."""
    user = str(headers.get(USER_HEADER, ""))
    return owner_of(f"user {user}" if user else _token(str(headers.get("cookie", ""))) or otherwise)


def owner_of(token: str) -> str:
    """The id that jobs are tagged with."""
    return hashlib.sha256(b"longtail visitor " + token.encode()).hexdigest()[:32]


def name() -> str:
    """Who is logged in, for the page; "" where nobody has to be."""
    request = LocalContext.request.get(None)
    return "" if request is None else str(request.headers.get(USER_HEADER, ""))


def page() -> str:
    """The id of the page that the event comes from; "" outside of events."""
    request = LocalContext.request.get(None)
    return "" if request is None else str(request.session_hash or "")


def greeting(
    scope: MutableMapping[str, Any], headers: Mapping[str, str], *, framed: bool = False
) -> str | None:
    """The cookie to set with an answer, None where the browser has one.

    A strict cookie is not sent when a link on another site leads here, so such a request says nothing about whether
    there is one; the page's own requests, which follow at once, do.
    """
    if _token(headers.get("cookie", "")) or headers.get("sec-fetch-site", "none") not in (
        "none",
        "same-origin",
    ):
        return None
    site = "None" if framed else "Strict"
    return written(scope, COOKIE, secrets.token_urlsafe(24), age=_YEAR, site=site)


def _token(cookies: str) -> str:
    found = cookie(cookies, COOKIE)
    return found if _FORM.fullmatch(found) else ""
