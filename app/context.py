"""The state of the process: settings, workspace, jobs. Passed explicitly; there is no other."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.render import Node, job_bar
from app.settings import Settings, read_labels
from ltg_core.errors import InputError, LtgError, MissingExtra
from ltg_core.jobs import CancelToken, Job, JobBoard, Progress, ProgressFn

if TYPE_CHECKING:
    from ltg_core.data.workspace import Workspace
    from ltg_core.models.classifier import Classifier

log = logging.getLogger(__name__)
Work = Callable[[ProgressFn, CancelToken], Any]

_CACHED = 300  # values at most; the key of a filter holds whatever somebody searched for

LANES = {"open": "data", "setup": "data", "explain": "explain", "map": "map", "export": "disk"}
"""Which jobs wait for each other, by kind; the others share one lane, for there is one accelerator."""


@dataclasses.dataclass(frozen=True)
class Ticket:
    """What the page knows about a job beside its progress.

    Attributes:
        title: For people.
        about: Ids and settings that the result is shown with.
    """

    title: str
    about: dict[str, Any]


class AppContext:
    """One per process.

    Args:
        settings: From the command line.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.jobs = JobBoard()
        self.tickets: dict[str, Ticket] = {}
        self.revision = 0  # grows when samples, models or scores change, so that pages know what is stale
        self._workspace: Workspace | None = None
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

    def submit(
        self,
        kind: str,
        title: str,
        work: Work,
        *,
        lane: str | None = None,
        about: dict[str, Any] | None = None,
    ) -> Job:
        """Queue work that belongs to the server, not to a page.

        Args:
            kind: The workflow's name; tabs follow the jobs of their kind.
            title: For people.
            work: Called with a progress function and a cancel token.
            lane: Jobs of one lane run one after another; None for the lane of the kind.
            about: What the result is shown with.
        """

        def counted(on_progress: ProgressFn, cancel: CancelToken) -> Any:
            try:
                return work(on_progress, cancel)
            finally:
                self.changed()

        job = self.jobs.submit(kind, counted, lane=lane or LANES.get(kind, "compute"))
        self.tickets[job.id] = Ticket(title, about or {})
        return job

    def title(self, job: Job) -> str:
        """The job in words."""
        ticket = self.tickets.get(job.id)
        return ticket.title if ticket else job.kind

    def about(self, job: Job) -> dict[str, Any]:
        """What the job was started with."""
        ticket = self.tickets.get(job.id)
        return ticket.about if ticket else {}

    def before(self, job: Job) -> int:
        """How many jobs of its lane have to end before this one can begin."""
        if job.state != "queued":
            return 0
        others = [one for one in self.running() if one.lane == job.lane]
        return next((place for place, one in enumerate(others) if one.id == job.id), 0)

    def bar(self, job: Job, *, cancel: bool = True) -> Node:
        """The job with its place in the queue, its progress and its cancel button."""
        return job_bar(job, self.title(job), before=self.before(job), cancel=cancel)

    def latest(self, *kinds: str) -> Job | None:
        """The newest job of these kinds: how a page that was loaded again finds its work."""
        return next((job for job in self.jobs.all() if job.kind in kinds), None)

    def beat(self, kind: str) -> str:
        """Changes whenever the newest job of this kind does."""
        job = self.latest(kind)
        return f"{job.id}:{job.version}:{job.state}:{self.before(job)}" if job else ""

    def running(self) -> list[Job]:
        """Jobs that have not ended, the oldest first."""
        return sorted((job for job in self.jobs.all() if not job.ended), key=lambda job: job.created)

    # --- start ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin what the command line asked for, behind the page's back."""
        threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def _warm_up(self) -> None:
        try:
            import torch

            torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
            if self.settings.wants_demo:
                self.submit("open", "Opening the demo", self._open_demo)
            else:
                self.submit("open", "Opening your data", self._open_own)
        except Exception:  # the thread's last frame: the page goes on, and Setup can be used by hand
            log.exception("the warm-up failed")

    def _open_demo(self, on_progress: ProgressFn, cancel: CancelToken) -> None:
        from ltg_core import workflows

        on_progress(Progress(0, 3, "loading the demo's pictures and classifier"))
        extra = {"folder": self.settings.demo} if self.settings.demo else {}
        workflows.open_demo(self.workspace, **extra)
        self.changed()
        self._make_ready(on_progress, cancel)
        classifier = self.need_classifier()
        if workflows.reference(self.workspace, classifier) is None:  # not shipped, or of another version
            workflows.fit_head(self.workspace, classifier, on_progress=on_progress, cancel=cancel)

    def _open_own(self, on_progress: ProgressFn, cancel: CancelToken) -> None:
        from ltg_core import workflows

        given = self.settings
        if given.model is not None:
            on_progress(Progress(0, 3, f"reading the classifier {given.model.name}"))
            labels = read_labels(given.labels) if given.labels else None
            workflows.use_classifier(self.workspace, given.model, arch=given.arch, labels=labels)
        if given.generator is not None:
            workflows.use_generator(self.workspace, given.generator)
        if given.data is not None:
            workflows.import_data(self.workspace, given.data, on_progress=on_progress, cancel=cancel)
        self._make_ready(on_progress, cancel)

    def _make_ready(self, on_progress: ProgressFn, cancel: CancelToken) -> None:
        """Scores for what has none, then the slow imports, so that the first generation starts at once."""
        from ltg_core import workflows

        classifier = self.classifier()
        if classifier is not None and self.workspace.count():
            on_progress(Progress(1, 3, "scoring the samples"))
            workflows.score(self.workspace, classifier, on_progress=on_progress, cancel=cancel)
            self.changed()
        if self.generator_name() is not None:
            on_progress(Progress(2, 3, "loading the generator"))
            try:
                workflows.active_generator(self.workspace)
            except (MissingExtra, LtgError) as error:
                log.warning("the generator cannot be used: %s", error)
        on_progress(Progress(3, 3, "ready"))
