"""One order for images in plain values: what a page sends, a queue keeps and a worker carries out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ltg_core.data.records import Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.guidance.settings import Guidance
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.balancing import BalanceSettings, Need, plan_balance
from ltg_core.workflows.coverage import prompt_for_cell
from ltg_core.workflows.generating import generate
from ltg_core.workflows.planning import prompt_of_class
from ltg_core.workflows.setup import active_classifier, active_generator
from ltg_core.workflows.units import UNIT

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""A sweep of the weight, unless others are wanted."""
SWEEP = "sweep of the weight"
_LONGEST = 500


@dataclasses.dataclass(frozen=True)
class Order:
    """What is wanted, in JSON values only.

    Attributes:
        number: Images; of a sweep, film strips.
        seed: Of the first one; each has the next one.
        label: Name of the class that they should show; "" for that of the source, else all classes in turn.
        prompt: A text, ``{label}`` stands for the class; "" for the generator's own words.
        negative: What no image should show.
        sources: Ids of the real samples to start from, taken in turn.
        guidance: Settings as ``Guidance.to_dict`` gives them; ``toward`` is the class of a counterfactual.
        preset: Where the settings came from, for the record.
        weights: Of a sweep: strengths of the climb, one frame each.
        aim: Metadata values that the images are meant to show.
        balance: Without a class: more of the classes that have fewer training images, as ``plan_balance`` says.
        groups: Of a balance: metadata column; groups of class and value are filled up instead of classes.
        to: Of a balance: training images that each should have; 0 for as many as the largest has.
        rare: Of a balance of groups: values with a smaller share of the real samples are left out.
        each: Without class, sources or balance: images by class, in the order of the classes; ``number`` is their sum.
    """

    number: int = 8
    seed: int = 0
    label: str = ""
    prompt: str = ""
    negative: str = ""
    sources: tuple[str, ...] = ()
    guidance: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    preset: str = ""
    weights: tuple[float, ...] = ()
    aim: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    balance: bool = False
    groups: str = ""
    to: int = 0
    rare: float = 0.0
    each: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.number < 1:
            raise InputError(f"{self.number} images were asked for; give at least 1")
        if self.groups and not self.balance:
            raise InputError("groups are filled up by a balance; without one they mean nothing")
        if self.groups and (self.label or self.sources or self.settings.toward):
            raise InputError(
                "groups are filled up by all classes, from nothing: leave class and sources away"
            )
        if self.each and (self.label or self.sources or self.balance or self.settings.toward):
            raise InputError(
                "images by class are an order of their own: leave class, sources and balance away"
            )
        if self.each and (min(self.each) < 0 or sum(self.each) != self.number):
            raise InputError(f"{list(self.each)} images by class are not {self.number} altogether")
        if self.seed < 0:
            raise InputError(f"the seed is {self.seed}; give a whole number from 0")
        if max(len(self.prompt), len(self.negative)) > _LONGEST:
            raise InputError(f"the prompt is longer than {_LONGEST} letters; shorten it")
        if self.weights and (len(self.weights) > UNIT or min(self.weights) < 0 or max(self.weights) == 0):
            raise InputError(
                f"a sweep takes 1 to {UNIT} weights from 0 on, one of them above 0; got {list(self.weights)}"
            )
        self.settings  # noqa: B018  (a wrong setting is an error now)

    @property
    def settings(self) -> Guidance:
        """The guidance of this order; a sweep follows a gradient, whatever the settings say."""
        guidance = Guidance.from_dict(dict(self.guidance))
        if not self.weights:
            return guidance
        climb = guidance.climb if guidance.climb in ("denoiser-free", "full") else "denoiser-free"
        return dataclasses.replace(guidance, climb=climb, weight=max(self.weights))

    @property
    def frames(self) -> int:
        """Guided images that come out."""
        return self.number * max(1, len(self.weights))

    @property
    def unit(self) -> int:
        """Images that are made together; the frames of one strip are never parted."""
        strip = len(self.weights)
        return UNIT if not strip else strip * max(1, UNIT // strip)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``from_dict`` reads them back."""
        plain = {**dataclasses.asdict(self), "sources": list(self.sources), "weights": list(self.weights)}
        plain["each"] = list(self.each)
        return plain | {"guidance": dict(self.guidance), "aim": dict(self.aim)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Order:
        """Build from plain values.

        Raises:
            InputError: An unknown field or a wrong value.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"an order has no field {unknown}; it has {sorted(known)}")
        lists = {name: tuple(values[name] or ()) for name in ("sources", "weights", "each") if name in values}
        return cls(**{**values, **lists})


def imagine(
    ws: Workspace,
    order: Mapping[str, Any],
    *,
    classifier: Classifier | None = None,
    device: str | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Carry out an order with the active generator.

    Args:
        ws: The workspace.
        order: As ``Order.to_dict`` gives it: plain values, so that another process can do the work.
        classifier: Whom the images are to challenge; None for the active one.
        device: Where the networks are; None for the device of the workspace.
        on_progress: As in ``generate``.
        cancel: As in ``generate``; finished units are kept.

    Raises:
        InputError: As ``intended`` and ``generate``.
    """
    wanted = Order.from_dict(order)
    classifier = classifier or active_classifier(ws, device=device)
    needs = lacking(ws, wanted, classifier.labels) if wanted.groups else []
    labels = [need.label for need in needs] or intended(ws, wanted, classifier.labels)
    generator = active_generator(ws, device=device)
    strip = max(1, len(wanted.weights))
    rows = [i // strip for i in range(wanted.frames)]
    text, sources = wanted.prompt.strip(), wanted.sources
    prompts = [prompt_of_class(classifier, generator, label, text) for label in labels]
    if needs and not text:
        prompts = [prompt_for_cell(ws, classifier.labels, n.label, wanted.groups, n.value) for n in needs]
    return generate(
        ws,
        classifier,
        generator,
        prompts=[prompts[i] for i in rows],
        labels=[labels[i] for i in rows],
        seeds=[wanted.seed + i for i in rows],
        guidance=wanted.settings,
        negative=wanted.negative,
        sources=[sources[i % len(sources)] for i in rows] if sources else None,
        preset=wanted.preset,
        weights=list(wanted.weights) * wanted.number if wanted.weights else None,
        aim=wanted.aim,
        aims=[{wanted.groups: needs[i].value} for i in rows] if needs else None,
        unit=wanted.unit,
        on_progress=on_progress,
        cancel=cancel,
    )


def intended(ws: Workspace, order: Order, labels: tuple[str, ...] | list[str]) -> list[int]:
    """The class that each image (each strip of a sweep) should show; nothing is loaded for it.

    Raises:
        InputError: An unknown class or sample, a source without a label, a counterfactual to a class without a
            source, more images than balancing takes.
    """
    names, toward = list(labels), order.settings.toward
    samples = ws.samples(list(order.sources))
    if toward and not samples:
        raise InputError(
            "turning a sample into another class starts from a real sample: choose one in Browse and press "
            "'Imagine from this'"
        )
    chosen = toward or order.label
    if chosen:
        if chosen not in names:
            raise InputError(f"the classifier has no class {chosen!r}; it has {', '.join(names[:20])}")
        return [names.index(chosen)] * order.number
    if not samples and order.balance:
        return [need.label for need in lacking(ws, order, names)]
    if order.each:
        if len(order.each) > len(names):
            raise InputError(
                f"images of {len(order.each)} classes were asked for; the classifier has {len(names)}"
            )
        return [label for label, count in enumerate(order.each) for _ in range(count)]
    if not samples:
        return [i % len(names) for i in range(order.number)]
    found = [sample.label for sample in samples]
    if any(label is None or not 0 <= label < len(names) for label in found):
        raise InputError(
            "a source has no class that the classifier knows; choose the class that the image should show"
        )
    return [int(found[i % len(found)] or 0) for i in range(order.number)]


def lacking(ws: Workspace, order: Order, labels: Sequence[str]) -> list[Need]:
    """The class, or the group of class and value, that each image of a balance is for.

    Raises:
        InputError: Fewer images are missing than are asked for, or there is no such column.
    """
    settings = BalanceSettings(column=order.groups, to=order.to, number=order.number, rare=order.rare)
    plan = plan_balance(ws, labels, settings)
    found = [need for need in plan.needs for _ in range(need.wanted)]
    if len(found) >= order.number:
        return found
    what = f"class × {order.groups}" if order.groups else "class"
    if not found:
        raise InputError(
            f"nothing is missing: every {what} has {plan.goal} training images or more; choose a class"
        )
    raise InputError(
        f"only {len(found)} images are missing until every {what} has {plan.goal} or more; ask for no more, or "
        "choose a class"
    )


def sweep_order(ws: Workspace, sample_id: str, weights: tuple[float, ...] = WEIGHTS) -> Order:
    """The order that sweeps the weight for one finished image: everything else is as it was made.

    Raises:
        InputError: It was not generated, or its run is gone.
    """
    sample = ws.sample(sample_id)
    if sample.real:
        raise InputError("a sweep of the weight needs a generated image; this one is a real sample")
    settings = ws.run(sample.origin).settings
    source, aims = sample.meta.get("source"), settings.get("aims")
    own = aims[int(sample.meta["index"])] if aims else {}
    return Order(
        number=1,
        seed=int(sample.meta.get("seed", 0)),
        label=sample.label_name or "",
        prompt=sample.caption,
        negative=str(settings.get("negative") or ""),
        sources=(str(source),) if source else (),
        guidance=settings["guidance"],
        preset=SWEEP,
        weights=weights,
        aim={**(settings.get("aim") or {}), **own},
    )


def film_strips(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The frames of a sweep, one strip a seed, weights ascending.

    Args:
        rows: What ``triplets`` says of a run that swept the weight.

    Returns:
        Records with ``seed``, ``prompt``, ``label``, ``control`` (id) and ``frames`` (rows of ``triplets``).
    """
    strips: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["seed"], row["prompt"], row["label"])
        shared = {name: row[name] for name in ("seed", "prompt", "label", "control")}
        strips.setdefault(key, {**shared, "frames": []})["frames"].append(row)
    for strip in strips.values():
        strip["frames"].sort(key=lambda row: float(row["weight"] or 0.0))
    return list(strips.values())
