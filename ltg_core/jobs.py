"""Long work: typed progress, a cancel token that every step checks, and a board of jobs that a reload cannot kill."""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ltg_core import logs
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
        changed: Whether samples, models or scores are now others than before, so that pages should look again.
        run: Id of the run that begins with this step, else "".
    """

    done: int
    total: int
    message: str = ""
    preview: Any = None
    changed: bool = False
    run: str = ""


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


@dataclasses.dataclass(frozen=True)
class Spec:
    """Work that can be written down, so that another process can do it, and do it again after a restart.

    Attributes:
        task: A name that the worker knows.
        arguments: JSON values by name.
    """

    task: str
    arguments: dict[str, Any]


ENDED = ("done", "failed", "cancelled", "interrupted")
_NEVER_STARTED = "cancelled; it will not start"
_STOPPED = "the server was stopped before it was done; what was finished is kept"


@dataclasses.dataclass
class Job:
    """A run in progress, owned by the server and not by a page.

    Attributes:
        id: Random, so that one user cannot guess another's.
        kind: The workflow's name.
        lane: Jobs of one lane run one after another.
        work: What is to be done; for a job with a ``spec`` it asks a worker process.
        title: For people.
        about: Ids and settings that the result is shown with.
        owner: Whose it is; "" for jobs of the process itself, which everybody sees.
        spec: The same work in words that survive a restart, None where it is a function of this process.
        kept: Whether it is written to the log.
        stopped: Whether the end of the server stops it, and not its owner.
        state: "queued", "running", "done", "failed", "cancelled", or "interrupted" when its server ended first.
        reason: Why it failed, in words for the user.
        result: What the workflow returned.
        run: Id of the first run that it wrote, "" before that.
    """

    id: str
    kind: str
    lane: str
    work: Work
    title: str = ""
    about: dict[str, Any] = dataclasses.field(default_factory=dict)
    owner: str = ""
    spec: Spec | None = None
    kept: bool = True
    token: CancelToken = dataclasses.field(default_factory=CancelToken)
    stopped: bool = False
    state: str = "queued"
    reason: str = ""
    progress: Progress = Progress(0, 0, "waiting for its turn")
    result: Any = None
    run: str = ""
    created: float = dataclasses.field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    version: int = 0  # grows with every change, so that a page redraws only when there is something new

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED


class JobLog(Protocol):
    """Where jobs are written down, so that a restart finds them again."""

    def save(self, job: Job) -> None:
        """Write or replace the record of a job."""


def everybody() -> str | None:
    """The viewer of a board that is used by one process alone: sees all jobs."""
    return None


class Line:
    """Where jobs wait: one thread a lane, which does the work or waits for the worker that does it.

    Several boards may share it; then their jobs wait for each other, and none of them sees more of the others' than
    their number.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, queue.Queue[tuple[Job, Callable[[Job], None]]]] = {}
        self._open: list[Job] = []
        self._lock = threading.Lock()
        self._begun: dict[str, Job] = {}
        self._stopped = False

    def put(self, job: Job, run: Callable[[Job], None]) -> None:
        """Have ``run`` called with the job when it is its turn."""
        with self._lock:
            self._open = [one for one in self._open if not one.ended and one is not job] + [job]
            if job.lane not in self._lanes:
                self._lanes[job.lane] = queue.Queue()
                threading.Thread(
                    target=self._serve, args=(job.lane,), name=f"lane-{job.lane}", daemon=True
                ).start()
            self._lanes[job.lane].put((job, run))

    def open(self) -> list[Job]:
        """Every job that waits or runs, whoever's it is."""
        with self._lock:
            return [job for job in self._open if not job.ended]

    def stop(self) -> list[Job]:
        """Ask what runs to stop at its next step, as a cancel does; what waits does not begin any more.

        Returns:
            The jobs that were running: each ends as "interrupted", unless it is done before it hears of it.
        """
        with self._lock:
            self._stopped = True
            running = [job for job in self._begun.values() if not job.ended]
        for job in running:
            job.stopped = not job.token.cancelled
            job.token.cancel()
        return running

    def _serve(self, lane: str) -> None:
        while True:
            job, run = self._lanes[lane].get()
            with self._lock:
                if self._stopped:  # it waits on in the log, for the next start
                    continue
                self._begun[lane] = job
            run(job)


