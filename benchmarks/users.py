"""``make bench-users``: what each further user costs a server of the demo: time to the first page, memory, disk."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from app.settings import free_port
from app.users import Users, folder_of
from benchmarks.measure import ROOT, machine

PASSWORD = "a password for a benchmark"


def children(pid: int) -> list[int]:
    """The process and everything that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += children(int(child))
    return found


def memory(pid: int) -> float:
    """MB of this process's own memory, its share of what it has in common with others included."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def disk(folder: Path) -> float:
    """MB on the disk; what has several names counts once."""
    return int(subprocess.check_output(["du", "-sk", str(folder)]).split()[0]) / 1024


def until(done: Callable[[], Any], seconds: float = 900) -> Any:
    """Wait for something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = done()
        if found:
            return found
        time.sleep(0.05)
    raise TimeoutError("it did not happen")


def enter(base: str, name: str) -> tuple[httpx.Client, float]:
    """Log in; the client, and seconds until the page came."""
    http = httpx.Client(base_url=base, timeout=600, headers={"Origin": base})
    answer = http.post("/login", data={"name": name, "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    started = time.perf_counter()
    until(lambda: http.get("/").status_code == 200)
    assert http.get("/config").status_code == 200
    return http, time.perf_counter() - started


def ready(folder: Path) -> bool:
    """Whether everything that the server opens for a user is there and scored."""
    import sqlite3

    if not (folder / "longtail.sqlite").is_file():
        return False
    with sqlite3.connect(folder / "longtail.sqlite") as database:
        row = database.execute("SELECT state FROM jobs WHERE kind = 'open' ORDER BY seq DESC").fetchone()
        samples = database.execute("SELECT count(*) FROM samples").fetchone()[0]
        scored = database.execute("SELECT count(DISTINCT sample) FROM scores").fetchone()[0]
    return row is None and samples > 0 and scored == samples


def main() -> None:
    """Start a server, let users come one after another, say what each cost."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--users", type=int, default=4, help="how many")
    given = made.parse_args()
    with tempfile.TemporaryDirectory() as place:
        ws, file = Path(place) / "ws", Path(place) / "users.json"
        names = [f"user{number + 1}" for number in range(given.users)]
        for name in names:
            Users(file).set(name, PASSWORD)
        port = free_port("127.0.0.1", 0)
        command = [sys.executable, "app.py", "--login", "--users", str(file), "--workspace", str(ws)]
        server = subprocess.Popen([*command, "--port", str(port), "--no-browser"], cwd=ROOT, env=os.environ)
        try:
            measure(server.pid, f"http://127.0.0.1:{port}", ws, names)
        finally:
            server.terminate()
            server.wait(60)


def measure(pid: int, base: str, ws: Path, names: list[str]) -> None:
    """Print one line a user."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=40), base_url=base, timeout=60) as http:
        until(lambda: _answers(http))
    print(machine(), flush=True)
    for name in names:
        http, page = enter(base, name)
        started = time.perf_counter()
        folder = folder_of(ws, name)
        until(lambda folder=folder: ready(folder))
        picture = _sample(folder)
        shown = http.get(f"/media/thumb/{picture}")
        assert shown.status_code == 200
        seconds = time.perf_counter() - started
        time.sleep(15)  # models are loaded behind the page's back
        every = [memory(one) for one in children(pid)]
        said = {
            "user": name, "page_s": round(page, 2), "samples_s": round(seconds, 2), "server_mb": round(every[0]),
            "workers_mb": [round(one) for one in every[1:]], "disk_mb": round(disk(ws)),
        }  # fmt: skip
        print(json.dumps(said), flush=True)


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/login").status_code == 200
    except httpx.HTTPError:
        return False


def _sample(folder: Path) -> str:
    import sqlite3

    with sqlite3.connect(folder / "longtail.sqlite") as database:
        return str(database.execute("SELECT id FROM samples LIMIT 1").fetchone()[0])


if __name__ == "__main__":
    main()
