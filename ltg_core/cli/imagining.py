"""Commands that make something: generate, explain, map, export."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltg_core.cli.console import Console, table
from ltg_core.cli.flags import add_params, common, device_of, given_params, opened, params_from
from ltg_core.cli.judging import add_filter, chosen
from ltg_core.errors import InputError, LtgError

if TYPE_CHECKING:
    from ltg_core.data.records import Run
    from ltg_core.data.workspace import Workspace
    from ltg_core.generators.base import Generator
    from ltg_core.guidance.settings import Guidance

Answer = tuple[Any, str]


def configure_generate(parser: argparse.ArgumentParser) -> None:
    """``generate``."""
    from ltg_core.guidance.settings import PRESETS, Guidance

    common(parser, device=True, engine=True)
    parser.add_argument(
        "--class", dest="classes", action="append", metavar="NAME", help="may be repeated; all if absent"
    )
    parser.add_argument("--number", type=int, default=8, help="images of each class, or of each source")
    parser.add_argument(
        "--from", dest="sources", action="append", metavar="SAMPLE", help="real sample to start from"
    )
    parser.add_argument(
        "--prompt", default="", help="{label} stands for the class; the generator's own if absent"
    )
    parser.add_argument("--negative", default="", help="what no image should show")
    parser.add_argument("--seed", type=int, default=0, help="of the first image; each has the next one")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="explore", help="settings to begin with")
    parser.add_argument("--resume", metavar="RUN", help="go on with a generation that was interrupted")
    add_params(parser, Guidance, title="guidance, where it differs from the preset")
    parser.set_defaults(command=_generate, after_stop=_after_generation)


def _generate(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    console.hush()
    with opened(args, on_progress=console.progress) as ws:
        device = device_of(args)
        if args.resume:
            run = workflows.resume_generate(
                ws, args.resume, device=device, on_progress=console.progress, cancel=console.cancel
            )
            return generated(ws, run)
        classifier = workflows.active_classifier(ws, device=device)
        generator = workflows.active_generator(ws, device=device)
        guidance = guidance_of(args, generator)
        if args.sources:
            if args.classes:
                raise InputError("a source has its class already; use --toward NAME to turn it into another")
            plan = workflows.plan_sources(
                ws,
                classifier,
                generator,
                args.sources,
                per_source=args.number,
                seed=args.seed,
                toward=guidance.toward,
                prompt=args.prompt,
            )
        else:
            plan = workflows.plan_classes(
                classifier,
                generator,
                args.classes or (),
                per_class=args.number,
                seed=args.seed,
                prompt=args.prompt,
            )
        run = workflows.generate(
            ws,
            classifier,
            generator,
            **dataclasses.asdict(plan),
            guidance=guidance,
            negative=args.negative,
            preset=args.preset,
            on_progress=console.progress,
            cancel=console.cancel,
        )
        return generated(ws, run)


def guidance_of(args: argparse.Namespace, generator: Generator) -> Guidance:
    """The preset, what the generator needs instead (few steps, its own scale), and above all what was given."""
    from ltg_core.guidance.settings import PRESETS, Guidance

    base = PRESETS[args.preset]
    return params_from(args, Guidance, Guidance.from_dict(base.to_dict() | dict(generator.suggested)))


def generated(ws: Workspace, run: Run) -> Answer:
    """What a generation came to."""
    from ltg_core import workflows

    found = workflows.triplets(ws, run.id)
    for row in found:
        row["path"] = str(ws.image_path(row["guided"]))
        row["path_control"] = str(ws.image_path(row["control"])) if row["control"] else None
    rows = [
        [
            row["guided"],
            _one(row["percentile_control"]),
            _one(row["percentile"]),
            row["belief"] or "–",
            str(row["seed"]),
            (row["reason"] or "")[:70],
        ]
        for row in found[:200]
    ]
    result = run.result
    text = (
        f"Run {run.id}: {result['images']} images, {result['believed']} believed, {result['quarantined']} "
        f"quarantined; mean percentile {_one(result['mean_percentile'])}, unguided "
        f"{_one(result['mean_percentile_control'])} ({result['seconds']:.1f} s).\n"
        + table(rows, ["sample", "unguided", "guided", "belief", "seed", "why"])
        + "".join(f"\nnote: {note}" for note in result.get("notes", ()))
    )
    return {"run": run.id, **result, "images_made": found}, text


def _after_generation(args: argparse.Namespace) -> str:
    """What a stopped generation leaves, and how to go on."""
    try:
        with opened(args) as ws:
            mine = (r for r in ws.runs("generate") if r.started >= args.began or r.id == args.resume)
            run = next(mine, None)
    except LtgError:
        return ""
    if run is None:
        return "nothing was begun"
    made = run.result.get("images", 0)
    return (
        f"{made} of {len(run.settings['seeds'])} images of run {run.id} are kept; go on with: generate --workspace "
        f"{args.workspace} --resume {run.id}"
    )


def configure_explain(parser: argparse.ArgumentParser) -> None:
    """``explain``."""
    from ltg_core.attribution import ATTRIBUTIONS

    common(parser, device=True)
    parser.add_argument("ids", nargs="*", help="samples; or choose them by the filters")
    parser.add_argument(
        "--method", dest="methods", action="append", choices=tuple(ATTRIBUTIONS), help="may be repeated"
    )
    parser.add_argument(
        "--target",
        default="prediction",
        help="prediction, label, runner-up, mistake, class:NAME, contrast:NAME|NAME, or signal:NAME for the "
        "uncertainty itself",
    )
    parser.add_argument("--trust", action="store_true", help="check every map for faithfulness")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("heatmaps"), help="where the pictures go"
    )
    add_filter(parser)
    for name, cls in ATTRIBUTIONS.items():
        add_params(parser, cls, prefix=f"{name}_", title=f"settings of {name}")
    parser.set_defaults(command=_explain)


def _explain(args: argparse.Namespace, console: Console) -> Answer:
    import numpy as np

    from ltg_core import workflows
    from ltg_core.attribution import ATTRIBUTIONS
    from ltg_core.attribution.render import overlay
    from ltg_core.data.database import explained

    methods = args.methods or ["integrated_gradients"]
    with opened(args) as ws:
        maps = workflows.explain(
            ws,
            workflows.active_classifier(ws, device=device_of(args)),
            chosen(args, ws),
            methods,
            target=args.target,
            trust=args.trust,
            settings={name: given_params(args, ATTRIBUTIONS[name], prefix=f"{name}_") for name in methods},
            on_progress=console.progress,
            cancel=console.cancel,
        )
        data, rows = [], []
        with explained(args.out, "folder"):
            args.out.mkdir(parents=True, exist_ok=True)
            for one in maps:
                path = args.out / f"{one.sample_id}-{one.method}.png"
                picture = np.asarray(ws.image(one.sample_id))
                overlay(picture, one.values, signed=one.signed).save(path)
                entry = {
                    "sample": one.sample_id,
                    "method": one.method,
                    "target": one.target,
                    "path": str(path),
                }
                checks = getattr(one, "trust", None)
                data.append(
                    entry
                    | {"notes": list(one.notes), "trust": dataclasses.asdict(checks) if checks else None}
                )
                rows.append([one.sample_id, one.method, one.target, str(path), " ".join(one.notes)])
    return data, table(rows, ["sample", "method", "target", "picture", ""])


def configure_map(parser: argparse.ArgumentParser) -> None:
    """``map``."""
    from ltg_core.embedding.layout import MapSettings

    common(
        parser,
        device=True,
        engine=True,
        whole="a map is laid out from all its samples at once; share out their scoring (score --shard I/N) before it",
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="write the points to a .csv or .json file")
    parser.add_argument("--all", action="store_true", help="also place the samples that were not laid out")
    add_params(parser, MapSettings, title="layout")
    parser.set_defaults(command=_map)


def _map(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows
    from ltg_core.data.database import explained
    from ltg_core.embedding.layout import MapSettings

    with opened(args) as ws:
        classifier = workflows.active_classifier(ws, device=device_of(args))
        run = workflows.map_samples(
            ws,
            classifier,
            params_from(args, MapSettings),
            on_progress=console.progress,
            cancel=console.cancel,
        )
        result = run.result
        if args.all:
            placed = workflows.place_on_map(ws, on_progress=console.progress, cancel=console.cancel)
            run, result = ws.run(placed["run"]), placed
        points = workflows.map_points(ws)
    text = " ".join([f"Laid out: {result['drawn']}.", *result["notes"]])
    if result["placed"]:
        text += f" {result['placed']:,} more placed among them."
    if args.out is not None:
        with explained(args.out.parent, "folder"):
            args.out.parent.mkdir(parents=True, exist_ok=True)
            with open(args.out, "w", encoding="utf-8", newline="") as file:
                if args.out.suffix == ".json":
                    json.dump(points, file)
                else:
                    writer = csv.writer(file)
                    writer.writerow(points)
                    writer.writerows(zip(*points.values(), strict=True))
        text += f" Points in '{args.out}'."
    return {**result, "run": run.id, "out": args.out}, text


def configure_export(parser: argparse.ArgumentParser) -> None:
    """``export``."""
    from ltg_core.export import EXPORTERS

    common(
        parser,
        engine=True,
        whole="an export is one folder with one manifest, guarded against copies across all its samples; export sets "
        "of your own (--set) into folders of their own instead",
    )
    parser.add_argument(
        "ids", nargs="*", help="samples; without any and without a filter all that were accepted"
    )
    parser.add_argument(
        "--format", choices=tuple(EXPORTERS), default="imagefolder", help="form of the export"
    )
    parser.add_argument(
        "--set", metavar="SET", help="the samples of a set, name or name@version ('sets list')"
    )
    parser.add_argument(
        "--with-real", action="store_true", help="add the real training samples, but for rejected ones"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be exported and left out, no more"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="folder to make; in the workspace if absent")
    parser.add_argument("--zip", action="store_true", help="pack it into a zip file too")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an earlier export (and its zip file)"
    )
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="also export validation and test samples and what was made from them, each as its own split",
    )
    add_filter(parser)
    for name, cls in EXPORTERS.items():
        add_params(parser, cls, prefix=f"{name}_", title=f"settings of {name}")
    parser.set_defaults(command=_export)


def _export(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows
    from ltg_core.export import EXPORTERS, zip_export

    filters = (args.split, args.label, args.run, args.role, args.by_verdict, args.tag, args.text)
    named = bool(args.ids) or args.errors or args.believed or any(filters)
    if args.zip and args.out and not args.overwrite and args.out.with_name(args.out.name + ".zip").exists():
        raise InputError(f"'{args.out}.zip' exists; remove it, or give --overwrite")
    with opened(args) as ws:
        exporter = params_from(args, EXPORTERS[args.format], prefix=f"{args.format}_")
        ids = chosen(args, ws) if named else None
        if args.dry_run:
            return _planned(args, ws, ids, exporter, console)
        run, report = workflows.export(
            ws,
            ids,
            exporter,
            args.out,
            set_ref=args.set,
            with_real=args.with_real,
            held_out=args.held_out,
            overwrite=args.overwrite,
            on_progress=console.progress,
            cancel=console.cancel,
        )
    lines = [f"{report.n:,} samples in '{report.path}'."]
    lines += [
        f"  {number:,} in '{split}'" for split, number in report.splits.items() if len(report.splits) > 1
    ]
    lines += [f"  {number:,} left out: {reason}" for reason, number in run.result["reasons"].items()]
    data = {"run": run.id, **run.result}
    if args.zip:
        data["zip"] = str(zip_export(report.path, overwrite=args.overwrite))
        lines.append(f"Packed into '{data['zip']}'.")
    return data, "\n".join(lines)


def _planned(args: argparse.Namespace, ws: Workspace, ids: Any, exporter: Any, console: Console) -> Answer:
    from ltg_core import export as exports
    from ltg_core import workflows

    plan = workflows.plan_export(
        ws,
        ids,
        exporter,
        set_ref=args.set,
        with_real=args.with_real,
        held_out=args.held_out,
        on_progress=console.progress,
        cancel=console.cancel,
    )
    reasons = exports.reasons(plan.left_out)
    lines = [f"{plan.n:,} samples would be exported, {plan.real:,} of them real. Nothing was written."]
    lines += [f"  {number:,} in '{split}'" for split, number in plan.splits.items() if len(plan.splits) > 1]
    lines += [f"  {number:,} left out: {reason}" for reason, number in reasons.items()]
    data = dataclasses.asdict(plan) | {"left_out": len(plan.left_out), "reasons": reasons}
    return data, "\n".join(lines)


def _one(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
