"""A small server that speaks the OpenAI protocol and answers as a test wants it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any], int], Any]
"""Of a request and its number: the text of the answer, or (status, bytes), or None to say nothing until it ends."""


class Speaker(ThreadingHTTPServer):
    """Listens on a free port of this machine; keeps what it was asked."""

    daemon_threads = True

    def __init__(self, answer: Answer, key: str = "") -> None:
        self.asked: list[dict[str, Any]] = []
        self.ended = threading.Event()
        self.answer, self.key = answer, key
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Speaker

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(asked)
        if self.path != "/v1/chat/completions":
            return self.give(404, b"{}")
        if self.server.key and self.headers.get("authorization") != f"Bearer {self.server.key}":
            given = self.headers.get("authorization", "")
            return self.give(401, json.dumps({"error": {"message": f"Incorrect API key: {given}"}}).encode())
        found = self.server.answer(asked, len(self.server.asked))
        if found is None:
            self.server.ended.wait(30)
            return None
        if isinstance(found, tuple):
            return self.give(*found)
        return self.give(200, json.dumps({"choices": [{"message": {"content": found}}]}).encode())

    def give(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@contextmanager
def speaking(answer: Answer, key: str = "") -> Iterator[Speaker]:
    """A running server."""
    with Speaker(answer, key) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()
            thread.join()
