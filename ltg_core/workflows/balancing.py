"""Balanced training sets: how many images each class, or group of class and condition, lacks; a run that makes them.

One-shot feedback: a classifier that was trained on the real images alone says what is hard (its criterion), the
generator fills up what is rare, and a copy is trained on both. Counting is that of the coverage; how a limited number
is shared out is ours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ltg_core.curation import verdicts
from ltg_core.data.records import Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.generators.base import Generator
from ltg_core.guidance.settings import Guidance
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.params import Params, param
from ltg_core.workflows.coverage import Cell, class_cells, coverage, prompt_for_cell
from ltg_core.workflows.generating import generate
from ltg_core.workflows.planning import prompt_of_class

_VALUES = 100


@dataclasses.dataclass(frozen=True)
class BalanceSettings(Params):
    """What is filled up, and how far."""

    column: str = param(
        "", "Metadata column of conditions: groups of class and value are filled; empty for classes"
    )
    to: int = param(0, "Training images that each should have; 0 for as many as the largest has", low=0)
    number: int = param(
        0,
        "Images to make in all, shared out in proportion to what is missing; 0 for all that is missing",
        low=0,
    )
    rare: float = param(
        0.0, "Leave out values of the column that a smaller share of the real samples has", low=0.0, high=1.0
    )


@dataclasses.dataclass(frozen=True)
class Need:
    """One class or group.

    Attributes:
        label: Class index.
        name: Of the class.
        value: Of the column; None where classes are filled.
        real: Real training images.
        made: Accepted generated ones.
        missing: Up to the goal.
        wanted: To be made now.
    """

    label: int
    name: str
    value: Any
    real: int
    made: int
    missing: int
    wanted: int


@dataclasses.dataclass(frozen=True)
class Balance:
    """A plan.

    Attributes:
        settings: As asked for.
        goal: Images that each should have.
        needs: Every class or group, those that lack the most first.
        trained: Whether real images are those of a split "train"; all otherwise.
        notes: What is left out, in words.
    """

    settings: BalanceSettings
    goal: int
    needs: tuple[Need, ...]
    trained: bool
    notes: tuple[str, ...]

    @property
    def number(self) -> int:
        """Images to be made."""
        return sum(need.wanted for need in self.needs)

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.settings.to_dict(),
            "goal": self.goal,
            "number_wanted": self.number,
            "needs": [dataclasses.asdict(need) for need in self.needs],
            "notes": list(self.notes),
        }


def plan_balance(ws: Workspace, labels: Sequence[str], settings: BalanceSettings | None = None) -> Balance:
    """How many images each class or group lacks. Nothing is loaded and nothing is written.

    Args:
        ws: The workspace.
        labels: Class names.
        settings: None for the defaults.

    Raises:
        InputError: No such column, or no labelled real images.
    """
    settings = settings or BalanceSettings()
    notes: list[str] = []
    if settings.column:
        if settings.column not in ws.meta_columns():
            raise InputError(
                f"there is no metadata column {settings.column!r}; there are {', '.join(ws.meta_columns()) or 'none'}"
            )
        found = coverage(ws, len(labels), settings.column, limit=_VALUES, rare=settings.rare)
        cells, trained = list(found.cells.values()), found.trained
        if found.left_out:
            notes.append(
                f"{found.left_out} values of {settings.column!r} are left out: rarer than {settings.rare:.2%} of the "
                f"real samples, or beyond the first {_VALUES}"
            )
    else:
        cells, trained = class_cells(ws, len(labels))
    largest = max((cell.train for cell in cells), default=0)
    if not largest:
        raise InputError("there are no labelled real training images to balance; import some")
    goal = settings.to or largest
    missing = [max(0, goal - cell.train - cell.accepted) for cell in cells]
    wanted = missing if not settings.number else shared_out(missing, settings.number)
    empty = sum(not cell.train for cell in cells)
    if empty:
        what = "groups" if settings.column else "classes"
        notes.append(
            f"{empty} {what} have no real training image: nothing real says whether what is made is right"
        )
    needs = [_need(labels, *row) for row in zip(cells, missing, wanted, strict=True)]
    ranked = sorted(needs, key=lambda need: (-need.missing, need.label, str(need.value)))
    return Balance(settings, goal, tuple(ranked), trained, tuple(notes))


def _need(labels: Sequence[str], cell: Cell, missing: int, wanted: int) -> Need:
    return Need(cell.label, labels[cell.label], cell.value, cell.train, cell.accepted, missing, wanted)


def shared_out(missing: Sequence[int], number: int) -> list[int]:
    """At most ``number`` images in proportion to what is missing, whole ones, by largest remainder."""
    total = sum(missing)
    if total <= number:
        return list(missing)
    exact = [number * part / total for part in missing]
    counts = [math.floor(value) for value in exact]
    order = sorted(range(len(exact)), key=lambda k: (counts[k] - exact[k], k))
    for place in order[: number - sum(counts)]:
        counts[place] += 1
    return counts


def fill(
    ws: Workspace,
    classifier: Classifier,
    generator: Generator,
    plan: Balance,
    guidance: Guidance,
    *,
    preset: str = "",
    seed: int = 0,
    prompt: str = "",
    accept: bool = False,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Make what a plan wants: one generation, kept and resumed as any other (``resume_generate``).

    The images of a group are asked for in words of the group, resemble real images of it where the guidance asks for a
    likeness, and carry its value as metadata. The plan is part of the run's record.

    Args:
        ws: The workspace.
        classifier: Gives the feedback.
        generator: Makes them.
        plan: From ``plan_balance``.
        guidance: All settings.
        preset: Where they came from, for the record.
        seed: Of the first image; every image has the next one.
        prompt: A text for all, ``{label}`` stands for the class; "" for the generator's own words.
        accept: Accept the believed images that nobody has decided on, so that a retraining learns from them.
        on_progress: As ``generate``.
        cancel: As ``generate``.

    Raises:
        InputError: Nothing is missing, and what ``generate`` refuses.
    """
    rows = [need for need in plan.needs for _ in range(need.wanted)]
    if not rows:
        raise InputError(
            f"nothing is missing: all have {plan.goal} images or more; give a higher number (to)"
        )
    column = plan.settings.column
    words = {need: _words(ws, classifier, generator, need, column, prompt) for need in dict.fromkeys(rows)}
    run = generate(
        ws,
        classifier,
        generator,
        prompts=[words[need] for need in rows],
        labels=[need.label for need in rows],
        seeds=list(range(seed, seed + len(rows))),
        guidance=guidance,
        preset=preset,
        aims=[{column: need.value} for need in rows] if column else None,
        purpose={"balance": plan.record()},
        on_progress=on_progress,
        cancel=cancel,
    )
    if accept:
        accept_believed(ws, run.id)
    return run


def accept_believed(ws: Workspace, run_id: str) -> int:
    """Accept the believed images of a run that nobody has decided on; returns how many."""
    ids = ws.query(Filter(origin=run_id, believed=True, meta={"role": "guided"}))
    undecided = [sample.id for sample in ws.samples(ids) if sample.verdict == "undecided"]
    if undecided:
        verdicts.set_verdict(ws, undecided, "accepted", author="balance")
    return len(undecided)


def _words(
    ws: Workspace, classifier: Classifier, generator: Generator, need: Need, column: str, prompt: str
) -> str:
    if prompt.strip() or not column:
        return prompt_of_class(classifier, generator, need.label, prompt)
    return prompt_for_cell(ws, classifier.labels, need.label, column, need.value)
