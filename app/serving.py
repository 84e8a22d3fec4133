"""Uvicorn that ends although pages are open; Gradio's queue in the order of a page's clicks, and its first script."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from gradio import routes
from gradio.queueing import Event, Queue
from jinja2 import ChoiceLoader, DictLoader

ENDLESS = ("/gradio_api/heartbeat/", "/gradio_api/queue/data")
"""An open page holds these streams for as long as it is open."""
CONNECTIONS = 20_000
"""At a time: an open page holds two, and more are answered that the server is busy."""
PAGE = "page"
"""Handlers with this ``concurrency_id`` run one at a time for each page, and without a limit for different pages."""
PAGES = "frontend/index.html"
"""Gradio's template of a page."""
LOOK = 0.01
"""Seconds between two looks for events."""


def config_of(app: Any, *, host: str, port: int) -> uvicorn.Config:
    """How the page is served: one log for all, in the form that ``ltg_core.logs`` gives it; a download that never ends
    is not waited for.
    """
    given: dict[str, Any] = {"host": host, "port": port, "timeout_graceful_shutdown": 2}
    given |= {"log_level": "warning", "log_config": None, "access_log": False}
    given |= {"proxy_headers": False, "server_header": False}  # ``Front`` believes named proxies only
    return uvicorn.Config(app, **given, limit_concurrency=CONNECTIONS)


class Server(uvicorn.Server):
    """At the end the streams of open pages are closed, as if their tabs had been closed.

    Uvicorn alone waits for them until the limit, cancels the tasks behind them, and writes down a traceback of each
    (CancelledError): nobody had told those tasks that their listener is gone. A closed connection is what they know.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: signals are ``Stopping``'s, and count until the jobs have come to their end too.

        Uvicorn would raise them again once it has ended itself, which ends this process before its jobs are told.
        """
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the endless streams; then wait for everything else, but not for somebody who has stopped reading."""
        for connection in list(self.server_state.connections):
            scope, transport = getattr(connection, "scope", None), getattr(connection, "transport", None)
            if scope is not None and transport is not None and str(scope["path"]).startswith(ENDLESS):
                transport.close()
        limit = self.config.timeout_graceful_shutdown
        later = asyncio.get_running_loop().call_later((limit or 2) / 2, self._cut)
        try:
            await super().shutdown(sockets)
        finally:
            later.cancel()

    def _cut(self) -> None:
        """Connections without a running request: unread answers, and those that were opened while the end began."""
        for connection in list(self.server_state.connections):
            transport, cycle = getattr(connection, "transport", None), getattr(connection, "cycle", None)
            if transport is not None and (transport.is_closing() or cycle is None or _done(cycle)):
                transport.abort()


def _done(cycle: Any) -> bool:
    return bool(getattr(cycle, "response_complete", False))


def begin_with(script: str) -> None:
    """Have every page run a script before Gradio's own; what ``head`` is given runs after them."""
    loader = routes.templates.env.loader
    if isinstance(loader, ChoiceLoader):
        return
    assert loader is not None
    page = loader.get_source(routes.templates.env, PAGES)[0].replace(
        "<head>", f"<head><script>{script}</script>", 1
    )
    routes.templates.env.loader = ChoiceLoader([DictLoader({PAGES: page}), loader])


def in_order(queue: Queue) -> None:
    """Have the queue run a page's ``PAGE`` events one after the other, in the order in which they came.

    It looks for events every ``LOOK`` seconds: Gradio's thousand looks a second keep a core awake while nobody does
    anything.

    Gradio can limit how many events run, of all users together, or not; without a limit two clicks in quick succession
    start from the same state, so that the first is lost, and the answer that is ready last is shown, whichever it is.
    """
    anyone = queue.get_events

    def free() -> tuple[list[Event], bool, str] | None:
        waiting = queue.event_queue_per_concurrency_id.get(PAGE)
        if waiting is None:
            return anyone()
        running = [event for job in queue.active_jobs if job for event in job]
        busy = {event.session_hash for event in running if event.concurrency_id == PAGE}
        held = [event for event in waiting.queue if event.session_hash in busy]
        waiting.queue[:] = [event for event in waiting.queue if event.session_hash not in busy]
        try:
            return anyone()
        finally:
            waiting.queue[:0] = held

    queue.get_events = free  # type: ignore[method-assign]
    queue.sleep_when_free = LOOK
