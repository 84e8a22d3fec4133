"""Similar images, selections and slices through the real endpoints of Browse."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from driver import Driver, actions, texts

from app import named
from app.looking import known, look
from app.query import Query
from app.slicelist import _causes, listing
from app.tabs import browse
from ltg_core import workflows
from ltg_core.curation import verdicts
from ltg_core.data.records import Filter
from ltg_core.jobs import CancelToken, Job, no_progress
from ltg_core.workflows.naming_tasks import NAMING_TASKS
from ltg_core.workflows.slicing import add_evidence, insert


def ids_of(update: dict[str, Any]) -> list[str]:
    return [item["id"] for item in update["browse-grid"]["value"]["items"]]


def value(update: dict[str, Any]) -> Any:
    return update.get("value", update)


def test_more_like_this_ranks_by_likeness_and_keeps_the_filters(page: Driver, ctx: Any) -> None:
    one = ctx.workspace.query(Filter(split="test"), limit=1)[0]
    panel = page.call("browse-grid", "pick", {"id": one})["browse-panel"]
    assert ("like", {"id": one}) in actions(panel)
    page.call("browse-facets", "act", {"name": "filter", "field": "split", "value": "val"})
    found = page.call("browse-panel", "act", {"name": "like", "id": one})
    wanted = workflows.likeness(ctx.workspace, ctx.classifier(), one)
    ranked = wanted.ranked(ctx.workspace, Filter(split="val", origin="real"))
    assert ids_of(found) == ranked.ids()
    first = found["browse-grid"]["value"]["items"][0]
    assert first["s"].startswith(f"{wanted.of(ranked)[0]:.2f} ") and first["p"] >= 0
    assert found["address"]["set"] == {"split": "val", "like": one, "sample": one}
    assert "Most similar to this" in texts(found["browse-count"])
    back = page.call("browse-count", "act", {"name": "unlike"})
    assert "like" not in back["address"]["set"] and set(ids_of(back)) == set(ranked.ids())


@pytest.mark.parametrize("like", ("nobody", "u123", "0" * 64))
def test_a_link_to_a_picture_or_slice_that_is_not_here_says_so_and_shows_the_rest(
    page: Driver, ctx: Any, like: str
) -> None:
    for query in (f"?split=test&like={like}", f"?split=test&slice={like}"):
        arrived = page.call("address", "go", {"query": query})
        assert set(ids_of(arrived)) == set(ctx.workspace.query(Filter(split="test", origin="real")))
    assert len(page.messages) == 2 and all("left out" in said for said in page.messages)


@pytest.mark.parametrize("like", ("../x", "a b", "x" * 65, "é"))
def test_what_can_be_no_id_is_not_even_looked_up(page: Driver, like: str) -> None:
    page.call("browse-panel", "act", {"name": "like", "id": like})
    arrived = page.call("address", "go", {"query": f"?like={like}"})
    assert arrived["browse-grid"]["value"]["items"] and not page.messages


def test_a_selection_is_tagged_and_kept_as_a_slice(page: Driver, ctx: Any) -> None:
    ids = ctx.workspace.query(Filter(split="train"), limit=3)
    shown = page.call("browse-grid", "pick", {"id": ids[0], "ids": ids})
    offered = {name for name, _ in actions(shown["browse-selection"])}
    assert offered == {"explain", "imagine", "map", "ask", "deselect"} and "3 selected" in texts(
        shown["browse-selection"]
    )
    asked = page.call("browse-selection", "act", {"name": "ask", "what": "tag"})
    assert asked["browse-ask"]["visible"] is True and "3 samples" in asked["browse-words"]["label"]
    page.call("browse-words", "submit", browse_words="odd, <b>wet")
    assert ctx.workspace.query(Filter(tag="<b>wet")) == ctx.workspace.query(Filter(tag="odd")) == ids
    verdicts.undo(ctx.workspace)
    assert ctx.workspace.query(Filter(tag="odd")) == []
    page.call("browse-selection", "act", {"name": "ask", "what": "slice"})
    page.call("browse-words", "submit", browse_words="three")
    (kept,) = workflows.slices(ctx.workspace, "saved")
    assert kept.name == "three" and ctx.workspace.query(kept.filter) == ids
    page.call("browse-words", "submit", browse_words="four")
    assert any("asked" in said for said in page.messages), "the line answers once"
    opened = page.call("browse-summary", "act", {"name": "slice-open", "id": kept.id})
    assert set(ids_of(opened)) == set(ids) and opened["address"]["set"]["slice"] == kept.id
    assert "three" in texts(opened["browse-count"])
    one = page.call("browse-grid", "pick", {"id": ids[0], "ids": ids[:1]})
    assert not texts(one["browse-selection"])
    workflows.remove_slice(ctx.workspace, kept.id)


def test_several_samples_go_to_the_other_tabs(page: Driver, ctx: Any, ended: Callable[..., Job]) -> None:
    ids = ctx.workspace.query(Filter(label=1, split="train"), limit=2)
    page.call("browse-grid", "pick", {"id": ids[0], "ids": ids})

    def jump(name: str) -> dict[str, Any]:
        found = [
            dependency
            for dependency in page.config["dependencies"]
            if [page.ids["browse-selection"], "act"] in [list(target) for target in dependency["targets"]]
            and page.ids["imagine-prompt"] in dependency["outputs"]
        ]
        return page.run(found[0], {"name": name})

    assert jump("imagine")["tabs"]["selected"] == "imagine"
    assert jump("map")["tabs"]["selected"] == "map"
    assert page.follow(jump("explain"))["tabs"]["selected"] == "explain"
    job = ended("explain")
    assert job.state == "done" and job.spec is not None and job.spec.arguments["ids"] == ids


def test_filters_are_kept_as_a_slice_that_opens_as_conditions(page: Driver, ctx: Any) -> None:
    page.call("browse-facets", "act", {"name": "filter", "field": "label", "value": "stop"})
    shown = page.call("browse-facets", "act", {"name": "filter", "field": "answer", "value": "wrong"})
    assert ("ask", {"what": "filter"}) in actions(shown["browse-count"])
    page.call("browse-count", "act", {"name": "ask", "what": "filter"})
    page.call("browse-words", "submit", browse_words="wrong stops")
    (kept,) = workflows.slices(ctx.workspace, "saved")
    listed = page.call("browse-count", "act", {"name": "show", "mode": "slices"})["browse-summary"]
    assert "wrong stops" in texts(listed)
    opened = page.call("browse-summary", "act", {"name": "slice-open", "id": kept.id})
    assert opened["address"]["set"] == {"class": "stop", "answer": "wrong"}
    page.call("browse-count", "act", {"name": "show", "mode": "slices"})
    page.call("browse-summary", "act", {"name": "ask", "what": "rename", "id": kept.id})
    renamed = page.call("browse-words", "submit", browse_words="stops that are wrong")
    assert ("slice-name", {"id": kept.id, "text": "wrong stops"}) in actions(renamed["browse-summary"])
    page.call("browse-summary", "act", {"name": "slice-name", "id": kept.id, "text": "wrong stops"})
    assert [one.name for one in workflows.slices(ctx.workspace)] == ["wrong stops"]
    workflows.rename_slice(ctx.workspace, kept.id, "stops that are wrong")
    gone = page.call("browse-summary", "act", {"name": "slice-remove", "id": kept.id})["browse-summary"]
    assert workflows.slices(ctx.workspace) == []
    assert ("slice-restore", {"id": kept.id, "text": ""}) in actions(gone)
    page.call("browse-summary", "act", {"name": "slice-restore", "id": kept.id})
    assert [one.name for one in workflows.slices(ctx.workspace)] == ["stops that are wrong"]
    workflows.remove_slice(ctx.workspace, kept.id)


def test_every_query_that_a_slice_becomes_means_its_filter(ctx: Any) -> None:
    from app.query import as_filter, as_query
    from ltg_core.data.records import Range

    labels, model = ctx.workspace.label_names(), ctx.model_hash
    for chosen in (
        Filter(model_hash=model),
        Filter(split="", label=0, model_hash=model),
        Filter(split=("val", ""), prediction=1, correct=False, origin="real", model_hash=model),
        Filter(
            meta={"x": Range(0.5, 2.25), "lamp": "true"},
            tag="a",
            text="b c",
            verdict="flagged",
            model_hash=model,
        ),
    ):
        query = as_query(chosen, labels, "ab")
        assert not query.slice and as_filter(query, labels, model) == chosen
    for chosen in (Filter(ids=("a",), model_hash=model), Filter(meta={"x": ["1", "2"]}, model_hash=model)):
        assert as_query(chosen, labels, "ab") == Query(origin="any", slice="ab")


def test_the_search_for_weak_slices_is_a_job_and_says_what_it_did(
    page: Driver, ctx: Any, ended: Callable[..., Job]
) -> None:
    page.call("browse-count", "act", {"name": "show", "mode": "slices"})
    started = page.call("browse-summary", "act", {"name": "find", "outcome": "entropy"})
    assert "Looking for weak slices" in texts(started["browse-progress"])
    job = ended("slices")
    assert job.state == "done" and job.result["samples"] == 36
    shown = texts(listing(ctx, "entropy"))
    assert "candidates" in shown and "36 held-out samples" in shown


def test_hostile_names_and_values_are_only_texts(ctx: Any) -> None:
    hostile = '<img src=x onerror="alert(1)">${7*7}\u202e'
    one = workflows.save_slice(ctx.workspace, hostile, Filter(meta={hostile: hostile}))
    node = listing(ctx, "")

    def every(part: Any) -> list[str]:
        if not isinstance(part, dict):
            return []
        return [str(part.get("x", "")), *[text for child in part.get("k", []) for text in every(child)]]

    assert hostile in every(node)
    seen = look(ctx, browse.opened_slice(ctx, Query(), one))
    assert len(seen.ranked) == 0 and seen.query.meta == {hostile: hostile}
    workflows.remove_slice(ctx.workspace, one)


def test_a_page_beyond_the_last_is_the_last_and_a_size_keeps_the_place(page: Driver, ctx: Any) -> None:
    first = page.call("browse-count", "act", {"name": "page", "to": "99"})
    assert first["address"]["set"] == {"page": "2"} and len(ids_of(first)) == 12
    whole = page.call("browse-count", "act", {"name": "size", "n": 120})
    assert whole["address"]["set"] == {"size": "120"} and len(ids_of(whole)) == 72
    for data in (
        {"name": "size", "n": 7},
        {"name": "size"},
        {"name": "page", "to": "²"},
        {"name": "page", "to": "-1"},
    ):
        assert "browse-grid" not in page.call("browse-count", "act", data)


def test_a_query_without_its_slice_is_the_rest_of_it(ctx: Any) -> None:
    query, missing = known(ctx, Query(slice="none", split="test"))
    assert query == Query(split="test") and "no slice" in missing
    assert known(ctx, Query(split="test")) == (Query(split="test"), "")
    assert dataclasses.replace(query, slice="") == query


def test_calibration_is_drawn_for_all_and_for_one_class(page: Driver, ctx: Any) -> None:
    page.call("browse-facets", "act", {"name": "filter", "field": "split", "value": "test"})
    shown = page.call("browse-count", "act", {"name": "show", "mode": "classes"})["browse-summary"]
    check = workflows.check_classifier(ctx.workspace, ctx.classifier(), "test")
    assert f"Calibration error {100 * check['ece']:.1f} %" in texts(shown) and "all classes" in texts(shown)
    one = page.call("browse-summary", "act", {"name": "of", "label": "stop"})
    assert "Calibration: stop" in texts(one["browse-summary"]) and one["address"]["set"]["of"] == "stop"
    assert ("of", {"label": ""}) in actions(one["browse-summary"])


def test_a_search_in_words_and_the_causal_check_are_jobs_and_tell_what_they_found(
    page: Driver, ctx: Any, ended: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, model = ctx.workspace, ctx.model_hash
    held = ws.samples(ws.query(Filter(split=("val", "test"))))
    before = ws.predictions([one.id for one in held], model)
    dark = {one.id for one in held if int(one.source.rpartition("/")[2][:2]) % 3 == 2}
    ws.merge_meta({one.id: {"light": "night" if one.id in dark else "day"} for one in held})
    said = {one.id: ((one.label + (one.id in dark)) % 3, 0.9) for one in held}
    ws.set_predictions(model, said)
    shown = page.call("browse-count", "act", {"name": "show", "mode": "slices"})["browse-summary"]
    assert ("find", {"outcome": "errors", "words": "vocabulary"}) in actions(shown)
    assert not any(sent.get("words") == "captions" for _, sent in actions(shown)), (
        "nobody has named an endpoint"
    )
    monkeypatch.setenv("LTG_LLM_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("LTG_LLM_MODEL", "some-model")
    shown = page.call("browse-count", "act", {"name": "show", "mode": "slices"})["browse-summary"]
    assert ("find", {"outcome": "errors", "words": "captions"}) in actions(shown)
    assert "to 127.0.0.1:9, which the operator" in str(shown)
    monkeypatch.setenv("LTG_LLM_BASE_URL", "ftp://somewhere")
    shown = page.call("browse-count", "act", {"name": "show", "mode": "slices"})["browse-summary"]
    assert "The endpoint of this server cannot be used" in str(shown), "a wrong address is said, not hidden"
    asked = page.call("browse-summary", "act", {"name": "ask", "what": "terms"})
    assert asked["browse-words"]["label"].startswith("Words to look for")
    page.call("browse-words", "submit", browse_words="a" * 400)
    assert "no term of 1 to" in page.messages[-1]
    page.call("browse-words", "submit", browse_words="at night, fog")
    job = ended("slices")
    assert job.spec.arguments["words"] == {"source": "vocabulary", "own": "at night, fog"}
    page.call("browse-summary", "act", {"name": "find", "outcome": "errors", "words": "metadata"})
    assert ended("slices").result["words"] == "metadata"
    (first, *_) = workflows.slices(ws, "found")
    assert first.name == "light night"
    found = listing(ctx, "entropy")
    assert ("cause", {"id": first.id}) in actions(found) and "Associated" not in texts(found)
    twin = dataclasses.replace(first, id="twin")
    assert workflows.untested([first, twin]) == [first.id, "twin"]
    assert ("causes", {}) in actions(_causes(ctx, [first, twin])) and not _causes(ctx, [first])
    job = named.check_cause(ctx, first.id, pairs=4)
    assert job.title == "Testing the cause: light night"
    assert ended("slices").state == "done", job.reason
    told = texts(listing(ctx, "entropy"))
    assert ("Moves the signal" in told) != ("Associated, not causal" in told)
    assert "4 pairs with the same seeds" in told and told.count("split “pool”") == 1
    made = workflows.slice_of(ws, first.id).evidence["cause"]
    pooled = dataclasses.replace(
        first, evidence={"cause": made, "real": {"text": []} | {"missing": "no encoder"}}
    )
    assert named.without_pool([pooled]) is None and named.without_pool([first]) is None
    assert ("Makes errors" in told) == made["errs"]
    for errs in (False, True):
        add_evidence(ws, first.id, {"cause": {**made, "errs": errs}})
        assert ("Makes errors" in texts(listing(ctx, "entropy"))) == errs
    add_evidence(ws, first.id, {"cause": None})
    rest = workflows.untested(workflows.slices(ws, "found"))
    assert first.id in rest
    page.call("browse-summary", "act", {"name": "causes"})
    job = ended("slices")
    assert job.spec.arguments["slices"] == rest and job.result["checked"] == len(rest)
    assert not workflows.untested(workflows.slices(ws, "found"))
    page.call("browse-summary", "act", {"name": "causes"})
    assert "has been tested" in page.messages[-1]
    page.call("browse-summary", "act", {"name": "habits"})
    assert ended("slices").state == "done"
    run = next(run for run in ws.runs("habits") if run.state == "done")
    assert run.settings["words"] and not run.settings["columns"]
    page.call("browse-summary", "act", {"name": "cause", "id": "nobody"})
    assert any("no slice" in said for said in page.messages)
    ws.set_predictions(model, {id: (one.pred, one.confidence) for id, one in before.items()})


def test_habits_of_a_metadata_column_are_found_and_what_moves_the_signal_stands_beside_them(
    page: Driver, ctx: Any, ended: Callable[..., Job]
) -> None:
    ws, model = ctx.workspace, ctx.model_hash
    ids = ws.query(Filter(origin="real"))
    before = ws.predictions(ids, model)
    scores = ws.scores(ids, model, "entropy")
    samples = ws.samples(ids)
    snow = {one.id for place, one in enumerate(samples) if place % 2}
    ws.merge_meta({one.id: {"ground": "snow" if one.id in snow else "grass"} for one in samples})
    # On snow every sign is read as the first one, and the signal is high.
    ws.set_predictions(model, {one.id: (0 if one.id in snow else one.label, 0.9) for one in samples})
    ranks = {one.id: 20.0 + 60.0 * (one.id in snow) + place % 7 for place, one in enumerate(samples)}
    ws.set_scores(model, "epistemic", {id: (0.1, rank) for id, rank in ranks.items()})
    shown = page.call("browse-count", "act", {"name": "show", "mode": "slices"})["browse-summary"]
    assert ("habits", {"column": "ground"}) in actions(shown)
    page.call("browse-summary", "act", {"name": "habits", "column": "prompt"})
    assert "too many values" in page.messages[-1]
    page.call("browse-summary", "act", {"name": "habits", "column": "ground"})
    job = ended("slices")
    assert job.state == "done" and job.spec.arguments["columns"] == ["ground"], job.reason
    told = texts(listing(ctx, "entropy"))
    assert f"ground snow {ctx.workspace.label_names()[0]}" in " ".join(told.split())
    assert "What moves the epistemic signal within a class" in told and "+60" in told
    ws.set_predictions(model, {id: (one.pred, one.confidence) for id, one in before.items()})
    ws.set_scores(model, "entropy", {id: (one.value, one.percentile) for id, one in scores.items()})


def test_what_an_imagined_finding_does_is_said_in_one_line_each() -> None:
    got = {"signal": "epistemic", "errors": [2 / 3, 0.0], "percentiles": [10.0, 35.0]}
    assert named.effect({"log_odds": [1.5, 0.5, 2.5], "effect": got}) == [
        "log-odds +1.5 (+0.5 to +2.5) against their controls",
        "read wrongly 67 %, without the words 0 %; mean epistemic P 10 and P 35",
    ]
    nothing = {"signal": "", "errors": [None, None], "percentiles": [None, None]}
    assert named.effect({"effect": nothing}) == [] == named.effect({})


def test_asking_for_every_word_is_a_job_and_tells_what_was_asked(
    page: Driver, ctx: Any, ended: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, ws = {"outcome": "asked", "words": "vocabulary"}, ctx.workspace
    shown = page.call("browse-count", "act", {"name": "show", "mode": "slices"})["browse-summary"]
    assert ("find", sent) in actions(shown)
    words = workflows.words_to_ask(ws)
    assert f"{words} words, up to {workflows.images_of(3, words):,} images" in str(shown), (
        "said before it begins"
    )
    monkeypatch.setattr(workflows, "MOST_ASKED", 100)
    assert ("find", sent) in actions(listing(ctx, "")) and "more than 100; name some" in str(listing(ctx, ""))
    monkeypatch.undo()
    started = page.call("browse-summary", "act", {"name": "find", **sent})
    assert "Asking for every word" in texts(started["browse-progress"])
    ctx.jobs.cancel(ctx.latest("slices").id)
    job = ended("slices")
    assert job.spec.task == "find_slices" and job.lane == "compute" and job.state == "cancelled"
    got = NAMING_TASKS["find_slices"](
        ws,
        outcome="asked",
        words={"source": "vocabulary", "own": "at night"},
        ask={"first": 4, "second": 6, "again": 1, "signal": "entropy"},
        on_progress=no_progress,
        cancel=CancelToken(),
    )
    assert (got["tried"], got["first"], got["second"]) == (3, 4, 6) and got["again"] <= 1
    told = texts(listing(ctx, "entropy"))
    assert "every class was drawn 4 times with and without every word" in told and "with 6 new seeds" in told
    assert ("No word makes errors" in told) == (got["shown"] == 0) == (not workflows.slices(ws, "found"))
    figures = {"n": 8, "bad": 6, "low": 0.4, "high": 0.9, "rest": 0.125, "p": 0.03, "q": 0.04, "tried": 2}
    ids = ws.query(Filter(origin=got["runs"][0]))[:8]
    insert(ws, "found", "stop at night", "", {"ids": ids}, {"outcome": "asked", **figures})
    shown = listing(ctx, "entropy")
    assert "6 of 8 wrong, without 12.5" in texts(shown) and "slice-imagine" not in dict(actions(shown))
    cell = {"class": "stop", "column": "", "value": "night", "phrase": "at night"}
    found = insert(
        ws, "found", "stop at night", "", {"ids": ids}, {"outcome": "asked", "cell": cell, **figures}
    )
    assert ("slice-imagine", {"id": found}) in actions(listing(ctx, "entropy"))
    more = next(
        d for d in page.handlers("browse-summary", "act") if page.ids["imagine-prompt"] in d["outputs"]
    )
    aimed = page.run(more, {"name": "slice-imagine", "id": found})
    assert aimed["tabs"]["selected"] == "imagine" and aimed["imagine-class"]["value"] == "stop"
    assert aimed["imagine-prompt"] == "a photo of a stop sign at night" and aimed["imagine-number"] == 16
