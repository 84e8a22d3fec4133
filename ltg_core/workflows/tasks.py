"""What a worker process does for a page: workflows by name, with JSON values for arguments and results.

A task is a function of a workspace and of named JSON values. What it returns is small and plain (ids, counts,
sentences), for pictures and arrays are in the workspace. Models stay loaded between tasks.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ltg_core import devices
from ltg_core.data.blobs import safe_name
from ltg_core.data.records import Run
from ltg_core.data.workspace import Workspace
from ltg_core.embedding.layout import MapSettings
from ltg_core.errors import InputError, LtgError
from ltg_core.generators.options import GeneratorOptions
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.signals.head import HeadSettings
from ltg_core.workers.engine import LOCAL, Engine, EngineSettings
from ltg_core.workflows.bringing import (
    bring_classifier,
    bring_data,
    bring_head,
    map_labels,
    revise_classifier,
)
from ltg_core.workflows.costing import measure_cost
from ltg_core.workflows.demo import DEMO, prepare_demo
from ltg_core.workflows.examining import alternatives
from ltg_core.workflows.explaining import explain_matrix
from ltg_core.workflows.exporting import export, plan_export, summary
from ltg_core.workflows.extension_tasks import EXTEND_TASKS
from ltg_core.workflows.generating import resume_generate
from ltg_core.workflows.heads import fit_head
from ltg_core.workflows.imagining import imagine
from ltg_core.workflows.importing import import_data
from ltg_core.workflows.making import judge_of
from ltg_core.workflows.mapping import map_samples, place_on_map
from ltg_core.workflows.naming_tasks import NAMING_TASKS, meant
from ltg_core.workflows.retrain_tasks import RETRAIN_TASKS
from ltg_core.workflows.scoring import score
from ltg_core.workflows.setup import (
    active_classifier,
    active_generator,
    reference,
    use_classifier,
    use_generator,
)
from ltg_core.workflows.telling import tell
from ltg_core.workflows.wording import Draft

log = logging.getLogger(__name__)

Task = Callable[..., Any]


def desk(options: Mapping[str, Any]) -> Callable[..., Any]:
    """The worker's side: every task names its ``workspace`` beside its own ``arguments``.

    Who does the work and where, ``engine`` and ``device``, are options of the process, and no task's arguments.

    Raises:
        InputError: A device that is not here, or does not work.
    """
    engine = EngineSettings(**options.get("engine", {})).open()
    device = devices.chosen(options.get("device", devices.CPU))

    def perform(task: str, given: Mapping[str, Any], on_progress: ProgressFn, cancel: CancelToken) -> Any:
        if task == "device":  # for the page to say
            return device._asdict()
        return do(given["workspace"], task, given["arguments"], on_progress, cancel, engine, device.name)

    return perform


def do(
    workspace: str,
    task: str,
    arguments: Mapping[str, Any],
    on_progress: ProgressFn,
    cancel: CancelToken,
    engine: Engine = LOCAL,
    device: str = devices.CPU,
) -> Any:
    """One task, in this process.

    Args:
        workspace: Its folder.
        task: A name in ``TASKS``.
        arguments: JSON values by name.
        on_progress: Told about every step, and the id of every run that begins.
        cancel: Checked at every step.
        engine: Who does the units of the work.
        device: Where networks run.
    """
    with Workspace(workspace) as ws:
        ws.engine, ws.device = engine, device

        def told(run: Run) -> None:
            on_progress(Progress(0, 0, run=run.id))

        ws.on_run = told
        return _found(task)(ws, **arguments, on_progress=on_progress, cancel=cancel)


def check(task: str, arguments: Mapping[str, Any]) -> None:
    """Whether a task can be called with these arguments.

    Raises:
        InputError: No such task.
        TypeError: An argument that it lacks or does not know.
    """
    inspect.signature(_found(task)).bind(None, **arguments, on_progress=None, cancel=None)


def _found(task: str) -> Task:
    try:
        return TASKS[task]
    except KeyError:
        raise InputError(f"there is no task {task!r}; known: {', '.join(TASKS)}") from None


def _imagine(
    ws: Workspace,
    *,
    order: Mapping[str, Any],
    classifier: str = "",
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    judged = meant(ws, classifier)
    on_progress(Progress(0, 0, "loading the generator"))
    run = imagine(ws, order, classifier=judged, on_progress=on_progress, cancel=cancel)
    return {"run": run.id}


def _measure_cost(ws: Workspace, *, on_progress: ProgressFn, cancel: CancelToken) -> Any:
    measure_cost(ws, on_progress=on_progress, cancel=cancel)


def _resume_generate(ws: Workspace, *, run: str, on_progress: ProgressFn, cancel: CancelToken) -> Any:
    on_progress(Progress(0, 0, "loading the generator"))
    return {"run": resume_generate(ws, run, on_progress=on_progress, cancel=cancel).id}


def _explain(
    ws: Workspace,
    *,
    ids: Sequence[str],
    methods: Sequence[str],
    target: str = "prediction",
    checked: Sequence[str] = (),
    classifier: str = "",
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """The result says what was refused and why; ``stored_matrix`` reads the maps from the workspace."""
    return explain_matrix(
        ws,
        ids,
        methods,
        target=target,
        checked=checked,
        classifier=meant(ws, classifier),
        on_progress=on_progress,
        cancel=cancel,
    )


def _map(
    ws: Workspace,
    *,
    settings: Mapping[str, Any] | None = None,
    ids: Sequence[str] | None = None,
    classifier: str = "",
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    chosen = MapSettings.from_dict(dict(settings or {}))
    run = map_samples(ws, meant(ws, classifier), chosen, ids=ids, on_progress=on_progress, cancel=cancel)
    return {"run": run.id, **run.result}


def _fit_head(
    ws: Workspace,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    chosen = HeadSettings.from_dict(dict(settings or {}))
    run = fit_head(ws, active_classifier(ws), chosen, seed=seed, on_progress=on_progress, cancel=cancel)
    return {"run": run.id}


def _score(ws: Workspace, *, on_progress: ProgressFn, cancel: CancelToken) -> Any:
    return {"run": score(ws, active_classifier(ws), on_progress=on_progress, cancel=cancel).id}


def _use_classifier(
    ws: Workspace,
    *,
    path: str,
    arch: str | None = None,
    labels: Sequence[str] | None = None,
    name: str | None = None,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """A classifier from a file, and what it says of the samples that are there."""
    on_progress(Progress(0, 2, "reading the classifier"))
    made = use_classifier(ws, path, arch=arch, labels=labels, name=name)
    on_progress(Progress(1, 2, "scoring the samples", changed=True))
    if ws.count():
        score(ws, made, on_progress=on_progress, cancel=cancel)
    return f"{made.name}: {made.num_classes} classes, {made.arch}"


def _use_generator(
    ws: Workspace,
    *,
    path: str,
    options: Mapping[str, Any] | None = None,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """``options``: plain values of ``GeneratorOptions``."""
    chosen = GeneratorOptions.from_dict(options)
    more = " and compiling its networks, which may take minutes" if chosen.compile else ""
    on_progress(Progress(0, 1, f"loading the generator{more}"))
    made = use_generator(ws, path, options=chosen)
    return f"{made.name} is ready" + (f"; its networks were {made.compiled}" if made.compiled else "")


def _import_data(
    ws: Workspace,
    *,
    path: str,
    split: str | None = None,
    holdout: Sequence[float] | None = None,
    group: str = "",
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """Data from a file or folder, and what the classifier says of it."""
    report = import_data(
        ws, path, split=split, holdout=holdout, group=group, on_progress=on_progress, cancel=cancel
    )
    on_progress(Progress(0, 0, "scoring the samples", changed=True))
    if ws.get_state("classifier"):
        score(ws, active_classifier(ws), on_progress=on_progress, cancel=cancel)
    return report.summary()


def _export(
    ws: Workspace,
    *,
    ids: Sequence[str] | None,
    fmt: str,
    name: str,
    overwrite: bool = False,
    set_ref: str | None = None,
    with_real: bool = False,
    held_out: bool = False,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """``export`` into the workspace's own folder of exports, under a name."""
    place = ws.exports_folder / safe_name(name)
    choice: dict[str, Any] = {"set_ref": set_ref, "with_real": with_real, "held_out": held_out}
    _, report = export(
        ws, ids, fmt, place, overwrite=overwrite, on_progress=on_progress, cancel=cancel, **choice
    )
    return summary(report)


