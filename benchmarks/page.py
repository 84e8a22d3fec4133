"""A page without a browser: it talks to the server the way the page's own script does."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import httpx

CONFIG: dict[str, dict[str, Any]] = {}
"""What ``/config`` said, by server: it is the same for everybody, and reading it again costs the client most."""


class Refused(Exception):
    """The server said no, or said nothing."""


class Page:
    """One page load of a user who logs in.

    Args:
        base: Address of the server.
        user: Name and password, None where nobody has to log in.
        patience: Seconds to wait for an answer.
    """

    def __init__(self, base: str, user: tuple[str, str] | None = None, patience: float = 120) -> None:
        self.http = httpx.Client(base_url=base, timeout=patience, headers={"Origin": base})
        deadline = time.monotonic() + patience
        while user is not None and (sent := self._login(user)).status_code != 303:
            if sent.status_code not in (429, 503) or time.monotonic() > deadline:
                raise Refused(f"log-in: {sent.status_code} {sent.text[:200]}")
            time.sleep(float(sent.headers.get("Retry-After", 2)))  # too many people are logging in, it says
        while (first := self.http.get("/")).status_code != 200:
            waits = first.status_code == 503 and "One moment" in first.text
            if (first.status_code >= 500 and not waits) or time.monotonic() > deadline:
                raise Refused(f"page: {first.status_code} {first.text[:200]}")
            time.sleep(0.5)
        text = self.http.get("/config")
        if base not in CONFIG:
            CONFIG[base] = text.json()
        self.session = uuid.uuid4().hex
        self.parts = {part["id"]: part for part in CONFIG[base]["components"]}
        self.handlers = CONFIG[base]["dependencies"]
        named = [part for part in self.parts.values() if part["props"].get("elem_id")]
        self.ids = {part["props"]["elem_id"]: part["id"] for part in named}
        self.received = 0
        self.said: list[str] = []
        self.arrived = False

    def _login(self, user: tuple[str, str]) -> httpx.Response:
        return self.http.post("/login", data={"name": user[0], "password": user[1]})

    def close(self) -> None:
        """Leave."""
        self.http.close()

    def call(self, target: str, event: str, data: Any = None, **given: Any) -> str:
        """Trigger an event; returns the answer as it came.

        Args:
            target: elem_id of the component.
            event: Name of the event.
            data: What a component of ours sends along.
            given: Values of inputs by elem_id, with _ for -; others have the value they start with.

        Raises:
            Refused: An error, or no answer.
        """
        return self._run(self._handlers(target, event)[0], f"{target} {event}", data, given)

    def show(self, tab: str) -> str:
        """Open a tab, as its button does, and let it be drawn.

        Returns:
            All answers, as they came.

        Raises:
            Refused: An error, or no answer.
        """
        if not self.arrived:
            self.call("address", "go", {"query": f"?tab={tab}", "number": 1})
            self.arrived = True
        return "".join(self._run(one, tab, None, {}) for one in self._handlers(f"tab-{tab}", "select"))

    def _handlers(self, target: str, event: str) -> list[dict[str, Any]]:
        """Those of an event that ask the server."""
        wanted = [self.ids[target], event]
        every = [d for d in self.handlers if wanted in [list(t) for t in d["targets"]]]
        found = [d for d in every if d["backend_fn"]]
        if not found:
            raise Refused(f"{target} {event}: the page asks nothing then")
        return found

    def _run(self, handler: dict[str, Any], name: str, data: Any, given: dict[str, Any]) -> str:
        values = {self.ids[name.replace("_", "-")]: value for name, value in given.items()}
        sent = [values.get(i, self.parts[i]["props"].get("value")) for i in handler["inputs"]]
        body = {
            "data": [
                None if self.parts[i]["type"] == "state" else v
                for i, v in zip(handler["inputs"], sent, strict=True)
            ],
            "event_data": data,
            "fn_index": handler["id"],
            "trigger_id": handler["targets"][0][0],
            "session_hash": self.session,
        }
        joined = self.http.post("/gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            raise Refused(f"{name}: {joined.status_code} {joined.text[:200]}")
        return self._answer(joined.json()["event_id"], name)

    def get(self, path: str) -> httpx.Response:
        """Fetch something.

        Raises:
            Refused: The server failed.
        """
        answer = self.http.get(path)
        self.received += len(answer.content)
        if answer.status_code >= 500:
            raise Refused(f"{path}: {answer.status_code}")
        return answer

    def _answer(self, event: str, what: str) -> str:
        asked = {"session_hash": self.session}
        with self.http.stream("GET", "/gradio_api/queue/data", params=asked) as stream:
            for line in stream.iter_lines():
                self.received += len(line)
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                if message["msg"] == "log":
                    self.said.append(str(message["log"]))
                if message["msg"] == "process_completed" and message.get("event_id") == event:
                    if not message["success"]:
                        raise Refused(f"{what}: {str(message['output'])[:300]}")
                    return line
        raise Refused(f"{what}: the stream ended without an answer")
