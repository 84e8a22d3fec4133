"""Talks to a running page the way its own script does: the config, the queue, the event stream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import uuid
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import httpx


class Driver:
    """One page load.

    Args:
        base: Address of the server.
        user: Name and password to log in with, None where nobody has to.
    """

    def __init__(self, base: str, user: tuple[str, str] | None = None) -> None:
        self.http = httpx.Client(base_url=base, timeout=240, headers={"Origin": base})
        if user is not None:
            sent = self.http.post("/login", data=dict(zip(("name", "password"), user, strict=True)))
            assert sent.status_code == 303, sent.text
        self.session = uuid.uuid4().hex
        self.config = self.http.get("/config").json()
        self.parts = {part["id"]: part for part in self.config["components"]}
        for part in self.parts.values():
            if _drawn(part):
                part["props"]["value"] = json.loads(part["props"]["value"])[1]
        self.ids = {
            part["props"]["elem_id"]: part["id"]
            for part in self.config["components"]
            if part["props"].get("elem_id")
        }
        self.messages: list[str] = []
        self.arrived = False

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *exception: object) -> None:
        self.http.close()

    def fill(self, *outputs: str) -> None:
        """Run the handlers that refresh these controls when their tab is shown."""
        if not self.arrived:
            self.go({}, number=1)
        for output in outputs:
            for dependency in self.config["dependencies"]:
                if self.ids[output] in dependency["outputs"] and dependency["targets"][0][1] == "change":
                    self.run(dependency)

    def call(self, target: str, event: str, data: Any = None, at: int = 0, **given: Any) -> dict[str, Any]:
        """Trigger an event of the component with this elem_id.

        Args:
            target: elem_id.
            event: Name of the event.
            data: What a component of ours sends along.
            at: Which of several handlers of the same event.
            given: Values of inputs by elem_id, with _ for -; all others have the value they start with.

        Returns:
            Values of the outputs by elem_id; outputs without one, and those that did not change, are absent.
        """
        return self.run(self.handlers(target, event)[at], data, **given)

    def handlers(self, target: str, event: str) -> list[dict[str, Any]]:
        """What is run at an event of the component with this elem_id."""
        wanted = [self.ids[target], event]
        return [d for d in self.config["dependencies"] if wanted in [list(t) for t in d["targets"]]]

    def follow(self, update: dict[str, Any]) -> dict[str, Any]:
        """What the page's own script does when a jump has changed the address: ask what it shows."""
        assert update["address"]["go"]
        return self.go(update["address"]["set"])

    def go(self, names: dict[str, str], number: int = 2) -> dict[str, Any]:
        """What an address shows; the first ``number`` is that of a page that has just been opened."""
        self.arrived = True
        return self.call("address", "go", {"query": "?" + urlencode(names), "number": number})

    def show(self, tab: str) -> dict[str, Any]:
        """Open a tab, as its button does: everything that it draws then."""
        if not self.arrived:
            self.go({}, number=1)
        wanted, found = [self.ids[f"tab-{tab}"], "select"], {}
        for dependency in self.config["dependencies"]:
            if dependency["backend_fn"] and wanted in [list(target) for target in dependency["targets"]]:
                found |= self.run(dependency)
        return found

    def run(self, dependency: dict[str, Any], data: Any = None, **given: Any) -> dict[str, Any]:
        """Run one handler through the queue."""
        return self._result(dependency, self.ask(dependency, data, **given))

    def ask(self, dependency: dict[str, Any], data: Any = None, **given: Any) -> str:
        """Queue one handler; its event's id."""
        values = {self.ids[name.replace("_", "-")]: value for name, value in given.items()}
        inputs = [values.get(i, self.parts[i]["props"].get("value")) for i in dependency["inputs"]]
        body = {
            "data": [
                None if self.parts[i]["type"] == "state" else v
                for i, v in zip(dependency["inputs"], inputs, strict=True)
            ],
            "event_data": data,
            "fn_index": dependency["id"],
            "trigger_id": dependency["targets"][0][0],
            "session_hash": self.session,
        }
        joined = self.http.post("/gradio_api/queue/join", json=body)
        assert joined.status_code == 200, joined.text
        return str(joined.json()["event_id"])

    def _result(self, dependency: dict[str, Any], event_id: str) -> dict[str, Any]:
        with self.http.stream(
            "GET", "/gradio_api/queue/data", params={"session_hash": self.session}
        ) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line[5:])
                if message["msg"] == "log":
                    self.messages.append(message["log"])
                if message["msg"] == "process_completed" and message.get("event_id") == event_id:
                    assert message["success"], message["output"]
                    return self._named(dependency, message["output"]["data"])
        raise AssertionError("the stream ended without a result")

    def _named(self, dependency: dict[str, Any], values: list[Any]) -> dict[str, Any]:
        names = {number: name for name, number in self.ids.items()}
        found = {}
        for number, value in zip(dependency["outputs"], values, strict=True):
            nothing = (
                isinstance(value, dict)
                and value.get("__type__") == "update"
                and set(value) <= {"__type__", "props"}
            )
            if number in names and not nothing:
                found[names[number]] = _opened(value) if _drawn(self.parts[number]) else value
        return found


def _drawn(part: dict[str, Any]) -> bool:
    """Whether it is one of our own components, whose values travel as text."""
    return str(part["props"].get("html_template", "")).startswith('<div class="ltg-')


def _opened(value: Any) -> Any:
    if isinstance(value, str):
        return json.loads(value)[1]
    if isinstance(value, dict) and isinstance(value.get("value"), str):
        return {**value, "value": json.loads(value["value"])[1]}
    return value


def texts(node: Any) -> str:
    """All words of a tree of nodes."""
    if isinstance(node, str):
        return node
    if isinstance(node, dict) and node.get("__type__") == "update":
        return texts(node.get("value"))
    if not isinstance(node, dict):
        return ""
    return " ".join([str(node.get("x") or ""), *[texts(child) for child in node.get("k", [])]])


def actions(node: Any) -> list[tuple[str, dict[str, Any]]]:
    """All buttons of a tree of nodes: (name, what is sent along)."""
    if not isinstance(node, dict):
        return []
    own = [(node["act"][0], node["act"][1])] if node.get("act") else []
    return [*own, *[found for child in node.get("k", []) for found in actions(child)]]


def awaited(answer: Coroutine[Any, Any, Any]) -> Any:
    """What it answers; in a thread of its own, for a browser of an earlier test keeps an event loop in this one."""
    with ThreadPoolExecutor(1) as one:
        return one.submit(asyncio.run, answer).result()


@contextlib.contextmanager
def running(app: Any, port: int) -> Iterator[str]:
    """The address of an application that is served meanwhile."""
    import uvicorn

    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_level="warning",
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 240
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.started
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
