"""Commands about what was chosen: versioned sets, blind second reviews."""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

from ltg_core.cli.console import Console, table
from ltg_core.cli.flags import LazyParser, common, opened
from ltg_core.cli.judging import add_filter, chosen

if TYPE_CHECKING:
    from ltg_core.curation.sets import SampleSet

Answer = tuple[Any, str]
_SHOWN = 20


def configure_sets(parser: argparse.ArgumentParser) -> None:
    """``sets list``, ``snapshot``, ``diff``, ``restore`` and ``delete``."""
    what = parser.add_subparsers(title="what to do", metavar="WHAT", required=True, parser_class=LazyParser)
    what.add_parser("list", help="all sets, the newest first", configure=_configure_list)
    what.add_parser(
        "snapshot",
        help="keep the accepted samples, or others, as the next version",
        configure=_configure_snapshot,
    )
    what.add_parser("diff", help="what one set has more, less and otherwise", configure=_configure_diff)
    what.add_parser(
        "restore", help="set verdicts and tags back to those of a set", configure=_configure_restore
    )
    what.add_parser("delete", help="take a set away; the samples stay", configure=_configure_delete)


def _configure_list(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.set_defaults(command=_list)


def _list(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.curation import sets

    with opened(args) as ws:
        found = sets.every(ws)
    rows = [
        [one.ref, time.strftime("%Y-%m-%d %H:%M", time.localtime(one.created)), f"{one.n:,}", one.hash[:12],
         ", ".join(f"{name} {count:,}" for name, count in list(one.classes.items())[:4])]
        for one in found
    ]  # fmt: skip
    text = table(rows, ["set", "made", "samples", "hash", "classes"]) if rows else "There is no set yet."
    return [_data(one) for one in found], text


def _configure_snapshot(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("name", help="of the set; a known name gets its next version")
    parser.add_argument(
        "ids", nargs="*", help="samples; without any and without a filter all that are accepted"
    )
    add_filter(parser)
    parser.set_defaults(command=_snapshot)


def _snapshot(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.curation import sets

    filters = (args.split, args.label, args.run, args.role, args.by_verdict, args.tag, args.text)
    named = bool(args.ids) or args.errors or args.believed or any(filters)
    with opened(args) as ws:
        made = sets.snapshot(ws, args.name, chosen(args, ws) if named else None)
    return _data(made), f"{made.n:,} samples are kept as {made.ref}, content hash {made.hash}."


def _configure_diff(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("first", help="name or name@version, or 'now' for what is accepted now")
    parser.add_argument("second", nargs="?", default="now", help="the same")
    parser.set_defaults(command=_diff)


def _diff(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.curation import sets

    with opened(args) as ws:
        found = sets.difference(ws, args.first, args.second)
    changed = [
        f"  {sample}: {field} {old or '–'} → {new or '–'}" for sample, field, old, new in found.changed
    ]
    lines = [
        f"From {args.first} to {args.second}: {len(found.added):,} added, {len(found.removed):,} removed, "
        f"{len({one[0] for one in found.changed}):,} changed, {found.same:,} the same.",
        *(f"  added {one}" for one in found.added[:_SHOWN]),
        *(f"  removed {one}" for one in found.removed[:_SHOWN]),
        *changed[:_SHOWN],
    ]
    if max(len(found.added), len(found.removed), len(changed)) > _SHOWN:
        lines.append("  … (--json lists all)")
    return dataclasses.asdict(found), "\n".join(lines)


def _configure_restore(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("set", help="name or name@version")
    parser.set_defaults(command=_restore)


def _restore(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.curation import sets

    with opened(args) as ws:
        done = sets.restore(ws, args.set)
    gone = f" {len(done.gone):,} of its samples are gone from this workspace." if done.gone else ""
    text = f"{done.description[0].upper()}{done.description[1:]}.{gone} 'curate --undo' takes it back."
    return dataclasses.asdict(done), text


def _configure_delete(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("set", help="name or name@version")
    parser.set_defaults(command=_delete)


def _delete(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.curation import sets

    with opened(args) as ws:
        done = sets.delete(ws, args.set)
    return {"done": done}, f"{done[0].upper()}{done[1:]}. 'curate --undo' brings it back."


def configure_review(parser: argparse.ArgumentParser) -> None:
    """``review``: one by its id, or all."""
    common(parser)
    parser.add_argument("id", nargs="?", help="of a review; without it all are listed")
    parser.set_defaults(command=_review)


def _review(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.curation import review

    with opened(args) as ws:
        if args.id is None:
            found = review.every(ws)
            rows = [[one.id, one.reviewer, f"{one.answered:,}", f"{one.n:,}", one.about] for one in found]
            text = (
                table(rows, ["review", "by", "answered", "samples", "of"])
                if rows
                else "There is no review yet."
            )
            return [dataclasses.asdict(one) for one in found], text
        about, result = review.get(ws, args.id), review.agreement(ws, args.id)
    data = dataclasses.asdict(about) | dataclasses.asdict(result)
    data["table"] = [[*pair, count] for pair, count in result.table.items()]
    data |= {key: _known(data[key]) for key in ("raw", "raw_interval", "kappa", "kappa_interval")}
    lines = [
        f"{about.reviewer} agrees on {result.agreed:,} of {result.n:,} samples: {_share(result.raw)} "
        f"(95 %: {_range(result.raw_interval)}), kappa {_number(result.kappa)} "
        f"(95 %: {_range(result.kappa_interval)}).",
        *(f"  {note}" for note in result.notes),
        *(f"  {sample}: {first} → {second}" for sample, first, second in result.disagreements[:_SHOWN]),
    ]
    return data, "\n".join(lines)


def _data(one: SampleSet) -> dict[str, Any]:
    return {"set": one.ref, **dataclasses.asdict(one)}


def _known(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_known(part) for part in value]
    return None if math.isnan(value) else value


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1%}"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _range(values: tuple[float, float]) -> str:
    return "–" if math.isnan(values[0]) else f"{values[0]:.2f} to {values[1]:.2f}"
