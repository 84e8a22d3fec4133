"""``make evidence``: measure what is missing of every part, then write the tables.

    python -m benchmarks.evidence                        everything, until it is done
    python -m benchmarks.evidence --minutes 20           no unit begins after twenty minutes
    python -m benchmarks.evidence --parts roadsigns --arms "+ unguided" --seeds 0 1 2
    python -m benchmarks.evidence --list                 what is there and what is missing
    python -m benchmarks.evidence --quick --results /tmp/quick    every part at a tiny size, in seconds

A unit (part, arm, seed) that is in the folder of results with the same settings is not measured again, so a campaign goes on
on another machine from what is committed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence.pages import write
from benchmarks.evidence.parts import PARTS, all_parts
from benchmarks.evidence.signs import QUICK, Signs, Sizes
from benchmarks.evidence.units import Clock, Store, Unit, breadth_first, campaign
from benchmarks.measure import RESULTS, ROOT

LAST = ("extrapolation", "cifar10lt", "gtsrb", "extrapolation-full", "cifar10lt-full", "gtsrb-full")
"""Parts that take hours; after all seeds of the others."""


def main(words: list[str] | None = None) -> None:
    """Run."""
    options = _parser().parse_args(words)
    if options.quick and options.results is None:
        raise SystemExit(
            "--quick is a trial: say where its results go (--results FOLDER), not among the real ones"
        )
    torch.set_num_threads(options.threads)
    store = Store(options.results or RESULTS / "evidence")
    clock = Clock(options.minutes, options.pause_while)
    signs = Signs(options.work, QUICK if options.quick else Sizes())
    by_word = all_parts(signs, clock, quick=options.quick, recipe=options.recipe, device=options.device)
    wanted = [by_word[name] for name in options.parts if not (options.quick and name == "extrapolation")]
    parts = {part.name: part for part in wanted}
    seeds = options.seeds if options.seeds is not None else ([0] if options.quick else [0, 1, 2])
    demo = [part.units(seeds) for part in wanted if part.name not in LAST]
    units = breadth_first(demo) + breadth_first([part.units(seeds) for part in wanted if part.name in LAST])
    if options.arms:
        units = [unit for unit in units if unit.arm in options.arms]

    def settings_of(unit: Unit) -> dict[str, Any]:
        found: dict[str, Any] = parts[unit.part].settings(unit)
        return found

    if options.list:
        for unit in units:
            there = store.read(unit, settings_of(unit)) is not None
            print(f"{'there  ' if there else 'missing'} {unit.part}: {unit.arm}, seed {unit.seed}")
        return

    def say(text: str) -> None:
        print(text, flush=True)
        write(store)

    def measure(unit: Unit) -> dict[str, Any]:
        found: dict[str, Any] = parts[unit.part].measure(unit, store)
        return found

    missing = campaign(units, store, settings_of, measure, clock, say)
    write(store)
    print(f"{len(units) - len(missing)} of {len(units)} units are there" + (
        f"; the time was up before {missing[0].part}, {missing[0].arm}, seed {missing[0].seed}" if missing else ""
    ))  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts", nargs="+", default=list(PARTS), choices=PARTS, metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--arms", nargs="+", help="only these, by name (--list shows the names)")
    parser.add_argument("--seeds", nargs="+", type=int, help="0 1 2 where nothing is said")
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="no unit begins after so many; 0 for no limit"
    )
    parser.add_argument(
        "--quick", action="store_true", help="every part at a tiny size: a trial of the code, no evidence"
    )
    parser.add_argument(
        "--results", type=Path, help="folder of results; that of the repository where nothing is said"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "build" / "evidence",
        help="images and weights that can be made again",
    )
    parser.add_argument("--pause-while", type=Path, help="compute nothing while this file exists")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument(
        "--recipe",
        choices=("shortened", "full"),
        default="shortened",
        help="of the real data sets; full is for a GPU",
    )
    parser.add_argument(
        "--device", default="cpu", help="where classifiers and generators of the real data sets are trained"
    )
    parser.add_argument("--list", action="store_true", help="say what is there and what is missing")
    return parser


if __name__ == "__main__":
    main()
