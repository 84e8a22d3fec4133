"""``extend``: auxiliary classes beside weak ones: propose, review, give images, measure how fine the classes are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltg_core.cli.console import Console, table
from ltg_core.cli.flags import LazyParser, add_params, common, device_of, opened, params_from

if TYPE_CHECKING:
    from ltg_core.curation.auxiliary import Auxiliary

Answer = tuple[Any, str]
_SHOWN = 30


def configure_extend(parser: argparse.ArgumentParser) -> None:
    """``extend propose``, ``list``, ``add``, ``accept``, ``reject``, ``rename``, ``images`` and ``granularity``."""
    what = parser.add_subparsers(title="what to do", metavar="WHAT", required=True, parser_class=LazyParser)
    for name, help, configure in (
        ("propose", "propose classes that look like weak ones", _configure_propose),
        ("list", "all auxiliary classes", _configure_list),
        ("add", "name one yourself; it is accepted", _configure_add),
        ("accept", "learn from these when retraining", _configure_accept),
        ("reject", "do not; they are not proposed again", _configure_reject),
        ("rename", "give one another name", _configure_rename),
        ("images", "give accepted ones images, within the cosine band", _configure_images),
        ("granularity", "how fine the classes are around weak ones", _configure_granularity),
    ):
        what.add_parser(name, help=help, configure=configure)


def _configure_propose(parser: argparse.ArgumentParser) -> None:
    from ltg_core.extension.space import Band
    from ltg_core.workflows.extending import SOURCES
    from ltg_core.workflows.weak_classes import POOL, WeakRule

    common(parser, device=True)
    parser.add_argument(
        "--from", dest="source", default="wordnet", choices=SOURCES,
        help="wordnet: its files (apt install wordnet-base); llm: the endpoint that LTG_LLM_BASE_URL names; clusters: "
        "of unlabelled images that are like the class",
    )  # fmt: skip
    parser.add_argument(
        "--class", dest="classes", action="append", default=[], help="instead of the weak ones; repeatable"
    )
    parser.add_argument("--most", type=int, default=8, help="new classes beside each")
    parser.add_argument("--wordnet", type=Path, metavar="DIR", help="folder of index.noun and data.noun")
    parser.add_argument("--pool", default=POOL, help="split of the unlabelled images")
    parser.add_argument("--seed", type=int, default=0, help="of the clusters")
    add_params(parser, WeakRule, title="what is weak")
    add_params(parser, Band, title="cosine band of the clusters")
    parser.set_defaults(command=_propose)


def _propose(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    with opened(args) as ws:
        classifier = workflows.active_classifier(ws, device=device_of(args))
        found = workflows.propose(
            ws,
            classifier,
            args.source,
            args.classes,
            most=args.most,
            rule=params_from(args, workflows.WeakRule),
            band=params_from(args, workflows.Band),
            folder=args.wordnet,
            pool=args.pool,
            seed=args.seed,
            on_progress=console.progress,
            cancel=console.cancel,
        )
        new = [one for one in _every(args) if one.key in found["added"]]
    lines = [f"{len(new)} proposed beside {', '.join(found['classes'])}."]
    lines += ["", _table(new), ""] if new else []
    lines += [
        f"left out: {name!r} beside {parent!r}, {why}" for parent, name, why in found["dropped"][:_SHOWN]
    ]
    lines += [f"note: {note}" for note in found["notes"]]
    lines.append("Accept with extend accept NUMBER, reject with extend reject NUMBER.")
    return found | {"new": [_plain(one) for one in new]}, "\n".join(lines)


def _configure_list(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.set_defaults(command=_list)


def _list(args: argparse.Namespace, console: Console) -> Answer:
    every = _every(args)
    text = _table(every) if every else "There is no auxiliary class yet; extend propose finds some."
    return [_plain(one) for one in every], text


def _configure_add(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("parent", help="class of the classifier")
    parser.add_argument("name", help="class that looks like it")
    parser.set_defaults(command=_add)


def _add(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    with opened(args) as ws:
        key = workflows.add_by_hand(ws, workflows.active_classifier(ws), args.parent, args.name)
    return {"key": key}, f"{args.name!r} stands beside {args.parent!r} as number {key}."


def _configure_accept(parser: argparse.ArgumentParser) -> None:
    _configure_decision(parser, "accepted")


def _configure_reject(parser: argparse.ArgumentParser) -> None:
    _configure_decision(parser, "rejected")


def _configure_decision(parser: argparse.ArgumentParser, status: str) -> None:
    common(parser)
    parser.add_argument("numbers", type=int, nargs="+", help="of the classes, as extend list shows them")
    parser.set_defaults(command=_decide, status=status)


def _decide(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.curation import auxiliary

    with opened(args) as ws:
        said = auxiliary.decide(ws, args.numbers, args.status)
    return {"numbers": args.numbers, "status": args.status}, f"{said}; curate --undo takes it back."


def _configure_rename(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument("number", type=int, help="of the class")
    parser.add_argument("name", help="new name")
    parser.set_defaults(command=_rename)


def _rename(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    with opened(args) as ws:
        said = workflows.rename_auxiliary(ws, workflows.active_classifier(ws), args.number, args.name)
    return {"number": args.number, "name": args.name}, f"{said}; curate --undo takes it back."


def _configure_images(parser: argparse.ArgumentParser) -> None:
    from ltg_core.extension.space import Band

    common(parser, device=True)
    parser.add_argument("numbers", type=int, nargs="*", help="of accepted classes; none for all")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--folder", type=Path, help="data set whose classes have the names")
    where.add_argument("--pool", metavar="SPLIT", help="split with images of the names, or with the clusters")
    where.add_argument("--generate", type=int, metavar="N", help="so many of each from the generator")
    where.add_argument(
        "--random", metavar="SPLIT",
        help="the control: as many random other images of a split, for retrain --auxiliary random",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, default=0, help="at most so many of each; 0 for all")
    parser.add_argument("--seed", type=int, default=0, help="of generated images and of the control")
    add_params(parser, Band, title="cosine band")
    parser.set_defaults(command=_images)


def _images(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    told: dict[str, Any] = {"seed": args.seed, "on_progress": console.progress, "cancel": console.cancel}
    with opened(args) as ws:
        classifier = workflows.active_classifier(ws, device=device_of(args))
        if args.random:
            found = workflows.random_control(ws, classifier, pool=args.random, **told)
            text = (
                f"{found['added']:,} random images stand beside {found['classes']} classes as the control; learn from "
                "them instead with retrain --auxiliary random."
            )
            return found, text
        found = workflows.add_images(
            ws,
            classifier,
            folder=args.folder,
            pool=args.pool or "",
            generate=args.generate or 0,
            keys=args.numbers,
            band=params_from(args, workflows.Band),
            limit=args.limit,
            device=device_of(args),
            **told,
        )
    rows = [[str(one["key"]), one["name"], one["parent"], str(one["added"])] for one in found["classes"]]
    lines = [table(rows, ["number", "class", "beside", "added"]), ""]
    for one in found["classes"]:
        lines += [f"left out of {one['name']!r}: {count:,}, {why}" for why, count in one["left_out"].items()]
    lines += [f"note: {note}" for note in found["notes"]]
    then = " Learn from them: retrain --loss neighbour-silencing --scope whole" if found["added"] else ""
    lines.append(f"{found['added']:,} images added.{then}")
    return found, "\n".join(lines)


def _configure_granularity(parser: argparse.ArgumentParser) -> None:
    from ltg_core.extension.space import Band
    from ltg_core.workflows.weak_classes import WeakRule

    common(parser, device=True)
    parser.add_argument(
        "--class", dest="classes", action="append", default=[], help="instead of the weak ones; repeatable"
    )
    parser.add_argument(
        "--extended", action="store_true", help="count accepted auxiliary classes as classes too"
    )
    add_params(parser, WeakRule, title="what is weak")
    add_params(parser, Band, title="within which a class counts as near")
    parser.set_defaults(command=_granularity)


def _granularity(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    with opened(args) as ws:
        found = workflows.granularity(
            ws,
            workflows.active_classifier(ws, device=device_of(args)),
            args.classes,
            extended=args.extended,
            rule=params_from(args, workflows.WeakRule),
            band=params_from(args, workflows.Band),
            on_progress=console.progress,
            cancel=console.cancel,
        )
    rows = [
        [one.name, str(one.n), f"{one.intra:.3f}", f"{one.inter:.3f}", f"{one.ratio:.2f}", f"{one.mixed:.0%}",
         one.with_ or "–", str(one.within), ", ".join(f"{name} {cosine:.2f}" for name, cosine in one.near[:3])]
        for one in found
    ]  # fmt: skip
    head = ["class", "images", "width", "to the next", "ratio", "mixed", "mostly with", "near", "nearest"]
    text = [
        table(rows, head),
        "",
        "width: mean 1 - cosine of the images to their mean; to the next: of that mean to the nearest five; ratio: the "
        "one over the other; mixed: share of other classes among the nearest images; near: classes within the band.",
    ]
    return [one._asdict() for one in found], "\n".join(text)


def _every(args: argparse.Namespace) -> list[Auxiliary]:
    from ltg_core.curation import auxiliary

    with opened(args) as ws:
        return auxiliary.every(ws)


def _plain(one: Auxiliary) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(one)


def _table(found: list[Auxiliary]) -> str:
    rows = [
        [str(one.key), one.name, one.parent, one.status, str(one.images), one.source, one.relation[:48]]
        for one in found
    ]
    return table(rows, ["number", "class", "beside", "", "images", "from", "relation"])
