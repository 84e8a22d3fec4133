"""The tokenizer that is built from captions."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltg_core.demo.world import CLASSES, CONDITIONS, LIGHT, STATE, prompt
from ltg_core.errors import DatasetError
from ltg_core.generators.fit.textimage import TextSettings, build_tokenizer, tokens


def every_caption() -> list[str]:
    single = [(c,) for c in CONDITIONS]
    double = [(light, state) for light in LIGHT for state in STATE]
    return [prompt(s, c) for s in CLASSES for c in [(), *single, *double]]


def test_every_word_of_the_captions_is_one_token(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(every_caption(), tmp_path, 77)
    for word in {w for text in every_caption() for w in text.split()}:
        assert len(tokenizer.tokenize(word)) == 1, word


def test_no_caption_of_the_demo_is_cut(tmp_path: Path) -> None:
    """A long class name once pushed the condition out of the text, and the generator never learned it."""
    tokenizer = build_tokenizer(every_caption(), tmp_path, TextSettings().length)
    for text in every_caption():
        assert len(tokenizer(text).input_ids) <= TextSettings().length, text
    rows = tokens(tokenizer, every_caption())
    assert len({tuple(row) for row in rows.tolist()}) == len(set(every_caption()))


def test_unknown_words_fall_back_to_letters_and_capitals_do_not_matter(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(every_caption(), tmp_path, 77)
    assert "".join(tokenizer.tokenize("zebra")).replace("</w>", "") == "zebra"
    assert tokenizer("A Photo").input_ids == tokenizer("a photo").input_ids


def test_captions_without_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no words"):
        build_tokenizer(["", "…"], tmp_path, 16)
