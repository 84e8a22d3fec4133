"""The file: everything inside, every text harmless, nothing that runs or reaches out."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ltg_core.report import Case, Change, Measure, Picture, Redactor, Report, Scatter, Step, data_url, render

BAD = '<img src=x onerror="alert(1)"></style><script>alert(2)</script>${alert(3)}\u202egnp.exe\u2066" onload=a(4) \'x'


def picture(side: int = 40) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (side, side * 2, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def report(text: str = "stop", note: str = "") -> Report:
    url = data_url(picture())
    case = Case(
        text, text, note or text, (Picture(url, text, text, True), Picture(url, "b")), ((text, text),)
    )
    return Report(
        title=text,
        about=text,
        date="1 May 2026",
        weakness=f"{text}\n\nSecond paragraph",
        what=text,
        often=text,
        sure=text,
        measures=(Measure(text, 2, 11, 0.05, 0.48, weak=True), Measure("all", 90, 100, 0.8, 0.95)),
        measured=text,
        actions=(text,),
        cases=(case,),
        chosen=text,
        scatter=Scatter(
            ((0.0, 0.0, "right"), (1.0, 2.0, "wrong"), (3.0, 1.0, "made")), ((1, 1.0, 2.0),), text
        ),
        method=((text, text),),
        change=Change(
            text,
            (
                Step(f"lost {text}", 0.9, 0.7, -0.3, -0.1, 40, True, True),
                Step("few", 0.5, 0.4, None, None, 3, True, False),
            ),
            2,
            (Step("all in all", 0.8, 0.9, 0.05, 0.15, None, False, True),),
            text,
        ),
    )


class Seen(HTMLParser):
    """Every element and attribute of a file."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(text: str) -> Seen:
    seen = Seen()
    seen.feed(text)
    return seen


def test_hostile_texts_are_shown_and_do_nothing() -> None:
    plain, hostile = read(render(report())), read(render(report(BAD)))
    assert hostile.tags == plain.tags, "no text adds an element"
    assert {(t, n) for t, n, _ in hostile.attributes} == {(t, n) for t, n, _ in plain.attributes}
    assert not any(name.startswith("on") for _, name, _ in hostile.attributes)
    assert any('<img src=x onerror="alert(1)">' in word for word in hostile.words), "it is there, as text"
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", render(report(BAD)))


def test_nothing_in_the_file_runs_or_is_fetched() -> None:
    text = render(report(BAD))
    seen = read(text)
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(seen.tags)
    sources = [value for _, name, value in seen.attributes if name in ("src", "href", "action", "poster")]
    assert sources and all(value.startswith("data:") for value in sources)
    assert "url(" not in text and "@import" not in text
    policy = next(v for t, n, v in seen.attributes if t == "meta" and n == "content" and "default-src" in v)
    assert "default-src 'none'" in policy and "script-src" not in policy


def test_a_picture_that_is_none_is_left_out() -> None:
    made = report()
    case = dataclasses.replace(made.cases[0], pictures=(Picture("https://example.org/x.png", "x"),))
    assert "example.org" not in render(dataclasses.replace(made, cases=(case,)))


def test_pictures_are_made_small_and_lose_what_a_camera_wrote() -> None:
    image = picture(1200)
    image.info["exif"] = b"Exif\x00\x00secret place"
    data = base64.b64decode(data_url(image).split(",", 1)[1])
    again = Image.open(io.BytesIO(data))
    assert again.format == "WEBP" and max(again.size) == 512 and again.size == (512, 256)
    assert b"secret" not in data and not again.getexif()
    assert Image.open(io.BytesIO(base64.b64decode(data_url(picture(8)).split(",", 1)[1]))).size == (16, 8)


def test_the_numbers_are_those_that_were_given() -> None:
    words = " ".join(" ".join(read(render(report())).words).replace("\u00a0", " ").split())
    assert "18.2 % 5.0 to 48.0 % 2 of 11" in words and "90.0 % 80.0 to 95.0 % 90 of 100" in words
    assert "Second paragraph" in words


def test_what_became_worse_stands_before_everything_else_that_changed() -> None:
    text = render(report())
    words = " ".join(" ".join(read(text).words).replace("\u00a0", " ").split())
    assert "90.0 % 70.0 % −20.0 −30.0 to −10.0, 40 images" in words and "and 2 more" in words
    assert "+10.0 +5.0 to +15.0" in words and "too few images for an interval, 3 images" in words
    assert words.index("What became worse") < words.index("lost") < words.index("All in all")
    better = dataclasses.replace(report().change, worse=(), more=0)
    assert "What it learned from" not in text
    learned = ("What it learned from: 5 synthetic images", "precision 0.90 & more", "how to read it")
    told = render(dataclasses.replace(report(), change=dataclasses.replace(better, learned=learned)))
    assert f"<h3>{learned[0]}</h3>" in told and "precision 0.90 &amp; more" in told and learned[2] in told
    assert "Nothing became worse" in render(dataclasses.replace(report(), change=better))
    assert "Before and after" not in render(dataclasses.replace(report(), change=None))


def test_an_endless_text_is_cut_and_an_empty_report_is_a_page() -> None:
    assert len(render(report("x" * 100_000))) < 200_000
    bare = dataclasses.replace(
        report(),
        measures=(),
        cases=(),
        scatter=None,
        actions=(),
        what="",
        often="",
        sure="",
        weakness="",
        change=None,
    )
    assert read(render(bare)).tags.count("section") == 1, "only how it was made"


@pytest.mark.parametrize(
    ("text", "expected"),
    (
        ("see /home/anna/photos/2024/cat 1.jpg", "see [file] [file]"),
        (r"C:\Users\Anna\data\x.png is wrong", "[file] is wrong"),
        ("a limit of 30 km/h, and/or more", "a limit of 30 km/h, and/or more"),
        ("frame_0012.webp and net.safetensors", "[file] and [file]"),
        ("the secret-holiday one", "the [file] one"),
        ("version 2.13.0 of torch, about 99.5 %", "version 2.13.0 of torch, about 99.5 %"),
        ("stopping at the stop", "stopping at the stop"),
    ),
)
def test_redaction_takes_names_and_paths_and_nothing_else(text: str, expected: str) -> None:
    assert Redactor(["album/secret-holiday.png", "7.png", "ab"])(text) == expected
    assert Redactor(["album/secret-holiday.png"], on=False)(text) == text
