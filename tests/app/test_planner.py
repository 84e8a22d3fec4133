"""Coverage through its real endpoints: cells, slices as columns, and what is imagined for them."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from driver import Driver, actions, texts
from test_imagine import FAST, finished, flat

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.jobs import Job

Ended = Callable[..., Job]


@pytest.fixture(scope="module")
def planned(ctx: Any) -> Any:
    """The real samples know their time of day; a third of each class is by night."""
    ids = ctx.workspace.query(Filter(origin="real"))
    ctx.workspace.merge_meta({one: {"time": "night" if k % 3 == 2 else "day"} for k, one in enumerate(ids)})
    ctx.changed()
    return ctx


def test_the_planner_counts_and_a_cell_opens_its_samples(page: Driver, planned: Any) -> None:
    shown = page.call("coverage-top", "act", {"name": "show", "mode": "grid"})
    found = workflows.coverage(planned.workspace, 3, "time", model_hash=planned.model_hash)
    cell = found.cells[0, found.values.index("night")]
    sent = {"label": "stop", "value": '"night"'}
    assert ("cell", sent) in actions(shown["coverage-grid"])
    opened = page.call("coverage-grid", "act", {"name": "cell", **sent})["coverage-panel"]
    assert "stop × night" in flat(opened) and f"In training {cell.train}" in flat(opened)
    jumped = page.call("coverage-panel", "act", {"name": "samples", **sent})["address"]
    assert jumped["set"] == {"class": "stop", "meta.time": "night"} and jumped["go"]
    assert page.call("coverage-panel", "act", {"name": "samples", "label": "x", "value": "[]"}) == {}
    assert "no longer there" in page.messages[-1]


def test_a_cell_is_imagined_and_counts_there_once_accepted(page: Driver, planned: Any, ended: Ended) -> None:
    from ltg_core.curation import verdicts

    sent = {"name": "imagine", "label": "stop", "value": '"night"'}
    aimed = page.call("coverage-panel", "act", sent)
    assert aimed["tabs"]["selected"] == "imagine" and aimed["imagine-class"]["value"] == "stop"
    assert aimed["imagine-prompt"] == "a photo of a stop sign, night"
    job = finished(page, ended, imagine_number=2, imagine_prompt=aimed["imagine-prompt"])
    made = [row["guided"] for row in workflows.triplets(planned.workspace, job.run)]
    assert {planned.workspace.sample(one).meta["time"] for one in made} == {"night"}
    verdicts.set_verdict(planned.workspace, made, "accepted")
    redrawn = page.call("coverage-top", "act", {"name": "show", "mode": "need"})
    assert "stop × night" in flat(redrawn["coverage-grid"]) and "+2" in flat(redrawn["coverage-grid"])
    from_its = page.call("coverage-panel", "act", sent | {"name": "from"})
    assert from_its["imagine-preset"] == "hard but believable" and from_its["imagine-number"] > 1


def test_what_all_cells_lack_is_imagined_shared_out_over_them(
    page: Driver, planned: Any, ended: Ended, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app import imagining

    sent = {"name": "fill", "preset": "hard but believable"}
    found = workflows.coverage(planned.workspace, 3, "time", model_hash=planned.model_hash)
    settings = workflows.BalanceSettings(column="time", to=found.goal)
    labels = planned.workspace.label_names()
    plan = workflows.plan_balance(planned.workspace, labels, settings)
    assert 0 < plan.number <= imagining.MOST
    shown = page.call("coverage-top", "act", {"name": "show", "mode": "grid"})["coverage-panel"]
    assert f"{plan.number} images are missing until every cell has {plan.goal}" in flat(shown)
    assert ("fill", {"preset": "hard but believable"}) in actions(shown)
    rare = dataclasses.replace(settings, rare=0.5)  # a third is by night
    assert {n.value for n in workflows.plan_balance(planned.workspace, labels, rare).needs} == {"day"}
    usual = imagining.base
    monkeypatch.setattr(imagining, "base", lambda *given: dataclasses.replace(usual(*given), **FAST))
    gone = page.call("coverage-panel", "act", sent)
    assert gone["tabs"]["selected"] == "imagine"
    job = ended("generate")
    assert job.state == "done", job.reason
    made = [planned.workspace.sample(row["guided"]) for row in workflows.triplets(planned.workspace, job.run)]
    wanted = {(need.label, need.value): need.wanted for need in plan.needs if need.wanted}
    assert collections.Counter((one.label, one.meta["time"]) for one in made) == wanted
    assert page.call("coverage-panel", "act", sent | {"preset": "x"}) == {}


def test_saved_slices_are_the_columns_of_the_planner(page: Driver, planned: Any) -> None:
    from app.imagining import SLICE
    from app.planner import SAVED
    from ltg_core.workflows.coverage import SLICE as THEIRS

    assert SLICE == THEIRS
    ws = planned.workspace
    picked = ws.query(Filter(split="train", label=0), limit=5)
    workflows.save_slice(ws, "dark ones", Filter(meta={"time": "night"}, split="test"))
    gone = workflows.save_slice(ws, "picked", Filter(ids=tuple(picked)))
    page.fill("coverage-grid")
    shown = page.call("coverage-column", "input", coverage_column=SAVED)
    assert ["Saved slices", SAVED] in [list(one) for one in shown["coverage-column"]["choices"]]
    night = len(ws.query(Filter(meta={"time": "night"}, label=0, origin="real")))
    dark, five = ({"label": "stop", "value": json.dumps(name)} for name in ("dark ones", "picked"))
    assert {"dark", "picked"} <= set(flat(shown["coverage-grid"]).split())
    assert ("cell", dark) in actions(shown["coverage-grid"])

    def panel(sent: dict[str, Any], name: str = "cell") -> dict[str, Any]:
        return page.call("coverage-grid", "act", {"name": name, **sent}, coverage_column=SAVED)

    opened = flat(panel(dark)["coverage-panel"])
    assert f"See its {night} real samples" in opened and "a photo of a stop sign, night" in opened
    assert panel(dark, "samples")["address"]["set"] == {"class": "stop", "meta.time": "night"}
    aimed = panel(dark, "imagine")
    assert aimed["imagine-prompt"] == "a photo of a stop sign, night"
    opened = panel(five)["coverage-panel"]
    assert "re-drawn from its samples" in flat(opened) and "See its 5 real samples" in flat(opened)
    assert not any(name == "imagine" for name, _ in actions(opened))
    assert panel(five, "samples")["address"]["set"] == {"class": "stop", "slice": gone}
    aimed = panel(five, "from")
    assert aimed["imagine-number"] == 5 and aimed["imagine-prompt"] == "a photo of a stop sign"
    workflows.remove_slice(ws, gone)
    assert panel(five, "samples") == {} and "no longer there" in page.messages[-1]


def test_a_selection_aims_at_the_class_and_the_condition_that_it_shares(page: Driver, planned: Any) -> None:
    ws = planned.workspace
    by_night = ws.query(Filter(origin="real", label=1, meta={"time": "night"}), limit=3)
    mixed = [by_night[0], *ws.query(Filter(origin="real", label=1, meta={"time": "day"}), limit=1)]
    classes = [by_night[0], *ws.query(Filter(origin="real", label=0), limit=1)]

    def imagined(ids: list[str]) -> dict[str, Any]:
        page.call("browse-grid", "pick", {"id": ids[0], "ids": ids})
        found = [
            dependency
            for dependency in page.config["dependencies"]
            if [page.ids["browse-selection"], "act"] in [list(target) for target in dependency["targets"]]
            and page.ids["imagine-prompt"] in dependency["outputs"]
        ]
        return page.run(found[0], {"name": "imagine"})

    name = ws.label_names()[1]
    aimed = imagined(by_night)
    assert (aimed["imagine-class"]["value"], aimed["imagine-number"]) == (name, 4)
    assert name in [value for _, value in aimed["imagine-class"]["choices"]], (
        "its tab may not have been drawn yet"
    )
    assert aimed["imagine-prompt"].startswith("a photo of") and aimed["imagine-prompt"].endswith("night")
    aimed = imagined(mixed)
    assert aimed["imagine-class"]["value"] == name and aimed["imagine-prompt"] == ""
    aimed = imagined(classes)
    assert aimed["imagine-class"]["value"] == "any" and aimed["imagine-prompt"] == ""


def test_without_a_column_the_planner_says_what_would_help(ctx: Any, tmp_path: Any) -> None:
    from app.context import AppContext
    from app.settings import Settings
    from app.tabs import coverage

    bare = AppContext(Settings(workspace=tmp_path / "ws"))
    w = SimpleNamespace(column="column", top="top", grid="grid", panel="panel")
    assert "No samples yet" in flat(coverage.show(bare, w, None, "grid", {})["grid"])
    import numpy as np

    bare.workspace.add_image(np.zeros((8, 8, 3), np.uint8), origin="real", label=0, label_name="cat")
    bare.workspace.set_label_names(["cat"])
    bare.changed()
    assert "manifest" in flat(coverage.show(bare, w, None, "grid", {})["grid"])
    bare.workspace.close()


def test_hostile_values_of_a_column_are_text_in_the_grid(page: Driver, ctx: Any) -> None:
    bad = '<img src=x onerror="alert(1)">${alert(2)}'
    ids = ctx.workspace.query(Filter(origin="real"))
    ctx.workspace.merge_meta({one: {bad: bad if k % 2 else "fine"} for k, one in enumerate(ids)})
    ctx.changed()
    page.fill("coverage-grid")
    shown = page.call("coverage-column", "input", coverage_column=bad)
    assert bad in texts(shown["coverage-grid"])
    sent = {"label": "stop", "value": json.dumps(bad)}
    assert ("cell", sent) in actions(shown["coverage-grid"])
    aimed = page.call("coverage-panel", "act", {"name": "imagine", **sent}, coverage_column=bad)
    assert bad in aimed["imagine-prompt"]
