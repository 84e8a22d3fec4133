"""Every tab through its real endpoints."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driver import Driver, actions, texts

from benchmarks.load import Client, Tally, decided
from benchmarks.page import Page
from ltg_core.jobs import Job

Ended = Callable[..., Job]


def ids_of(grid: dict[str, Any]) -> list[str]:
    return [item["id"] for item in grid.get("value", grid)["items"]]


def test_the_lists_that_are_written_out_are_those_of_the_registries() -> None:
    from app import asked, form
    from app.curation import export
    from ltg_core.attribution import ATTRIBUTIONS
    from ltg_core.export import EXPORTERS
    from ltg_core.signals import SIGNALS

    assert sorted(form.SIGNALS) == sorted(SIGNALS)
    assert sorted(asked.METHODS) == sorted(ATTRIBUTIONS)
    assert tuple(SIGNALS) == asked.SIGNALS
    assert sorted(name for _, name in export.FORMATS) == sorted(EXPORTERS)


def test_browse_ranks_filters_and_opens_a_sample(page: Driver, ctx: Any) -> None:
    ranked = page.call("browse-sort", "input", browse_sort="epistemic")
    scores = ctx.workspace.scores(ids_of(ranked["browse-grid"]), ctx.model_hash, "epistemic")
    values = [scores[one].value for one in ids_of(ranked["browse-grid"])]
    assert values == sorted(values, reverse=True)
    night = page.call("browse-text", "submit", browse_text="stop")
    assert {item["t"] for item in night["browse-grid"]["value"]["items"]} == {"stop"}
    one = ids_of(ranked["browse-grid"])[0]
    panel = page.call("browse-grid", "pick", {"id": one})["browse-panel"]
    assert "Prediction" in texts(panel) and ("explain", {"id": one}) in actions(panel)


def test_a_classifier_that_has_scored_nothing_yet_offers_no_ranking_by_its_answers(
    ctx: Any, tmp_path: Path
) -> None:
    from app.context import AppContext
    from app.settings import Settings
    from app.tabs import browse
    from ltg_core import workflows

    fresh = AppContext(Settings(workspace=tmp_path / "ws"))
    workflows.use_classifier(fresh.workspace, ctx.need_classifier())
    assert fresh.model_hash == ctx.model_hash
    for _, rank in browse.orders(fresh):
        fresh.workspace.query(sort=rank)  # an order without scores is an error
    assert {"epistemic", "-confidence"} <= {rank for _, rank in browse.orders(ctx)}
    fresh.workspace.close()


def test_filters_with_counts_combine_and_a_cell_opens_its_samples(page: Driver, ctx: Any) -> None:
    from ltg_core.data.records import Filter

    real = Filter(origin="real", model_hash=ctx.model_hash)
    offered = {
        (sent["field"], sent["value"]): sent for name, sent in actions(facets_of(page)) if name == "filter"
    }
    assert ("label", "stop") in offered and ("split", "test") in offered
    page.call("browse-facets", "act", {"name": "filter", **offered["label", "stop"]})
    both = page.call("browse-facets", "act", {"name": "filter", **offered["split", "test"]})
    label = ctx.workspace.label_names().index("stop")
    chosen = dataclasses.replace(real, label=label, split="test")
    assert set(ids_of(both["browse-grid"])) == set(ctx.workspace.query(chosen))
    assert both["address"]["set"] == {"class": "stop", "split": "test"}
    train = ctx.workspace.count(dataclasses.replace(real, label=label, split="train"))
    assert f"Train {train}" in texts(both["browse-facets"]), (
        "what another value of the same group would leave"
    )

    matrix = page.call("browse-count", "act", {"name": "show", "mode": "confusion"})
    cells = [sent for name, sent in actions(matrix["browse-summary"]) if name == "cell"]
    assert {"label": "stop", "prediction": "stop"} in cells
    opened = page.call("browse-summary", "act", {"name": "cell", "label": "stop", "prediction": "stop"})
    right = dataclasses.replace(chosen, prediction=label)
    assert set(ids_of(opened["browse-grid"])) == set(ctx.workspace.query(right))
    cleared = page.call("browse-count", "act", {"name": "clear"})
    assert cleared["address"]["set"] == {}


def test_filters_that_are_clicked_in_a_hurry_combine(page: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.tabs import browse

    at_once, pauses = browse.changed, [0.5]

    def slowly(*given: Any) -> Any:
        time.sleep(pauses.pop() if pauses else 0)
        return at_once(*given)

    monkeypatch.setattr(browse, "changed", slowly)
    act = page.handlers("browse-facets", "act")[0]
    page.ask(act, {"name": "filter", "field": "label", "value": "stop"})  # the answer is not waited for
    page.ask(act, {"name": "filter", "field": "answer", "value": "right"})
    shown = page.run(act, {"name": "filter", "field": "split", "value": "test"})
    assert shown["address"]["set"] == {"class": "stop", "answer": "right", "split": "test"}


def facets_of(page: Driver) -> dict[str, Any]:
    return page.call("browse-text", "submit", browse_text="")["browse-facets"]


def test_the_table_of_classes_says_what_the_check_says(page: Driver, ctx: Any) -> None:
    from ltg_core import workflows

    page.call("browse-facets", "act", {"name": "filter", "field": "split", "value": "test"})
    shown = page.call("browse-count", "act", {"name": "show", "mode": "classes"})
    check = workflows.check_classifier(ctx.workspace, ctx.classifier(), "test")
    for row in check["per_class"]:
        assert f"{row['label']} {row['n']} {100 * row['accuracy']:.1f} %" in " ".join(
            texts(shown["browse-summary"]).split()
        )


def test_a_link_opens_what_it_names(page: Driver, ctx: Any) -> None:
    from ltg_core.data.records import Filter

    one = ctx.workspace.query(Filter(origin="real", split="test"), limit=1)[0]
    arrived = page.call("address", "go", {"query": f"?tab=map&split=test&find=sign&page=99999&sample={one}"})
    assert arrived["tabs"]["selected"] == "map" and arrived["browse-text"] == "sign"
    assert "browse-grid" not in arrived, "drawn when it is shown"
    within = page.show("browse")["browse-grid"]
    assert set(ids_of(within)) <= set(ctx.workspace.query(Filter(split="test")))
    assert "browse-grid" not in page.show("browse"), "nothing has changed since"
    again = page.call("browse-grid", "pick", {"id": one})["address"]
    assert again["set"] == {"sample": one} and again["only"] == ["sample"] and again["replace"]


@pytest.mark.parametrize("query", ("?size=60&page=2", "?page=499&tab=browse", "?%70age=x", "?deep_link=x"))
def test_names_in_an_address_are_not_taken_for_those_of_the_library_below(page: Driver, query: str) -> None:
    for path in ("/", "/config"):
        assert page.http.get(path + query).status_code == 200


@pytest.mark.parametrize(
    "query", ("?class=nobody", "?tab=x&show=x&page=-1&meta.=1", "?sample=none", "?%00=%ff&a")
)
def test_a_link_to_what_is_not_there_shows_that_nothing_is(page: Driver, query: str) -> None:
    arrived = page.call("address", "go", {"query": query})
    assert arrived["tabs"]["selected"] == "browse"
    items = arrived["browse-grid"]["value"]["items"]
    assert bool(items) is ("nobody" not in query)
    assert bool(page.messages) is ("sample=" in query)


def test_an_import_does_not_wait_for_a_generation_and_the_queue_is_shown(page: Driver, ctx: Any) -> None:
    import threading

    from driver import texts as said

    gate = threading.Event()
    try:
        busy = ctx.submit("generate", "Imagining", lambda on_progress, cancel: gate.wait(60))
        setup = ctx.submit("setup", "Importing", lambda on_progress, cancel: gate.wait(60))
        second = ctx.submit("setup", "Fitting the head", lambda on_progress, cancel: "done")
        until(lambda: (busy.state, setup.state) == ("running", "running"))
        assert second.state == "queued" and ctx.before(second) == 1
        assert "place 1 in the queue" in said(ctx.bar(second))
        ctx.jobs.cancel(second.id)
        assert "will not start" in said(ctx.bar(second))
    finally:
        gate.set()
    until(lambda: busy.ended and setup.ended and second.ended)
    assert second.state == "cancelled" and ctx.before(second) == 0


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_forged_id_is_answered_in_words(page: Driver) -> None:
    assert page.call("browse-grid", "pick", {"id": "<img src=x onerror=alert(1)>"}) == {}
    assert page.call("browse-panel", "act", {"name": "explain", "id": "<img src=x onerror=alert(1)>"}) == {}


def test_imagine_keeps_its_images_and_takes_a_verdict(page: Driver, ctx: Any, ended: Ended) -> None:
    quick = {"imagine_number": 2, "imagine_class": "stop"}
    started = page.call("imagine-start", "click", **quick)
    assert "Imagining 2 images" in texts(started["imagine-progress"])
    job = ended("generate")
    assert job.state == "done", job.reason
    shown = follow(page, "imagine-results")["imagine-results"]
    pressed = [sent for name, sent in actions(shown) if name == "verdict" and len(sent["ids"]) == 1]
    assert len(pressed) == 6 and "percentile" in texts(shown)
    page.call("imagine-results", "act", {"name": "verdict", **pressed[0]})
    assert ctx.workspace.sample(pressed[0]["ids"][0]).verdict == "accepted"


def follow(page: Driver, output: str) -> dict[str, Any]:
    """What a beat of the page's clock draws."""
    beats = [
        d
        for d in page.config["dependencies"]
        if page.ids[output] in d["outputs"] and d["targets"][0][1] == "change"
    ]
    results = [page.run(dependency) for dependency in beats]
    return next(result for result in results if output in result)


