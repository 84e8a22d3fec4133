"""Setup: bring a classifier, a data set and a generator of your own; see them confirmed before anything else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.details import accuracy
from app.render import Node, empty, facts, h, percent, view
from app.session import QUICK, Session, clicked, polite
from app.settings import labels_from_text
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Job, Progress, ProgressFn

TITLE = "Setup"
ID = "setup"

_WEIGHTS = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt")
_DATA = (".zip", ".parquet", ".csv", ".jsonl")
_HOLDOUTS = [
    ("Nothing", ""),
    ("20 % for validation", "0.2"),
    ("10 % for validation, 10 % for test", "0.1,0.1"),
    ("20 % for validation, 20 % for test", "0.2,0.2"),
]
_SPLITS = [("As the data says", ""), ("Train", "train"), ("Validation", "val"), ("Test", "test")]


def build(ctx: AppContext) -> SimpleNamespace:
    """Three boxes to fill, and the check."""
    w = SimpleNamespace()
    w.progress = View(elem_id="setup-progress")
    with gr.Row(elem_classes="boxes"):
        with gr.Column(elem_classes="box"):
            _classifier_box(w)
        with gr.Column(elem_classes="box"):
            w.data_now = View(elem_id="setup-data-now")
            w.file = gr.File(
                label="Zip of class folders, Parquet, CSV",
                file_types=list(_DATA),
                elem_id="setup-file",
                height=150,
            )
            w.path = gr.Textbox(
                label="or a path on this machine",
                placeholder="folder of class folders, or a file",
                max_length=4000,
                visible=ctx.settings.local,
                elem_id="setup-path",
            )
            w.split = gr.Dropdown(_SPLITS, value="", label="Split", elem_id="setup-split")
            w.holdout = gr.Dropdown(
                _HOLDOUTS,
                value="",
                label="Hold out, where the data has no such split",
                elem_id="setup-holdout",
            )
            w.group = gr.Textbox(
                label="and keep together what has the same value in this column",
                placeholder="such as track; empty: every image alone",
                max_length=200,
                elem_id="setup-group",
            )
            w.load = gr.Button("Import", variant="primary", elem_id="setup-import")
        with gr.Column(elem_classes="box"):
            w.generator_now = View(elem_id="setup-generator-now")
            w.folder = gr.Textbox(
                label="Folder of a diffusion model on this machine",
                max_length=4000,
                placeholder="…/stable-diffusion-v1-5",
                visible=ctx.settings.local,
                elem_id="setup-folder",
            )
            w.use_generator = gr.Button(
                "Use this generator", elem_id="setup-generator", visible=ctx.settings.local
            )
    with gr.Row(elem_classes="boxes"):
        with gr.Column(elem_classes="box"):
            w.check = View(elem_id="setup-check")
        with gr.Column(elem_classes="box"):
            w.head_now = View(elem_id="setup-head-now")
            w.fit = gr.Button("Fit the head", elem_id="setup-fit")
    return w


def _classifier_box(w: SimpleNamespace) -> None:
    w.classifier_now = View(elem_id="setup-classifier-now")
    w.weights = gr.File(
        label="Weights, and a JSON card if there is one",
        file_count="multiple",
        file_types=[*_WEIGHTS, ".json"],
        elem_id="setup-weights",
        height=150,
    )
    w.arch = gr.Textbox(
        label="Architecture",
        placeholder="resnet20_cifar, timm:resnet18, torchvision:resnet50 …; empty with a card",
        max_length=120,
        elem_id="setup-arch",
    )
    w.labels = gr.Textbox(
        label="Class names, in the order of the outputs",
        lines=3,
        max_lines=8,
        max_length=400_000,
        placeholder="one a line, or a JSON list; empty to take the data's",
        elem_id="setup-labels",
    )
    w.use = gr.Button("Use this classifier", variant="primary", elem_id="setup-use")


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    _wire_generator_and_head(ctx, w)
    shown = [w.classifier_now, w.data_now, w.generator_now, w.check, w.head_now]
    buttons = [w.use, w.load, w.use_generator, w.fit]

    @polite
    def use(files: list[str] | None, arch: str, labels: str) -> Any:
        return _started(ctx, w, use_classifier(ctx, files or [], arch, labels))

    @polite
    def load(file: str | None, path: str, split: str, holdout: str, group: str) -> Any:
        return _started(ctx, w, import_data(ctx, file, path, split, holdout, group))

    @polite
    def follow() -> Any:
        job = ctx.latest("setup")
        if job is None:
            return gr.skip()
        bar = ctx.bar(job) if job.state != "done" else outcome(job, ctx.title(job))
        return {w.progress: view(bar), **{button: gr.Button(interactive=job.ended) for button in buttons}}

    @polite
    def refresh() -> dict[Any, Any]:
        return state_of(ctx, w)

    @polite
    def act(event: gr.EventData) -> Any:
        ctx.jobs.cancel(str(clicked(event).get("job")))

    quiet = {"show_progress": "hidden"}
    w.use.click(
        use, [w.weights, w.arch, w.labels], [w.progress, *buttons], api_name="use_classifier", **quiet
    )
    data = [w.file, w.path, w.split, w.holdout, w.group]
    w.load.click(load, data, [w.progress, *buttons], api_name="import_data", **quiet)
    session.beats["setup"].change(follow, None, [w.progress, *buttons], **QUICK)
    w.progress.act(act, None, None, **QUICK)
    w.refresh, w.refresh_inputs, w.refresh_outputs = refresh, None, shown


def _started(ctx: AppContext, w: SimpleNamespace, job: Job) -> dict[Any, Any]:
    """The job's bar; no other can be started meanwhile."""
    buttons = [w.use, w.load, w.use_generator, w.fit]
    return {
        w.progress: view(ctx.bar(job)),
        **{button: gr.Button(interactive=False) for button in buttons},
    }


