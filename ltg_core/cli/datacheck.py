"""``data check``: what is wrong with images, before or after an import."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ltg_core.cli.console import Console
from ltg_core.cli.flags import LazyParser, common, opened

if TYPE_CHECKING:
    from ltg_core.workflows.data_check import DataCheck

_SHOWN = 10


def configure_data(parser: argparse.ArgumentParser) -> None:
    """``data check``."""
    what = parser.add_subparsers(title="what to do", metavar="WHAT", required=True, parser_class=LazyParser)
    what.add_parser(
        "check",
        help="list copies, near copies, leaks between splits, contradictory labels, corrupt and odd images",
        configure=_configure_check,
    )


def _configure_check(parser: argparse.ArgumentParser) -> None:
    common(parser)
    parser.add_argument(
        "path",
        nargs="?",
        help="a data set that is not imported (as for import); without it the workspace's images",
    )
    parser.set_defaults(command=_check)


def _check(args: argparse.Namespace, console: Console) -> tuple[Any, str]:
    from ltg_core.workflows.data_check import check_data, check_source

    if args.path is not None:
        found = check_source(args.path, online=True, on_progress=console.progress, cancel=console.cancel)
    else:
        with opened(args) as ws:
            found = check_data(ws, on_progress=console.progress, cancel=console.cancel)
    return found.to_dict(), "\n".join([found.summary(), *_listed(found)])


def _listed(found: DataCheck) -> list[str]:
    lines = [f"  corrupt  {name}: {reason}" for name, reason in found.corrupt[:_SHOWN]]
    kinds = {
        "leak": found.leaks,
        "classes": found.contradictions,
        "copies": found.duplicates,
        "near": found.near,
    }
    for title, groups in kinds.items():
        for group in groups[:_SHOWN]:
            lines.append(f"  {title:8} " + "  =  ".join(_shown(found, name) for name in group[:4]))
    for kind, names in found.odd.items():
        lines += [f"  {kind:8} {_shown(found, name)}" for name in names[:_SHOWN]]
    return lines


def _shown(found: DataCheck, name: str) -> str:
    source, split, label = found.details[name]
    where = ", ".join(part for part in (split, label) if part)
    return f"{source or name} ({where})" if where else source or name