def test_imagine_says_what_is_wrong_with_a_setting(page: Driver, ctx: Any) -> None:
    before = len(ctx.jobs.all())
    assert (
        page.call("imagine-start", "click", imagine_number=2, imagine_class="stop", imagine_band_start=0.9)
        == {}
    )
    assert "swap them" in page.messages[0] and len(ctx.jobs.all()) == before


def test_a_cancelled_generation_stops_at_its_next_step(page: Driver, ended: Ended) -> None:
    page.call("imagine-start", "click", imagine_number=32)
    page.call("imagine-cancel", "click")
    assert ended("generate").state == "cancelled"


def test_setup_imports_a_folder_and_refuses_a_foreign_network(
    page: Driver, ctx: Any, ended: Ended, tmp_path: Path, tiny_world: Any
) -> None:
    import torch

    page.call("setup-import", "click", setup_path=str(tiny_world.folder))
    assert ended("setup").state == "done"
    page.call("setup-import", "click", setup_path=str(tmp_path / "none"))
    assert any("does not exist" in message for message in page.messages)
    net = torch.nn.Linear(3, 2)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    from app.steps import classifier

    job = classifier.use_classifier(ctx, [str(tmp_path / "net.pth")], "resnet20_cifar", "a\nb")
    assert ended("setup").id == job.id and job.state == "failed"
    assert "resnet20_cifar" in job.reason
    assert ctx.classifier().name == "tiny signs", "what was there before is still in use"


