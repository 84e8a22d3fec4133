"""Commands around a generation: where images would help, and one image at several weights."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from ltg_core.cli.console import Console, table
from ltg_core.cli.flags import common, device_of, opened
from ltg_core.cli.imagining import generated

Answer = tuple[Any, str]


def configure_coverage(parser: argparse.ArgumentParser) -> None:
    """``coverage``."""
    common(parser)
    parser.add_argument("--column", default="", help="metadata column to set against the classes")
    parser.add_argument("--number", type=int, default=20, help="cells to list, those in need first")
    parser.set_defaults(command=_coverage)


def _coverage(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows
    from ltg_core.errors import InputError

    with opened(args) as ws:
        offered = [name for name, _ in workflows.coverage_columns(ws)]
        known = offered or ws.meta_columns()
        column = args.column or next(iter(offered), "")
        if column not in ws.meta_columns():
            raise InputError(
                f"there is no metadata column {column!r} to set against the classes; give one with --column"
                + (f": {', '.join(known)}" if known else ", and import it with the data")
            )
        labels = ws.label_names()
        model = (ws.get_state("classifier") or {}).get("hash")
        found = workflows.coverage(ws, len(labels), column, model_hash=model)
    cells = found.ranked()[: max(0, args.number)]
    rows = [
        [
            f"{labels[cell.label]} × {cell.value}",
            str(cell.train),
            str(cell.accepted),
            f"{cell.wrong} of {cell.held}",
            "–" if not cell.held else f"{cell.error:.0%} ({cell.interval[0]:.0%} to {cell.interval[1]:.0%})",
            f"{cell.need:.2f}",
        ]
        for cell in cells
    ]
    trained = "train" if found.trained else "real"
    head = ["cell", trained, "accepted", "wrong", "error, 95 % interval", "need"]
    record = [{**dataclasses.asdict(cell), "class": labels[cell.label]} for cell in cells]
    data = {
        "column": column,
        "values": found.values,
        "split": found.split,
        "goal": found.goal,
        "cells": record,
    }
    return data, table(rows, head)


def configure_sweep(parser: argparse.ArgumentParser) -> None:
    """``sweep``."""
    common(parser, device=True, engine=True, whole="the frames of a sweep are one unit")
    parser.add_argument("sample", help="id of a generated image; everything but the weight stays as it was")
    parser.add_argument(
        "--weights", type=float, nargs="+", metavar="W", default=None, help="one frame each, 8 at most"
    )
    parser.set_defaults(command=_sweep)


def _sweep(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    console.hush()
    with opened(args) as ws:
        weights = tuple(args.weights) if args.weights else workflows.WEIGHTS
        order = workflows.sweep_order(ws, args.sample, tuple(sorted(set(weights))))
        run = workflows.imagine(
            ws,
            order.to_dict(),
            device=device_of(args),
            on_progress=console.progress,
            cancel=console.cancel,
        )
        return generated(ws, run)
