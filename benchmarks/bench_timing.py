"""``make bench-timing``: what guidance costs beside unguided sampling, and how long a person waits; ratios from one run."""

from __future__ import annotations

import argparse
import dataclasses
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.bench_demo import Bench
from benchmarks.measure import RESULTS, ROOT, machine
from ltg_core.demo.world import CLASSES, prompt
from ltg_core.guidance.engine import GenerateRequest, generate_images
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.jobs import Progress


def request(count: int, first: int) -> GenerateRequest:
    """One prompt a class in turn."""
    labels = tuple(i % len(CLASSES) for i in range(count))
    return GenerateRequest(
        tuple(prompt(CLASSES[i]) for i in labels), labels, tuple(range(first, first + count))
    )


def climb_ratio(bench: Bench, repeats: int) -> tuple[float, float, float]:
    """CPU time of the climb alone over unguided: median and range; the two alternate within one run."""
    climb = dataclasses.replace(PRESETS["explore"], search="none", target=100.0)
    ratios = []
    for i in range(repeats + 1):
        spent = []
        for guidance in (PRESETS["unguided"], climb):
            started = time.process_time()
            generate_images(bench.generator, bench.target, guidance, request(16, 100 * i), controls=False)
            spent.append(time.process_time() - started)
        if i:  # the first round warms up
            ratios.append(spent[1] / spent[0])
    return statistics.median(ratios), min(ratios), max(ratios)


def sixteen(bench: Bench, guidance: Guidance, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds for 16 guided images with controls, and seconds to the first preview."""
    totals, firsts = [], []
    for i in range(repeats + 1):
        seen: list[float] = []
        started = time.perf_counter()

        def watch(progress: Progress, started: float = started, seen: list[float] = seen) -> None:
            if progress.preview is not None and not seen:
                seen.append(time.perf_counter() - started)

        generate_images(
            bench.generator, bench.target, guidance, request(16, 7000 + 100 * i), on_progress=watch
        )
        if i:
            totals.append(time.perf_counter() - started)
            firsts.append(seen[0])
    return totals, firsts


def cold_start(repeats: int) -> list[float]:
    """Seconds from the command to a page that answers; the workspace exists after the first round."""
    waits = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            command = [
                sys.executable,
                "app.py",
                "--no-browser",
                "--port",
                str(port),
                "--workspace",
                f"{folder}/ws",
            ]
            started = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ}
            )
            try:
                waits.append(_answer(port, started))
            finally:
                process.terminate()
                process.wait(timeout=60)
    return waits


def _answer(port: int, started: float, patience: float = 120.0) -> float:
    while time.perf_counter() - started < patience:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                if page.status == 200:
                    return time.perf_counter() - started
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit(f"the app did not answer within {patience:.0f} s")


def main() -> None:
    """Measure and write the section of the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "demo")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    starts = cold_start(3)
    bench = Bench(options.work)
    middle, low, high = climb_ratio(bench, options.repeats)
    totals, firsts = sixteen(bench, PRESETS["explore"], max(2, options.repeats // 2))
    lines = [
        "## What it costs to wait",
        "",
        f"`make bench-timing`, {machine()}.",
        "",
        "| what | bar | measured |",
        "|---|---|---|",
        f"| climb alone against unguided, 16 images, same steps, CPU time | ≤ 1.5 × | {middle:.2f} × ({low:.2f} to {high:.2f}) |",
        f"| 16 guided images with controls, default preset | ≤ 20 s | {statistics.median(totals):.1f} s |",
        f"| first preview | ≤ 3 s | {statistics.median(firsts):.1f} s |",
        f"| cold start to a page that answers, new workspace | ≤ 12 s | {starts[0]:.1f} s |",
        f"| the same, workspace present | ≤ 12 s | {statistics.median(starts[1:]):.1f} s |",
    ]
    path = RESULTS / "timing.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
