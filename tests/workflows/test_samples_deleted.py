"""A sample that is deleted underneath, in the database or on the disk: everything says so and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError


def delete(ws: Workspace, sample: str) -> None:
    with ws.database.write() as connection:
        connection.execute("DELETE FROM samples WHERE id = ?", (sample,))


def test_what_is_cached_by_the_stamp_is_counted_again_after_a_deletion(fitted: Workspace) -> None:
    before, narrow = workflows.stamp(fitted), workflows.samples_stamp(fitted)
    delete(fitted, fitted.query(Filter(split="train"))[3])  # not the last one that came
    assert workflows.stamp(fitted) != before and workflows.samples_stamp(fitted) != narrow


def test_samples_that_are_there_are_given_without_the_deleted_ones(fitted: Workspace) -> None:
    ids = fitted.query(Filter(split="test"))[:4]
    delete(fitted, ids[1])
    assert [sample.id for sample in fitted.there(["nobody", *ids])] == [ids[0], *ids[2:]]
    fitted.image_path(ids[2]).unlink()
    assert fitted.without_picture([ids[0], *ids[2:]]) == {ids[2]}


def test_an_export_leaves_out_what_is_gone_with_the_reason(fitted: Workspace, tmp_path: Path) -> None:
    ids = fitted.query(Filter(split="train"))[:5]
    fitted.image_path(ids[0]).unlink()
    delete(fitted, ids[1])
    gone = {
        ids[0]: "its picture can no longer be read from the disk",
        ids[1]: "it is no longer in this workspace",
    }
    plan = workflows.plan_export(fitted, ids, "imagefolder")
    assert gone.items() <= dict(plan.left_out).items()
    _, report = workflows.export(fitted, ids, "imagefolder", tmp_path / "out")
    assert report.left_out == plan.left_out and report.n == plan.n == 5 - len(plan.left_out)


def test_a_picture_that_turns_out_damaged_while_it_is_written_is_left_out_too(
    fitted: Workspace, tmp_path: Path
) -> None:
    ids = fitted.query(Filter(split="train"))[:4]
    fitted.image_path(ids[2]).write_bytes(b"no picture")
    _, report = workflows.export(fitted, ids, "imagefolder", tmp_path / "out")
    assert dict(report.left_out)[ids[2]] == "its picture can no longer be read from the disk"
    assert report.n == len(list((tmp_path / "out").rglob("*.png"))) == sum(report.classes.values())


def test_explain_refuses_what_is_gone_and_explains_the_rest(fitted: Workspace) -> None:
    ids = fitted.query(Filter(split="test"))[:3]
    delete(fitted, ids[0])
    fitted.image_path(ids[1]).unlink()
    answer = workflows.explain_matrix(fitted, ids, ["saliency"])
    refused = {one["sample"]: one["reason"] for one in answer["refused"]}
    assert refused == {
        ids[0]: "This sample was deleted from the workspace.",
        ids[1]: "The picture of this sample is no longer on the disk.",
    }
    found = workflows.stored_matrix(fitted, ids, ["saliency"])
    assert set(found) == {(ids[2], "saliency")}


def test_nothing_to_explain_is_still_an_error_in_words(fitted: Workspace) -> None:
    with pytest.raises(InputError, match="at least one sample"):
        workflows.explain_matrix(fitted, [], ["saliency"])
