"""Step 1: the classifier under test; weights, architecture, class names, preprocessing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.render import Node, empty, facts, h, view
from app.session import CARRIED, QUICK, clicked, polite
from app.settings import labels_from_text
from app.steps.paths import local_path, uploaded
from app.steps.states import CLASSIFIER, onward
from ltg_core.errors import InputError
from ltg_core.jobs import Job

if TYPE_CHECKING:
    from ltg_core.models.classifier import Classifier
    from ltg_core.models.preprocess import Preprocess
    from ltg_core.workflows import WeightsReport

_WEIGHTS = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt")
_FOLDER = ".zip"
_NUMBERS = ("height", "width", "crop_pct")
_FIELDS = (*_NUMBERS, "resize", "interpolation", "order", "mean", "std")
_RESIZE = [
    ("Stretch to the input size", "squash"),
    ("Cut out the centre", "crop"),
    ("None: must fit", "none"),
]


def build(ctx: AppContext, w: SimpleNamespace) -> None:
    """The form on the left, what is in use on the right."""
    with gr.Row(elem_classes="boxes"):
        with gr.Column(elem_classes="box"):
            w.weights = gr.File(
                label="Weights, with a JSON card if there is one, or a zipped model folder",
                file_count="multiple",
                file_types=[*_WEIGHTS, ".json", _FOLDER],
                elem_id="setup-weights",
                height=130,
            )
            w.weights_path = gr.Textbox(
                label="or a path on this machine",
                placeholder="…/net.safetensors, or a folder that save_pretrained wrote",
                max_length=4000,
                visible=ctx.settings.local,
                elem_id="setup-weights-path",
            )
            w.inspected = View(elem_id="setup-inspected")
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
                placeholder="one a line, or a JSON list; empty to take the card's or the data's",
                elem_id="setup-labels",
            )
            with gr.Accordion("Preprocessing", open=False, elem_id="setup-preprocess") as w.folded:
                _preprocess_fields(w)
            with gr.Row():
                w.use = gr.Button("Use this classifier", variant="primary", elem_id="setup-use")
                w.revise = gr.Button("Change the one in use", elem_id="setup-revise")
        with gr.Column(elem_classes="box"):
            w.classifier_now = View(elem_id="setup-classifier-now")


def _preprocess_fields(w: SimpleNamespace) -> None:
    w.pre = {}
    with gr.Row():
        w.pre["width"] = gr.Number(None, label="Width", precision=0, elem_id="setup-width", min_width=80)
        w.pre["height"] = gr.Number(None, label="Height", precision=0, elem_id="setup-height", min_width=80)
        w.pre["crop_pct"] = gr.Number(None, label="Share kept by the cut", elem_id="setup-crop", min_width=80)
    with gr.Row():
        w.pre["resize"] = gr.Dropdown(
            [("The architecture's own", ""), *_RESIZE],
            value="",
            label="Resize",
            elem_id="setup-resize",
            min_width=120,
        )
        w.pre["interpolation"] = gr.Dropdown(
            [("The architecture's own", ""), "bilinear", "bicubic", "nearest"],
            value="",
            label="Resampling",
            elem_id="setup-interpolation",
            min_width=120,
        )
        w.pre["order"] = gr.Dropdown(
            [("RGB", "rgb"), ("BGR (OpenCV, Caffe)", "bgr")],
            value="rgb",
            label="Colour channels",
            elem_id="setup-order",
            min_width=120,
        )
    with gr.Row():
        w.pre["mean"] = gr.Textbox(
            label="Mean, pixels from 0 to 1",
            placeholder="0.485, 0.456, 0.406",
            max_length=100,
            elem_id="setup-mean",
        )
        w.pre["std"] = gr.Textbox(
            label="Standard deviation", placeholder="0.229, 0.224, 0.225", max_length=100, elem_id="setup-std"
        )


def wire(ctx: AppContext, w: SimpleNamespace, started: Any, outputs: list[Any]) -> None:
    """Looking at a file, using it, and changing the one in use.

    Args:
        ctx: The process.
        w: The tab's widgets.
        started: What a page shows when a job was queued.
        outputs: The components of that.
    """
    fields = [w.pre[name] for name in _FIELDS]
    given = [w.weights, w.weights_path, w.arch, w.labels, *fields]
    filled = [w.inspected, w.arch, w.labels, *fields]

    @polite
    def look(files: list[str] | None, path: str, arch: str) -> Any:
        place, card = _chosen(ctx, files, path)
        if place is None:
            return {w.inspected: view()}
        report = _inspect(ctx, place, card, arch)
        if not report.arch:
            return {w.inspected: told(report)}
        found = {w.inspected: told(report), w.arch: report.arch}
        if report.labels:
            found[w.labels] = "\n".join(report.labels)
        return found | _filled(w, report.preprocess)

    @polite
    def fill(event: gr.EventData) -> Any:
        data, now = clicked(event), ctx.classifier()
        if data.get("name") == "arch":
            return {w.arch: str(data.get("arch", ""))}
        if data.get("name") != "fill" or now is None:
            return gr.skip()
        names = "\n".join(now.labels)
        return {w.arch: now.arch, w.labels: names, w.folded: gr.Accordion(open=True)} | _filled(
            w, now.preprocess
        )

    @polite
    def use(files: list[str] | None, path: str, arch: str, labels: str, *rest: Any) -> Any:
        return started(use_classifier(ctx, files or [], arch, labels, path=path, preprocess=_read(rest)))

    @polite
    def revise(_: Any, __: str, ___: str, labels: str, *rest: Any) -> Any:
        return started(revise_classifier(ctx, labels, _read(rest)))

    for event in (w.weights.change, w.weights_path.submit, w.weights_path.blur):
        event(look, [w.weights, w.weights_path, w.arch], filled, **QUICK)
    for part in (w.inspected, w.classifier_now):
        part.act(fill, None, [*filled[1:], w.folded], **CARRIED)
    w.use.click(use, given, outputs, api_name="use_classifier", show_progress="hidden")
    w.revise.click(revise, given, outputs, api_name="revise_classifier", show_progress="hidden")


def use_classifier(
    ctx: AppContext,
    files: list[str],
    arch: str,
    labels: str,
    *,
    path: str = "",
    preprocess: dict[str, Any] | None = None,
) -> Job:
    """Load, remember and score with a classifier of somebody's own."""
    place, card = _chosen(ctx, files, path)
    if place is None:
        raise InputError(
            f"give one file with weights ({', '.join(_WEIGHTS)}) or a zipped model folder; none was given"
        )
    names = labels_from_text(labels) if (labels or "").strip() else None

    arguments = {
        "weights": str(place.resolve()),
        "card": None if card is None else str(card.resolve()),
        "arch": (arch or "").strip(),
        "labels": names,
        "preprocess": preprocess,
    }
    return ctx.run("setup", "Adding the classifier", "bring_classifier", arguments)