def _plan_export(
    ws: Workspace,
    *,
    ids: Sequence[str] | None,
    fmt: str,
    set_ref: str | None = None,
    with_real: bool = False,
    held_out: bool = False,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    choice: dict[str, Any] = {"set_ref": set_ref, "with_real": with_real, "held_out": held_out}
    return summary(plan_export(ws, ids, fmt, on_progress=on_progress, cancel=cancel, **choice))


def _open_demo(ws: Workspace, *, folder: str = "", on_progress: ProgressFn, cancel: CancelToken) -> Any:
    """The bundled demo, scored and ready."""
    on_progress(Progress(0, 3, "loading the demo's pictures and classifier"))
    prepare_demo(ws, folder or DEMO, on_progress=on_progress, cancel=cancel)
    _make_ready(ws, on_progress, cancel)
    return None


def _open_own(
    ws: Workspace,
    *,
    model: str | None = None,
    arch: str | None = None,
    labels: Sequence[str] | None = None,
    generator: str | None = None,
    data: str | None = None,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    """What the command line named."""
    if model is not None:
        on_progress(Progress(0, 3, "reading the classifier"))
        use_classifier(ws, model, arch=arch, labels=labels)
    if generator is not None:
        use_generator(ws, generator, options=_options_so_far(ws, generator))
    if data is not None:
        import_data(ws, data, on_progress=on_progress, cancel=cancel)
    _make_ready(ws, on_progress, cancel)
    return None


def _options_so_far(ws: Workspace, generator: str) -> GeneratorOptions | None:
    """How the page has had this generator run before: a restart is no reason to forget it."""
    record = ws.get_state("generator") or {}
    same = record.get("path") == str(Path(generator).expanduser().resolve())
    return GeneratorOptions.from_dict(record.get("options")) if same else None


def _make_ready(ws: Workspace, on_progress: ProgressFn, cancel: CancelToken) -> None:
    """Scores for what has none, then all models into memory, so that the first generation starts at once."""
    on_progress(Progress(1, 3, "scoring the samples", changed=True))
    classifier = active_classifier(ws) if ws.get_state("classifier") else None
    if classifier is not None and ws.count():
        score(ws, classifier, on_progress=on_progress, cancel=cancel)
    if ws.get_state("generator"):
        on_progress(Progress(2, 3, "loading the generator", changed=True))
        try:
            generator = active_generator(ws)
            if classifier is not None:
                judge_of(generator, classifier)
                reference(ws, classifier)
        except LtgError as error:
            log.warning("the generator cannot be used: %s", error)
    on_progress(Progress(3, 3, "ready", changed=True))


def _alternatives(ws: Workspace, *, on_progress: ProgressFn, cancel: CancelToken) -> Any:
    """Tries what is usually wrong; the page reads what was found from the workspace."""
    found = alternatives(ws, active_classifier(ws), on_progress=on_progress, cancel=cancel)
    better = sum(one.better for one in found)
    return f"{len(found)} ways were tried; {better or 'none'} would raise accuracy."


def _tell(
    ws: Workspace,
    *,
    title: str = "",
    weakness: str = "",
    redact: bool = False,
    show_map: bool = True,
    show_change: bool = True,
    attribution: bool = True,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Any:
    shown = {"show_map": show_map, "show_change": show_change, "attribution": attribution}
    draft = Draft(title, weakness, redact=redact, **shown)
    return {"run": tell(ws, draft, on_progress=on_progress, cancel=cancel).id}


TASKS: dict[str, Task] = {
    "imagine": _imagine,
    "measure_cost": _measure_cost,
    "resume_generate": _resume_generate,
    "explain": _explain,
    "map": _map,
    "place_on_map": place_on_map,
    "fit_head": _fit_head,
    "score": _score,
    "use_classifier": _use_classifier,
    "use_generator": _use_generator,
    "import_data": _import_data,
    "export": _export,
    "plan_export": _plan_export,
    "open_demo": _open_demo,
    "open_own": _open_own,
    "bring_classifier": bring_classifier,
    "bring_data": bring_data,
    "bring_head": bring_head,
    "revise_classifier": revise_classifier,
    "map_labels": map_labels,
    "alternatives": _alternatives,
    "tell": _tell,
    **NAMING_TASKS,
    **RETRAIN_TASKS,
    **EXTEND_TASKS,
}
