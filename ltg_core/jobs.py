"""Long work: typed progress, a cancel token that every step checks, and a board of jobs that a reload cannot kill."""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from ltg_core.errors import Cancelled, InputError, LtgError

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Progress:
    """One step of a piece of work.

    Attributes:
        done: Finished steps.
        total: All steps; 0 where unknown.
        message: What is being done, in plain words.
        preview: Anything that a page can show meanwhile (for generation: uint8 images), or None.
    """

    done: int
    total: int
    message: str = ""
    preview: Any = None


ProgressFn = Callable[[Progress], None]


def no_progress(progress: Progress) -> None:
    """The progress function of callers who do not want any."""


class CancelToken:
    """A flag that the user sets and every step of the work checks."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop at its next step."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the work was asked to stop."""
        return self._event.is_set()

    def check(self) -> None:
        """Stop here if asked to.

        Raises:
            Cancelled: The user asked for it.
        """
        if self._event.is_set():
            raise Cancelled("stopped on request; what was finished is kept")


Work = Callable[[ProgressFn, CancelToken], Any]


@dataclasses.dataclass
class Job:
    """A run in progress, owned by the server and not by a page.

    Attributes:
        id: Random, so that one user cannot guess another's.
        kind: The workflow's name.
        lane: Jobs of one lane run one after another.
        state: "queued", "running", "done", "failed" or "cancelled".
        reason: Why it failed, in words for the user.
        result: What the workflow returned.
    """

    id: str
    kind: str
    lane: str
    work: Work
    token: CancelToken = dataclasses.field(default_factory=CancelToken)
    state: str = "queued"
    reason: str = ""
    progress: Progress = Progress(0, 0, "waiting for its turn")
    result: Any = None
    created: float = dataclasses.field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    version: int = 0  # grows with every change, so that a page redraws only when there is something new

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")


class JobBoard:
    """All jobs of one process; one worker thread a lane."""

    def __init__(self, keep: int = 200) -> None:
        self._jobs: dict[str, Job] = {}
        self._lanes: dict[str, queue.Queue[Job]] = {}
        self._lock = threading.Lock()
        self._keep = keep

    def submit(self, kind: str, work: Work, *, lane: str = "compute") -> Job:
        """Queue work; returns at once."""
        job = Job(id=uuid.uuid4().hex, kind=kind, lane=lane, work=work)
        with self._lock:
            self._jobs[job.id] = job
            ended = [j.id for j in self._jobs.values() if j.ended]
            for old in ended[: max(0, len(self._jobs) - self._keep)]:
                del self._jobs[old]
            if lane not in self._lanes:
                self._lanes[lane] = queue.Queue()
                threading.Thread(target=self._serve, args=(lane,), name=f"lane-{lane}", daemon=True).start()
        self._lanes[lane].put(job)
        return job

    def get(self, job_id: str) -> Job:
        """The job with this id.

        Raises:
            InputError: No such job (any more).
        """
        try:
            return self._jobs[job_id]
        except KeyError:
            raise InputError(
                "this job is not known to the server; it may have been restarted since"
            ) from None

    def all(self) -> list[Job]:
        """Every job, the newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda job: job.created, reverse=True)

    def cancel(self, job_id: str) -> None:
        """Ask a job to stop at its next step; a queued one never starts."""
        self.get(job_id).token.cancel()

    def _serve(self, lane: str) -> None:
        while True:
            self._run(self._lanes[lane].get())

    def _run(self, job: Job) -> None:
        def report(progress: Progress) -> None:
            job.progress = progress
            job.version += 1

        job.state, job.started = "running", time.time()
        job.version += 1
        try:
            job.token.check()
            job.result = job.work(report, job.token)
            job.state = "done"
        except Cancelled as stop:
            job.state, job.reason = "cancelled", str(stop)
        except LtgError as error:
            job.state, job.reason = "failed", str(error)
        except Exception as error:  # a job must end in a state that the page can show, whatever went wrong
            log.exception("job %s (%s) failed", job.id, job.kind)
            job.state, job.reason = "failed", f"{type(error).__name__}: {error}"
        job.finished = time.time()
        job.version += 1
