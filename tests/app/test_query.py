"""The address of a view."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from app.brief import brief, is_brief, whole
from app.query import Query, address, as_filter, from_address

FULL = Query(
    shown="classes",
    rank="entropy",
    label="a & b",
    prediction="<img src=x>",
    answer="wrong",
    split="none",
    origin="any",
    verdict="flagged",
    belief="believed",
    tag="50 %",
    text="night +fog",
    by="-ece",
    of="a & b",
    slice="ab12",
    like="cd34",
    size=200,
    page=3,
    meta={"light=dim": "0.5", "ort": "Köln"},
)


@pytest.mark.parametrize("query", (Query(), FULL))
def test_an_address_leads_back_to_the_same_view(query: Query) -> None:
    text = "?" + urlencode({**address(query, "ab12"), "tab": "map"})
    assert from_address(text) == (query, "ab12", "map")


def test_what_is_as_it_is_at_first_is_left_out() -> None:
    assert address(Query(), "") == {}


@pytest.mark.parametrize(
    "text",
    (
        "",
        "?",
        "?answer=perhaps&page=0",
        "?page=1e9&show=secrets",
        "?sample=../x&page=²",
        "?meta.=1&class=",
        "?like=../x&slice=%00&size=61",
        "?size=²00&like=" + "a" * 65,
    ),
)
def test_nonsense_is_the_first_view(text: str) -> None:
    assert from_address(text)[0] == Query() and from_address(text)[1] == ""


def test_too_much_is_cut() -> None:
    query, _, _ = from_address("?find=" + "x" * 10_000)
    assert len(query.text) == 300


def test_a_condition_is_set_replaced_and_taken_away() -> None:
    one = Query(page=4).toggled("label", "stop")
    assert (one.label, one.page) == ("stop", 1)
    assert one.toggled("label", "yield").label == "yield" and one.toggled("label", "stop").label == ""
    night = one.toggled("meta.light", "dim")
    assert night.conditions() == [("label", "stop"), ("origin", "real"), ("meta.light", "dim")]
    assert night.toggled("meta.light", "dim") == one and night.cleared() == Query()
    assert Query().toggled("origin", "real").origin == "any"


@pytest.mark.parametrize(
    ("field", "value"), (("page", "7"), ("answer", "perhaps"), ("__class__", "x"), ("by", "n"))
)
def test_what_is_no_condition_changes_nothing(field: str, value: str) -> None:
    assert Query().toggled(field, value) == Query()


def test_the_filter_has_the_same_conditions() -> None:
    found = as_filter(FULL, ["a & b", "c"], "hash")
    assert (found.label, found.correct, found.split, found.origin) == (0, False, "", None)
    assert found.prediction is not None and found.prediction < 0, "a class that is not there finds nothing"
    assert (found.verdict, found.believed, found.tag, found.text) == ("flagged", True, "50 %", "night +fog")
    assert found.meta == {"light=dim": "0.5", "ort": "Köln"} and found.model_hash == "hash"


def test_one_of_several_splits_is_taken_away_by_a_click() -> None:
    both = Query(split="val or test")
    assert both.toggled("split", "val").split == "test" and both.toggled("split", "train").split == "train"
    assert both.toggled("split", "val or test").split == ""
    assert as_filter(Query(split="test or none"), [], None).split == ("test", "")


def test_ranges_are_read_as_ranges() -> None:
    from ltg_core.data.records import Range

    found = as_filter(Query(meta={"a": "0.5..2", "b": "-inf..3", "c": "x..y", "d": "1"}), [], None).meta
    assert found == {"a": Range(0.5, 2), "b": Range(float("-inf"), 3), "c": "x..y", "d": "1"}


@pytest.mark.parametrize("size", (299, 300, 301, 10_000))
def test_a_value_of_any_length_has_a_short_place_in_the_address(size: int) -> None:
    long = "é&" * (size // 2) + "x" * (size % 2)
    short = brief(long)
    assert len(short) <= 300 and is_brief(short) == (size > 300)
    assert whole(short, ["other", long[:-1], long]) == long
    assert whole(short, ["other"]) == short and whole("stop", [long]) == "stop"
    query = Query().toggled("label", long).toggled("meta.note", long)
    assert query.label == long and query.toggled("label", long).label == "", "a click takes it away again"
    text = "?" + urlencode(address(query, ""))
    assert len(text) < 6000
    found, _, _ = from_address(text)
    assert (found.label, found.meta) == (short, {"note": short})
