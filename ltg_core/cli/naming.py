"""Commands that put names to what was found: name, pool."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltg_core.cli.console import Console, table
from ltg_core.cli.flags import add_params, common, device_of, opened, params_from
from ltg_core.errors import InputError

if TYPE_CHECKING:
    from ltg_core.data.workspace import Workspace
    from ltg_core.workflows import Slice, TermSettings

Answer = tuple[Any, str]


def configure_name(parser: argparse.ArgumentParser) -> None:
    """``name``."""
    from ltg_core.introspection.weak import WeakSettings
    from ltg_core.workflows.asking import AskSettings
    from ltg_core.workflows.causes import CauseSettings
    from ltg_core.workflows.terming import TermSettings

    common(parser, device=True, engine=True)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--by", default="errors", help="errors, or a signal of which samples at P 90 and above count"
    )
    what.add_argument(
        "--imagined", action="store_true", help="what guided images show more often than their controls"
    )
    what.add_argument(
        "--asked",
        action="store_true",
        help="words that make errors: every class is drawn with and without every word",
    )
    what.add_argument(
        "--habits",
        nargs="*",
        metavar="COLUMN",
        help="spurious correlations: metadata columns that are context; none for the terms of the vocabulary",
    )
    what.add_argument("--list", action="store_true", help="show what was found last")
    what.add_argument(
        "--cause",
        metavar="PLACE",
        nargs="+",
        help="the causal check of the findings in these places of the list; 'all' for those that have none",
    )
    add_params(parser, TermSettings, title="words")
    add_params(parser, WeakSettings, title="search", skip=("seed",))
    add_params(parser, CauseSettings, title="causal check")
    add_params(parser, AskSettings, title="asking", skip=("signal", "seed", "alpha"))
    parser.set_defaults(command=_name)


def _name(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    console.hush()
    with opened(args, on_progress=console.progress) as ws:
        if args.list:
            return _listed(ws)
        if args.cause is not None:
            return _cause(args, console, ws)
        words = params_from(args, workflows.TermSettings)
        told: dict[str, Any] = {"on_progress": console.progress, "cancel": console.cancel}
        if args.habits is not None:
            return _habits(args, ws, words, told)
        settings = params_from(args, workflows.WeakSettings)
        if args.imagined:
            run = workflows.find_imagined(ws, words, settings, **told)
        elif args.asked:
            return _asked(args, ws, words, told)
        else:
            classifier = workflows.active_classifier(ws, device=device_of(args))
            run = workflows.find_slices(ws, classifier, args.by, settings, words=words, **told)
        data, text = _listed(ws)
        result = run.result
        head = f"{result['tried']:,} candidates tested on {result['samples']:,} samples, {result['shown']:,} found."
        notes = [f"Not tried: {', '.join(result['skipped'])}."] if result["skipped"] else []
        return {"run": run.id, **result, "found": data}, "\n".join([head, *notes, "", text])


def _asked(args: argparse.Namespace, ws: Workspace, words: TermSettings, told: dict[str, Any]) -> Answer:
    from ltg_core import workflows

    if args.shard is not None:
        raise InputError("--asked is not done in shards, for what is asked for again depends on all answers")
    device = device_of(args)
    run = workflows.find_asked(
        ws,
        workflows.active_classifier(ws, device=device),
        workflows.active_generator(ws, device=device),
        words,
        params_from(args, workflows.AskSettings),
        **told,
    )
    data, text = _listed(ws)
    got = run.result
    head = (
        f"{got['tried']:,} classes with words were asked for in {got['images']:,} images, {got['again']:,} of them "
        f"again; {got['shown']:,} make errors."
    )
    notes = [f"Not tried: {', '.join(got['skipped'])}."] if got["skipped"] else []
    return {"run": run.id, **got, "found": data}, "\n".join([head, *notes, "", text])


def _listed(ws: Workspace) -> Answer:
    from ltg_core import workflows

    data, rows = [], []
    for place, one in enumerate(workflows.slices(ws, "found"), start=1):
        got = one.evidence
        data.append({"place": place, "id": one.id, "name": one.name, "size": one.n, **got})
        cause = got.get("cause")
        rows.append(
            [
                str(place),
                one.name,
                f"{got['bad']:,} of {got['n']:,}",
                f"{got['bad'] / got['n']:.0%} ({got['low']:.0%} to {got['high']:.0%})",
                f"{got['rest']:.1%}",
                f"{got['q']:.1e}",
                "–" if cause is None else _verdict(cause),
            ]
        )
    head = ["", "name", "hits", "share, interval", "others", "q", "causal check"]
    return data, table(rows, head) if rows else "Nothing stands out."


def _cause(args: argparse.Namespace, console: Console, ws: Workspace) -> Answer:
    from ltg_core import workflows

    found = workflows.slices(ws, "found")
    if args.cause == ["all"]:
        open_ = set(workflows.untested(found))
        wanted = [one for one in found if one.id in open_]
        if not wanted:
            raise InputError("no finding is left whose cause could be tested (name --list)")
    else:
        wanted = [_placed(found, place) for place in args.cause]
    cells = [workflows.cell_to_check(ws, one.id) for one in wanted]  # before the first image is drawn
    device = device_of(args)
    classifier = workflows.active_classifier(ws, device=device)
    generator = workflows.active_generator(ws, device=device)
    data, lines = [], []
    for one, cell in zip(wanted, cells, strict=True):
        run = workflows.check_cause(
            ws,
            classifier,
            generator,
            cell,
            params_from(args, workflows.CauseSettings),
            slice_id=one.id,
            on_progress=console.progress,
            cancel=console.cancel,
        )
        data.append({"cause": run.id, "name": one.name, **run.result})
        lines.append(_cause_told(one.name, run.result))
    alone = len(args.cause) == 1 and args.cause != ["all"]
    return data[0] if alone else data, "\n".join(lines)


def _placed(found: Sequence[Slice], place: str) -> Slice:
    if not (place.isdecimal() and 1 <= int(place) <= len(found)):
        raise InputError(f"there is no finding {place}; the list has {len(found)} (name --list)")
    return found[int(place) - 1]


def _verdict(cause: Mapping[str, Any]) -> str:
    return ("makes errors, " if cause.get("errs") else "") + str(cause["verdict"])


def _cause_told(name: str, got: Mapping[str, Any]) -> str:
    change, errors = got["change"], got["errors"]
    text = (
        f"{name}: {_verdict(got)}. Percentile of {got['signal']} {change['without']:.0f} without, "
        f"{change['with_']:.0f} with: {change['change']:+.0f} ({change['low']:+.0f} to {change['high']:+.0f}) over "
        f"{change['n']} pairs; errors {errors['without']:.0%} and {errors['with_']:.0%}."
    )
    if got["seen"]:
        text += f" The term is seen in {got['seen'][0]:.0%} of the images without it and {got['seen'][1]:.0%} with it."
    return text


def _habits(args: argparse.Namespace, ws: Workspace, words: Any, told: dict[str, Any]) -> Answer:
    from ltg_core import workflows

    classifier = workflows.active_classifier(ws, device=device_of(args))
    source: dict[str, Any] = {"columns": args.habits} if args.habits else {"words": words}
    run = workflows.find_habits(ws, classifier, **source, **told)
    got = run.result
    rows = [
        [
            one["term"],
            one["answer"],
            f"{one['said']} of {one['n']}",
            f"{one['rest']:.1%}",
            f"{one['ratio']:.1f} ({one['low']:.1f} to {one['high']:.1f})",
            f"{one['q']:.1e}",
            "–" if one["trained"] is None else f"{one['trained']:.0%} / {one['trained_others']:.0%}",
        ]
        for one in got["habits"]
    ]
    head = [
        "where it shows",
        "others are read as",
        "so often",
        "else",
        "odds ratio",
        "q",
        "in training, own / others",
    ]
    lifted = [
        [o["term"], str(o["n"]), f"{o['change']:+.1f} ({o['low']:+.1f} to {o['high']:+.1f})", f"{o['q']:.1e}"]
        for o in got["lifts"]
    ]
    lines = [table(rows, head) if rows else "No context makes an answer more frequent than chance explains."]
    if lifted:
        lines += [
            "",
            "Percentile of the signal within classes:",
            table(lifted, ["where it shows", "samples", "change", "q"]),
        ]
    return {"run": run.id, **got}, "\n".join(lines)


def configure_pool(parser: argparse.ArgumentParser) -> None:
    """``pool``."""
    common(parser, device=True, engine=True)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", help="what to look for; the text-image encoder compares")
    what.add_argument(
        "--finding", metavar="PLACE", type=int, help="the finding in this place of 'name --list'"
    )
    what.add_argument(
        "--like", nargs="+", metavar="ID", help="samples, imagined failures say, that it should be like"
    )
    parser.add_argument(
        "--folder", type=Path, help="folder, zip or table that is read where it is; none for the split 'pool'"
    )
    parser.add_argument("--number", type=int, default=12, help="pictures to list")
    parser.add_argument(
        "--encoder", default="", help="folder of a CLIP-style encoder; none for the generator's own"
    )
    parser.set_defaults(command=_pool)


def _pool(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    console.hush()
    with opened(args, on_progress=console.progress) as ws:
        if args.folder and args.shard:
            raise InputError(
                "a folder is read where it is and nothing of it is kept: import it, then use shards"
            )
        text = args.text or ""
        if args.finding is not None:
            one = _placed(workflows.slices(ws, "found"), str(args.finding))
            text = workflows.text_of(ws, workflows.cell_to_check(ws, one.id))
        got = workflows.retrieve(
            ws,
            workflows.active_classifier(ws, device=device_of(args)),
            text=text,
            like=args.like or (),
            pool=args.folder or "",
            number=args.number,
            encoder=args.encoder,
            on_progress=console.progress,
            cancel=console.cancel,
        )
    rows = [
        [one.source, f"{one.cosine:.3f}", one.prediction, f"{one.confidence:.0%}"] for one in got.evidence
    ]
    lost = f", {got.skipped:,} could not be read" if got.skipped else ""
    head = f"{got.what}: the nearest of {got.size:,} pictures{lost}."
    return dataclasses.asdict(got), "\n".join(
        [head, table(rows, ["picture", "cosine", "read as", "confidence"])]
    )
