"""Cookies, read and set in one way: HttpOnly, for this page's path, and Secure where the browser came by https."""

from __future__ import annotations

from collections.abc import MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from starlette.responses import Response


def cookie(header: str, name: str) -> str:
    """A cookie out of the header; "" where there is none, or the header is no list of cookies."""
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def written(
    scope: MutableMapping[str, Any], name: str, value: str, *, age: int | None, site: str = "Lax"
) -> str:
    """The header that sets a cookie.

    Args:
        scope: Of the request that is answered; says under which path the page is, and whether by https.
        name: Its name.
        value: Its value, of letters, digits, hyphen and underscore.
        age: Seconds; None until the browser is closed.
        site: "Strict", "Lax", or "None" for a page within another one.
    """
    parts = [f"{name}={value}", f"Path={scope.get('root_path', '')}/", "HttpOnly"]
    if age is not None:
        parts.insert(2, f"Max-Age={age}")
    if site == "None":
        parts += ["SameSite=None", "Secure", "Partitioned"]
    else:
        parts += [f"SameSite={site}", *(["Secure"] if scope.get("scheme") in ("https", "wss") else [])]
    return "; ".join(parts)


def set_cookie(
    answer: Response, scope: MutableMapping[str, Any], name: str, value: str, *, age: int | None
) -> None:
    """Set a cookie with an answer."""
    answer.headers.append("set-cookie", written(scope, name, value, age=age))
