"""The end of the server: jobs come to a point from which they can be resumed; who asks twice does not wait."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

from app.lanes import Machine
from ltg_core.jobs import Job

_LOOK = 0.05  # seconds between looks at the jobs
_WRITTEN = 2.0  # seconds for jobs whose process was ended to be written down as such


class Stoppable(Protocol):
    """What of uvicorn's server is set by a signal."""

    should_exit: bool
    force_exit: bool


class Stopping:
    """What Ctrl+C and SIGTERM ask for: the first an end in good order, the second one at once."""

    def __init__(self) -> None:
        self.asked, self.at_once = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def heard(self, server: Stoppable) -> Iterator[None]:
        """Within this block signals end the server; in a thread that is not the main one they cannot be heard."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:
            if self.asked.is_set():
                server.force_exit = True
                self.at_once.set()
            server.should_exit = True
            self.asked.set()

        before = {one: signal.signal(one, ask) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def finish(self, machine: Machine, grace: float) -> None:
        """Ask all jobs to stop, wait for those that can be resumed or started again, and end the processes.

        Args:
            machine: Whose jobs.
            grace: Seconds at most; a second signal ends the wait.
        """
        waited = [job for job in machine.line.stop() if job.kept]
        if waited and grace and not self.at_once.is_set():
            names = ", ".join(f"\u201c{job.title}\u201d" for job in waited)
            print(f"Stopping {names}: up to {grace:g} s; once more ends at once.", flush=True)
        if not self._ended(waited, grace):
            print("Not all jobs came to a good end; what they had finished is kept.", flush=True)
        machine.close()
        self._ended(waited, _WRITTEN, hurried=False)

    def _ended(self, jobs: list[Job], seconds: float, *, hurried: bool = True) -> bool:
        """Wait for jobs; says whether all have ended, and that is written down."""
        end = time.monotonic() + seconds
        while any(not job.ended for job in jobs) and time.monotonic() < end:
            if hurried and self.at_once.is_set():
                break
            time.sleep(_LOOK)
        return all(job.ended for job in jobs)
