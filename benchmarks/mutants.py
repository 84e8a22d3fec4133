"""``make mutate``: one change at a time in signals, data and guidance, and which of them no test notices.

mutmut makes the changes and runs, for each, the tests that come through the changed function. All of them would take
days on two cores, so a sample is drawn: the same for the same seed and code. What has been tried is kept in
``mutants/``, and the next call goes on; a changed function is tried again.

``python -m benchmarks.mutants --sample 200 "ltg_core.signals*"``
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import random
import subprocess
import sys
import time

from scipy.stats import binomtest

from benchmarks.measure import RESULTS, ROOT, commit, machine, write_json

PLACE = ROOT / "mutants"
BATCH = 10
OUTCOMES = {0: "survived", 1: "noticed", 3: "noticed", 33: "run by no test", 5: "run by no test"}
"""By mutmut's exit codes; all others are tests that were ended for their time, which is noticing."""


def mutmut(*words: str, fails: bool = False) -> str:
    """What mutmut says; that it ``fails`` may be meant."""
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode and not fails:
        raise SystemExit(f"mutmut {' '.join(words)[:200]} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout + (done.stderr if fails else "")


def known(patterns: list[str]) -> dict[str, int | None]:
    """Every change that there is, with the code of its last trial, None where it has none."""
    codes: dict[str, int | None] = {}
    for meta in sorted(PLACE.glob("ltg_core/**/*.meta")):
        codes |= json.loads(meta.read_text())["exit_code_by_key"]
    wanted = [name for name in sorted(codes) if any(fnmatch.fnmatch(name, one) for one in patterns)]
    return {name: codes[name] for name in wanted}


def outcome(code: int) -> str:
    """What became of a change, in words."""
    return OUTCOMES.get(code, "noticed by the clock")


def report(
    names: list[str], codes: dict[str, int | None], of: int, seed: int, minutes: float
) -> dict[str, object]:
    """Counts, the share that is noticed with its Wilson interval, and the changes that are not."""
    tried = {name: outcome(code) for name in names if (code := codes.get(name)) is not None}
    noticed = sum(one.startswith("noticed") for one in tried.values())
    low, high = binomtest(noticed, len(tried)).proportion_ci(method="wilson") if tried else (0.0, 1.0)
    missed = {
        name: mutmut("show", name, fails=True) for name, one in tried.items() if not one.startswith("noticed")
    }
    return {
        "commit": commit(),
        "machine": machine(),
        "seed": seed,
        "changes": of,
        "tried": len(tried),
        "noticed": noticed,
        "share": noticed / max(1, len(tried)),
        "interval": [low, high],
        "outcomes": {word: list(tried.values()).count(word) for word in sorted(set(tried.values()))},
        "minutes": round(minutes, 1),
        "missed": missed,
    }


def main() -> None:
    """Draw, try what has not been tried, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "patterns", nargs="*", default=["ltg_core.*"], help="names of changes, with wildcards"
    )
    parser.add_argument("--sample", type=int, default=200, help="changes that are tried; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=600, help="stop before the next batch after that time"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--name", default="mutants", help="name of the file of results")
    given = parser.parse_args()
    started = time.monotonic()
    if not list(PLACE.glob("ltg_core/**/*.meta")):
        # mutmut makes all changes, and learns which tests come through them, before it sees that there is none of this name
        said = mutmut("run", "--max-children", str(given.jobs), "nothing", fails=True)
        if not list(PLACE.glob("ltg_core/**/*.meta")):
            raise SystemExit(f"mutmut made no changes:\n{said[-4000:]}")
    codes = known(given.patterns)
    if not codes:
        raise SystemExit(f"no change is called like {' or '.join(given.patterns)}")
    names = list(codes)
    if given.sample:
        names = random.Random(given.seed).sample(names, min(given.sample, len(names)))
    open_ = [name for name in names if codes[name] is None]
    while open_ and time.monotonic() - started < 60 * given.minutes:
        mutmut("run", "--max-children", str(given.jobs), *open_[:BATCH])
        codes, left = known(given.patterns), len(open_)
        open_ = [name for name in names if codes[name] is None]
        if len(open_) == left:
            raise SystemExit(f"mutmut tried none of {', '.join(open_[:BATCH])}")
        print(f"{len(names) - len(open_)} of {len(names)}", flush=True)
    told = report(names, codes, len(codes), given.seed, (time.monotonic() - started) / 60)
    write_json(RESULTS / f"{given.name}.json", told)
    print(*told["missed"].values(), sep="\n")  # type: ignore[attr-defined]
    print({key: value for key, value in told.items() if key != "missed"})


if __name__ == "__main__":
    main()
