"""What is asked in Explain: a selection, methods and a question, as one value; and how clicks change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from app.brief import whole
from app.context import AppContext
from app.session import text_ids
from ltg_core.errors import InputError

PER_PAGE = 8
NAMED = 60
"""Samples that the address names one by one."""
MOST = 500
"""Samples that a selection keeps; only those of the page are computed."""

# Named here because the registry itself brings torch, and the page should stand before that; a test compares the two.
METHODS = ("integrated_gradients", "grad_cam", "saliency", "occlusion", "gradient_shap")
SIGNALS = (
    "epistemic", "logit_variance", "entropy", "margin", "energy", "loss", "hardness", "density",
    "relative_mahalanobis", "leverage",
)  # fmt: skip
DEFAULT = ("integrated_gradients", "grad_cam", "occlusion")
QUESTIONS = [
    ("The prediction", "prediction"),
    ("Its label", "label"),
    ("The prediction rather than the runner-up", "runner-up"),
    ("The prediction rather than its label", "mistake"),
    ("A class …", "class"),
    ("One class rather than another …", "contrast"),
    ("A signal, for example its uncertainty …", "signal"),
]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the page shows: ids and names only.

    Attributes:
        ids: The selection.
        methods: Names.
        target: As the workflow reads it.
        page: Of the table, from 0.
        alone: Id of the sample that is shown large; "" for the table.
        opened: (sample, method) whose evidence is shown, or None.
        job: That computes what is missing; "" for none.
        refused: What the last job could not do: {``sample``, ``method``, ``reason``, ``offer``}.
    """

    ids: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    target: str = "prediction"
    page: int = 0
    alone: str = ""
    opened: tuple[str, str] | None = None
    job: str = ""
    refused: tuple[dict[str, Any], ...] = ()

    @property
    def single(self) -> str:
        """The sample that is shown large, "" for none."""
        return self.ids[0] if len(self.ids) == 1 else self.alone if self.alone in self.ids else ""

    @property
    def window(self) -> tuple[str, ...]:
        """The samples that are visible."""
        start = self.page * PER_PAGE
        return (self.single,) if self.single else self.ids[start : start + PER_PAGE]

    def moved(self, by: int) -> Asked:
        """The sample or the page before or after; the same at an end."""
        if self.single:
            place = self.ids.index(self.single) + by
            alone = self.ids[place] if 0 <= place < len(self.ids) else self.alone
            return dataclasses.replace(self, alone=alone, opened=None)
        last = max(0, (len(self.ids) - 1) // PER_PAGE)
        return dataclasses.replace(self, page=min(last, max(0, self.page + by)), opened=None)


def clicked_in(now: Asked, data: dict[str, Any]) -> tuple[Asked, tuple[str, ...]]:
    """What is shown after a click, and the methods whose maps are to be checked; the same where it means nothing."""
    name, one, method = data.get("name"), str(data.get("id", "")), str(data.get("method", ""))
    if name == "step" and data.get("by") in (-1, 1):
        return now.moved(int(data["by"])), ()
    if name == "only" and one in now.ids:
        return dataclasses.replace(now, alone=one, opened=None), ()
    if name == "back":  # out of the evidence first, then out of the single sample
        page = now.ids.index(now.single) // PER_PAGE if now.single else now.page
        back = dataclasses.replace(now, opened=None)
        return (back if now.opened else dataclasses.replace(back, alone="", page=page)), ()
    if name in ("evidence", "check") and one in now.ids and method in now.methods:
        place = None if now.opened == (one, method) else (one, method)
        return dataclasses.replace(now, opened=place), (method,) if name == "check" else ()
    return now, ()


def question(ctx: AppContext, kind: str, first: str | None, second: str | None, signal: str) -> str:
    """The target as the workflow reads it.

    Raises:
        InputError: A class is missing.
    """
    labels = ctx.workspace.label_names()
    if kind == "signal":
        return f"signal:{signal}"
    if kind not in ("class", "contrast"):
        return kind
    names = [
        labels[int(v)]
        for v in (first, second)
        if v is not None and str(v).isdecimal() and int(v) < len(labels)
    ]
    if len(names) < (1 if kind == "class" else 2):
        raise InputError(
            "choose the class to explain" if kind == "class" else "choose both classes to compare"
        )
    return f"class:{names[0]}" if kind == "class" else f"contrast:{names[0]}|{names[1]}"


def parts(labels: Sequence[str], target: str) -> tuple[str, str, str, str]:
    """A target as the pickers say it: kind, first class, second class (names), signal; "" for what it has not."""
    kind, _, rest = target.partition(":")
    if kind != "contrast":
        return kind, rest if kind == "class" else "", "", rest if kind == "signal" else ""
    names = rest.split("|")  # which may hold the bar themselves
    pairs = [("|".join(names[:i]), "|".join(names[i:])) for i in range(1, len(names))]
    known = [pair for pair in pairs if set(pair) <= set(labels)]
    first, second = next(iter(known or pairs), ("", ""))
    return kind, first, second, ""


def place(now: Asked, labels: Sequence[str]) -> dict[str, str]:
    """What the address keeps of a question."""
    if not now.ids:
        return {}
    kind, first, second, signal = parts(labels, now.target)
    more = len(now.ids) - NAMED
    return {
        "of": ",".join(now.ids[:NAMED]),
        "more": str(more) if more > 0 else "",
        "with": ",".join(now.methods) if now.methods != DEFAULT else "",
        "what": kind if kind != "prediction" else "",
        "first": first,
        "second": second,
        "signal": signal,
        "alone": now.alone,
        "page": str(now.page + 1) if now.page else "",
    }


def from_place(ctx: AppContext, given: Mapping[str, str], held: Sequence[str] = ()) -> Asked:
    """What an address asks.

    Args:
        ctx: The process.
        given: As ``place`` made it.
        held: The selection of the page, of which the address may name the beginning.

    Raises:
        InputError: A class or signal that is not here.
    """
    labels = ctx.workspace.label_names()
    named, more = given.get("of", "").split(","), given.get("more", "")
    rest = int(more) if more.isdecimal() and len(more) < 6 else 0
    ids = there(
        ctx, held if rest and len(held) == len(named) + rest and list(held[: len(named)]) == named else named
    )
    if rest and len(ids) <= len(named):
        gr.Info(f"The address names the first {len(ids)} of {len(named) + rest} samples.", duration=8)
    methods = tuple(name for name in METHODS if name in given.get("with", "").split(",")) or DEFAULT
    kind = given.get("what", "prediction")
    if kind not in [value for _, value in QUESTIONS] or given.get("signal", SIGNALS[0]) not in SIGNALS:
        raise InputError("the question that this address asks is not known here")
    first, second = (_index(whole(given.get(name, ""), labels), labels) for name in ("first", "second"))
    target = question(ctx, kind, first, second, given.get("signal", SIGNALS[0]))
    page = given.get("page", "")
    number = int(page) - 1 if page.isdecimal() and len(page) < 4 else 0
    last = max(0, (len(ids) - 1) // PER_PAGE)
    alone = given.get("alone", "")
    return Asked(tuple(ids), methods, target, min(last, max(0, number)), alone if alone in ids else "")


def _index(name: str, labels: Sequence[str]) -> str | None:
    return str(labels.index(name)) if name in labels else None


def likely(ctx: AppContext, ids: Sequence[str]) -> tuple[str | None, str | None]:
    """Predicted and given class of the first sample, as values of a dropdown."""
    sample = next(iter(ctx.workspace.there(ids[:1])), None)
    if sample is None:
        return None, None
    said = ctx.workspace.predictions([ids[0]], ctx.model_hash or "").get(ids[0])
    return str(said.pred) if said else None, str(sample.label) if sample.label is not None else None


def there(ctx: AppContext, ids: Any) -> list[str]:
    """Those ids that are in the workspace; one may have been deleted underneath."""
    wanted = list(dict.fromkeys(text_ids(ids)))[:MOST]
    if not wanted:
        return []
    from ltg_core.data.records import Filter

    known = set(ctx.workspace.query(Filter(ids=tuple(wanted))))
    return [one for one in wanted if one in known]