def _wire_generator_and_head(ctx: AppContext, w: SimpleNamespace) -> None:
    """What needs a job and no upload."""
    outputs = [w.progress, w.use, w.load, w.use_generator, w.fit]

    @polite
    def use_generator(folder: str) -> Any:
        place = _local_path(ctx, folder)

        def work(on_progress: ProgressFn, cancel: CancelToken) -> Any:
            from ltg_core import workflows

            on_progress(Progress(0, 1, "loading the generator"))
            workflows.use_generator(ctx.workspace, place)

        return _started(ctx, w, ctx.submit("setup", "Loading the generator", work))

    @polite
    def fit() -> Any:
        classifier = ctx.need_classifier()

        def work(on_progress: ProgressFn, cancel: CancelToken) -> Any:
            from ltg_core import workflows
            from ltg_core.signals.head import HeadSettings

            return workflows.fit_head(
                ctx.workspace, classifier, HeadSettings(), on_progress=on_progress, cancel=cancel
            )

        return _started(ctx, w, ctx.submit("setup", "Fitting the epistemic head", work))

    w.use_generator.click(use_generator, w.folder, outputs, api_name="use_generator", show_progress="hidden")
    w.fit.click(fit, None, outputs, api_name="fit_head", show_progress="hidden")


def use_classifier(ctx: AppContext, files: list[str], arch: str, labels: str) -> Job:
    """Load, remember and score with an uploaded classifier."""
    weights = [Path(f) for f in files if Path(f).suffix.lower() in _WEIGHTS]
    cards = [Path(f) for f in files if Path(f).suffix.lower() == ".json"]
    if len(weights) != 1:
        raise InputError(f"give one file with weights ({', '.join(_WEIGHTS)}); {len(weights)} were given")
    names = labels_from_text(labels) if labels.strip() else None

    def work(on_progress: ProgressFn, cancel: CancelToken) -> Any:
        from ltg_core import workflows

        on_progress(Progress(0, 2, f"reading {weights[0].name}"))
        classifier = workflows.use_classifier(
            ctx.workspace,
            _with_card(ctx, weights[0], cards),
            arch=arch.strip() or None,
            labels=names,
            name=weights[0].stem,
        )
        ctx.changed()
        if ctx.workspace.count():
            workflows.score(ctx.workspace, classifier, on_progress=on_progress, cancel=cancel)
        return f"{classifier.name}: {classifier.num_classes} classes, {classifier.arch}"

    return ctx.submit("setup", "Adding the classifier", work)


def _with_card(ctx: AppContext, weights: Path, cards: list[Path]) -> Path:
    """Uploads lie in a folder each; the loader looks for the card beside the weights."""
    if not cards:
        return weights
    card = weights.with_suffix(".json")
    card.write_bytes(cards[0].read_bytes())
    return weights


def import_data(
    ctx: AppContext, file: str | None, path: str, split: str, holdout: str = "", group: str = ""
) -> Job:
    """Import an upload or a path, then score what is new."""
    if file is None and not (path or "").strip():
        raise InputError("choose a file to upload, or give a path")
    place = Path(file) if file is not None else _local_path(ctx, path)

    def work(on_progress: ProgressFn, cancel: CancelToken) -> Any:
        from ltg_core import workflows

        report = workflows.import_data(
            ctx.workspace,
            place,
            split=split or None,
            holdout=[float(share) for share in holdout.split(",")] if holdout else None,
            group=(group or "").strip(),
            on_progress=on_progress,
            cancel=cancel,
        )
        ctx.changed()
        classifier = ctx.classifier()
        if classifier is not None:
            workflows.score(ctx.workspace, classifier, on_progress=on_progress, cancel=cancel)
        return report.summary()

    return ctx.submit("setup", f"Importing {place.name}", work)


