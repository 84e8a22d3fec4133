"""What an export would do, and exports of sets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ltg_core import curation, workflows
from ltg_core.cli import main
from ltg_core.curation import sets
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export import EXPORTERS, export, plan
from tests.export.conftest import manifest, picture


@pytest.mark.parametrize("fmt", list(EXPORTERS))
@pytest.mark.parametrize("held_out", [False, True])
def test_the_plan_is_what_the_export_does(ws: Workspace, world, tmp_path: Path, fmt, held_out):
    ids = list(world.values())
    before = sorted(path for path in ws.path.rglob("*") if "sqlite" not in path.name)
    said = plan(ws, ids, EXPORTERS[fmt](), held_out=held_out)
    after = sorted(path for path in ws.path.rglob("*") if "sqlite" not in path.name)
    assert [path.parent.name for path in set(after) - set(before)] in ([], ["arrays"]), "nothing is written"
    report = export(ws, ids, tmp_path / "out", fmt, held_out=held_out)
    assert (said.n, said.classes, said.splits) == (report.n, report.classes, report.splits)
    assert said.left_out == report.left_out
    assert said.real == sum(one["origin"] == "real" for one in manifest(report.path).values())


def test_a_set_is_exported_as_it_was_kept(ws: Workspace, world, tmp_path: Path):
    one, two = world["generated"], world["train"]
    curation.set_verdict(ws, [two], "accepted")
    kept = sets.snapshot(ws, "mine")
    curation.set_verdict(ws, [one], "rejected")
    curation.tag(ws, [one], add=["late"], remove=["night"])
    curation.set_verdict(ws, [world["hostile"]], "accepted")
    run, report = workflows.export(ws, None, "jsonl", tmp_path / "out", set_ref="mine")
    found = manifest(report.path)
    assert (
        set(found) == {one, two} and found[one]["verdict"] == "accepted" and found[one]["tags"] == ["night"]
    )
    assert run.settings["set"] == "mine@1" and run.hashes["set"] == kept.hash
    assert kept.hash in (report.path / "README.md").read_text(encoding="utf-8")
    # the manifest gives the set's hash again
    lines = [
        json.dumps([key, r["image_hash"], r["class_name"], r["verdict"], sorted(r["tags"])],
                   ensure_ascii=False, separators=(",", ":"))
        for key, r in sorted(found.items())
    ]  # fmt: skip
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == kept.hash


def test_members_that_are_gone_and_classes_that_were_renamed(ws: Workspace, world, tmp_path: Path):
    curation.set_verdict(ws, [world["train"]], "accepted")
    sets.snapshot(ws, "mine")
    with ws.database.write() as connection:
        connection.execute(
            "UPDATE samples SET label_name = 'halt', label = NULL WHERE id = ?", (world["train"],)
        )
        connection.execute("DELETE FROM samples WHERE id = ?", (world["generated"],))
    _, report = workflows.export(ws, None, "imagefolder", tmp_path / "out", set_ref="mine@1")
    assert report.classes == {"stop": 1}
    assert report.left_out == [(world["generated"], "it is no longer in this workspace")]


def test_real_training_samples_are_added_on_request_but_not_rejected_ones(
    ws: Workspace, world, tmp_path: Path
):
    curation.set_verdict(ws, [world["hostile"]], "rejected")
    said = workflows.plan_export(ws, None, "imagefolder", with_real=True)
    assert (said.n, said.real) == (2, 1)
    _, report = workflows.export(ws, None, "imagefolder", tmp_path / "out", with_real=True)
    assert set(manifest(report.path)) == {world["generated"], world["train"]}
    assert workflows.plan_export(ws, None, "csv", with_real=True).n == 3, "this format needs no label"


def test_a_set_and_samples_exclude_each_other_and_an_unknown_set_is_told(ws: Workspace, world):
    sets.snapshot(ws, "mine", [world["train"]])
    with pytest.raises(InputError, match="not both"):
        workflows.plan_export(ws, [world["train"]], set_ref="mine")
    with pytest.raises(InputError, match=r"no set 'other'; there are: mine@1"):
        workflows.export(ws, None, set_ref="other")


def test_the_command_line_plans_and_exports_sets(ws: Workspace, world, tmp_path: Path, capsys):
    at = ["--workspace", str(ws.path)]
    ws.add_image(picture(80), origin="real", split="train", label=0, label_name="stop")
    assert main(["sets", "snapshot", "mine", world["train"], world["test"], *at]) == 0
    capsys.readouterr()
    words = ["export", "--set", "mine", "--out", str(tmp_path / "out")]
    assert main([*words, "--dry-run", "--json", "--quiet", *at]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["n"] == 1 and sum(said["reasons"].values()) == 1 and not (tmp_path / "out").exists()
    assert main([*words, "--dry-run", "--with-real", *at]) == 0
    assert "3 samples would be exported, 3 of them real" in capsys.readouterr().out
    assert main([*words, "--json", "--quiet", *at]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 1
