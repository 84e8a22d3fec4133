"""Asking a language model for classes that look like a weak one; its answer is checked, never believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ltg_core.errors import InputError
from ltg_core.extension.proposals import Proposal

Ask = Callable[[str, Mapping[str, Any]], Any]
"""A prompt and a JSON schema in, the decoded answer out."""

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "classes": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "relation": {"type": "string"},
                    "difference": {"type": "string"},
                },
                "required": ["name", "relation", "difference"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["classes"],
    "additionalProperties": False,
}
_TARGETS = 400  # names of classes that are sent along


def prompt(parent: str, targets: Sequence[str], most: int) -> str:
    """The question; names travel as JSON, so that none of them can be taken for an instruction."""
    others = [name for name in targets if name != parent][:_TARGETS]
    return (
        "An image classifier has few images of one class. Name other classes of things that look like it and would "
        "help it to learn what the class looks like by contrast.\n"
        f"The class: {json.dumps(parent)}.\n"
        f"The classifier's other classes, which must not be named: {json.dumps(others)}.\n"
        f"Give at most {most}. Each is a thing of its own kind: neither the class itself, nor a kind or a part of it, "
        "nor one of the other classes. Of each give its name (one to four words), its relation to the class (such as "
        "'same family'), and the difference that one sees. Answer with JSON only: "
        '{"classes": [{"name": "…", "relation": "…", "difference": "…"}]}'
    )


def ask_for(parent: str, targets: Sequence[str], most: int, ask: Ask) -> list[Proposal]:
    """What a language model proposes for one class; not sifted yet.

    Raises:
        InputError: The answer has another form, and whatever ``ask`` raises.
    """
    return parse(parent, ask(prompt(parent, targets, most), SCHEMA))


def parse(parent: str, answer: Any) -> list[Proposal]:
    """Proposals of a decoded answer.

    Raises:
        InputError: It is not of the form that was asked for.
    """
    entries = answer.get("classes") if isinstance(answer, Mapping) else answer
    if not isinstance(entries, list) or not all(
        isinstance(one, Mapping) and isinstance(one.get("name"), str) for one in entries
    ):
        raise InputError(
            f'the language model\'s answer for {parent!r} is not of the form {{"classes": [{{"name": …}}]}}; '
            "nothing was taken from it. Try again, or another model (LTG_LLM_MODEL)"
        )
    return [
        Proposal(parent, one["name"], "llm", _text(one, "relation"), _text(one, "difference"))
        for one in entries
    ]


def _text(one: Mapping[str, Any], key: str) -> str:
    value = one.get(key)
    return value if isinstance(value, str) else ""
