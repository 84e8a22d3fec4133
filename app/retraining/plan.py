"""What a training would learn from, in figures and words, before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.pricing import duration
from app.render import Node, empty, h, view

LONG = 1800.0
_FEW = 5.0
_CLASSES = 12


def waiting() -> Node:
    """Until it is counted."""
    return view(
        h("div.panel.plan.is-counting", h("h3", "What it will learn from"), h("p.soft", "Counting …"))
    )


def refused(text: str) -> Node:
    """It cannot be done; says what to do."""
    return view(
        h(
            "div.panel.plan",
            h("h3", "This cannot be trained yet"),
            h("p.warn", text[:1].upper() + text[1:], role="status"),
        )
    )


def nothing() -> Node:
    """There is no classifier."""
    return view(
        empty(
            "Nothing to retrain yet",
            "Retraining starts from a classifier and labelled real images. Bring both under Setup, or wait until the "
            "demo is open.",
        )
    )


def shown(found: Mapping[str, Any], given: Mapping[str, Any], name: str) -> Node:
    """Counts, what the guard leaves out, time, and what to think of.

    Args:
        found: As ``plan_retrain`` gives it.
        given: The arguments of the training.
        name: Of the classifier that it starts from.
    """
    if found["problem"]:
        return refused(str(found["problem"]))
    made, left = int(found["synthetic"]), dict(found["left_out"])
    figures = [
        (f"{found['real']:,}", "real images", str(found["trained_on"])),
        (f"{made:,}", "generated images", f"weight {given['mix']['synthetic_weight']:g}"),
        (f"{found['validation']:,}", "real images that say when to stop", str(found["stopped_by"])),
    ]
    if found["auxiliary"]:
        beside = ", ".join(found["auxiliary_classes"][:_CLASSES])
        figures.insert(2, (f"{found['auxiliary']:,}", "of auxiliary classes", beside))
    return view(
        h(
            "div.panel.plan",
            h("h3", "What it will learn from"),
            h(
                "div.figures",
                *[
                    h("div.figure", h("b", n), h("span", text), h("span.soft.figure-note", note))
                    for n, text, note in figures
                ],
            ),
            h("p", _said(found, given, name)),
            _left_out(left) if given["mix"]["synthetic"] != "none" else None,
            _none_there(given, made, left),
            *[h("p.soft.note", note[:1].upper() + note[1:] + ".") for note in found["notes"]],
            h(
                "p.warn",
                "That is long. The last layer only, fewer epochs or one seed make it shorter; a training that is "
                "cancelled goes on later where it stopped.",
            )
            if (found["seconds"] or 0) > LONG
            else None,
        )
    )


def _said(found: Mapping[str, Any], given: Mapping[str, Any], name: str) -> str:
    number, seconds = len(given["seeds"]), found["seconds"]
    copies = "One copy" if number == 1 else f"{number} copies"
    about = "a few seconds" if (seconds or 0) < _FEW else f"at most about {duration(seconds)}"
    time = f" It takes {about}; it ends earlier when they no longer improve."
    return f"{copies} of {name} will learn; the one in use stays as it is.{time}"


def _left_out(left: Mapping[str, int]) -> Node:
    if not left:
        return h("p.soft", "The leakage guard leaves nothing out.")
    count = sum(left.values())
    rows = [h("li", f"{n:,} because {reason}") for reason, n in left.items()]
    return h(
        "div.left-out-of-training",
        h("b", f"{count:,} generated image{'s' if count != 1 else ''} left out by the leakage guard"),
        h("ul.read", *rows),
    )


def _none_there(given: Mapping[str, Any], made: int, left: Mapping[str, int]) -> Node | None:
    """There is no generated image among what was chosen: what to do about it."""
    kind = given["mix"]["synthetic"]
    if made or left or kind == "none":
        return None
    text = (
        "No generated image was accepted yet: accept some in Curate & Export, or choose all that are believed."
        if kind == "accepted"
        else "No generated image is believed yet: make some in Imagine."
    )
    return h("p.warn", f"{text} As it stands, only real images are learned from.")
