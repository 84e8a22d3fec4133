"""The state of a workspace in this process: settings, workspace, jobs. Passed explicitly; there is no other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from app import opening, visitors
from app.lanes import LANES, Machine
from app.quotas import Admission, Folder
from app.render import Node, job_bar
from app.settings import Settings
from ltg_core.devices import CPU
from ltg_core.errors import Cancelled, InputError, LtgError, WorkerLost
from ltg_core.jobs import CancelToken, Job, JobBoard, ProgressFn, Spec, Work
from ltg_core.workers import as_json

if TYPE_CHECKING:
    from ltg_core.data.joblog import JobRecords
    from ltg_core.data.workspace import Workspace
    from ltg_core.models.classifier import Classifier

log = logging.getLogger(__name__)

_CACHED = 300  # values at most; the key of a filter holds whatever somebody searched for
_RESUMED: Mapping[str, str] = MappingProxyType(
    {
        "generate": "resume_generate",
        "imagine": "resume_generate",
        "resume_generate": "resume_generate",
        "retrain": "resume_retrain",
        "resume_retrain": "resume_retrain",
        "loop": "resume_loop",
        "resume_loop": "resume_loop",
    }
)
"""Tasks whose run can be taken up where it ended, to the same result, and the task that does it."""


class AppContext:
    """One per workspace: one per process, or one per user (``app.rooms``).

    Args:
        settings: From the command line; ``settings.workspace`` is this workspace.
        machine: What it shares with other workspaces of the process, None where it is alone.
    """

    def __init__(self, settings: Settings, machine: Machine | None = None) -> None:
        self.settings = settings
        self.machine = machine or Machine(settings)
        self.lanes = self.machine.lanes
        # Within an event the board shows and cancels the visitor's own jobs only.
        self.jobs = JobBoard(log=self, viewer=visitors.current, line=self.machine.line)
        own = Folder(settings.workspace) if machine is not None else None
        self.admission = Admission(self.machine.disk, settings.limits, own)
        self.revision = 0  # grows when samples, models or scores change, so that pages know what is stale
        self._workspace: Workspace | None = None
        self._warming: threading.Thread | None = None
        self._opening = threading.Lock()
        self._cache: dict[Any, Any] = {}
        self._caching = threading.Lock()

    # --- what is there --------------------------------------------------------------------------

    @property
    def workspace(self) -> Workspace:
        """Opened at first use: torch comes with it, and the page should answer before that."""
        with self._opening:
            if self._workspace is None:
                from ltg_core.data.workspace import Workspace

                self._workspace = Workspace(self.settings.workspace)
        return self._workspace

    def classifier(self) -> Classifier | None:
        """The active classifier, None where there is none yet."""
        from ltg_core import workflows

        try:
            return workflows.active_classifier(self.workspace)
        except InputError:
            return None

    def need_classifier(self) -> Classifier:
        """The active classifier.

        Raises:
            InputError: There is none; says what to do.
        """
        found = self.classifier()
        if found is None:
            raise InputError("There is no classifier yet. Add one under Setup.")
        return found

    def generator_name(self) -> str | None:
        """Name of the active generator without loading it; None where there is none."""
        state = self.workspace.get_state("generator")
        if not state:
            return None
        name = str(state.get("name") or "generator")
        return name if name != "generator" else f"{Path(str(state.get('path', 'own'))).parent.name} diffusion"

    @property
    def device(self) -> str:
        """Where networks run in the workers, as torch calls it; "cpu" until they have said it."""
        return self.machine.device.name if self.machine.device else CPU

    @property
    def model_hash(self) -> str | None:
        """Of the active classifier."""
        found = self.classifier()
        return found.hash if found else None

    def cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """A value that is valid until something changes."""
        with self._caching:
            if self._cache.get("revision") != self.revision or len(self._cache) > _CACHED:
                self._cache = {"revision": self.revision}
            if key in self._cache:
                return self._cache[key]
        value = make()
        with self._caching:
            self._cache[key] = value
        return value

    def changed(self) -> None:
        """Samples, models or scores are not what they were."""
        self.revision += 1

    # --- jobs -----------------------------------------------------------------------------------

    def run(
        self,
        kind: str,
        title: str,
        task: str,
        arguments: Mapping[str, Any],
        *,
        lane: str | None = None,
        about: Mapping[str, Any] | None = None,
        owner: str | None = None,
        kept: bool = True,
    ) -> Job:
        """Queue work for a worker process; it survives a reload, and while it waits also a restart.

        Args:
            kind: The workflow's name; tabs follow the jobs of their kind.
            title: For people.
            task: A name in ``ltg_core.workflows.tasks``.
            arguments: JSON values by name.
            lane: Jobs of one lane run one after another; None for the lane of the kind.
            about: What the result is shown with.
            owner: None for whoever asks, "" for everybody.
            kept: Whether a restart should find it.

        Raises:
            InputError: No such task, or too many jobs or too large a workspace.
        """
        from ltg_core.workflows import tasks

        spec = Spec(task, as_json(dict(arguments), f"the arguments of {task}"))
        tasks.check(task, spec.arguments)
        if owner != "":
            self._admit()
        lane = lane or LANES.get(kind, "compute")
        given = {"title": title, "about": about, "owner": owner, "spec": spec, "kept": kept}
        return self.jobs.submit(kind, self._asking(lane, spec), lane=lane, **given)

    def submit(
        self,
        kind: str,
        title: str,
        work: Work,
        *,
        lane: str | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Job:
        """Queue a function for a thread of this process: for light work, since it shares the interpreter with the page.

        Args:
            kind: The workflow's name; tabs follow the jobs of their kind.
            title: For people.
            work: Called with a progress function and a cancel token.
            lane: Jobs of one lane run one after another; None for the lane of the kind.
            about: What the result is shown with.

        Raises:
            InputError: Too many jobs, or too large a workspace.
        """
        self._admit()
        lane = lane or LANES.get(kind, "compute")
        return self.jobs.submit(kind, self._counted(work), lane=lane, title=title, about=about)

    def _admit(self) -> None:
        self.admission.check(len(self.running()), self.jobs.others())

    def again(self, job_id: str) -> Job:
        """Take a job up where it ended, or start it again.

        Raises:
            InputError: It has not ended, it is somebody else's, or its work was never written down.
        """
        old = self.jobs.get(job_id)
        spec = old.spec
        if spec is None or not self.offer(old):
            raise InputError("this job cannot be started again from here; start it in its tab")
        task, arguments = spec.task, spec.arguments
        if self.offer(old) == "Resume":
            task, arguments = _RESUMED[task], {"run": old.run}
        given = {"lane": old.lane, "about": old.about, "owner": old.owner}
        return self.run(old.kind, old.title, task, arguments, **given)

    def offer(self, job: Job) -> str:
        """What can be done with a job that ended early: "Resume", "Start again", or "" for nothing."""
        if not job.ended or job.state == "done" or job.spec is None or self.taken_up(job):
            return ""
        return "Resume" if self._resumable(job) else "Start again"

    def _resumable(self, job: Job) -> bool:
        """Whether its run can go on where it ended; a retraining once its images are chosen."""
        if not job.run or job.spec is None or job.spec.task not in _RESUMED:
            return False
        from ltg_core import workflows

        return job.kind != "retrain" or workflows.resumable(self.workspace, job.run)

    def taken_up(self, job: Job) -> bool:
        """Whether a newer job does what this one did not: the same again, or the rest of its run."""
        if job.state == "done" or job.spec is None:
            return False
        newer = (one.spec for one in self.jobs.all() if one.created > job.created and one.spec is not None)
        return any(one == job.spec or (job.run and one.arguments.get("run") == job.run) for one in newer)

    def title(self, job: Job) -> str:
        """The job in words."""
        return job.title

    def about(self, job: Job) -> dict[str, Any]:
        """What the job was started with."""
        return job.about

    def before(self, job: Job) -> int:
        """How many jobs of its lane, also of others, have to end before this one can begin."""
        return len(self.jobs.ahead(job))

    def strangers(self, job: Job) -> int:
        """How many of those belong to somebody else."""
        return sum(not self.jobs.may_see(one) for one in self.jobs.ahead(job))

    def bar(self, job: Job, *, cancel: bool = True, again: str | None = None) -> Node:
        """The job with its place in the queue, its progress and its buttons; ``again`` None for what can be done."""
        return job_bar(
            job,
            job.title,
            before=self.before(job),
            others=self.strangers(job),
            cancel=cancel,
            again=self.offer(job) if again is None else again,
        )

    def latest(self, *kinds: str) -> Job | None:
        """The visitor's newest job of these kinds: how a page that was loaded again finds its work."""
        return next((job for job in self.jobs.all() if job.kind in kinds), None)

    def followed(self, kind: str) -> Job | None:
        """Of several jobs of a kind the one to show: what runs, else what runs next, else what ended last."""
        jobs = [job for job in self.jobs.all() if job.kind == kind]
        under_way = sorted((j for j in jobs if not j.ended), key=lambda j: (j.state != "running", j.created))
        return next(iter(under_way), None) or max(jobs, key=lambda j: j.finished or j.created, default=None)

    def beat(self, kind: str) -> str:
        """Changes whenever one of the visitor's jobs of this kind does that is under way, or the newest."""
        jobs = [job for job in self.jobs.all() if job.kind == kind]
        seen = [job for place, job in enumerate(jobs) if place == 0 or not job.ended]
        return "|".join(f"{job.id}:{job.version}:{job.state}:{self.before(job)}" for job in seen)

    def running(self) -> list[Job]:
        """The visitor's jobs that have not ended, the oldest first."""
        return sorted((job for job in self.jobs.all() if not job.ended), key=lambda job: job.created)

    def _asking(self, lane: str, spec: Spec) -> Work:
        """The work of a job that a worker does: ask it, and pass on what it says."""

        def work(on_progress: ProgressFn, cancel: CancelToken) -> Any:
            def told(step: Any) -> None:
                on_progress(step)
                if step.changed:
                    self.changed()

            try:
                return self.lanes.run(lane, self.settings.workspace, spec, told, cancel)
            except WorkerLost as error:
                self.workspace.find_interrupted()
                raise WorkerLost(f"{error}. Press Resume or Start again to go on") from error

        return self._counted(work)

    def _counted(self, work: Work) -> Work:
        """The same work; it ends when its time is over, and at its end the pages look again."""
        hours, late = self.settings.limits.job_hours, threading.Event()

        def counted(on_progress: ProgressFn, cancel: CancelToken) -> Any:
            def stop() -> None:
                late.set()
                cancel.cancel()

            timer = threading.Timer(hours * 3600, stop)
            timer.daemon = True
            if hours:
                timer.start()
            try:
                return work(on_progress, cancel)
            except Cancelled as error:
                if late.is_set():
                    raise LtgError(
                        f"stopped after {hours:g} hours, the longest that a job may run here (--max-job-hours); what "
                        "was finished is kept"
                    ) from error
                raise
            finally:
                timer.cancel()
                self.changed()

        return counted

    # --- start and end --------------------------------------------------------------------------

    def start(self, *, opens: bool = True) -> None:
        """Begin what the command line asked for, behind the page's back.

        Args:
            opens: Whether it is opened here; False where it is there already.
        """
        self.lanes.start("compute")
        self._warming = threading.Thread(
            target=opening.warm_up, args=(self,), kwargs={"opens": opens}, name="warm-up", daemon=True
        )
        self._warming.start()

    @property
    def warming(self) -> bool:
        """Whether it has not yet begun everything that it was asked for."""
        return self._warming is not None and self._warming.is_alive()

    def leave(self) -> None:
        """Close the workspace."""
        with self._opening:
            if self._workspace is not None:
                self._workspace.close()
                self._workspace = None

    def close(self) -> None:
        """End the workers; what they were doing can be resumed."""
        self.machine.close()

    def save(self, job: Job) -> None:
        """Write a job down in the workspace, which is opened for the first of them."""
        self._records().save(job)

    def _records(self) -> JobRecords:
        from ltg_core.data.joblog import JobRecords

        return JobRecords(self.workspace.database)

    def restore(self) -> None:
        """Jobs of a server that is gone: those that waited are queued again, the others are shown."""
        for job in self._records().recover():
            if job.ended or job.spec is None:
                self.jobs.remember(job)
            else:
                job.work = self._asking(job.lane, job.spec)
                self.jobs.enqueue(job)
