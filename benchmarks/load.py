"""``make load``: many users at once browse, decide and queue work on the real server; they count what they were promised.

Every user has a workspace of their own, and marks it with a word of their own. A client looks at pictures, turns pages,
filters, sorts, searches, decides, tags, queues small generations and exports, cancels some, and asks for the pulse as an
open page does. What the server acknowledged is compared with the databases at the end; a word of somebody else in any
answer is a leak.

``python -m benchmarks.load --users 50 --minutes 10``; a soak is the same with ``--minutes 30``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from app.settings import free_port
from app.users import Users, folder_of
from benchmarks.measure import RESULTS, ROOT, commit, machine, write_json
from benchmarks.page import Page, Refused
from benchmarks.users import PASSWORD, children, memory, until

BROWSING = ("turn", "filter", "sort", "search", "look", "picture")
VERDICTS = ("accepted", "rejected", "flagged")
MARK = re.compile(r"zz([a-z]+)zz")
_ID = re.compile(r'"id":\s*"([0-9a-f]{20})"')  # of an answer without the backslashes of text within text
_TOO_MANY = ("--max-", "jobs wait", "limit")


class Tally:
    """What all clients saw."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: Counter[str] = Counter()
        self.leaks: Counter[str] = Counter()
        self.refused = 0

    def took(self, kind: str, seconds: float) -> None:
        """An answer came."""
        with self.lock:
            self.seconds[kind].append(seconds)

    def wrong(self, what: str) -> None:
        """Something failed."""
        with self.lock:
            self.errors[what[:160]] += 1


