"""Units of work on Ray: Ray Data with one actor a GPU, or one a few cores, each of which loads its models once.

Ray lives in a process of its own (``ray_driver``), so that what it prints, the variables that it reads and the signals
that it takes are not this process's. What is started here is on 127.0.0.1, asks for a token and reports nothing to
anybody; a cluster that was started by others (``address``) is as they made it.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import importlib.util
import logging
import pickle
import queue
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from ltg_core.errors import LtgError, MissingExtra, WorkerLost
from ltg_core.jobs import CancelToken
from ltg_core.workers import wire
from ltg_core.workers.engine import Engine, EngineSettings, There, U
from ltg_core.workers.handle import POLL, environment_of, error_of
from ltg_core.workers.ray_driver import end_session

log = logging.getLogger(__name__)

ROUND = 2000
"""Units that Ray holds at a time; between two rounds the processes load their models again."""
_AHEAD = 2  # finished units that wait for this process at most
_GRACE = 10.0  # seconds for Ray to end by itself
_START = "from ltg_core.workers.ray_driver import main; main()"
_ALONE = {
    "RAY_AUTH_MODE": "token",
    # Whether Ray may be one of several machines; where it may not, it stays on 127.0.0.1, on Linux too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


class Ray(Engine):
    """Ray, started at the first use and kept until ``close``; work of several threads waits for each other."""

    def __init__(self, settings: EngineSettings) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtra("the engine 'ray' needs Ray: pip install -r requirements-ray.txt")
        self.settings = settings
        self._driver: _Driver | None = None
        self._turn = threading.Lock()
        self._size, self._seen = 0, set[str]()
        atexit.register(self.close)

    @property
    def words(self) -> str:
        """Such as "2 workers", and how many are known to be lost: those that did a unit, beyond their number."""
        if not self._size:
            return "Ray's workers"
        lost = max(0, len(self._seen) - self._size)
        count = f"{self._size} worker{'s' if self._size != 1 else ''}"
        return f"{count}, {lost} lost and replaced" if lost else count

    @property
    def processes(self) -> frozenset[str]:
        """``host:pid`` of those that did the units of the last round so far."""
        return frozenset(self._seen)

    def map(
        self, units: Iterable[U], here: Any, there: There[U], cancel: CancelToken, soon: Any = None
    ) -> Iterator[tuple[U, Any]]:
        """As ``Engine.map`` says; ``here`` and ``soon`` are not used."""
        left = iter(units)
        while part := list(islice(left, ROUND)):
            while not self._turn.acquire(timeout=POLL):
                cancel.check()
            try:
                yield from self._round(part, there, cancel)
            finally:
                self._turn.release()

    def _round(self, part: list[U], there: There[U], cancel: CancelToken) -> Iterator[tuple[U, Any]]:
        cancel.check()
        options, packed = dict(there.options()), [there.pack(unit) for unit in part]
        if self._driver is None:
            self._driver = _Driver(self.settings)
        driver, self._seen = self._driver, set()
        try:
            driver.begin(there.make, options, packed)
            self._size = int(driver.next(cancel)[0]["workers"])
            for unit in part:
                message, result = driver.next(cancel)
                self._seen.add(message["worker"])
                yield unit, pickle.loads(result)
            driver.next(cancel)  # the processes have let go of their models
        finally:
            if driver.busy:  # stopped, or nobody wants the rest
                self.close()

    def close(self) -> None:
        """End Ray's processes, or leave the cluster."""
        driver, self._driver = self._driver, None
        self._size = 0
        if driver is not None:
            driver.close()


class _Driver:
    """The process in which Ray lives, and what it says.

    Attributes:
        busy: Whether it is in the middle of a round, or gone.
    """

    def __init__(self, settings: EngineSettings) -> None:
        import torch

        self._folder = tempfile.mkdtemp(prefix="ltg-ray-")
        threads = torch.get_num_threads()  # their number decides the last bits
        token = {} if settings.address else {**_ALONE, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment_of(quiet | token),
            start_new_session=True,
        )
        self._said: queue.Queue[tuple[wire.Message, bytes] | None] = queue.Queue(_AHEAD)
        self._over = threading.Event()
        self.busy = False
        threading.Thread(target=self._read, name="ray", daemon=True).start()
        self._send({**dataclasses.asdict(settings), "threads": threads, "folder": self._folder})

    def begin(self, make: str, options: Mapping[str, Any], units: list[Any]) -> None:
        """Hand a round over."""
        self.busy = True
        packed = [pickle.dumps(unit, pickle.HIGHEST_PROTOCOL) for unit in units]
        self._send({"make": make, "options": options}, pickle.dumps(packed, pickle.HIGHEST_PROTOCOL))

    def next(self, cancel: CancelToken) -> tuple[wire.Message, bytes]:
        """What it says next; what failed there is raised here."""
        while True:
            cancel.check()
            try:
                said = self._said.get(timeout=POLL)
            except queue.Empty:
                continue
            if said is None:
                raise self._lost()
            self.busy = not {"end", "failed"} & set(said[0])
            if "failed" not in said[0]:
                return said
            name, text, trace = said[0]["failed"]
            log.info("on Ray: %s", trace)
            raise error_of(name, text)

    def close(self) -> None:
        """End it; what it started ends with it."""
        self._over.set()
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        self._process.kill()  # gone, as it should
        self._process.wait()
        end_session(self._process.pid)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, message: wire.Message, content: bytes = b"") -> None:
        assert self._process.stdin is not None
        try:
            wire.send(self._process.stdin, message, content)
        except (OSError, ValueError):
            raise self._lost() from None

    def _lost(self) -> LtgError:
        return WorkerLost("the process that spoke to Ray ended; what was finished is kept")

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            said: tuple[wire.Message, bytes] | None = ({}, b"")
            while said is not None and not self._over.is_set():
                said = wire.receive(pipe)
                while not self._over.is_set():
                    with contextlib.suppress(queue.Full):
                        self._said.put(said, timeout=POLL)
                        break
