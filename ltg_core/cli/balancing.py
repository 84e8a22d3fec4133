"""The command that fills up what is rare: balance."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ltg_core.cli.console import Console, table
from ltg_core.cli.flags import add_params, common, device_of, opened, params_from
from ltg_core.cli.imagining import generated, guidance_of

if TYPE_CHECKING:
    from ltg_core.data.workspace import Workspace

Answer = tuple[Any, str]
_LISTED = 30


def configure_balance(parser: argparse.ArgumentParser) -> None:
    """``balance``."""
    from ltg_core.guidance.settings import PRESETS, Guidance
    from ltg_core.workflows.balancing import BalanceSettings

    common(parser, device=True, engine=True)
    parser.add_argument("--dry-run", action="store_true", help="say what would be made, no more")
    parser.add_argument(
        "--accept", action="store_true", help="accept the believed images that nobody has decided on"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first image; each has the next one")
    parser.add_argument(
        "--prompt", default="", help="{label} stands for the class; the generator's own if absent"
    )
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), default="feedback-guided", help="settings to begin with"
    )
    parser.add_argument("--resume", metavar="RUN", help="go on with a run that was interrupted")
    add_params(parser, BalanceSettings, title="what is filled up")
    add_params(parser, Guidance, title="guidance, where it differs from the preset")
    parser.set_defaults(command=_balance, after_stop=_after_stop)


def _balance(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    with opened(args, on_progress=console.progress) as ws:
        told: dict[str, Any] = {"on_progress": console.progress, "cancel": console.cancel}
        if args.resume:
            run = workflows.resume_generate(ws, args.resume, device=device_of(args), **told)
            if args.accept:
                workflows.accept_believed(ws, run.id)
            return _made(ws, args, run.id)
        settings = params_from(args, workflows.BalanceSettings)
        plan = workflows.plan_balance(ws, ws.label_names(), settings)
        if args.dry_run:
            return plan.record(), _told(plan.record())
        console.hush()
        generator = workflows.active_generator(ws, device=device_of(args))
        run = workflows.fill(
            ws,
            workflows.active_classifier(ws, device=device_of(args)),
            generator,
            plan,
            guidance_of(args, generator),
            preset=args.preset,
            seed=args.seed,
            prompt=args.prompt,
            accept=args.accept,
            **told,
        )
        return _made(ws, args, run.id)


def _made(ws: Workspace, args: argparse.Namespace, run_id: str) -> Answer:
    run = ws.run(run_id)
    data, text = generated(ws, run)
    hint = (
        f"Learn from them: retrain --workspace {args.workspace} --run {run.id}"
        if args.accept
        else f"Accept what is believed (curate --accept --run {run.id} --believed), then retrain --run {run.id}"
    )
    plan = (run.settings.get("purpose") or {}).get("balance")
    return {**data, "plan": plan}, "\n".join([*([_told(plan)] if plan else []), text, hint])


def _told(plan: Mapping[str, Any]) -> str:
    column = plan["column"]
    what = f"group of class and {column}" if column else "class"
    lines = [f"Each {what} up to {plan['goal']:,} images: {plan['number_wanted']:,} to be made."]
    rows = [
        [
            need["name"] + (f" × {need['value']}" if column else ""),
            *(f"{need[key]:,}" for key in ("real", "made", "missing", "wanted")),
        ]
        for need in plan["needs"][:_LISTED]
    ]
    lines.append(table(rows, [what, "real", "accepted", "missing", "to be made"]))
    more = len(plan["needs"]) - _LISTED
    lines += [f"… and {more:,} more (--json lists all)"] if more > 0 else []
    return "\n".join([*lines, *(f"note: {note}" for note in plan["notes"])])


def _after_stop(args: argparse.Namespace) -> str:
    with opened(args) as ws:
        mine = [run for run in ws.runs("generate") if run.started >= args.began or run.id == args.resume]
    if not mine:
        return "nothing was begun"
    accept = " --accept" if args.accept else ""
    return f"finished images are kept; go on with: balance --workspace {args.workspace} --resume {mine[0].id}{accept}"
