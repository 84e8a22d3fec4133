"""The command that tells of a weakness: tell."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ltg_core.cli.console import Console
from ltg_core.cli.flags import common, opened

Answer = tuple[Any, str]


def configure_tell(parser: argparse.ArgumentParser) -> None:
    """``tell --out FILE``."""
    common(parser)
    parser.add_argument(
        "--out", metavar="FILE", type=Path, required=True, help="the HTML file; replaced where it exists"
    )
    parser.add_argument(
        "--title", default="", help="of the report; from the most surprising finding where not given"
    )
    parser.add_argument("--weakness", default="", metavar="TEXT", help="the weakness in your own words")
    parser.add_argument(
        "--pin", nargs="+", default=[], metavar="ID", help="pin these samples first: they are the cases"
    )
    parser.add_argument("--redact", action="store_true", help="leave out file names and paths")
    parser.add_argument("--no-map", action="store_true", help="without the map")
    parser.add_argument("--no-change", action="store_true", help="without before and after")
    parser.add_argument("--no-attribution", action="store_true", help="without what the answers rest on")
    parser.set_defaults(command=_tell)


def _tell(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import curation, workflows

    draft = workflows.Draft(
        args.title,
        args.weakness,
        redact=args.redact,
        show_map=not args.no_map,
        show_change=not args.no_change,
        attribution=not args.no_attribution,
    )
    with opened(args) as ws:
        if args.pin:
            curation.pin(ws, args.pin)
        run = workflows.tell(ws, draft, out=args.out, on_progress=console.progress, cancel=console.cancel)
        found = {"run": run.id, **run.result}
        cases = f"{found['cases']} case{'s' if found['cases'] != 1 else ''}"
        return found, f"The report is in '{args.out}': {cases}, {found['bytes'] / 1000:,.0f} kB in one file."