def test_a_step_that_is_chosen_while_setup_is_drawn_stays(
    page: Driver, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.tabs import setup

    page.show("setup")
    gone, look, draw = threading.Event(), setup.state_of, setup.stepper
    (step,) = [
        d for d in page.config["dependencies"] if [page.ids["setup-steps"], "act"] in map(list, d["targets"])
    ]
    order: list[str] = []

    def looked_up(*given: Any) -> Any:
        found = look(*given)
        if not order:
            page.ask(step, {"name": "step", "to": "generator"})
        return found

    def drawn(found: Any, current: str) -> Any:
        order.append(current)
        if current == "generator":
            gone.set()
        return draw(found, current)

    monkeypatch.setattr(setup, "state_of", looked_up)
    monkeypatch.setattr(setup, "stepper", drawn)
    ctx.changed()
    page.show("setup")
    assert gone.wait(60) and order[0] != "generator", "the click is done when the drawing is over"
    ctx.changed()
    answer = page.show("setup")["setup-steps"]
    assert [one["c"] for one in answer["k"][0]["k"]][-1].endswith("is-current") and order[-1] == "generator"


def test_setup_holds_images_out_and_refuses_what_cannot_be(
    page: Driver, ctx: Any, ended: Ended, tmp_path: Path, tiny_world: Any
) -> None:
    import shutil

    shutil.copytree(tiny_world.folder / "test" / "stop", tmp_path / "set" / "Stop")
    order = {"setup_path": str(tmp_path / "set"), "setup_holdout": "0.2"}
    page.call("setup-import", "click", **order, setup_group="track")
    job = ended("setup")
    assert job.state == "failed" and "no column 'track'" in job.reason
    before = ctx.workspace.count()
    page.call("setup-import", "click", **order)
    job = ended("setup")
    assert job.state == "done" and "'Stop' as 'stop'" in job.result
    assert ctx.workspace.count() == before + 6
    page.call(
        "setup-import", "click", setup_path=str(tmp_path / "set"), setup_split="val", setup_holdout="0.2"
    )
    job = ended("setup")
    assert job.state == "failed" and "not both" in job.reason


def test_hostile_names_travel_as_text(page: Driver, ctx: Any) -> None:
    import numpy as np

    bad = '<img src=x onerror="alert(1)">${alert(2)}{{value}}'
    pixels = np.full((32, 32, 3), 90, np.uint8)
    one = ctx.workspace.add_image(
        pixels, origin="real", split="train", label_name=bad, source=bad, caption=bad
    )
    panel = page.call("browse-grid", "pick", {"id": one})["browse-panel"]
    assert bad in texts(panel), "it is a text node, never a part of a template"


def test_the_users_of_make_load_see_turn_and_decide_what_a_page_does(address: str, ctx: Any) -> None:
    user = Client(address, "ann", 0, Tally(), threading.Event(), think=0.0)
    user.page = Page(address)
    user.page.show("browse")
    user._look(user.page.call("browse-text", "submit", browse_text=""))
    assert len(user.here) == min(60, ctx.workspace.count())
    user._turn()
    user._picture()
    user._decide()
    assert user.verdicts and not user.tally.errors
    there = decided(ctx.settings.workspace / "longtail.sqlite")
    assert there | user.verdicts == there
    user.page.close()


def test_setup_runs_a_generator_as_it_is_told_and_shows_how(
    page: Driver, ctx: Any, ended: Ended, tiny_generator: Path, tmp_path: Path
) -> None:
    folder = {"setup_folder": str(tiny_generator)}
    shown = page.show("setup")
    assert shown["setup-folder"] == str(tiny_generator), "filled with what is in use"
    page.call("setup-generator", "click", **folder, setup_dtype="bfloat16", setup_rows=4)
    job = ended("setup")
    assert job.state == "done" and job.spec is not None, job.reason
    assert job.spec.arguments["options"] == {"dtype": "bfloat16", "chunk": 4, "compile": False, "tiny": ""}
    record = ctx.workspace.get_state("generator")
    assert record["options"] == {"dtype": "bfloat16", "chunk": 4}
    assert record["running"]["dtype"] == "bfloat16" and record["running"]["chunk"] == 4
    now = page.show("setup")
    assert "bfloat16" in str(now["setup-generator-now"]) and "not compiled" in str(now["setup-generator-now"])
    assert now["setup-dtype"] == "bfloat16"
    ctx.changed()
    assert "setup-dtype" not in page.show("setup"), "what somebody has begun to change stays"
    refused = page.call("setup-generator", "click", **folder, setup_tiny=str(tmp_path / "nowhere"))
    assert "setup-progress" not in refused and "does not exist" in page.messages[-1]
    page.call("setup-generator", "click", **folder)
    assert ended("setup").state == "done"
    assert "options" not in ctx.workspace.get_state("generator"), "as it is by itself again"
