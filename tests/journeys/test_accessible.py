"""Every tab, in light and in dark, through axe-core: names, roles, contrast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Visit
from playwright.sync_api import expect
from test_main_loop import SLOW, opened

# Tab, what shows that it has been drawn, and then: what is clicked there, and what shows up.
TABS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "Start": ("#start-view .glance .figure", (("#header details.jobs > summary", ".jobs-panel"),)),
    "Browse": (
        "#browse-grid .card",
        (
            ("#browse-grid .card", "#browse-panel .hero"),
            ("#browse-count button.mode >> text=Confusion matrix", "#browse-summary table"),
            ("#browse-count button.mode >> text=By class", "#browse-summary table .class-name"),
            ("#browse-count button.mode >> text=Slices", "#browse-summary .slices-search"),
        ),
    ),
    "Coverage": (
        "#coverage-grid .cover",
        (
            ("#coverage-grid .cover", "#coverage-panel .facts"),
            ("#coverage-top button.mode >> text=By need", "#coverage-grid table.needs"),
        ),
    ),
    "Imagine": ("#imagine-estimate .price", (("#imagine-all > button", "#imagine-candidates"),)),
    "Explain": ("#explain-results .empty", ()),
    "Map": ("#map-draw", ()),
    "Curate & Export": (
        "#curate-decide",
        (
            ("#curate-parts [role=tab] >> text=Blind review", "#curate-review"),
            ("#curate-parts [role=tab] >> text=Sets", "#curate-sets"),
            ("#curate-parts [role=tab] >> text=History", "#curate-history"),
            ("#curate-parts [role=tab] >> text=Export", "#export-preview"),
        ),
    ),
    "Extend": ("#extend-list .extend-class", (("#extend-where label >> text=Generator", "#extend-number"),)),
    "Retrain": (
        "#retrain-plan .figure",
        (("#retrain-top button.mode >> text=Compare", "#compare-start"),),
    ),
    "Tell": ("#tell-make", ()),
    "Setup": (
        "#setup-steps .step",
        (
            ("#setup-steps .step button >> text=Data", "#setup-import"),
            ("#setup-steps .step button >> text=Check", "#setup-check-grid .card"),
        ),
    ),
}
GRAVE = ("serious", "critical")
# What is there a hundred times is looked at eight times.
REPEATED = [".card:nth-child(n + 9)", "tbody tr:nth-child(n + 9)", "tr > td:nth-child(n + 9)"]
# Colours fade.
CALM = "Promise.allSettled(document.getAnimations().filter(a => a instanceof CSSTransition).map(a => a.finished))"


@pytest.mark.parametrize(
    ("scheme", "tabs"),
    [
        ("light", ("Start", "Imagine")),
        pytest.param("light", tuple(TABS), marks=pytest.mark.slow),
        pytest.param("dark", tuple(TABS), marks=pytest.mark.slow),
    ],
)
def test_no_tab_has_a_grave_fault_of_accessibility(visit: Visit, scheme: Any, tabs: Sequence[str]) -> None:
    """In dark only the colours are other ones."""
    page = visit.page
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    opened(page)
    found = []
    for name in tabs:
        drawn, further = TABS[name]
        visit.tab(name)
        expect(page.locator(drawn).first).to_be_visible(timeout=SLOW)
        found += faults(page, name, scheme)
        for button, opens in further:
            page.locator(button).first.click()
            expect(page.locator(opens).first).to_be_visible(timeout=SLOW)
            found += faults(page, f"{name}, {opens}", scheme)
        if name == "Browse" and scheme == "light":
            visit.shot("accessible")
    assert not found, "\n".join(found)


def faults(page: Any, where: str, scheme: str) -> list[str]:
    """What axe-core finds in what is visible, with the places."""
    page.evaluate(CALM)
    options = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
    return read(page, f"{where}, {scheme}", options)


def read(page: Any, where: str, options: dict[str, Any]) -> list[str]:
    """Grave faults, at most eight places each."""
    asked = {"resultTypes": ["violations"], **options}
    answer = Axe().run(page, context={"include": ["body"], "exclude": REPEATED}, options=asked).response
    return [
        f"{where}: {one['id']} ({one['impact']}): {node['target']} {node['failureSummary'].splitlines()[1].strip()}"
        for one in answer["violations"]
        if one["impact"] in GRAVE
        for node in one["nodes"][:8]
    ]
