"""A selection of samples on the map: its pages, the lists that were kept, and the way back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from app.context import AppContext
from app.render import Node, h, label_of, view

_KEPT = 12  # lists of a page; the oldest goes


@dataclasses.dataclass(frozen=True)
class Picked:
    """Ids only.

    Attributes:
        ids: The selection.
        page: Of the gallery, from 0.
        kept: Lists that were put aside: (name, ids).
        before: The selection before this one, for the way back.
    """

    ids: tuple[str, ...] = ()
    page: int = 0
    kept: tuple[tuple[str, tuple[str, ...]], ...] = ()
    before: tuple[str, ...] = ()

    def with_ids(self, ids: Sequence[str]) -> Picked:
        """Another selection; the one before it can be had back."""
        before = self.ids if tuple(ids) != self.ids else self.before
        return dataclasses.replace(self, ids=tuple(ids), page=0, before=before)

    def after(self, name: str, data: dict[str, Any], *, pages: int) -> Picked:
        """What is selected after a click; the same where it means nothing."""
        if name == "page" and data.get("by") in (-1, 1):
            return dataclasses.replace(self, page=min(max(0, pages - 1), max(0, self.page + int(data["by"]))))
        if name == "clear":
            return self.with_ids(())
        if name == "back":
            return self.with_ids(self.before)
        if name == "keep" and self.ids:
            highest = max((int(one[0].split()[-1]) for one in self.kept), default=0)
            return dataclasses.replace(self, kept=(*self.kept, (f"List {highest + 1}", self.ids))[-_KEPT:])
        wanted = str(data.get("list"))
        if name == "recall":
            return next((self.with_ids(ids) for one, ids in self.kept if one == wanted), self)
        if name == "forget":
            return dataclasses.replace(self, kept=tuple(one for one in self.kept if one[0] != wanted))
        return self


def chosen_view(picked: Picked, size: int, gone: int = 0) -> Node:
    """How many are selected, the pages, what can be done with them, and the lists that were kept.

    Args:
        picked: The selection.
        size: Samples on a page.
        gone: Of the page that is shown, how many were deleted underneath.
    """
    count, pages = len(picked.ids), -(-len(picked.ids) // size)
    lists = [_list(name, ids) for name, ids in picked.kept]
    kept = h("div.conditions", *lists) if lists else None
    if not count:
        back = h("button.link", f"Back to the last {len(picked.before):,}", act=("back", {}), type="button")
        return view(h("div.count", h("b", "Nothing selected"), back if picked.before else None), kept)
    return view(
        h(
            "div.count",
            h("b", f"{count:,} selected"),
            _pager(picked, size, pages) if pages > 1 else h("span.soft", ", all shown"),
        ),
        h("p.warn", f"{gone} of these were deleted from the workspace meanwhile.") if gone else None,
        h(
            "div.actions.map-actions",
            h("button.primary", "Explain", act=("explain", {}), type="button"),
            h("button", "Imagine from these", act=("imagine", {}), type="button"),
            h(
                "button",
                "Keep as a list",
                act=("keep", {}),
                type="button",
                title="For this visit; a tag stays for good",
            ),
            h("button", "Clear", act=("clear", {}), type="button"),
        ),
        kept,
    )


def _pager(picked: Picked, size: int, pages: int) -> Node:
    def step(text: str, by: int, there: bool, name: str) -> Node:
        off = {} if there else {"disabled": "true"}
        return h(
            "button", text, act=("page", {"by": by}) if there else None, type="button", aria_label=name, **off
        )

    start = picked.page * size
    return h(
        "div.pages",
        h("span.soft", f"{start + 1:,}–{min(start + size, len(picked.ids)):,} shown"),
        step("←", -1, picked.page > 0, "Previous page of the selection"),
        step("→", 1, picked.page < pages - 1, "Next page of the selection"),
    )


def _list(name: str, ids: Sequence[str]) -> Node:
    return h(
        "span.kept",
        h("button.condition", f"{name} · {len(ids):,}", act=("recall", {"list": name}), type="button"),
        h("button.link", "✕", act=("forget", {"list": name}), type="button", aria_label=f"Forget {name}"),
        key=name,
    )


def near_view(ctx: AppContext, near: Sequence[tuple[str, float]]) -> Node | None:
    """Real samples that the classifier finds most similar, nearest first."""
    if not near:
        return None
    labels, distances = ctx.workspace.label_names(), dict(near)
    samples = ctx.workspace.there([one for one, _ in near])
    return h(
        "div.near",
        h("h4", "Nearest real neighbours"),
        h(
            "div.near-row",
            *[
                h(
                    "button.near-one",
                    h("img.thumb", src=f"thumb:{sample.id}", alt=label_of(sample, labels)),
                    h("span", label_of(sample, labels)),
                    act=("near", {"id": sample.id}),
                    type="button",
                    title=f"{label_of(sample, labels)}, {distances[sample.id]:.2f} away in the classifier's features",
                    key=sample.id,
                )
                for sample in samples
            ],
        ),
    )
