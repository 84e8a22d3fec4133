"""Finished heat maps in the workspace: found again by picture, method, question and model."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ltg_core.attribution.base import Attribution, Heatmap
from ltg_core.attribution.trust import Evidence, Trust
from ltg_core.data.images import content_hash
from ltg_core.data.records import Sample
from ltg_core.data.workspace import Workspace
from ltg_core.workflows.questions import Question

_VERSION = 1  # raised when the same question would give another map, so that stored ones are not used


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation(Heatmap):
    """A heat map with its checks.

    Attributes:
        trust: The two checks, None where they were not asked for.
        evidence: What they rest on; None together with ``trust``.
    """

    trust: Trust | None = None
    evidence: Evidence | None = None


class HeatStore:
    """Arrays and cards of finished maps.

    Args:
        ws: The workspace.
        question: What the maps answer.
    """

    def __init__(self, ws: Workspace, question: Question) -> None:
        self.ws, self.question = ws, question

    def key(self, method: Attribution, sample: Sample) -> str:
        """The same for the same picture, label, method, settings, question, classifier and reference."""
        classifier = self.question.classifier
        asked = {
            "version": _VERSION,
            "image": sample.image_hash,
            "label": sample.label,
            "method": [method.NAME, method.to_dict()],
            "target": [self.question.target, list(classifier.labels), self.question.stamp],
        }
        text = json.dumps(asked, sort_keys=True).encode()
        return f"heat-{classifier.hash}-{content_hash(text)}"

    def get(self, method: Attribution, sample: Sample, *, checked: bool = False) -> Explanation | None:
        """A finished map, None where there is none, or none with its checks where they are wanted."""
        key = self.key(method, sample)
        values, card = self.ws.array(key), self._card(key)
        if values is None or card is None:
            return None
        evidence = self._evidence(key, card)
        if checked and evidence is None:
            return None
        trust = evidence.trust if evidence else None
        notes = tuple(card["notes"])
        return Explanation(
            sample.id, method.NAME, card["target"], values, card["signed"], notes, trust, evidence
        )

    def put(self, method: Attribution, sample: Sample, one: Explanation) -> None:
        """Keep a map; the card is written last and makes it valid."""
        key = self.key(method, sample)
        self.ws.put_array(key, one.values)
        found = one.evidence
        card = {"target": one.target, "signed": one.signed, "notes": list(one.notes), "trust": None}
        if found is not None:
            self.ws.put_array(f"{key}-unlearned", found.unlearned)
            self.ws.put_array(f"{key}-curves", found.curves)
            card |= {"trust": dataclasses.asdict(found.trust), "evidence_notes": list(found.notes)}
        self.ws.blobs.write(self._path(key), json.dumps(card).encode())

    def _card(self, key: str) -> dict[str, Any] | None:
        try:
            card = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or half of it: computed again
            return None
        needed = {"target", "signed", "notes", "trust"}
        return card if isinstance(card, dict) and needed <= set(card) else None

    def _evidence(self, key: str, card: dict[str, Any]) -> Evidence | None:
        if card["trust"] is None:
            return None
        curves, unlearned = self.ws.array(f"{key}-curves"), self.ws.array(f"{key}-unlearned")
        try:
            trust = Trust(**card["trust"])
        except TypeError:
            return None
        if curves is None or unlearned is None:
            return None
        return Evidence(trust, curves, unlearned, tuple(card.get("evidence_notes", ())))

    def _path(self, key: str) -> Any:
        return self.ws.path / "arrays" / f"{key}.json"


def explanation(heat: Heatmap, evidence: Evidence | None, size: tuple[int, int]) -> Explanation:
    """A map at the size of its picture, with what its checks found."""
    values = heat.values
    if values.shape != size:
        enlarged = F.interpolate(torch.from_numpy(values)[None, None], size=size, mode="bilinear")
        values = np.asarray(enlarged[0, 0].numpy(), dtype=np.float32)
    trust = evidence.trust if evidence else None
    notes = heat.notes
    if evidence is not None:
        notes = (*notes, *evidence.notes, f"Checked: {evidence.trust.verdict}.")
    return Explanation(heat.sample_id, heat.method, heat.target, values, heat.signed, notes, trust, evidence)
