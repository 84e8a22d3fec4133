"""From samples and numbers to nodes and cards. Pure functions; no Gradio, no HTML."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.discreet import discreet
from ltg_core.jobs import Job

if TYPE_CHECKING:
    import numpy as np

    from ltg_core.data.records import Prediction, Sample, Score

Node = dict[str, Any]
_LONG = 240
QUIET_META = (
    "agrees",
    "candidate",
    "control",
    "distance",
    "distance_limit",
    "index",
    "neighbours",
    "percentile",
    "percentile_control",
    "prompt",
    "role",
    "seed",
    "source",
)


def h(
    tag: str, *children: Node | str | None, act: tuple[str, Mapping[str, Any]] | None = None, **attrs: Any
) -> Node:
    """A node: ``h("p.note", "text")``, ``h("button", "Go", act=("go", {...}))``; see assets/components/nodes.js."""
    name, _, classes = tag.partition(".")
    node: Node = {"t": name or "div", "c": classes.replace(".", " ")}
    kids = [child for child in children if child is not None]
    if len(kids) == 1 and isinstance(kids[0], str):
        node["x"] = kids[0]
    else:
        node["k"] = kids
    if act:
        node["act"] = [act[0], dict(act[1])]
    if "w" in attrs:
        node["w"] = attrs.pop("w")
    if "key" in attrs:
        node["key"] = attrs.pop("key")
    if attrs:
        node["a"] = {key.rstrip("_").replace("_", "-"): str(value) for key, value in attrs.items()}
    return node


def view(*children: Node | str | None, classes: str = "") -> Node:
    """The value of a ``View``."""
    return {"c": classes, "k": [child for child in children if child is not None]}


def empty(title: str, text: str = "") -> Node:
    """What stands where nothing is yet: what it will be, and what to do."""
    return h("div.empty", h("b", title), h("p", text) if text else None)


def picture(sample_id: str, alt: str = "", classes: str = "picture") -> Node:
    """An image by sample id."""
    return h(f"img.{classes}", src=f"image:{sample_id}", alt=alt)


def data_url(image: np.ndarray, largest: int = 160) -> str:
    """uint8 (H, W, 3) as a small inline picture."""
    from PIL import Image

    small = Image.fromarray(image)
    if max(small.size) > largest:
        small.thumbnail((largest, largest))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85, method=0)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def percent(value: float | None, digits: int = 0) -> str:
    """A share as text."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f} %"


def ordinal(percentile: float | None) -> str:
    """``P 97`` for the 97th percentile."""
    if percentile is None or math.isnan(percentile):
        return ""
    return f"P {percentile:.0f}" if percentile < 99.5 else "P 100"


def cut(text: str, most: int = 200) -> str:
    """A text for a title or a card: the end of a very long one is left out."""
    return text if len(text) <= most else f"{text[:most]} …"


def label_of(sample: Sample, labels: Sequence[str]) -> str:
    """The class in words, cut where it is very long."""
    if sample.label_name:
        return cut(sample.label_name)
    if sample.label is not None and 0 <= sample.label < len(labels):
        return cut(labels[sample.label])
    return "no label"


def name_of(index: int | None, labels: Sequence[str]) -> str:
    """A class by index."""
    return labels[index] if index is not None and 0 <= index < len(labels) else "–"


def card(
    sample: Sample,
    labels: Sequence[str],
    prediction: Prediction | None,
    score: Score | None,
    signal: str = "",
) -> dict[str, Any]:
    """One thumbnail of a grid."""
    item: dict[str, Any] = {"id": sample.id, "t": label_of(sample, labels), "v": sample.verdict}
    if prediction is not None:
        item["k"] = {True: "right", False: "wrong", None: ""}[prediction.correct]
        said = name_of(prediction.pred, labels)
        item["s"] = (
            f"{percent(prediction.confidence)}"
            if prediction.correct
            else f"→ {said} {percent(prediction.confidence)}"
        )
    if score is not None and score.percentile is not None and not math.isnan(score.percentile):
        item["p"] = round(score.percentile, 1)
        item["pt"] = f"{signal}: {ordinal(score.percentile)} of held-out real data"
    if sample.belief:
        item["b"] = sample.belief
    if sample.rating:
        item["r"] = sample.rating
    return item


def facts(rows: Sequence[tuple[str, Any]]) -> Node:
    """Names and values below each other."""
    shown = [(name, value) for name, value in rows if value not in (None, "", [])]
    return h("div.facts", *[h("div.fact", h("span.fact-name", name), _value(value)) for name, value in shown])


def _value(value: Any) -> Node:
    if isinstance(value, dict) and "t" in value:
        return value
    if isinstance(value, float):
        return h("span.fact-value", f"{value:.3g}")
    text = str(value)
    if len(text) <= _LONG:
        return h("span.fact-value", text)
    return h("details.fact-value.unfold", h("summary", cut(text)), h("span", text[200:]))


def meter(name: str, percentile: float | None, note: str = "") -> Node:
    """A signal's percentile as a bar."""
    known = percentile is not None and not math.isnan(percentile)
    level = "high" if known and percentile >= 90 else "mid" if known and percentile >= 60 else "low"
    return h(
        f"div.meter.{level}",
        h("span.meter-name", name),
        h("span.meter-bar", h("span.meter-fill"), w=f"{percentile:.1f}%" if known else "0%"),
        h("span.meter-value", f"{percentile:.0f}" if known else note or "–"),
    )


def time_left(job: Job) -> str:
    """How long it will still take, from its pace so far."""
    step = job.progress
    if job.started is None or step.done <= 0 or step.total <= step.done:
        return ""
    seconds = (time.time() - job.started) / step.done * (step.total - step.done)
    if seconds < 1.5:
        return "a second left"
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


def waiting(job: Job, before: int, others: int = 0) -> str:
    """What a queued job waits for, in words; ``others`` of those before it belong to somebody else."""
    if job.token.cancelled:
        return "cancelled; it will not start"
    if before <= 0:
        return "about to start"
    own = before - others
    what = [f"{own} other job{'s' if own != 1 else ''}"] if own else []
    what += [f"{others} job{'s' if others != 1 else ''} of others"] if others else []
    return f"place {before} in the queue: starts after {' and '.join(what)}"


def job_bar(
    job: Job, title: str, *, before: int = 0, others: int = 0, cancel: bool = True, again: str = ""
) -> Node:
    """A job's state, progress and buttons.

    Args:
        job: The job.
        title: For people.
        before: How many jobs have to end first, while it is queued.
        others: How many of those belong to somebody else.
        cancel: Whether to offer to stop it.
        again: What to offer when it ended early: "Resume", "Start again", or "" for nothing.
    """
    step = job.progress
    share = 100.0 * step.done / step.total if step.total else 0.0
    share = 100.0 if job.state == "done" else share
    words = {"queued": waiting(job, before, others), "done": "done"}
    if job.ended and job.state != "done":
        words[job.state] = discreet(job.reason)
    text = words.get(job.state) or step.message or "working"
    left = time_left(job) if job.state == "running" else ""
    return h(
        f"div.job.job-{job.state}" + (".is-open" if not step.total and job.state == "running" else ""),
        h(
            "div.job-line",
            h("b", title),
            h("span.job-text", text),
            h("span.job-left", left),
            h("button.link", "Cancel", act=("cancel", {"job": job.id}), type="button")
            if cancel and not job.ended and not job.token.cancelled
            else None,
            h("button.link", again, act=("again", {"job": job.id}), type="button") if again else None,
        ),
        h("div.bar", h("div.bar-fill"), w=f"{share:.1f}%"),
        key=job.id,
    )
