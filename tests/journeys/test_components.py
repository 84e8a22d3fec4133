"""Components by themselves, in a real browser without a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.components import Curator, Grid, Pulse

HOLD = """(script) => {
  window.told = [];
  window.times = [];
  window.props = { value: null };
  window.watched = {};
  const watch = (names, act) => { for (const name of [names].flat()) window.watched[name] = act; };
  new Function("element", "props", "watch", "trigger", script)(
    document.getElementById("part"), window.props, watch,
    (name, data) => { window.told.push([name, data]); window.times.push(performance.now()); });
}"""

PANELS = """(names) => names.forEach((name, at) => {
  const panel = document.body.appendChild(document.createElement("div"));
  panel.setAttribute("role", "tabpanel");
  panel.id = "tab-" + name;
  panel.textContent = name;
  panel.hidden = at === 0;
})"""
COUNT = """() => {
  window.told.length = window.asked = 0;
  if (window.counting) return;
  window.counting = true;
  const old = window.fetch;
  window.fetch = (...given) => { window.asked += 1; return old(...given); };
}"""


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    opened = browser.new_page()
    opened.route(
        "http://page.test/**", lambda route: route.fulfill(body="<html></html>", content_type="text/html")
    )
    opened.goto("http://page.test/")
    yield opened
    opened.close()


def placed(page: Any, component: Any) -> None:
    page.set_content(f'<div id="part">{component.html_template}</div>')
    page.evaluate(HOLD, component.js_on_load)


def given(page: Any, value: Any) -> None:
    page.evaluate(
        "(text) => { window.props.value = text; window.watched.value(); }", Grid().postprocess(value)
    )


def focused(page: Any) -> str:
    return str(page.locator(".is-focus .card-title").inner_text())


def rows(*names: str) -> dict[str, Any]:
    return {"items": [{"id": name, "t": name} for name in names]}


def test_a_grid_that_is_drawn_anew_keeps_what_was_clicked_meanwhile(page: Any) -> None:
    placed(page, Grid())
    given(page, {**rows("a", "b", "c"), "focus": "a"})
    assert focused(page) == "a"
    page.locator(".card", has_text="b").click()
    page.locator(".card", has_text="c").click(modifiers=["Shift"])
    given(page, {**rows("d", "b", "c"), "focus": "a", "again": True})
    assert focused(page) == "c", "asked for before the click, and answered after it"
    assert page.locator(".is-selected").count() == 2
    given(page, {**rows("e", "f"), "focus": "f", "again": True})
    assert focused(page) == "f", "what was clicked is gone"
    given(page, {**rows("f", "g"), "focus": "g"})
    assert focused(page) == "g", "a view that somebody asked for says where it begins"


def test_a_drawing_that_is_older_than_a_decision_does_not_take_it_back(page: Any) -> None:
    placed(page, Curator())
    undecided = {"items": [{"id": name, "t": name, "v": "undecided", "g": []} for name in "ab"], "tally": {}}
    marks = page.locator(".card .mark-accepted")
    given(page, {**undecided, "clock": 1})
    assert marks.count() == 0
    answered = {"ack": 0, "clock": 2, "tally": {"accepted": 1}, "items": {"a": {"v": "accepted"}}}
    page.evaluate("(news) => { window.props.patch = news; window.watched.patch(); }", answered)
    assert marks.count() == 1
    given(page, {**undecided, "clock": 1})
    assert marks.count() == 1 and "1 accepted" in page.locator(".curate-bar .count").inner_text()
    given(page, {**undecided, "clock": 3})
    assert marks.count() == 0, "what is newer counts: it was undone elsewhere"


def test_the_pulse_asks_for_an_event_only_where_there_is_something_to_hear(page: Any) -> None:
    page.route(
        "http://page.test/", lambda route: route.fulfill(body="<html></html>", content_type="text/html")
    )
    page.route("http://page.test/pulse", lambda route: route.fulfill(body="one"))
    page.route("http://page.test/queue/*", lambda route: route.fulfill(body="{}"))
    placed(page, Pulse())
    tabs = ("start", "map")
    page.evaluate(PANELS, tabs)
    page.wait_for_function("window.told.length > 0")
    assert page.evaluate("window.told[0]") == ["tick", {"tab": "map", "heard": ""}]
    page.wait_for_function("window.told.length > 1")  # not for ever: the answer may lie at the server
    first, second = page.evaluate("window.times.slice(0, 2)")
    assert second - first >= 4990, "its answer is waited for"
    given(page, {"heard": "one", "tab": "map"})
    page.evaluate(COUNT)
    page.wait_for_function("window.asked > 2")
    assert page.evaluate("window.told.length") == 0, "it has heard that"
    page.evaluate("fetch('/queue/join').then((one) => one.text()).then(() => fetch('/queue/data'))")
    page.evaluate(COUNT)
    page.wait_for_function("window.asked > 3")
    assert page.evaluate("window.told.length") == 0, "a stream was opened for the answer"
    page.evaluate("fetch('/queue/join')")
    page.wait_for_function("window.told.length > 0")  # no stream was: what was asked for lies at the server
    given(page, {"heard": "one", "tab": "map"})
    page.evaluate(COUNT)
    page.wait_for_function("window.asked > 3")
    assert page.evaluate("window.told.length") == 0, "the event that was answered has fetched it"
    page.evaluate(
        "for (const name of ['start', 'map']) document.getElementById('tab-' + name).toggleAttribute('hidden')"
    )
    page.wait_for_function("window.told.length > 0")
    assert page.evaluate("window.told[0]") == ["tick", {"tab": "start", "heard": "one"}], (
        "another tab is shown, which may be stale"
    )
    given(page, {"heard": "one", "tab": "start"})
    page.evaluate("() => { window.told.length = 0; }")
    page.unroute("http://page.test/pulse")
    page.route("http://page.test/pulse", lambda route: route.fulfill(status=401))
    page.wait_for_function("window.told.length > 0"), "what cannot be asked is left to the event"
