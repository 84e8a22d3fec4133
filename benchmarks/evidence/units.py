"""The pieces of a campaign: what is measured, where it is kept, and when to stop."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import machine, read_json, write_json
from ltg_core.guidance.settings import Guidance


@dataclasses.dataclass(frozen=True, order=True)
class Unit:
    """One measurement: a part of the evidence, an arm of it, a seed."""

    part: str
    arm: str
    seed: int

    @property
    def file(self) -> str:
        """Its place below the folder of results."""
        return f"{self.part}/{slug(self.arm)}-{self.seed}.json"


def slug(name: str) -> str:
    """A name of files; different arms must give different ones, which the campaign checks."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower().replace("+", "with ")).strip("-")


class Store:
    """Results of units, one JSON file each.

    Args:
        folder: ``benchmarks/results/evidence``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, unit: Unit, settings: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """What was measured, None where it is missing or was measured with other settings than these."""
        found: dict[str, Any] | None = read_json(self.folder / unit.file)
        if found is None or (settings is not None and not same(found["settings"], plain(settings))):
            return None
        return found

    def write(self, unit: Unit, settings: dict[str, Any], found: dict[str, Any], seconds: float) -> None:
        """Keep a measurement with its settings, its machine and its CPU seconds."""
        about = {"part": unit.part, "arm": unit.arm, "seed": unit.seed, "settings": plain(settings)}
        write_json(
            self.folder / unit.file,
            {**about, "machine": machine(), "cpu_seconds": round(seconds, 1), **found},
        )

    def all(self, part: str, arm: str) -> dict[int, dict[str, Any]]:
        """Every seed of an arm."""
        found = {}
        for path in sorted((self.folder / part).glob(f"{slug(arm)}-*.json")):
            one = read_json(path)
            if one["arm"] == arm:
                found[int(one["seed"])] = one
        return found


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    back: dict[str, Any] = json.loads(json.dumps(settings))
    return back


def same(stored: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether something was made with these settings; a field of the guidance that came later began at the value that
    changes nothing, which is its default."""
    if isinstance(stored.get("guidance"), dict) and isinstance(wanted.get("guidance"), dict):
        stored = {**stored, "guidance": {**Guidance().to_dict(), **stored["guidance"]}}
    return stored == wanted


class Clock:
    """When a campaign stops, and when it holds its breath.

    Args:
        minutes: No unit begins after so many; 0 for no limit.
        pause: While this file exists nothing is computed.
    """

    def __init__(self, minutes: float = 0.0, pause: Path | None = None) -> None:
        self.began, self.minutes, self.pause = time.monotonic(), minutes, pause

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self.minutes > 0 and time.monotonic() - self.began >= 60 * self.minutes

    def rest(self) -> None:
        """Called between batches."""
        while self.pause is not None and self.pause.exists():
            time.sleep(2)


def campaign(
    units: Iterable[Unit],
    store: Store,
    settings_of: Callable[[Unit], dict[str, Any]],
    measure: Callable[[Unit], dict[str, Any]],
    clock: Clock,
    say: Callable[[str], None] = print,
) -> list[Unit]:
    """Measure what is missing, in this order, until the time is up.

    Args:
        units: What is wanted.
        store: Where it is kept; a unit that is there with the same settings is not measured again.
        settings_of: What must be the same for a stored unit to count.
        measure: One unit's figures.
        clock: When to stop.
        say: Told about every unit.

    Returns:
        Those that are still missing.

    Raises:
        ValueError: Two units would have one file.
    """
    wanted = list(units)
    if len({unit.file for unit in wanted}) != len(set(wanted)):
        raise ValueError("two arms have the same file name; give them names that differ in letters or digits")
    missing: list[Unit] = []
    for unit in wanted:
        settings = settings_of(unit)
        if store.read(unit, settings) is not None:
            continue
        if clock.over:
            missing.append(unit)
            continue
        clock.rest()
        began = time.process_time()
        found = measure(unit)
        store.write(unit, settings, found, time.process_time() - began)
        say(f"{unit.part}, {unit.arm}, seed {unit.seed}: {time.process_time() - began:.0f} s of CPU")
    return missing


def breadth_first(parts: Sequence[Sequence[Unit]]) -> list[Unit]:
    """All units, the first seed of every arm before the second of any; parts and arms in the order given."""
    flat = [unit for part in parts for unit in part]
    return sorted(flat, key=lambda unit: unit.seed)
