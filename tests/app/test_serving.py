"""The end of the server, with connections that would keep it."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any

import pytest
import uvicorn

from app.serving import Server

LARGE = 64_000_000  # more than the socket's buffers take


async def large(scope: Any, receive: Any, send: Any) -> None:
    """One answer that is handed over at once, whether it is read or not."""
    if scope["type"] != "http":
        return
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]}
    )
    await send({"type": "http.response.body", "body": b"0" * LARGE})


def test_an_answer_that_nobody_reads_does_not_keep_the_server(caplog: pytest.LogCaptureFixture) -> None:
    asked: dict[str, Any] = {"log_level": "warning", "timeout_graceful_shutdown": 2, "log_config": None}
    server = Server(uvicorn.Config(large, host="127.0.0.1", port=0, lifespan="off", **asked))
    with caplog.at_level(logging.WARNING), socket.socket() as client:
        running = threading.Thread(target=server.run)
        running.start()
        while not server.started:
            time.sleep(0.01)
        client.connect(server.servers[0].sockets[0].getsockname())
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.1 200 OK"
        server.should_exit = True
        running.join(60)
        assert not running.is_alive()
    assert "Cancel" not in caplog.text and "Traceback" not in caplog.text