def revise_classifier(ctx: AppContext, labels: str, preprocess: dict[str, Any] | None) -> Job:
    """Other class names or another preprocessing for the classifier in use."""
    ctx.need_classifier()
    names = labels_from_text(labels) if (labels or "").strip() else None
    if names is None and not preprocess:
        raise InputError("nothing was changed; edit the class names or the preprocessing first")
    return revise(ctx, {"labels": names, "preprocess": preprocess})


def revise(ctx: AppContext, change: dict[str, Any]) -> Job:
    """Queue a change of the classifier in use."""

    arguments = {name: change.get(name) for name in ("labels", "preprocess")}
    return ctx.run("setup", "Changing the classifier", "revise_classifier", arguments)


def _chosen(ctx: AppContext, files: list[str] | None, path: str) -> tuple[Path | None, Path | None]:
    """The weight file and the card, uploaded or named."""
    given = [uploaded(ctx, file) for file in files or []]
    weights = [file for file in given if file.suffix.lower() in (*_WEIGHTS, _FOLDER)]
    cards = [file for file in given if file.suffix.lower() == ".json"]
    if len(weights) > 1:
        raise InputError(
            f"give one file with weights ({', '.join(_WEIGHTS)}) or one zipped model folder; {len(weights)} were given"
        )
    if weights and cards and (weights[0].suffix.lower() == _FOLDER or cards[0].name == "config.json"):
        raise InputError(
            f"'{cards[0].name}' cannot be read beside '{weights[0].name}': zip the model's folder (config.json, "
            "preprocessor_config.json, *.safetensors) and give the zip alone"
        )
    if weights:
        return weights[0], cards[0] if cards else None
    if (path or "").strip():
        return local_path(ctx, path), None
    return None, None