def _local_path(ctx: AppContext, text: str) -> Path:
    """A path on this machine; only for those who sit at it."""
    if not ctx.settings.local:
        raise InputError(
            "paths can be given only where the page is served to this machine alone; upload a file instead"
        )
    if not (text or "").strip() or "\0" in text:
        raise InputError("give a path")
    place = Path(text.strip()).expanduser()
    if not place.exists():
        raise InputError(f"'{place}' does not exist")
    return place


def outcome(job: Job, title: str) -> Node:
    """What a finished job says."""
    text = job.result() if callable(job.result) else job.result
    return h(
        "div.job.job-done",
        h("div.job-line", h("b", title), h("span.job-text", text if isinstance(text, str) else "done")),
    )


def state_of(ctx: AppContext, w: SimpleNamespace) -> dict[Any, Any]:
    """What is loaded now."""
    classifier = ctx.classifier()
    return {
        w.classifier_now: _classifier(classifier),
        w.data_now: _data(ctx),
        w.generator_now: _generator(ctx),
        w.check: _check(ctx),
        w.head_now: _head(ctx),
    }


def _classifier(classifier: Any) -> Node:
    if classifier is None:
        return view(
            h("h3", "1 · Classifier"),
            empty("None yet", "Upload weights; nothing in the file is ever executed."),
        )
    labels = ", ".join(classifier.labels[:12]) + (" …" if len(classifier.labels) > 12 else "")
    rows = [
        ("Name", classifier.name),
        ("Architecture", classifier.arch),
        ("Input", classifier.preprocess.describe()),
        ("Classes", f"{classifier.num_classes}: {labels}"),
        ("Features", classifier.feature_layer),
        ("Hash", classifier.hash),
    ]
    return view(h("h3", "1 · Classifier"), facts(rows))


def _data(ctx: AppContext) -> Node:
    from ltg_core.data.records import Filter

    workspace = ctx.workspace
    if not workspace.count():
        return view(
            h("h3", "2 · Data"), empty("None yet", "Upload a data set, or give the path of a folder.")
        )
    rows: list[tuple[str, Any]] = [("Real samples", f"{workspace.count(Filter(origin='real')):,}")]
    rows += [
        (f"Split {split}", f"{workspace.count(Filter(split=split, origin='real')):,}")
        for split in workspace.splits()
        if split != "generated"
    ]
    real = workspace.query(Filter(origin="real"), limit=1)
    rows.append(("Factors", ", ".join(list(workspace.sample(real[0]).meta)[:14]) if real else ""))
    return view(h("h3", "2 · Data"), facts(rows), _mapping(ctx))


def _mapping(ctx: AppContext) -> Node | None:
    from ltg_core import workflows
    from ltg_core.data.classes import read_as_text

    find = getattr(workflows, "label_mapping", None)
    if find is None or ctx.classifier() is None:
        return None
    found = find(ctx.workspace)
    note = read_as_text(found["read_as"])
    text = f"{found['text']} {note[:1].upper()}{note[1:]}." if note else found["text"]
    return h("p.warn" if found["unknown"] else "p.soft", text)


def _generator(ctx: AppContext) -> Node:
    name = ctx.generator_name()
    if name is None:
        return view(
            h("h3", "3 · Generator"),
            empty(
                "None yet",
                "Give the folder of a diffusion model, or train one: python -m ltg_core fit-generator",
            ),
        )
    return view(
        h("h3", "3 · Generator"),
        facts([("Name", name)]),
        h("p.soft", "A latent diffusion model in diffusers' layout; it stays where it is."),
    )


def _check(ctx: AppContext) -> Node:
    check = accuracy(ctx)
    if check is None:
        return view(
            h("h3", "Check"),
            empty(
                "Nothing to check yet",
                "Accuracy appears as soon as there are a classifier and labelled data.",
            ),
        )
    rows = [
        ("Accuracy", percent(check["accuracy"], 2)),
        ("Mean over classes", percent(check.get("balanced_accuracy"), 2)),
        ("By chance", percent(check.get("chance"), 1)),
        ("Calibration error", percent(check.get("ece"), 1)),
        ("Samples", f"{check['n']:,}" + (f" of split {check['split']}" if check.get("split") else "")),
    ]
    warning = (
        h("p.warn", check["warning"])
        if check.get("warning")
        else h(
            "p.soft",
            "If this is what you know of the classifier, the preprocessing and the labels are right.",
        )
    )
    return view(h("h3", "Check on real samples"), facts(rows), warning)


def _head(ctx: AppContext) -> Node:
    from ltg_core import workflows

    classifier = ctx.classifier()
    fitted = classifier is not None and workflows.reference(ctx.workspace, classifier) is not None
    text = (
        "It is fitted: percentiles and the epistemic signal are there."
        if fitted
        else "Not fitted yet. It gives the epistemic signal and percentiles; the classifier itself is not changed."
    )
    return view(h("h3", "Epistemic head"), h("p.soft", text))
