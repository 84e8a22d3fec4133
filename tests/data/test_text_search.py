"""The search for words: beginnings, phrases, what is written by curators, and whatever else is typed."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from ltg_core.curation import verdicts
from ltg_core.data import database, schema
from ltg_core.data.database import Database
from ltg_core.data.records import Filter, NewSample
from ltg_core.data.schema import MIGRATIONS, SCHEMA_VERSION
from ltg_core.data.workspace import Workspace

CAPTIONS = (
    "a stop sign at night, in fog",
    "a nightly stop",
    "fog at night. Sign: yield",
    "ein Schild in Köln, Straße",
    "<img src=x onerror=alert(1)> ${7*7} {{value}}",
    "夜の標識と霧",
    "50 % sale 🚧",
)


@pytest.fixture
def ids(ws: Workspace, make: Any) -> list[str]:
    return ws.add_images(
        [
            NewSample(
                make(i),
                caption=text,
                source=f"cam_{i:02d}/IMG-{i}.png",
                meta={"site": f"dock {i}", "deep": {"a": ["quay"]}},
            )
            for i, text in enumerate(CAPTIONS)
        ]
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    (
        ("night", (0, 1, 2)),
        ("NIGHT fog", (0, 2)),
        ("nigh", (0, 1, 2)),
        ("ight", ()),
        ('"night"', (0, 2)),
        ('"at night" fog', (0, 2)),
        ('"night fog"', ()),
        ('"in fog"', (0,)),
        ('"stop sign', (0,)),
        ("koln strasse", ()),
        ("koln", (3,)),
        ("Köln", (3,)),
        ("IMG-4.png", (4,)),
        ("cam_02", (2,)),
        ('"dock 5"', (5,)),
        ("quay", range(7)),
        ("標識", (5,)),
        ("🚧", (6,)),
        ("50 %", (6,)),
        ("onerror=alert(1)", (4,)),
        ("${7*7}", (4,)),
    ),
)
def test_words_find_by_their_beginning_and_phrases_as_they_stand(
    ws: Workspace, ids: list[str], text: str, expected: Any
) -> None:
    assert ws.query(Filter(text=text)) == [ids[i] for i in expected]


@pytest.mark.parametrize(
    "text",
    (
        '"',
        '""',
        '" "',
        "'",
        "*",
        "AND",
        "NOT night OR",
        "NEAR(a b)",
        "caption:night",
        "^night",
        "{caption}:x",
        "-night",
        "(",
        "a\0b",
        "\x00",
        "\ud800",
        "%",
        "_",
        "\\",
        "; DROP TABLE words; --",
        '"a" "b',
        "x" * 10_000,
        '"' * 999,
        "\u202e",
    ),
)
def test_whatever_is_typed_is_only_looked_for(ws: Workspace, ids: list[str], text: str) -> None:
    assert set(ws.query(Filter(text=text))) <= set(ids)
    assert ws.count() == len(ids)


def test_an_operator_is_a_word_like_any_other(ws: Workspace, make: Any) -> None:
    (one,) = ws.add_images([NewSample(make(50), caption="salt and pepper, not sugar; near a: or b")])
    ws.add_images([NewSample(make(51), caption="salt, sugar")])
    for text in ("salt AND pepper", "NOT sugar", "NEAR", '"not sugar"', "or"):
        assert ws.query(Filter(text=text)) == [one]


def test_notes_and_tags_are_found_until_they_are_taken_back(ws: Workspace, ids: list[str]) -> None:
    verdicts.note(ws, ids[:2], "reflections of a crane")
    verdicts.tag(ws, ids[1:3], add=["wet lens", "odd"])
    assert ws.query(Filter(text="crane")) == ids[:2]
    assert ws.query(Filter(text='"wet lens"')) == ids[1:3]
    verdicts.set_verdict(ws, ids, "accepted")
    verdicts.rate(ws, ids, 3)
    assert ws.query(Filter(text="crane lens")) == ids[1:2]
    verdicts.tag(ws, ids[1:3], remove=["wet lens"])
    assert ws.query(Filter(text="lens")) == [] and ws.query(Filter(text="odd")) == ids[1:3]
    verdicts.note(ws, ids[:2], "")
    assert ws.query(Filter(text="crane")) == []


def test_what_is_changed_is_found_as_it_is_now(ws: Workspace, ids: list[str]) -> None:
    ws.merge_meta({ids[0]: {"site": "harbour"}})
    assert ws.query(Filter(text="harbour")) == ids[:1] and ws.query(Filter(text='"dock 0"')) == []
    with ws.database.write() as connection:
        connection.execute("DELETE FROM samples WHERE id = ?", (ids[0],))
    assert ws.query(Filter(text="harbour")) == [] and ws.query(Filter(text="night")) == ids[1:3]


def test_a_workspace_of_an_earlier_version_gets_its_index(
    tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as old:
        before = MIGRATIONS[: MIGRATIONS.index(schema._WORDS_CHANGES_SLICES)]
        old.setattr(database, "MIGRATIONS", before)
        old.setattr(database, "SCHEMA_VERSION", 1 + len(before))
        with Workspace(tmp_path) as ws:
            ids = ws.add_images([NewSample(make(i), caption=text) for i, text in enumerate(CAPTIONS)])
            verdicts.tag(ws, ids[:1], add=["wet lens"])
            verdicts.note(ws, ids[1:2], "a crane")
    with sqlite3.connect(tmp_path / "longtail.sqlite") as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchone() == (1 + len(before),)
    connection.close()
    with Workspace(tmp_path) as ws:
        assert ws.query(Filter(text="fog night")) == [ids[0], ids[2]]
        assert ws.query(Filter(text="lens")) == ids[:1] and ws.query(Filter(text="crane")) == ids[1:2]
        assert ws.database.row("SELECT version FROM schema_version")[0] == SCHEMA_VERSION  # type: ignore[index]


def test_a_trigger_of_several_statements_is_run_as_one(tmp_path: Path) -> None:
    assert any("BEGIN" in script for script in MIGRATIONS)
    made = Database(tmp_path / "a.sqlite")
    names = {row[0] for row in made.rows("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    made.close()
    assert {"samples_added", "tags_removed", "verdicts_changed"} <= names
