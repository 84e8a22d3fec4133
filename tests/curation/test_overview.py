"""Figures beside the samples."""

from __future__ import annotations

from ltg_core import curation
from ltg_core.curation import overview
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace


def test_progress_ratings_verdicts_and_what_undo_would_do(ws: Workspace, ids):
    assert overview.ahead(ws) == ("", "") and overview.progress(ws, Filter()) == (0, 5)
    curation.set_verdict(ws, ids[:2], "accepted")
    curation.set_verdict(ws, ids[2:3], "flagged")
    curation.rate(ws, ids[1:3], 3)
    curation.rate(ws, ids[3:4], 5)
    assert overview.progress(ws, Filter(verdict="accepted", ids=tuple(ids[1:]))) == (2, 4)
    assert overview.verdict_counts(ws) == {"accepted": 2, "rejected": 0, "flagged": 1}
    assert overview.rating_counts(ws, Filter(rating=5)) == {0: 2, 1: 3, 2: 3, 3: 3, 4: 1, 5: 1}
    curation.undo(ws)
    assert overview.ahead(ws) == ("rated 3 2 samples", "rated 5 1 sample")
