"""The whole text, from the results alone."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.evidence.tables import curve, recipe, roadsigns
from benchmarks.evidence.tables_data import extrapolation, photos
from benchmarks.evidence.tables_more import adversarial, discovery, signals
from benchmarks.evidence.units import Store

SECTIONS: tuple[Callable[[Store], list[str]], ...] = (
    roadsigns, curve, recipe, discovery, adversarial, signals, photos, extrapolation,
)  # fmt: skip


def sections(store: Store) -> list[str]:
    """All sections, in order; a part of which nothing is measured is named with its command."""
    return [line for section in SECTIONS for line in section(store)]


def write(store: Store) -> None:
    """Write ``evidence.md`` beside the results, where the report finds it."""
    store.folder.mkdir(parents=True, exist_ok=True)
    (store.folder / "evidence.md").write_text("\n".join(sections(store)).rstrip() + "\n", encoding="utf-8")
