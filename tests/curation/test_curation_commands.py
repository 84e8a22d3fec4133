"""``sets``, ``review`` and ``curate`` from the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ltg_core import curation
from ltg_core.cli import main
from ltg_core.curation import review
from ltg_core.data.workspace import Workspace


@pytest.fixture
def say(ws: Workspace, capsys: pytest.CaptureFixture[str]):
    def run(*words: str) -> Any:
        status = main([*words, "--json", "--quiet", "--workspace", str(ws.path)])
        out, err = capsys.readouterr()
        assert status == 0, err
        return json.loads(out)

    return run


def test_sets_are_kept_listed_compared_restored_and_deleted(ws: Workspace, ids, say, capsys):
    say("curate", "--accept", *ids[:2])
    made = say("sets", "snapshot", "mine")
    assert made["set"] == "mine@1" and made["n"] == 2 and len(made["hash"]) == 64
    assert say("sets", "snapshot", "few", ids[4])["scope"] == "chosen"
    say("curate", "--reject", ids[0])
    assert say("sets", "diff", "mine")["removed"] == [ids[0]]
    assert say("sets", "diff", "few", "mine@1")["added"] == sorted(ids[:2])
    assert say("sets", "restore", "mine")["changed"] == 1 and ws.sample(ids[0]).verdict == "accepted"
    assert say("curate", "--undo")["done"].startswith("restored the set mine@1")
    assert say("sets", "delete", "few")["done"] == "deleted the set few@1"
    assert [one["set"] for one in say("sets", "list")] == ["mine@1"]
    for words, expected in (
        (["list"], made["hash"][:12]),
        (["diff", "mine"], "1 removed"),
        (["restore", "mine"], "curate --undo"),
    ):
        assert main(["sets", *words, "--workspace", str(ws.path)]) == 0
        assert expected in capsys.readouterr().out
    assert main(["sets", "restore", "other", "--workspace", str(ws.path)]) == 2
    assert "there is no set 'other'" in capsys.readouterr().err


def test_ratings_notes_and_the_history(ws: Workspace, ids, say):
    say("curate", "--rate", "4", *ids[:2])
    say("curate", "--note", "look again", ids[0])
    assert (ws.sample(ids[0]).rating, ws.sample(ids[0]).note) == (4, "look again")
    say("curate", "--rate", "0", ids[0])
    assert ws.sample(ids[0]).rating is None
    assert [one["description"] for one in say("curate", "--history")] == [
        "took the rating of 1 sample", "wrote a note on 1 sample", "rated 4 2 samples"
    ]  # fmt: skip


def test_the_agreement_of_a_review(ws: Workspace, ids, say, capsys):
    curation.set_verdict(ws, ids, "accepted")
    made = review.start(ws, ids, "Grace")
    assert say("review")[0]["reviewer"] == "Grace" and say("review", made.id)["kappa"] is None
    review.answer(ws, made.id, {ids[0]: "rejected", **dict.fromkeys(ids[1:], "accepted")})
    found = say("review", made.id)
    assert found["agreed"] == 4 and found["disagreements"] == [[ids[0], "accepted", "rejected"]]
    assert main(["review", made.id, "--workspace", str(ws.path)]) == 0
    assert "4 of 5 samples: 80.0%" in capsys.readouterr().out
