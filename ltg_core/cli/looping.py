"""The command that repairs without a person: loop."""

from __future__ import annotations

import argparse
from typing import Any

from ltg_core.cli.console import Console, table
from ltg_core.cli.flags import add_params, common, device_of, given_params, opened, params_from

Answer = tuple[Any, str]


def configure_loop(parser: argparse.ArgumentParser) -> None:
    """``loop``."""
    from ltg_core.guidance.settings import Guidance
    from ltg_core.training.losses import LOSSES
    from ltg_core.training.settings import LoopSettings, MixSettings, TrainSettings

    common(parser, device=True)
    parser.add_argument(
        "--from", dest="base", default="active", metavar="HASH", help="classifier to start from"
    )
    parser.add_argument("--loss", default="balanced-softmax", choices=tuple(LOSSES), help="what is minimised")
    parser.add_argument("--use", action="store_true", help="make the result the classifier of the workspace")
    parser.add_argument("--resume", metavar="RUN", help="go on with a loop that was stopped")
    add_params(parser, LoopSettings, title="loop")
    add_params(parser, TrainSettings, title="training", prefix="train-")
    add_params(parser, MixSettings, title="synthetic images", prefix="mix-")
    add_params(parser, Guidance, title="guidance that differs from the preset's")
    parser.set_defaults(command=_loop, after_stop=_after_stop)


def _loop(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows
    from ltg_core.training.losses import LOSSES

    told: dict[str, Any] = {
        "on_progress": console.progress,
        "cancel": console.cancel,
        "device": device_of(args),
    }
    with opened(args) as ws:
        if args.resume:
            run = workflows.resume_loop(ws, args.resume, **told)
        else:
            run = workflows.loop(
                ws,
                workflows.arm_of(ws, args.base)[0],
                params_from(args, workflows.LoopSettings),
                params_from(args, workflows.TrainSettings, prefix="train-"),
                loss=LOSSES[args.loss](),
                mix=params_from(args, workflows.MixSettings, prefix="mix-"),
                guidance=given_params(args, workflows.Guidance),
                **told,
            )
        best = run.result["best"]
        if args.use and best:
            workflows.adopt(ws, best)
        return {"run": run.id, "used": bool(args.use and best), **run.result}, _told(run.result, args)


def _told(result: dict[str, Any], args: argparse.Namespace) -> str:
    head = ["round", "generated", "accepted", "before", "after", "95 % of the change", "improved"]
    rows = []
    for number, one in enumerate(result["rounds"], 1):
        change = one["change"]
        span = "–" if change["low"] is None else f"{change['low']:+.3f} to {change['high']:+.3f}"
        figures = [f"{change['before']:.1%}", f"{change['after']:.1%}", span]
        rows.append(
            [
                str(number),
                str(sum(one["wanted"])),
                str(one["accepted"]),
                *figures,
                "yes" if one["improved"] else "no",
            ]
        )
    lines = [
        "Balanced accuracy on real validation images, against the best before:",
        "",
        table(rows, head),
        "",
        f"It ended: {result['ended']}.",
    ]
    if not result["best"]:
        return "\n".join([*lines, "Nothing was better beyond its interval; the classifier stays as it was."])
    used = "It is in use now; fit its head." if args.use else "The workspace's classifier is as it was."
    last = (
        f"On the test split, looked at once: run {result['compare']}; see it with compare {result['best']} "
        f"--workspace {args.workspace}"
        if result["compare"]
        else ""
    )
    notes = [note[:1].upper() + note[1:] + "." for note in result["notes"]]
    return "\n".join(
        [*lines, " ".join(part for part in (f"The best is {result['best']}.", used, last) if part), *notes]
    )


def _after_stop(args: argparse.Namespace) -> str:
    with opened(args) as ws:
        mine = [run for run in ws.runs("loop") if run.started >= args.began or run.id == args.resume]
    if not mine:
        return "nothing was done yet"
    return f"what is done is kept; go on with loop --workspace {args.workspace} --resume {mine[0].id}"
