"""``make bench-compare``: the figures of ``benchmarks/results`` against those of the last commit that has others.

Reads the JSON of the benchmarks that say where their figures are (``FIGURES``). A figure that got worse by more than its tolerance
is a regression: the command ends with 1. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, ROOT


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number in a file of results.

    Attributes:
        file: Below ``benchmarks/results``.
        path: Keys down to it; in a list of records what their ``what`` says.
        better: "lower" or "higher".
        tolerance: Share by which it may get worse before it is called a regression: what two runs of one commit differ by.
    """

    file: str
    path: tuple[str, ...]
    better: str
    tolerance: float


_SMALL, _LARGE = "Stable Diffusion 1.5, 512 px", "Stable Diffusion XL, 1024 px"
FIGURES = (
    *(Figure("guidance/shapes.json", (s, "ratios", "climb of the default preset"), "lower", 0.01) for s in (_SMALL, _LARGE)),
    *(Figure("guidance/shapes.json", (s, "memory_gib", "ours"), "lower", 0.02) for s in (_SMALL, _LARGE)),
    Figure("guidance/summary.json", ("matched", "ours", "cost"), "lower", 0.1),
    Figure("guidance/summary.json", ("matched", "ours", "gain"), "higher", 0.25),
    *(Figure("throughput.json", (f"scoring, {n}", "value"), "higher", 0.05) for n in ("bundled", "resnet18")),
    Figure("throughput.json", ("head, seconds", "cpu_seconds"), "lower", 0.2),
    Figure("throughput.json", ("integrated gradients", "value"), "higher", 0.05),
    *(Figure("load.json", (kind, "p95"), "lower", 0.5) for kind in ("browsing", "deciding", "pulse")),
    Figure("load.json", ("mb_a_minute",), "lower", 0.5),
    *(Figure("large.json", (f"page {n}", "server_mb"), "lower", 0.1) for n in ("100,000", "900,000", "1,000,000")),
    *(Figure("large.json", ("page 100,000", "events", e, "median_cpu_s"), "lower", 0.5) for e in ("next page", "filter: split", "order: epistemic")),
    Figure("large.json", ("import", "first", "rows_a_second"), "higher", 0.3),
    Figure("chaos.json", ("wrong",), "lower", 0.0),
    *(Figure("feedback.json", ("arms", f"mended, entropy, {how}", "gain_on_class"), "higher", 0.25) for how in ("text alone", "captions", "start")),
    Figure("ui.json", ("rows", "a class on and off", "median"), "lower", 0.3),
    Figure("mutants.json", ("share",), "higher", 0.1),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Change:
    """A figure now and before."""

    figure: Figure
    before: float | None
    now: float | None

    @property
    def worse(self) -> bool:
        """Whether it is a regression; a figure that is no longer there is one."""
        if self.before is None:
            return False
        if self.now is None:
            return True
        step = self.now - self.before if self.figure.better == "lower" else self.before - self.now
        return step > self.figure.tolerance * abs(self.before)

    def line(self) -> str:
        """For people."""
        name = " / ".join((self.figure.file, *self.figure.path))
        shown = [("–" if value is None else f"{value:.4g}") for value in (self.before, self.now)]
        if self.before is None:
            verdict = "new" if self.now is not None else "not measured"
        elif self.now is None:
            verdict = "MISSING"
        else:
            verdict = "REGRESSION" if self.worse else "ok"
        return f"| {name} | {shown[0]} | {shown[1]} | {self.figure.better} | {verdict} |"


def found(content: Any, path: tuple[str, ...]) -> float | None:
    """The number behind keys, or None."""
    for key in path:
        if isinstance(content, list):
            content = {row.get("what"): row for row in content if isinstance(row, dict)}
        content = content.get(key) if isinstance(content, dict) else None
    return float(content) if isinstance(content, (int, float)) else None


def earlier(path: Path, since: str, root: Path = ROOT) -> Any:
    """The file as ``since`` has it; with none given as the last commit that has another content; None where there is none."""
    name = path.relative_to(root).as_posix()
    now = path.read_text(encoding="utf-8") if path.exists() else ""
    commits = [since] if since else _git(root, "log", "--format=%H", "--", name).split()
    for commit in commits:
        text = _git(root, "show", f"{commit}:{name}")
        if text and (since or text != now):
            return json.loads(text)
    return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def compare(
    since: str = "", results: Path = RESULTS, root: Path = ROOT, figures: tuple[Figure, ...] = FIGURES
) -> list[Change]:
    """Every figure, now and before."""
    changes = []
    for figure in figures:
        path = results / figure.file
        now = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        changes.append(
            Change(figure, found(earlier(path, since, root), figure.path), found(now, figure.path))
        )
    return changes


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--since", default="", metavar="COMMIT", help="compare with this commit")
    changes = compare(parser.parse_args().since)
    print(
        "\n".join(
            [
                "| figure | before | now | better | |",
                "|---|---|---|---|---|",
                *(change.line() for change in changes),
            ]
        )
    )
    sys.exit(any(change.worse for change in changes))


if __name__ == "__main__":
    main()
