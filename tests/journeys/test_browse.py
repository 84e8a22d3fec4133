"""Browse in a real browser: filters, the matrix and the table, the address, the difference picture."""

from __future__ import annotations

import base64
import io
import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from conftest import PATIENCE, Visit
from PIL import Image
from playwright.sync_api import expect
from test_main_loop import choose


def opened(visit: Visit, query: str = "?tab=browse") -> Any:
    """The page, once the demo is there and scored."""
    visit.page.goto(f"{visit.address}/{query}")
    chip = visit.page.locator("#header .chip", has_text="Accuracy")
    expect(chip).to_contain_text("%", timeout=600_000)
    expect(visit.page.locator("#header .job-running")).to_have_count(0, timeout=600_000)
    return visit.page


def state(page: Any) -> dict[str, str]:
    """What the address says."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def facet(page: Any, text: str) -> Any:
    return page.locator("#browse-facets details[open] .facet-row").filter(has_text=re.compile(f"^{text}"))


def count(page: Any) -> int:
    shown = page.locator("#browse-count .count > b").inner_text()
    return int(re.sub(r"\D", "", shown))


def test_a_cell_of_the_matrix_opens_its_samples_and_back_returns_to_it(visit: Visit) -> None:
    page = opened(visit)
    page.locator("#browse-count .mode", has_text="Confusion matrix").click()
    page.locator("#browse-summary .warn .link").click()
    expect(page.locator("#browse-summary .warn")).to_have_count(0)
    expect(facet(page, "Test")).to_have_attribute("aria-pressed", "true")
    visit.shot("confusion")
    cell = page.locator(".matrix td.wrong button.cell").first
    wanted = int(cell.inner_text())
    cell.click()
    expect(page.locator("#browse-grid .card")).to_have_count(wanted)
    expect(page.locator("#browse-grid .card-sub:not(.wrong)")).to_have_count(0)
    found = state(page)
    assert set(found) == {"split", "class", "predicted"} and found["split"] == "test"
    page.go_back()
    expect(page.locator(".matrix")).to_be_visible()
    assert state(page) == {"split": "test", "show": "confusion"}
    page.go_forward()
    expect(page.locator("#browse-grid .card")).to_have_count(wanted)
    assert state(page) == found


def test_the_table_of_classes_sorts_and_opens(visit: Visit) -> None:
    page = opened(visit, "?show=classes&split=test")
    rows = page.locator(".by-class tbody tr")
    expect(rows.first).to_be_visible()
    shares = [float(text.split()[0]) for text in page.locator("td.accuracy").all_inner_texts()]
    assert shares == sorted(shares) and len(shares) == rows.count() == 10, "the worst class first"
    page.locator(".by-class thead button", has_text="Class").click()
    expect(page.locator(".by-class th.is-sorted")).to_contain_text("Class")
    names = page.locator(".by-class tbody th").all_inner_texts()
    assert names == sorted(names, key=str.casefold) and state(page)["by"] == "label"
    visit.shot("classes")
    page.locator(".by-class tbody tr", has_text="danger").locator("td.accuracy button").click()
    expect(page.locator("#browse-grid .card").first).to_be_visible()
    expect(page.locator("#browse-grid .card-title").filter(has_not_text="danger")).to_have_count(0)
    expect(page.locator("#browse-grid .card-sub:not(.wrong)")).to_have_count(0)
    assert state(page) == {"split": "test", "by": "label", "class": "danger", "answer": "wrong"}


def test_filters_combine_by_their_counts_and_metadata_unfolds(visit: Visit) -> None:
    page = opened(visit)
    expect(facet(page, "Test")).to_be_visible()
    everything = count(page)
    facet(page, "stop").click()
    expect(page.locator("#browse-count .condition", has_text="stop")).to_be_visible()
    assert count(page) < everything
    promised = int(facet(page, "Test").locator(".facet-count").inner_text().replace(",", ""))
    facet(page, "Test").click()
    expect(page.locator("#browse-count .condition")).to_have_count(2)
    assert count(page) == promised
    page.locator("#browse-facets summary", has_text=re.compile("^Condition$")).click()
    night = page.locator("#browse-facets details[open] .facet-row", has_text=re.compile("^night"))
    promised = int(night.locator(".facet-count").inner_text())
    night.click()
    expect(page.locator("#browse-count .condition", has_text="Condition")).to_be_visible()
    assert count(page) == promised and state(page)["meta.condition"] == "night"
    visit.shot("filters")
    page.locator("#browse-count .link", has_text="Clear all").click()
    expect(page.locator("#browse-count .condition")).to_have_count(0)
    assert count(page) == everything and state(page) == {"tab": "browse"}


def test_a_shared_link_opens_the_same_view_and_back_leaves_the_sample(visit: Visit, browser: Any) -> None:
    page = opened(visit, "?rank=entropy&class=stop&find=night")
    expect(page.locator("#browse-count")).to_contain_text("ranked by Entropy")
    expect(page.locator("#browse-text input, #browse-text textarea").first).to_have_value("night")
    cards = page.locator("#browse-grid .card")
    cards.nth(3).click()
    expect(page.locator("#browse-panel .hero")).to_be_visible()
    page.wait_for_url(re.compile("sample="))
    before = "?" + urlsplit(page.url).query
    cards.nth(4).click()
    page.wait_for_function("was => location.search !== was", arg=before)
    link, sources = page.url, [image.get_attribute("src") for image in cards.locator("img").all()]
    other = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(link)
    expect(other.locator("#browse-panel .hero")).to_be_visible()
    expect(other.locator("#browse-grid .card")).to_have_count(len(sources))
    again = [image.get_attribute("src") for image in other.locator("#browse-grid .card img").all()]
    assert again == sources
    expect(other.locator("#browse-grid .card").nth(4)).to_have_class(re.compile("is-focus"))
    assert other.url == link
    other.context.close()
    page.go_back()
    expect(page.locator("#browse-panel")).to_contain_text("How it does")
    assert state(page) == {"rank": "entropy", "class": "stop", "find": "night"}


@pytest.mark.slow
def test_the_tab_and_what_it_keeps_are_in_the_address(visit: Visit, browser: Any) -> None:
    page = opened(visit, "?tab=setup")
    expect(page.locator("#setup-steps")).to_be_visible()
    visit.tab("Browse")
    page.wait_for_url(re.compile(r"tab=browse"))
    visit.tab("Coverage")
    page.locator("#coverage-grid").get_by_role("button", name=re.compile(r"^stop, night")).click()
    expect(page.locator("#coverage-panel")).to_contain_text("stop × night")
    cell = {"tab": "coverage", "coverage.class": "stop", "coverage.value": '"night"'}
    page.wait_for_url(re.compile(r"coverage\.class=stop"))
    assert state(page) == cell
    visit.tab("Imagine")
    choose(page, "#imagine-preset", "Unguided")
    page.wait_for_url(re.compile("imagine.preset=unguided"))
    page.locator("#imagine-prompt textarea").fill("a sign that nobody has seen")
    visit.tab("Map")
    choose(page, "#map-colour", "Origin")
    page.wait_for_url(re.compile("map.by=origin"))
    visit.tab("Curate & Export")
    page.locator("#curate-filters .facet-row", has_text="Real").click()
    page.wait_for_url(re.compile("curate.origin=real"))
    cards = page.locator("#curate-grid .card")
    cards.nth(6).click()
    page.wait_for_url(re.compile("curate.sample="))
    curated = state(page)
    visit.tab("Imagine")  # its state comes back with it
    page.wait_for_url(re.compile("imagine.preset=unguided"))
    visit.shot("address")

    # Back in a hurry, by one and the same way; what is not shown stays as it is.
    page.go_back()
    expect(cards.nth(6)).to_have_class(re.compile("is-focus"))
    page.go_back()
    page.go_back()
    page.wait_for_url(re.compile("map.by=origin"))
    expect(page.locator("#map-colour input").first).to_have_value("Origin")
    for _ in range(4):
        page.go_back()
    page.wait_for_url(re.compile(r"coverage\.class=stop"))
    expect(page.locator("#coverage-panel")).to_contain_text("stop × night")
    page.go_back()
    expect(page.locator("#coverage-panel")).to_contain_text("Where images would help most")
    page.go_forward()
    expect(page.locator("#coverage-panel")).to_contain_text("stop × night")
    assert state(page) == cell
    page.go_forward()
    expect(page.locator("#imagine-prompt textarea")).to_have_value("a sign that nobody has seen")

    # The same in a browser that has never been here.
    other = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(visit.address + "?" + urlencode(curated))
    focus = other.locator("#curate-grid .card.is-focus")
    expect(focus).to_be_visible()
    expect(focus.locator("img")).to_have_attribute("src", re.compile(curated["curate.sample"]))
    assert state(other) == curated
    other.goto(
        visit.address
        + "?"
        + urlencode({"tab": "imagine", "imagine.class": "stop", "imagine.preset": "sweep"})
    )
    expect(other.locator("#imagine-class input").first).to_have_value("stop")
    expect(other.locator("#imagine-prompt textarea")).to_have_value("a photo of a stop sign")
    expect(other.locator("#imagine-weights textarea, #imagine-weights input").first).to_be_visible()
    other.context.close()


def test_the_difference_has_a_fixed_scale(visit: Visit) -> None:
    page = opened(visit)
    guided, unguided = (200, 100, 50), (180, 120, 250)
    box = page.evaluate(
        """([guided, unguided]) => { const box = document.createElement('div');
        box.className = 'frame'; box.style.cssText = 'position:fixed;top:0;left:0;width:64px;z-index:99';
        const layers = document.createElement('div'); layers.className = 'change';
        for (const [name, src] of [['', guided], ['under', unguided]]) {
          const image = document.createElement('img'); image.className = name; image.src = src; layers.append(image); }
        box.append(layers); box.id = 'scale'; document.querySelector('.gradio-container').append(box); }""",
        [plain(guided), plain(unguided)],
    )
    assert box is None
    for layer in page.locator("#scale img").all():
        expect(layer).to_have_js_property("complete", True)
    shot = Image.open(io.BytesIO(page.locator("#scale .change").screenshot())).convert("RGB")
    found = shot.getpixel((shot.width // 2, shot.height // 2))
    wanted = [min(255, max(0, 127.5 + g - u)) for g, u in zip(guided, unguided, strict=True)]
    assert found == pytest.approx(wanted, abs=3), "0.5 + guided - unguided, cut at the ends"


def plain(colour: tuple[int, int, int]) -> str:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


LATE = """() => {
  const old = window.fetch;
  window.late = 0;
  window.fetch = async (...given) => {
    const answer = await old(...given);
    if (!String(given[0].url || given[0]).includes("queue/data")) return answer;
    const read = new TextDecoder();
    const slowly = new TransformStream({
      async transform(part, passed) {
        const text = read.decode(part, { stream: true }), at = text.indexOf('"close_stream"');
        if (at < 0) return passed.enqueue(part);
        const cut = new TextEncoder().encode(text.slice(0, text.lastIndexOf("data:", at))).length;
        passed.enqueue(part.slice(0, cut));
        await new Promise((done) => setTimeout(done, 600));
        window.late += 1;
        passed.enqueue(part.slice(cut));
      },
    });
    return new Response(answer.body.pipeThrough(slowly), { status: answer.status, headers: answer.headers });
  };
}"""
"""The end of every stream of answers arrives late, so that questions are asked that nobody fetches the answer of."""


@pytest.mark.slow
def test_an_answer_that_was_left_at_the_server_is_fetched(visit: Visit) -> None:
    opened(visit)
    visit.page.add_init_script(f"({LATE})()")
    page = opened(visit)
    facet(page, "Test").click()
    expect(page.locator("#browse-count .condition", has_text="Test")).to_be_visible()
    facet(page, "stop").click()  # before the stream of the first answer is seen to end
    expect(page.locator("#browse-count .condition", has_text="stop")).to_be_visible()
    assert state(page) | {"split": "test", "class": "stop"} == state(page)
    facet(page, "stop").click()
    expect(page.locator("#browse-count .condition", has_text="stop")).to_have_count(0)
    assert page.evaluate("window.late") >= 1
    # The end of a job is an event whose answer asks what is to be drawn; nobody clicks any more.
    visit.tab("Map")
    page.locator("#map-draw").click()
    expect(page.locator("#map-plot .ltg-map")).to_have_attribute("data-drawn", re.compile(r"\d+"))
