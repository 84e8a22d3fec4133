"""The campaign: ``python -m benchmarks.chaos``; goes on where it was stopped.

Points that were never tried come first, then those that earlier code has passed. Prints one line a point and writes ``benchmarks/results/chaos.json``: seeds, counts, what went wrong, the machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the number of threads decides the last bits; forks want none

from benchmarks.chaos.points import Campaign, code
from benchmarks.measure import RESULTS, commit, machine, read_json, write_json

KINDS = ("kill", "full disk", "read-only", "busy", "memory", "broken file", "clock", "server")
SHARES = {
    "full disk": 0.2,
    "read-only": 0.04,
    "busy": 0.06,
    "memory": 0.1,
    "broken file": 0.12,
    "clock": 0.1,
    "server": 0.04,
}
"""Points of the other faults for each kill."""


def main() -> int:
    """Run what is missing of the campaign; returns 1 where a point went wrong."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--points", type=int, default=240, help="kills; the other faults come on top")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--only", choices=KINDS, action="append", help="these faults only")
    made.add_argument("--step", action="append", help="these kinds of work only")
    made.add_argument(
        "--base", type=Path, help="a workspace to begin with instead of one that is made for this"
    )
    made.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "longtail-chaos")
    made.add_argument("--seconds", type=float, default=1e9, help="stop after so long; the next call goes on")
    made.add_argument("--again", action="store_true", help="forget what is done already")
    made.add_argument("--out", type=Path, default=RESULTS / "chaos.json")
    given = made.parse_args()
    known = None if given.again else read_json(given.out)
    rows: list[dict[str, Any]] = known["rows"] if known and known["seed"] == given.seed else []
    campaign = Campaign(given.work, given.base)
    began = time.monotonic()
    for fault, number in wanted(given.only or KINDS, given.points, rows, code()):
        if time.monotonic() - began > given.seconds:
            break
        row = campaign.point(fault, number, given.seed, given.step)
        if row is None:
            continue
        rows = [one for one in rows if (one["fault"], one["number"]) != (fault, number)]
        rows.append({"fault": fault, "number": number, "code": code(), **row})
        print(rows[-1], flush=True)
        _write(given.out, rows, given.seed)
    return _tell(given.out, rows, given.seed)


def wanted(
    faults: Sequence[str], points: int, rows: Sequence[dict[str, Any]], now: str
) -> list[tuple[str, int]]:
    """Fault and number of the points that are to be tried: the new ones, then those that other code has passed."""
    every = [
        (fault, number)
        for fault in faults
        for number in range(points if fault == "kill" else max(2, round(points * SHARES[fault])))
    ]
    tried = {(row["fault"], row["number"]): row.get("code") for row in rows}
    return [one for one in every if one not in tried] + [one for one in every if tried.get(one, now) != now]


def _write(out: Path, rows: list[dict[str, Any]], seed: int) -> None:
    counts = Counter(f"{row['fault']}: {row['how']}" for row in rows)
    steps = Counter(f"{row['fault']}: {row['step']}" for row in rows)
    wrong = [row for row in rows if row["wrong"]]
    said = {"machine": machine(), "commit": commit(), "seed": seed, "points": len(rows), "wrong": len(wrong)}
    said["of_this_code"] = sum(row.get("code") == code() for row in rows)
    write_json(
        out,
        {**said, "counts": dict(sorted(counts.items())), "steps": dict(sorted(steps.items())), "rows": rows},
    )


def _tell(out: Path, rows: list[dict[str, Any]], seed: int) -> int:
    _write(out, rows, seed)
    said = read_json(out)
    print(
        f"{said['machine']}; seed {seed}; {len(rows)} points ({said['of_this_code']} of this code), {said['wrong']} went wrong",
        flush=True,
    )
    for name, number in said["counts"].items():
        print(f"  {number:4d}  {name}")
    return 1 if said["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
