"""Start, Tell and pins through their real endpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from driver import Driver, actions, texts

from ltg_core.jobs import Job

BAD = '<img src=x onerror="alert(1)">${alert(2)}'


def test_start_counts_what_there_is_and_says_what_a_finding_needs(page: Driver, ctx: Any) -> None:
    from app import welcome

    shown = welcome.start_view(ctx, [])
    told = texts(shown)
    assert "72" in told and "of 18 held-out samples" in told and "What next" in told
    go = [payload["tab"] for name, payload in actions(shown) if name == "go"]
    assert {"browse", "imagine", "map", "curate", "tell", "setup"} <= set(go)
    assert "No group has enough samples" in told, "six a class are too few to accuse one"
    page.call("start-view", "act", {"name": "finding"})
    assert any("no finding yet" in message for message in page.messages)
    assert page.call("start-view", "act", {"name": "go", "tab": "nowhere"}) == {}


def test_an_empty_address_is_the_start_page(page: Driver) -> None:
    for query in ("", "?key=x&__theme=dark"):
        assert page.call("address", "go", {"query": query})["tabs"]["selected"] == "start"
    assert page.call("address", "go", {"query": "?split=test"})["tabs"]["selected"] == "browse"


def test_a_pin_is_annotated_told_and_fetched_and_nobody_fetches_anything_else(
    page: Driver, ctx: Any, ended: Callable[..., Job]
) -> None:
    one, two = ctx.workspace.query(limit=2)
    panel = page.call("browse-panel", "act", {"name": "pin", "id": one, "on": True}, at=1)["browse-panel"]
    assert ("pin", {"id": one, "on": False}) in actions(panel)
    page.call("browse-panel", "act", {"name": "pin", "id": two, "on": True}, at=1)
    cases = page.call("tell-cases", "act", {"name": "pin-note", "id": two, "value": BAD})["tell-cases"]
    notes = [node["a"]["value"] for node in _all(cases) if node["t"] == "textarea"]
    assert notes == ["", BAD]
    cases = page.call("tell-cases", "act", {"name": "pin-move", "id": two, "by": -1})["tell-cases"]
    assert [node["a"]["value"] for node in _all(cases) if node["t"] == "textarea"] == [BAD, ""]
    page.call("tell-cases", "act", {"name": "pin-note", "id": "nobody", "value": "x"})
    assert any("not pinned" in message for message in page.messages)
    page.call("tell-make", "click", tell_title=BAD, tell_attribution=False)
    job = ended("tell")
    assert job.state == "done", job.reason
    run = ctx.workspace.runs("tell")[0]
    answer = page.http.get(f"/media/report/{run.id}")
    assert answer.status_code == 200 and "sandbox" in answer.headers["content-security-policy"]
    assert "&lt;img src=x" in answer.text and "<img src=x" not in answer.text
    others = [run.id for run in ctx.workspace.runs() if run.kind != "tell"][:2]
    for wrong in (*others, "x", "..%2flongtail.sqlite", run.id + ".html"):
        assert page.http.get(f"/media/report/{wrong}").status_code == 404


def _all(node: Any) -> list[dict[str, Any]]:
    """Every node of a tree."""
    if not isinstance(node, dict):
        return []
    own = [node] if "t" in node else []
    return [*own, *[found for child in node.get("k", []) for found in _all(child)]]