class JobBoard:
    """The jobs of one workspace.

    Args:
        keep: Jobs that are remembered after their end.
        log: Where they are written down, or None.
        viewer: Who asks: the owner of jobs, or None for the process itself. Nobody is told about the jobs of others,
            nor can cancel them: their ids are answered as if they did not exist.
        line: Where its jobs wait, also beside those of other boards; None for a line of its own.
    """

    def __init__(
        self,
        keep: int = 200,
        *,
        log: JobLog | None = None,
        viewer: Callable[[], str | None] = everybody,
        line: Line | None = None,
    ) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._keep, self._log, self._viewer, self._line = keep, log, viewer, line or Line()

    def submit(
        self,
        kind: str,
        work: Work,
        *,
        lane: str = "compute",
        title: str = "",
        about: Mapping[str, Any] | None = None,
        owner: str | None = None,
        spec: Spec | None = None,
        kept: bool = True,
    ) -> Job:
        """Queue work; returns at once.

        Args:
            kind: The workflow's name.
            work: Called with a progress function and a cancel token.
            lane: Jobs of one lane run one after another.
            title: For people.
            about: What the result is shown with.
            owner: None for whoever asks.
            spec: The same work in words that survive a restart.
            kept: Whether it is written to the log.
        """
        whose = owner if owner is not None else self._viewer() or ""
        job = Job(uuid.uuid4().hex, kind, lane, work, title or kind, dict(about or {}), whose, spec, kept)
        self.enqueue(job)
        return job

    def enqueue(self, job: Job) -> None:
        """Queue a job that was made elsewhere: one that a restart has found again."""
        self._save(job)
        with self._lock:
            self._remember(job)
        self._line.put(job, self._run)

    def remember(self, job: Job) -> None:
        """Show a job that has ended, from the log."""
        with self._lock:
            self._remember(job)

    def get(self, job_id: str) -> Job:
        """The job with this id.

        Raises:
            InputError: No such job (any more), or one of somebody else.
        """
        job = self._jobs.get(job_id)
        if job is None or not self.may_see(job):
            raise InputError("this job is not known to the server; it may have been restarted since")
        return job

    def all(self) -> list[Job]:
        """Every job that the viewer may see, the newest first."""
        with self._lock:
            found = [job for job in self._jobs.values() if self.may_see(job)]
        return sorted(found, key=lambda job: job.created, reverse=True)

    def ahead(self, job: Job) -> list[Job]:
        """The jobs, also of others, that have to end before a queued one can begin, the oldest first."""
        if job.state != "queued":
            return []
        waiting = [one for one in self._line.open() if one.lane == job.lane]
        waiting.sort(key=lambda one: (one.state != "running", one.created))
        return waiting[: next((place for place, one in enumerate(waiting) if one.id == job.id), 0)]

    def others(self) -> int:
        """How many jobs of others, also of other boards, wait or run."""
        return sum(not self.may_see(job) for job in self._line.open())

    def foreign_runs(self) -> set[str]:
        """Runs that jobs of others have written."""
        with self._lock:
            return {job.run for job in self._jobs.values() if job.run and not self.may_see(job)}

    def cancel(self, job_id: str) -> None:
        """Ask a job to stop at its next step; a queued one never starts.

        Raises:
            InputError: No such job, or one of somebody else.
        """
        job = self.get(job_id)
        job.token.cancel()
        with self._lock:
            waits = job.state == "queued"
            if waits:
                job.state, job.reason, job.finished = "cancelled", _NEVER_STARTED, time.time()
            job.version += 1
        if waits:
            self._save(job)

    def may_see(self, job: Job) -> bool:
        """Whether the viewer may see this job."""
        viewer = self._viewer()
        return self._jobs.get(job.id) is job and (viewer is None or job.owner in ("", viewer))

    def _remember(self, job: Job) -> None:
        self._jobs[job.id] = job
        ended = [j.id for j in self._jobs.values() if j.ended]
        for old in ended[: max(0, len(self._jobs) - self._keep)]:
            del self._jobs[old]

    def _save(self, job: Job) -> None:
        if self._log is None or not job.kept:
            return
        try:
            self._log.save(job)
        except LtgError:  # a full disk must not stop the work that may make room
            log.exception("job %s (%s) could not be written down", job.id, job.kind)

    def _run(self, job: Job) -> None:
        with self._lock:
            if job.ended:  # cancelled while it waited
                return
            job.state, job.started, job.progress = "running", time.time(), Progress(0, 0, "starting")
            job.version += 1
        self._save(job)
        with logs.about(job=job.id, kind=job.kind):
            log.info("began: %s", job.kind)
            state, reason, result = self._outcome(job)
            took = time.time() - (job.started or 0)
            more = f", run {job.run}" if job.run else ""
            if state == "failed":  # a reason may hold what a visitor has typed, lines of its own too
                more += f": {reason[:500]!r}"
            log.info("ended: %s, %s after %.1f s%s", job.kind, state, took, more)
        end: dict[str, Any] = {"result": result, "reason": reason, "finished": time.time()}
        self._save(dataclasses.replace(job, **end, state=state))  # first: what is seen to have ended is kept
        job.result, job.reason, job.finished = end["result"], reason, end["finished"]
        job.state = state  # last: whoever sees that it has ended sees how
        job.version += 1

    def _outcome(self, job: Job) -> tuple[str, str, Any]:
        def report(progress: Progress) -> None:
            if progress.run and not job.run:
                job.run = progress.run
                self._save(job)
            if progress.total or progress.message:
                job.progress = progress
            job.version += 1

        try:
            job.token.check()
            return "done", "", job.work(report, job.token)
        except Cancelled as stop:
            return ("interrupted", _STOPPED, None) if job.stopped else ("cancelled", str(stop), None)
        except LtgError as error:
            if job.stopped:  # it did not hear of it in time, and its process was ended
                return "interrupted", _STOPPED, None
            return "failed", str(error), None
        except Exception as error:  # a job must end in a state that the page can show, whatever went wrong
            log.exception("job %s (%s) failed", job.id, job.kind)
            return "failed", f"{type(error).__name__}: {error}", None
