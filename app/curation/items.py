"""What the page knows about each sample, and how it learns what became of its decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.discreet import discreet
from app.render import label_of, name_of, percent
from ltg_core.errors import InputError, LtgError

if TYPE_CHECKING:
    from ltg_core.curation import Action
    from ltg_core.data.records import Filter, Sample

PAGE = 120
_WHOLE = 10_000
"""Longest text that travels; the page unfolds what is long."""
_ACTIONS = ("verdict", "rate", "tag", "untag", "note")
_MOST_STEPS = 200


def page(ctx: AppContext, chosen: Filter, offset: int, *, sort: str) -> tuple[list[str], int, int]:
    """Ids of one page, its offset as far as it exists, and how many samples pass."""
    total = ctx.workspace.count(chosen)
    offset = max(0, min(offset, (total - 1) // PAGE * PAGE if total else 0))
    return ctx.workspace.query(chosen, sort=sort, limit=PAGE, offset=offset), offset, total


def items(ctx: AppContext, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Cards with all that decides: answer, belief and its reason, twin, nearest real sample, tags, note."""
    ws, model, labels = ctx.workspace, ctx.model_hash, ctx.workspace.label_names()
    samples = ws.there(ids)
    said = ws.predictions(ids, model) if model else {}
    pairs = {sample.id: _company(sample) for sample in samples}
    wanted = tuple({one for pair in pairs.values() for one in pair if one})
    there = set(known(ctx, wanted))
    found = []
    for sample in samples:
        twin, near = (one if one in there else None for one in pairs[sample.id])
        guess = said.get(sample.id)
        sure = percent(guess.confidence) if guess else ""
        answer = f"{name_of(guess.pred, labels)} {sure}" if guess else ""
        item: dict[str, Any] = {
            "id": sample.id,
            "t": (sample.label_name or label_of(sample, labels))[:_WHOLE],
            "k": {True: "right", False: "wrong", None: ""}[guess.correct if guess else None],
            "s": f"→ {answer}" if guess and not guess.correct else sure,
            "said": answer,
            "b": sample.belief or "",
            "why": (sample.belief_reason or "")[:_WHOLE],
            "prompt": str(sample.meta.get("prompt") or sample.caption or "")[:_WHOLE],
            "from": "real" if sample.real else "generated",
            "split": sample.split,
            "twin": twin,
            "near": near,
            "source": bool(sample.meta.get("source")),
        }
        found.append(item | _curated(sample))
    return found


def _company(sample: Sample) -> tuple[str | None, str | None]:
    """Ids of the unguided twin, and of the sample it was made from or the nearest real one."""
    twin, source, near = (sample.meta.get(key) for key in ("control", "source", "neighbours"))
    first = source if isinstance(source, str) else near[0] if isinstance(near, list) and near else None
    return (twin if isinstance(twin, str) else None), (first if isinstance(first, str) else None)


def known(ctx: AppContext, ids: Sequence[str]) -> list[str]:
    """Those ids that are (still) in the workspace."""
    from ltg_core.data.records import Filter

    return ctx.workspace.query(Filter(ids=tuple(ids))) if ids else []


def _curated(sample: Sample) -> dict[str, Any]:
    return {"v": sample.verdict, "r": sample.rating or 0, "g": list(sample.tags), "n": sample.note}


def state(ctx: AppContext, ids: Sequence[str]) -> dict[str, Any]:
    """What is decided about the samples of a page now, by id; None for one that is gone."""
    found: dict[str, Any] = dict.fromkeys(ids)
    return found | {sample.id: _curated(sample) for sample in ctx.workspace.there(ids)}


def figures(ctx: AppContext, chosen: Filter) -> dict[str, Any]:
    """What stands above the grid."""
    from ltg_core.curation import clock, overview

    decided, total = overview.progress(ctx.workspace, chosen)
    undo, redo = overview.ahead(ctx.workspace)
    return {
        "clock": clock(ctx.workspace),
        "progress": [decided, total],
        "tally": overview.verdict_counts(ctx.workspace),
        "undo": undo,
        "redo": redo,
    }


def take(ctx: AppContext, steps: Any, seen: Any, author: str) -> tuple[list[str], list[str], str]:
    """Do the steps that a page sent, in order; one that cannot be done does not hinder the others.

    Args:
        ctx: The process.
        steps: From the browser: action, value, ids.
        seen: The journal's clock as the page knows it.
        author: The page.

    Returns:
        What was done, what to tell the user (in words), and the sample to show ("" for none).
    """
    from ltg_core.curation import decide, history, redo, undo

    done: list[str] = []
    told: list[str] = []
    focus = ""
    for step in (steps if isinstance(steps, list) else [])[:_MOST_STEPS]:
        try:
            action, value, ids = _step(step)
            if action in ("undo", "redo"):
                words = (undo if action == "undo" else redo)(ctx.workspace, author=author)
                told.append(_walked(action, words))
                focus = _touched(history(ctx.workspace), action) or focus
                continue
            clock = seen if isinstance(seen, int) and not isinstance(seen, bool) else None
            result = decide(ctx.workspace, ids, action, value, author=author, seen=clock)
            done.append(result.description)
            if result.kept:
                told.append(_kept(len(result.kept)))
        except LtgError as error:
            told.append(discreet(str(error)[:1].upper() + str(error)[1:]))
    return done, told, focus


def _touched(actions: Sequence[Action], walked: str) -> str:
    """The sample of the action that was just undone or repeated, "" where it was not a single one."""
    undone = [action for action in actions if action.undone]
    last = undone[-1:] if walked == "undo" else [action for action in actions if not action.undone][:1]
    return (last[0].sample or "") if last else ""


def _walked(action: str, words: str | None) -> str:
    if words is None:
        return f"There is nothing to {action}."
    return f"{'Undone' if action == 'undo' else 'Done again'}: {words}"


def _kept(number: int) -> str:
    what = "1 sample was" if number == 1 else f"{number:,} samples were"
    return (
        f"{what} decided in another page meanwhile and left as decided there; look again, and decide again to change "
        "that."
    )


def _step(step: Any) -> tuple[str, Any, list[str]]:
    from app.session import text_ids

    step = step if isinstance(step, dict) else {}
    action, ids = str(step.get("action", "")), text_ids(step.get("ids"), limit=PAGE)
    if action in ("undo", "redo"):
        return action, None, []
    if action not in _ACTIONS:
        raise InputError(f"there is no action {action[:40]!r}; known: {', '.join(_ACTIONS)}")
    if not ids:
        raise InputError("nothing is selected; click a sample first")
    return action, step.get("value"), ids
