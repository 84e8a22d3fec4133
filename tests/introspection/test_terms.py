"""Words: vocabularies, what an encoder sees, what captions say."""

from __future__ import annotations

import numpy as np
import pytest

from ltg_core.errors import InputError
from ltg_core.introspection.terms import SHOWS, Shown, Term, general, of_captions, present, read_vocabulary


def test_a_vocabulary_has_groups_context_and_phrases() -> None:
    text = "night: at night # dark\n[weather]\nfog: in fog\nsnow\n\n[context place]\nforest: in a forest\n[]\nwet\n"
    assert read_vocabulary(text) == (
        Term("night", "at night"),
        Term("fog", "in fog", "weather"),
        Term("snow", "snow", "weather"),
        Term("forest", "in a forest", "context place", context=True),
        Term("wet", "wet"),
    )
    assert any(term.context for term in general()) and len({term.name for term in general()}) == len(
        general()
    )


@pytest.mark.parametrize(
    "text", ["", "# nothing", "fog\nfog", "x" * 99, "a\u202eb", "\n".join(f"w{i}" for i in range(501))]
)
def test_a_vocabulary_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="vocabulary"):
        read_vocabulary(text)


def test_terms_of_one_group_exclude_each_other_and_the_plain_text_may_win() -> None:
    terms = (Term("fog", "in fog", "weather"), Term("snow", "in snow", "weather"), Term("wet", "wet"))
    cosines = np.array([[0.9, 0.5, 0.9], [0.1, 0.2, 0.1], [0.6, 0.6, 0.1]])
    found = present(cosines, np.array([0.3, 0.4, 0.3]), terms, temperature=20.0)
    # Two equal ones share the probability, so neither is above one half.
    assert found.tolist() == [[True, False, True], [False, False, False], [False, False, False]]


def test_captions_become_terms_without_class_names_and_filler() -> None:
    captions: list[str | list[str] | None] = ["a stop sign covered with thick snow"] * 3
    captions += [["Heavy rain", "stop"], ["heavy rain"], None, "sunny day"]
    found = of_captions(captions, ["stop", "no entry"], smallest=2)
    names = {term.name for term in found.terms}
    assert (
        "heavy rain" in names
        and "thick snow" in names
        and not names & {"stop", "with", "a", "sunny", "heavy"}
    )
    assert found.known.tolist() == [True] * 5 + [False, True]
    place = [term.name for term in found.terms].index("thick snow")
    assert found.present[:, place].tolist() == [True] * 3 + [False] * 4


def test_samples_that_were_not_looked_at_belong_to_no_slice() -> None:
    shown = Shown(
        (Term("fog", "in fog"),),
        np.array([[True], [False], [True]]),
        np.array([True, True, False]),
        "captions",
    )
    (column,) = shown.columns()
    assert column.name == SHOWS and column.codes.tolist() == [0, -1, -1]
