"""Commands that keep a workspace safe: backup, restore."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

from ltg_core.cli.console import Console
from ltg_core.cli.flags import common

Answer = tuple[Any, str]


def configure_backup(parser: argparse.ArgumentParser) -> None:
    """``backup [FILE]``."""
    common(parser)
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="a .tar that is not there yet (default: named after the workspace and the time)",
    )
    parser.add_argument("--no-exports", action="store_true", help="leave exports out; they can be made again")
    parser.set_defaults(command=_backup, after_stop=_nothing)


def configure_restore(parser: argparse.ArgumentParser) -> None:
    """``restore FILE``."""
    common(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="what 'backup' wrote")
    parser.set_defaults(command=_restore, after_stop=_nothing)


def _backup(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.data.backup import backup

    usual = Path(f"{args.workspace.resolve().name}-{time.strftime('%Y%m%d-%H%M%S')}.tar")
    report = backup(
        args.workspace,
        args.file or usual,
        exports=not args.no_exports,
        on_progress=console.progress,
        cancel=console.cancel,
    )
    text = (
        f"{report.samples:,} samples, {report.files:,} files, {report.bytes / 2**20:,.1f} MB in '{report.path}'. "
        f"Back again: restore '{report.path}' --workspace DIR"
    )
    if report.missing:
        text += (
            f"\n{len(report.missing):,} pictures of these samples were gone already: {report.missing[0]} …"
        )
    return dataclasses.asdict(report), text


def _restore(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.data.restoring import restore

    report = restore(args.file, args.workspace, on_progress=console.progress, cancel=console.cancel)
    text = f"{report.samples:,} samples, {report.files:,} files, every hash right, in '{report.path}'."
    return dataclasses.asdict(report), text


def _nothing(args: argparse.Namespace) -> str:
    return "nothing was written"
