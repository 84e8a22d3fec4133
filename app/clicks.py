"""What a click in Browse does to its query."""

from __future__ import annotations

import dataclasses
from typing import Any

from app.brief import WHOLE
from app.query import CLASSES, CONFUSION, SAMPLES, SIZES, SLICES, Query, is_id


def changed(query: Query, data: dict[str, Any], labels: list[str]) -> Query | None:
    """The query after a click; None where the click means nothing here."""
    name, text = data.get("name"), {key: str(value)[:WHOLE] for key, value in data.items()}
    to = {key: text.get(key, "") for key in ("field", "value", "label", "prediction", "answer", "by", "id")}
    if name == "filter":
        return query.toggled(to["field"], to["value"])
    if name == "clear":
        return query.cleared()
    if name == "show" and data.get("mode") in (SAMPLES, CONFUSION, CLASSES, SLICES):
        return dataclasses.replace(query, shown=text["mode"], page=1)
    if name == "page" and text.get("to", "").isascii() and text.get("to", "").isdigit():
        return dataclasses.replace(query, page=max(1, int(text["to"])))
    if name == "size" and data.get("n") in SIZES:
        # The page on which the first picture of this one is found again.
        return dataclasses.replace(query, size=data["n"], page=1 + (query.page - 1) * query.size // data["n"])
    if name == "sort":
        return dataclasses.replace(query, by=to["by"])
    if name == "of" and to["label"] in ("", *labels):
        return dataclasses.replace(query, of=to["label"])
    if name == "rank":
        return dataclasses.replace(query, shown=SAMPLES, rank=text.get("signal", ""), like="", page=1)
    if name == "like" and is_id(to["id"]):
        return dataclasses.replace(query, shown=SAMPLES, like=to["id"], page=1)
    if name == "unlike":
        return dataclasses.replace(query, like="", page=1)
    if name == "errors" and to["label"] in labels:
        return dataclasses.replace(query, shown=SAMPLES, label=to["label"], answer="wrong", page=1)
    if name == "cell":  # a cell names what it counts; the other conditions stay
        wanted = {key: to[key] for key in ("label", "prediction", "answer")}
        return dataclasses.replace(
            query, shown=SAMPLES, rank=text.get("rank", query.rank), like="", page=1, **wanted
        )
    return None
