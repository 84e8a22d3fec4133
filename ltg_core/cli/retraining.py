"""Commands that repair a classifier and measure the repair: retrain, compare."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ltg_core.cli.console import Console, table
from ltg_core.cli.flags import add_params, common, device_of, opened, params_from
from ltg_core.cli.quality import HEAD as QUALITY
from ltg_core.cli.quality import figures

if TYPE_CHECKING:
    from ltg_core.data.records import Run
    from ltg_core.data.workspace import Workspace

Answer = tuple[Any, str]
_LISTED = 40


def configure_retrain(parser: argparse.ArgumentParser) -> None:
    """``retrain``."""
    from ltg_core.training.losses import LOSSES
    from ltg_core.training.samplers import SAMPLERS
    from ltg_core.training.settings import MixSettings, TrainSettings
    from ltg_core.workflows.free import METHODS

    common(parser, device=True)
    parser.add_argument(
        "--from", dest="base", default="active", metavar="HASH", help="classifier to start from"
    )
    parser.add_argument("--loss", default="cross-entropy", choices=tuple(LOSSES), help="what is minimised")
    parser.add_argument(
        "--sampler", default="instance", choices=tuple(SAMPLERS), help="how often images are drawn"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="one training each")
    parser.add_argument(
        "--run", action="append", default=[], help="only images of this generation; repeatable"
    )
    parser.add_argument("--name", default="", help="for people")
    parser.add_argument("--use", action="store_true", help="make the result the classifier of the workspace")
    parser.add_argument("--resume", metavar="RUN", help="go on with a retraining that was stopped")
    parser.add_argument("--free", choices=METHODS, help="no training: change the last layer by a formula")
    parser.add_argument(
        "--tau", type=float, help="strength of the free adjustment; chosen on validation if not given"
    )
    add_params(parser, TrainSettings, title="training")
    add_params(parser, MixSettings, title="synthetic images and groups")
    for name, loss in LOSSES.items():
        add_params(parser, loss, prefix=f"{name}-", title=f"loss {name}: {loss.HELP}")
    parser.set_defaults(command=_retrain, after_stop=_after_stop)


def _retrain(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    with opened(args) as ws:
        told: dict[str, Any] = {"on_progress": console.progress, "cancel": console.cancel}
        if args.resume:
            run = workflows.resume_retrain(ws, args.resume, device=device_of(args), **told)
        elif args.free:
            classifier = workflows.arm_of(ws, args.base)[0]
            run = workflows.without_training(ws, classifier, args.free, tau=args.tau, **told)
        else:
            run = _trained(ws, args, told)
        if args.use:
            workflows.adopt(ws, run.id)
        return {"run": run.id, "used": args.use, **run.result}, _told(run, args)


def _trained(ws: Workspace, args: argparse.Namespace, told: Mapping[str, Any]) -> Run:
    from ltg_core import workflows
    from ltg_core.training.losses import LOSSES
    from ltg_core.training.samplers import SAMPLERS

    return workflows.retrain(
        ws,
        workflows.arm_of(ws, args.base)[0],
        params_from(args, workflows.TrainSettings),
        loss=params_from(args, LOSSES[args.loss], prefix=f"{args.loss}-"),
        sampler=SAMPLERS[args.sampler](),
        mix=params_from(args, workflows.MixSettings),
        runs=args.run,
        seeds=args.seeds,
        name=args.name,
        device=device_of(args),
        **told,
    )


def _told(run: Run, args: argparse.Namespace) -> str:
    data = run.result["data"]
    lines = [
        f"Learned from {data['real']:,} real images ({data['trained_on']}), {data['synthetic']:,} synthetic and "
        f"{data['auxiliary']:,} auxiliary ones; {data['validation']:,} real validation images said when to stop."
    ]
    if "free" in run.settings:
        value = run.result.get("tau", run.result.get("temperature"))
        lines = [
            f"{args.free}, {'strength' if 'tau' in run.result else 'temperature'} {value:.3g}; nothing was trained."
        ]
    rows = [
        [
            str(one["seed"]),
            one["classifier"],
            str(one["epochs"]),
            *(f"{one[when].get('balanced_accuracy', float('nan')):.1%}" for when in ("before", "validation")),
            *(f"{one[when].get('ece', float('nan')):.3f}" for when in ("before", "validation")),
        ]
        for one in run.result["seeds"]
    ]
    head = ["seed", "classifier", "epochs", "balanced before", "after", "calibration before", "after"]
    lines += ["", table(rows, head), ""]
    lines += [f"left out: {count:,}, {reason}" for reason, count in data.get("left_out", {}).items()]
    lines += [f"note: {note}" for note in run.result["notes"]]
    used = (
        "It is the workspace's classifier now; fit its head."
        if args.use
        else "The workspace's classifier is as it was."
    )
    lines.append(
        f"{used} Measure it on images that nobody chose by: compare {run.id} --workspace {args.workspace}"
    )
    return "\n".join(lines)


def _after_stop(args: argparse.Namespace) -> str:
    with opened(args) as ws:
        mine = [run for run in ws.runs("retrain") if run.started >= args.began or run.id == args.resume]
    if not mine:
        return "nothing was trained yet"
    return (
        f"the last checkpoint is kept; go on with retrain --workspace {args.workspace} --resume {mine[0].id}"
    )


def configure_compare(parser: argparse.ArgumentParser) -> None:
    """``compare``."""
    from ltg_core.workflows.comparing import CompareSettings

    common(parser, device=True)
    parser.add_argument(
        "arms", nargs="*", metavar="ARM", help="retrain run, or a classifier's hash or its beginning"
    )
    parser.add_argument(
        "--base",
        default="",
        metavar="ARM",
        help="compared with; if not given, what the first arm was retrained from",
    )
    add_params(parser, CompareSettings, title="comparison")
    parser.set_defaults(command=_compare)


def _compare(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    with opened(args) as ws:
        run = workflows.compare(
            ws,
            args.base,
            args.arms,
            params_from(args, workflows.CompareSettings),
            device=device_of(args),
            on_progress=console.progress,
            cancel=console.cancel,
        )
    result = run.result
    # What became worse stands first, also in the document.
    data = {"regressions": result["regressions"], "run": run.id, **result}
    return data, "\n".join(_comparison(result))


def _comparison(result: Mapping[str, Any]) -> Iterator[str]:
    from ltg_core.workflows import overall

    images = result["images"]
    yield (
        f"{len(result['arms'])} against {result['base']['name']} on the same {images['n']:,} real images "
        f"({images['split']}, {images['fingerprint'][:12]}); intervals: paired bootstrap, 95 %."
    )
    for arm in result["arms"]:
        worse = result["regressions"][arm["name"]]
        sure = sum(one["certain"] for one in worse)
        yield ""
        yield f"{arm['name']}{': ' + arm['how'] if arm['how'] else ''}"
        yield (
            f"  became worse: {len(worse)}, of which {sure} with an interval that leaves out 0"
            if worse
            else "  nothing became worse"
        )
        if worse:
            yield _indented(table(list(_rows(worse[:_LISTED])), _HEAD))
            if len(worse) > _LISTED:
                yield f"  … and {len(worse) - _LISTED} more (--json lists all)"
        yield "  all in all:"
        yield _indented(table(list(_rows(overall(arm))), _HEAD))
        if arm.get("quality"):
            yield "  what it learned from, beside the real images of the comparison:"
            found = arm["quality"]
            name = f"{found['n']:,} synthetic images"
            if found["overall"] is None:
                yield f"    {name}: {found['note']}"
            else:
                yield _indented(table([figures(name, found["overall"])], QUALITY))
    for note in result["notes"]:
        yield f"note: {note}"


_HEAD = ["what", "before", "after", "change", "95 %", "images", "over seeds"]


def _rows(found: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    from ltg_core.workflows import figure_words

    for one in found:
        interval = "–" if one["low"] is None else f"{one['low']:+.3f} to {one['high']:+.3f}"
        yield [
            figure_words(one["name"]),
            f"{one['before']:.3f}",
            f"{one['after']:.3f}",
            f"{one['change']:+.3f}",
            interval,
            "" if one["n"] is None else f"{one['n']:,}",
            "" if one["spread"] is None else f"± {one['spread']:.3f}",
        ]


def _indented(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())
