"""Whether there is anything for a page to hear, in a few letters: it asks often, and mostly there is nothing."""

from __future__ import annotations

import hashlib

from starlette.requests import Request

from app import visitors
from app.context import AppContext
from app.header import header_key
from app.session import BEATS


def pulse(ctx: AppContext) -> str:
    """Changes whenever the header does, the workspace, or a job of the visitor."""
    parts = [header_key(ctx), str(ctx.revision), *(ctx.beat(kind) for kind in BEATS)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def felt(ctx: AppContext, request: Request) -> str:
    """The pulse for whoever sends a request; "" for a browser without cookies, whose jobs belong to its page."""
    if not visitors.known(request.headers):
        return ""
    with visitors.asking(request):
        return pulse(ctx)