def _inspect(ctx: AppContext, place: Path, card: Path | None, arch: str) -> WeightsReport:
    if card is not None:
        place.with_suffix(".json").write_bytes(card.read_bytes())
    return ctx.machine.reader.weights(place, (arch or "").strip(), ctx.workspace.path / "tmp")


def _filled(w: SimpleNamespace, found: Preprocess | None) -> dict[Any, Any]:
    if found is None:
        return {}
    values = found.to_dict()
    texts = {name: ", ".join(f"{v:.6g}" for v in values[name]) for name in ("mean", "std")}
    return {w.pre[name]: (values | texts)[name] for name in _FIELDS}


def _read(values: tuple[Any, ...]) -> dict[str, Any]:
    """The preprocessing that the fields name; what is empty is left to the architecture."""
    found: dict[str, Any] = {}
    for name, value in zip(_FIELDS, values, strict=True):
        if value in (None, ""):
            continue
        if name in ("mean", "std"):
            try:
                value = [float(part) for part in str(value).replace(";", ",").split(",") if part.strip()]
            except ValueError:
                raise InputError(f"the {name} is {value!r}; expected numbers such as 0.5, 0.5, 0.5") from None
        found[name] = value
    return found if found.keys() - {"order"} or found.get("order") == "bgr" else {}


def told(report: WeightsReport) -> Node:
    """What a file says about itself, and which networks it could be."""
    line = f"{report.parameters:,} numbers in {report.tensors:,} tensors"
    if report.classes:
        line += f", {report.classes:,} outputs"
    if report.card:
        beside = Path(report.name).suffix.lower() in _WEIGHTS
        line += "; the card beside it names the rest" if beside else "; its configuration names the rest"
    offers = [
        h("button.condition", f"{name} · {score:.0%}", act=("arch", {"arch": name}), type="button")
        for name, score in report.suggested
    ]
    hint = None
    if offers:
        hint = h("div.offers", h("span.soft", "By its tensors it could be"), *offers)
    elif not report.arch:
        hint = h("p.warn", "No architecture that was tried resembles its tensors; name it below.")
    return view(h("div.inspected", h("b", report.name), h("span.soft", line)), hint)


def shown(ctx: AppContext) -> Node:
    """What is in use."""
    classifier = ctx.classifier()
    if classifier is None:
        return view(
            h("h3", "No classifier yet"),
            empty(
                "What is needed",
                "A weight file (safetensors, or a weights-only state dict), the name of its architecture, and the "
                "class names in the order of its outputs; or a zip of a folder that save_pretrained wrote "
                "(transformers, timm), which says all three. Nothing in the file is ever executed.",
            ),
        )
    return view(h("h3", "In use"), facts(_rows(classifier)), *_below())


def _rows(classifier: Classifier) -> list[tuple[str, Any]]:
    labels = ", ".join(classifier.labels[:12]) + (" …" if len(classifier.labels) > 12 else "")
    return [
        ("Name", classifier.name),
        ("Architecture", classifier.arch),
        ("Classes", f"{classifier.num_classes}: {labels}"),
        ("Preprocessing", classifier.preprocess.describe()),
        ("Features", classifier.feature_layer),
        ("Hash", classifier.hash),
    ]


def _below() -> list[Node]:
    return [
        h("button", "Edit names and preprocessing", act=("fill", {}), type="button"),
        onward(CLASSIFIER),
    ]
