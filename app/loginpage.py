"""The pages for logging in and out: plain HTML without a script, so that they stand before anything else does."""

from __future__ import annotations

import html
from urllib.parse import parse_qs, quote

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from app.cookies import cookie, set_cookie
from app.logins import COOKIE, LONGEST, Logins, Refused

_BODY = 4096  # bytes of a form; a name and a password are shorter
USER_HEADER = "x-ltg-user"
"""Set by the guard for whoever is logged in; taken out of whatever comes from outside."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_STYLE = """
:root { color-scheme: light dark; --ink: #0f172a; --soft: #475569; --paper: #fff; --around: #f1f5f9; --line: #cbd5e1;
  --blue: #1d4ed8; --on-blue: #fff; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --ink: #f1f5f9; --soft: #a3b0c2; --paper: #1e293b; --around: #0f172a;
  --line: #475569; --blue: #60a5fa; --on-blue: #0b1220; --bad: #fca5a5; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--around);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { width: 100%; max-width: 23rem; background: var(--paper); border: 1px solid var(--line); border-radius: 12px;
  padding: 1.75rem; overflow-wrap: anywhere; }
h1 { font-size: 1.25rem; margin: 0 0 .25rem; display: flex; align-items: center; gap: .6rem; }
h1::before { content: ""; width: 1rem; height: 1rem; border-radius: 50%; border: 4px solid var(--blue);
  border-right-color: transparent; }
p { margin: 0 0 1rem; color: var(--soft); }
p[role=alert] { color: var(--bad); font-weight: 600; }
label { display: block; font-weight: 600; margin: 0 0 1rem; }
input { display: block; width: 100%; margin-top: .3rem; padding: .6rem .7rem; font: inherit; font-weight: 400;
  color: inherit; background: var(--paper); border: 1px solid var(--soft); border-radius: 8px; }
button { width: 100%; padding: .65rem; font: inherit; font-weight: 600; border: 0; border-radius: 8px; cursor: pointer;
  background: var(--blue); color: var(--on-blue); }
:focus-visible { outline: 3px solid var(--blue); outline-offset: 2px; }
a { color: var(--blue); }
"""
_SHELL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} — Longtail</title><style>{style}</style></head><body><main><h1>Longtail</h1>{body}</main></body></html>
"""
_LOGIN = """<p>Find the blind spots of a classifier.</p>{said}
<form method="post" action="login">
<label>Name<input name="name" value="{name}" autocomplete="username" autocapitalize="none" spellcheck="false"
 maxlength="64" required{first}></label>
<label>Password<input name="password" type="password" autocomplete="current-password" maxlength="200" required{second}>
</label>
<input type="hidden" name="next" value="{next}"><button>Log in</button></form>"""
_WAITING = """<p><b>Your workspace is being prepared.</b></p>
<p role="status">{text}</p>
<p style="margin:0">This page looks again every few seconds.</p>"""
_ACCOUNT = """<p>You are logged in as <b>{name}</b>.</p>
<form method="post" action="logout"><button>Log out</button></form>
<p style="margin:1rem 0 0"><a href="./">Back to the page</a></p>"""


def routes(server: FastAPI, logins: Logins) -> None:
    """``/login``, ``/account`` and ``/logout``. Every address is relative, so they work under any path."""

    @server.get("/login")
    def ask(next: str = "") -> HTMLResponse:
        return _page("Log in", _form(next=next))

    @server.post("/login")
    async def enter(request: Request) -> Response:
        given = await _fields(request)
        name, wanted = given.get("name", ""), given.get("next", "")
        address = request.client.host if request.client else ""
        try:
            ticket = await logins.enter(name, given.get("password", ""), address)
        except Refused as no:
            return _page("Log in", _form(name, wanted, no.text), no.status, no.wait)
        answer = RedirectResponse(
            "./" + _query(wanted), status_code=303, headers={"Cache-Control": "no-store"}
        )
        set_cookie(answer, request.scope, COOKIE, ticket, age=LONGEST)
        return answer

    @server.get("/account")
    def account(request: Request) -> HTMLResponse:
        return _page("Account", _ACCOUNT.format(name=html.escape(request.headers.get(USER_HEADER, ""))))

    @server.post("/logout")
    def leave(request: Request) -> Response:
        logins.leave(cookie(request.headers.get("cookie", ""), COOKIE))
        # Pictures that the browser kept must not be there for the next person at it.
        answer = RedirectResponse("login", status_code=303, headers={"Clear-Site-Data": '"cache"'})
        set_cookie(answer, request.scope, COOKIE, "", age=0)
        return answer


def login_address(query: str) -> str:
    """Where somebody is sent who is not logged in; ``query`` is the view that they asked for."""
    return "login" + (f"?next={quote('?' + query)}" if query else "")


def waiting_page(text: str) -> HTMLResponse:
    """Shown to a new user while the first workspace is being filled; ``text`` is safe HTML."""
    made = _page("One moment", _WAITING.format(text=text))
    made.headers["Refresh"] = "3"
    return made


def _form(name: str = "", next: str = "", said: str = "") -> str:
    focus = " autofocus"
    return _LOGIN.format(
        said=f'<p role="alert">{html.escape(said)}</p>' if said else "",
        name=html.escape(name[:64]),
        next=html.escape(_query(next)),
        first="" if name else focus,
        second=focus if name else "",
    )


def _query(text: str) -> str:
    """A view of the page, or nothing: never another site, nor a line break in a header."""
    fine = text.startswith("?") and len(text) <= 2000 and text.isprintable() and text.isascii()
    return text if fine else ""


def _page(title: str, body: str, status: int = 200, wait: int = 0) -> HTMLResponse:
    headers = {"Content-Security-Policy": _POLICY, "X-Frame-Options": "DENY", "Cache-Control": "no-store"}
    if wait:
        headers["Retry-After"] = str(wait)
    return HTMLResponse(_SHELL.format(title=title, style=_STYLE, body=body), status, headers)


async def _fields(request: Request) -> dict[str, str]:
    """A short form; what is longer, or no form, is empty."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY:
            return {}
    try:
        found = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=8)
    except ValueError:  # more fields than that
        return {}
    return {name: values[0] for name, values in found.items()}
