"""The command that measures images instead of classifiers: quality."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from ltg_core.cli.console import Console, table
from ltg_core.cli.flags import add_params, common, device_of, opened, params_from

Answer = tuple[Any, str]
HEAD = ["images", "n", "precision", "recall", "density", "coverage", "Vendi", "of real", "KID", "Fréchet"]


def configure_quality(parser: argparse.ArgumentParser) -> None:
    """``quality``."""
    from ltg_core.workflows.quality import QualitySettings

    common(parser, device=True)
    parser.add_argument(
        "refs", nargs="+", metavar="RUN|SET", help="generation, or a set (name or name@version)"
    )
    parser.add_argument("--by-class", action="store_true", help="list every class, too")
    add_params(parser, QualitySettings, title="measuring")
    parser.set_defaults(command=_quality)


def _quality(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    with opened(args) as ws:
        run = workflows.measure_quality(
            ws,
            args.refs,
            params_from(args, workflows.QualitySettings),
            classifier=workflows.active_classifier(ws, device=device_of(args)),
            on_progress=console.progress,
            cancel=console.cancel,
        )
    return {"run": run.id, **run.result}, "\n".join(_told(run.result, args.by_class))


def _told(result: Mapping[str, Any], by_class: bool) -> Iterator[str]:
    images = result["images"]
    yield (
        f"Beside {images['n']:,} real images ({images['split']}, {images['fingerprint'][:12]}), features of the "
        f"{result['space']}; only images of the classes at hand count."
    )
    rows = []
    for one in result["sets"]:
        rows.append(figures(one["name"], one["overall"]))
        if by_class:
            rows += [figures(f"  {name}", found) for name, found in one["classes"].items()]
    yield table(rows, HEAD)
    for note in result["notes"]:
        yield f"note: {note}"


def figures(name: str, found: Mapping[str, Any] | None) -> list[str]:
    """A row of the table with the columns of ``HEAD``."""
    if found is None:
        return [name[:60], *["–"] * 9]
    shares = [f"{found[key]:.2f}" for key in ("precision", "recall", "density", "coverage")]
    counts = [f"{found[key]:.1f}" for key in ("vendi", "vendi_real")]
    far = "–" if found["frechet"] is None else f"{found['frechet']:.2f}"
    return [name[:60], f"{found['made']:,}", *shares, *counts, f"{found['kid']:.3f}", far]