class Client(threading.Thread):
    """One user in front of one page."""

    def __init__(
        self, base: str, name: str, number: int, tally: Tally, end: threading.Event, think: float
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.base, self.user, self.tally, self.end, self.think = base, name, tally, end, think
        self.rng = np.random.default_rng([7, number])
        self.mark = "zz" + "".join(chr(97 + int(c)) for c in f"{number:03d}") + "zz"
        self.verdicts: dict[str, str] = {}
        self.tagged: set[str] = set()
        self.parcel = 0
        self.here: list[str] = []
        self.page: Page | None = None
        self.acted = 0

    def run(self) -> None:
        """Come, act until it is over, leave."""
        try:
            self.page = Page(self.base, (self.user, PASSWORD))
            self.page.show("browse")
            self._look(self.page.call("browse-text", "submit", browse_text=""))
            if not self.here:
                raise Refused("Browse shows no samples")
        except (Refused, httpx.HTTPError, KeyError, ValueError, StopIteration) as error:  # counted
            self.tally.wrong(f"coming in: {type(error).__name__}: {error}")
            return
        while not self.end.is_set():
            self._pause()
            if self.end.is_set():
                break
            kind = str(self.rng.choice(
                ("turn", "filter", "sort", "search", "look", "picture", "decide", "generate", "export", "queue"),
                p=(0.15, 0.1, 0.08, 0.07, 0.15, 0.1, 0.28, 0.02, 0.01, 0.04),
            ))  # fmt: skip
            began = time.perf_counter()
            try:
                getattr(self, "_" + kind)()
                self.tally.took(kind, time.perf_counter() - began)
                self.acted += 1
            except (Refused, httpx.HTTPError, KeyError, ValueError, AssertionError) as error:
                self.tally.wrong(f"{kind}: {type(error).__name__}: {error}")
        self.page.close()

    # --- what a user does ---------------------------------------------------------------------------

    def _turn(self) -> None:
        self._look(
            self._call("browse-count", "act", {"name": "page", "to": str(int(self.rng.integers(1, 9)))})
        )

    def _filter(self) -> None:
        field, value = [("split", "val"), ("split", "train"), ("answer", "wrong"), ("verdict", "accepted")][
            int(self.rng.integers(4))
        ]
        self._look(self._call("browse-facets", "act", {"name": "filter", "field": field, "value": value}))
        self._look(self._call("browse-count", "act", {"name": "clear"}))

    def _sort(self) -> None:
        order = str(self.rng.choice(("epistemic", "entropy", "margin", "-confidence", "created")))
        self._look(self._call("browse-sort", "input", browse_sort=order))

    def _search(self) -> None:
        word = str(self.rng.choice(("stop", "night", "sign", "rain", self.mark)))
        self._look(self._call("browse-text", "submit", browse_text=word))
        self._look(self._call("browse-text", "submit", browse_text=""))

    def _look_at(self) -> str:
        return self.here[int(self.rng.integers(len(self.here)))]

    def _picture(self) -> None:
        assert self.page is not None
        for one in self.rng.choice(self.here, size=6):
            if self.page.get(f"/media/thumb/{one}").status_code != 200:
                raise Refused(f"no thumbnail of {one}")

    def _decide(self) -> None:
        """A parcel of decisions; what was acknowledged is remembered."""
        some = list({self._look_at() for _ in range(int(self.rng.integers(1, 5)))})
        verdict = VERDICTS[int(self.rng.integers(3))]
        steps = [{"action": "verdict", "value": verdict, "ids": some}]
        if self.rng.random() < 0.2:
            steps.append({"action": "tag", "value": self.mark, "ids": some[:1]})
        self.parcel += 1
        data = {"number": self.parcel, "steps": steps, "seen": None, "shown": some}
        said = self._call("curate-grid", "decide", data)
        if f'"ack":{self.parcel}' not in said.replace("\\", "").replace(" ", ""):
            raise Refused(f"parcel {self.parcel} was not acknowledged: {said[:200]}")
        self.verdicts |= dict.fromkeys(some, verdict)
        if len(steps) > 1:
            self.tagged.add(some[0])

    def _generate(self) -> None:
        self._job("imagine-start", "click", imagine_number=1, imagine_preset="unguided", imagine_seed=self.parcel,
                  imagine_prompt=f"a photo of a stop sign {self.mark}")  # fmt: skip

    def _export(self) -> None:
        name = f"{self.mark}-{self.parcel}"
        self._job("export-start", "click", export_what="accepted", export_name=name, export_format="jsonl")

    def _queue(self) -> None:
        """Look at the queue; stop what one has there, now and then."""
        assert self.page is not None
        self.page.get("/pulse")
        if self.rng.random() < 0.5:
            self._call("imagine-cancel", "click")

    def _job(self, *words: Any, **given: Any) -> None:
        assert self.page is not None
        before = len(self.page.said)
        self._call(*words, **given)
        if any(sign in text for text in self.page.said[before:] for sign in _TOO_MANY):
            with self.tally.lock:
                self.tally.refused += 1

    # --- how ----------------------------------------------------------------------------------------

    def _call(self, *words: Any, **given: Any) -> str:
        assert self.page is not None
        said = self.page.call(*words, **given)
        for foreign in set(MARK.findall(said)) - {self.mark[2:-2]}:
            with self.tally.lock:
                self.tally.leaks[f"{self.user} saw {foreign} at {words[0]}"] += 1
        return said

    def _look(self, said: str | None = None) -> None:
        """Take in a page of the grid, or (without one) open a sample."""
        if said is None:
            self._call("browse-grid", "pick", {"id": self._look_at()})
            return
        self.here = list(dict.fromkeys(_ID.findall(said.replace("\\", ""))))[:200] or self.here

    def _pause(self) -> None:
        """Think; meanwhile the page asks for the pulse."""
        assert self.page is not None
        left = float(self.rng.exponential(self.think))
        while left > 0 and not self.end.is_set():
            self.end.wait(min(left, 0.8))
            left -= 0.8
            if left > 0:
                try:
                    began = time.perf_counter()
                    self.page.get("/pulse")
                    self.tally.took("pulse", time.perf_counter() - began)
                except (Refused, httpx.HTTPError) as error:
                    self.tally.wrong(f"pulse: {error}")


def compared(ws: Path, clients: list[Client]) -> dict[str, Any]:
    """What the clients were promised, and what they began with, against what the databases hold."""
    promised = lost = foreign = 0
    begun = set(decided(ws / "prepared" / "longtail.sqlite"))
    for client in clients:
        file = folder_of(ws, client.user) / "longtail.sqlite"
        if not file.exists():  # a user who never came in, which is counted as an error
            promised += len(client.verdicts) + len(client.tagged)
            lost += len(client.verdicts) + len(client.tagged)
            continue
        there = decided(file)
        with contextlib.closing(sqlite3.connect(file)) as database:
            tags = database.execute(
                "SELECT s.id, t.tag FROM tags t JOIN samples s ON s.seq = t.sample"
            ).fetchall()
        promised += len(client.verdicts) + len(client.tagged)
        lost += sum(there.get(one) != verdict for one, verdict in client.verdicts.items())
        lost += len(client.tagged - {one for one, tag in tags if tag == client.mark})
        foreign += len(there.keys() - client.verdicts.keys() - begun) + sum(
            tag != client.mark for _, tag in tags
        )
    return {"promised": promised, "lost": lost, "foreign": foreign}


def decided(file: Path) -> dict[str, str]:
    """Verdict by sample."""
    question = "SELECT s.id, v.verdict FROM verdicts v JOIN samples s ON s.seq = v.sample WHERE v.verdict <> 'undecided'"
    with contextlib.closing(sqlite3.connect(file)) as database:
        return dict(database.execute(question).fetchall())


def main() -> int:
    """Start a server, let the users come, say what they saw; returns 1 where a bar is missed."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--users", type=int, default=50)
    made.add_argument("--minutes", type=float, default=10.0)
    made.add_argument("--think", type=float, default=4.0, help="mean seconds between two actions of a user")
    made.add_argument(
        "--prepared", type=Path, help="a workspace that every user begins with instead of the demo"
    )
    made.add_argument("--out", type=Path, default=RESULTS / "load.json")
    given = made.parse_args()
    with tempfile.TemporaryDirectory() as place:
        ws, file = Path(place) / "ws", Path(place) / "users.json"
        names = [f"user{number + 1}" for number in range(given.users)]
        for name in names:
            Users(file).set(name, PASSWORD)
        if given.prepared:
            shutil.copytree(given.prepared, ws / "prepared")
        port = free_port("127.0.0.1", 0)
        words = [sys.executable, "app.py", "--login", "--users", str(file), "--workspace", str(ws)]
        words += ["--port", str(port), "--no-browser"]
        with open(Path(place) / "log", "wb") as log:
            server = subprocess.Popen(words, cwd=ROOT, env=os.environ, stdout=log, stderr=subprocess.STDOUT)
        try:
            said = _measured(server, f"http://127.0.0.1:{port}", ws, names, given)
        finally:
            began = time.monotonic()
            every = children(server.pid) if server.poll() is None else []
            server.terminate()
            code = server.wait(60)
        said |= {"exit": code, "stop_s": round(time.monotonic() - began, 1)}
        said["orphans"] = _left(every)
        text = (Path(place) / "log").read_text(errors="replace")
        said["tracebacks"] = text.count("Traceback")
        if said["tracebacks"]:
            print(text[text.index("Traceback") :][:3000])
    write_json(given.out, said)
    print(json.dumps(said, indent=1))
    return 1 if said["missed"] or said["tracebacks"] or said["orphans"] else 0


def _left(pids: list[int]) -> int:
    """How many of these processes are there after ten seconds."""
    deadline = time.monotonic() + 10
    while (left := sum(Path(f"/proc/{pid}").exists() for pid in pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _measured(server: Any, base: str, ws: Path, names: list[str], given: Any) -> dict[str, Any]:
    with httpx.Client(transport=httpx.HTTPTransport(retries=60), base_url=base, timeout=60) as http:
        until(lambda: http.get("/login").status_code == 200)
    first = Page(base, (names[0], PASSWORD), patience=900)  # waits until the first workspace is filled
    first.close()
    tally, end = Tally(), threading.Event()
    clients = [Client(base, name, number, tally, end, given.think) for number, name in enumerate(names)]
    load = [os.getloadavg()[0]]
    began = time.monotonic()
    for client in clients:  # they come one after another within a quarter of a minute or so
        client.start()
        time.sleep(min(0.3, given.minutes))
    came = time.monotonic() - began
    points: list[tuple[float, float]] = []
    while (now := time.monotonic() - began) < came + given.minutes * 60 and server.poll() is None:
        points.append((now, memory(server.pid)))
        load.append(os.getloadavg()[0])
        time.sleep(5)
    end.set()
    for client in clients:
        client.join(150)
    stuck = sum(client.is_alive() for client in clients)
    return _said(tally, clients, points, load, given, ws) | {"stuck": stuck, "came_s": round(came, 1)}


def _said(
    tally: Tally,
    clients: list[Client],
    points: list[tuple[float, float]],
    load: list[float],
    given: Any,
    ws: Path,
) -> dict[str, Any]:
    browsing = [second for kind in BROWSING for second in tally.seconds[kind]]
    late = np.array([p for p in points if p[0] > points[-1][0] / 3])
    slope = float(np.polyfit(late[:, 0] / 60, late[:, 1], 1)[0]) if len(late) > 3 else float("nan")
    said: dict[str, Any] = {
        "machine": machine(), "commit": commit(), "load_average": [round(load[0], 1), round(float(np.mean(load)), 1)],
        "users": given.users, "minutes": given.minutes, "think_s": given.think,
        "actions": sum(client.acted for client in clients), "pulses": len(tally.seconds["pulse"]),
        "browsing": _quantiles(browsing), "deciding": _quantiles(tally.seconds["decide"]),
        "pulse": _quantiles(tally.seconds["pulse"]),
        "server_mb": [round(points[0][1]), round(points[len(points) // 3][1]), round(points[-1][1])],
        "mb_a_minute": round(slope, 2), "errors": dict(tally.errors), "leaks": dict(tally.leaks),
        "refused_politely": tally.refused, "verdicts": compared(ws, clients),
        "by_kind": {kind: _quantiles(values) for kind, values in sorted(tally.seconds.items())},
    }  # fmt: skip
    bars = {
        "errors": not tally.errors, "leaks": not tally.leaks,
        "verdicts": not said["verdicts"]["lost"] and not said["verdicts"]["foreign"],
        "browsing p95 <= 1 s": (said["browsing"]["p95"] or math.inf) <= 1.0,
        "memory": late[-1, 1] <= 1.1 * late[0, 1],
    }  # fmt: skip
    return said | {"missed": [name for name, held in bars.items() if not held]}


def _quantiles(values: list[float]) -> dict[str, Any]:
    if not values:
        return {"n": 0, "p50": None, "p95": None, "max": None}
    found = np.quantile(values, (0.5, 0.95, 1.0)).round(3).tolist()
    return {"n": len(values), **dict(zip(("p50", "p95", "max"), found, strict=True))}


if __name__ == "__main__":
    sys.exit(main())
