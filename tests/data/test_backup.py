"""A backup that is taken while somebody works holds one moment, and comes back only as it was."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest

from ltg_core import curation, workflows
from ltg_core.cli import main
from ltg_core.data import backup as module
from ltg_core.data.backup import backup
from ltg_core.data.cloning import clone
from ltg_core.data.joblog import JobRecords
from ltg_core.data.packing import MANIFEST, Packing
from ltg_core.data.records import Filter
from ltg_core.data.restoring import restore
from ltg_core.data.schema import SCHEMA_VERSION
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError, WorkspaceError
from ltg_core.jobs import CancelToken, Job, Spec


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the database, which is compared by what it says."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if "longtail.sqlite" not in name}


def member(
    name: str, data: bytes, kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size, made.type, made.linkname = len(data), kind, link
    return made, data


def packed(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for made, data in members:
            tar.addfile(made, io.BytesIO(data))
    return path


def about(**changed: object) -> tuple[tarfile.TarInfo, bytes]:
    said = {"format": 1, "schema": SCHEMA_VERSION, "workspaces": 1, "version": "9"} | changed
    return member("longtail-backup.json", json.dumps(said).encode())


def test_what_comes_back_is_what_was_there(fitted: Workspace, classifier, tmp_path: Path):
    ids, chosen = fitted.query(), fitted.query(Filter(split="train"), limit=3)
    curation.set_verdict(fitted, chosen, "accepted")
    run, _ = workflows.export(fitted, None, "imagefolder")
    (fitted.exports_folder / f"{run.id}.zip").write_bytes(b"packed on demand")
    (fitted.exports_folder / ".longtail-export-half").mkdir()
    left = fitted.start_run("generate", {"steps": 2})
    JobRecords(fitted.database).save(
        Job("b" * 32, "score", "compute", lambda p, c: None, spec=Spec("score", {}))
    )
    made = backup(fitted.path, tmp_path / "kept.tar")
    assert (made.workspaces, made.samples, made.missing) == (1, len(ids), ())
    curation.set_verdict(fitted, ids, "rejected")
    back = restore(tmp_path / "kept.tar", tmp_path / "again" / "ws")
    assert (back.samples, back.files, back.bytes) == (made.samples, made.files, made.bytes)
    then, now = contents(fitted.path), contents(tmp_path / "again" / "ws")
    assert now.keys() == {name for name in then if not name.endswith(".zip")} and all(
        now[n] == then[n] for n in now
    )
    with Workspace(tmp_path / "again" / "ws") as ws:
        assert ws.query() == ids and ws.query(Filter(verdict="accepted")) == chosen
        assert ws.run(left.id).state == "interrupted" and ws.run(run.id).state == "done"
        (job,) = JobRecords(ws.database).recover()
        assert (job.state, job.reason) == (
            "interrupted",
            "it was under way or waited when the backup was made",
        )
        assert workflows.active_classifier(ws).hash == classifier.hash
        assert workflows.reference(ws, classifier) is not None
        assert curation.undo(ws) == "accepted 3 samples"
    assert (tmp_path / "again" / "ws" / "exports" / run.id / "README.md").is_file()
    small = backup(fitted.path, tmp_path / "small.tar", exports=False)
    assert small.files == made.files - sum(name.startswith("exports/") for name in now)


def test_tools_that_everybody_has_can_read_and_check_it(fitted: Workspace, tmp_path: Path):
    backup(fitted.path, tmp_path / "kept.tar")
    with tarfile.open(tmp_path / "kept.tar") as tar:
        lines = tar.extractfile(MANIFEST).read().decode().splitlines()
        listed = dict(reversed(line.split("  ", 1)) for line in lines)
        assert listed.keys() | {MANIFEST} == set(tar.getnames())
        for name, digest in listed.items():
            assert hashlib.sha256(tar.extractfile(name).read()).hexdigest() == digest


def test_somebody_who_works_meanwhile_does_not_disturb_it(
    fitted: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Between the moment and the copying a verdict, a new image, a new array and a lost file: none is in it."""
    ids = fitted.query()
    fitted.put_array("mine", np.zeros(3))
    pictures = module._pictures

    def late(*given):
        curation.set_verdict(fitted, ids[:1], "flagged")
        fitted.add_image(fitted.image(ids[0]).rotate(90), origin="real", source="later")
        fitted.put_array("mine", np.ones(3))
        fitted.put_array("later", np.ones(3))
        pictures(*given)

    begin = module._pin

    def pinned(source: Path, target: Path) -> None:
        if source.name == "arrays":  # the moment: whoever writes now has to wait
            waiting.start()
            waiting.join(0.2)
            held.append(waiting.is_alive())
        begin(source, target)

    held: list[bool] = []
    waiting = threading.Thread(target=lambda: curation.set_verdict(fitted, ids[1:2], "flagged"))
    monkeypatch.setattr(module, "_pictures", late)
    monkeypatch.setattr(module, "_pin", pinned)
    backup(fitted.path, tmp_path / "kept.tar")
    waiting.join()
    assert held == [True]
    restore(tmp_path / "kept.tar", tmp_path / "back")
    with Workspace(tmp_path / "back") as ws:
        assert ws.query() == ids and ws.query(Filter(verdict="flagged")) == []
        assert ws.array("mine").tolist() == [0, 0, 0] and ws.array("later") is None
    assert len(fitted.query(Filter(verdict="flagged"))) == 2, "their work went on"
    assert list((fitted.path / "tmp").iterdir()) == []


def test_a_lost_picture_is_told_and_a_lost_thumbnail_comes_back(fitted: Workspace, tmp_path: Path):
    large = fitted.add_image(
        np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8), origin="real"
    )
    ids = [fitted.query()[0], large]
    fitted.image_path(ids[0]).unlink()
    fitted.thumb_path(large).unlink()
    made = backup(fitted.path, tmp_path / "kept.tar")
    assert [name.startswith("images/") for name in made.missing] == [True]
    restore(tmp_path / "kept.tar", tmp_path / "back")
    with Workspace(tmp_path / "back") as ws:
        assert ws.thumb_path(ids[1]).is_file() and ws.without_picture(ids) == {ids[0]}


def test_every_workspace_of_a_server_comes_along_and_common_pictures_once(fitted: Workspace, tmp_path: Path):
    root = tmp_path / "server"
    for name in ("prepared", "users/ada-1", "users/bob-2"):
        clone(fitted.path, root / name)
    one, three = backup(fitted.path, tmp_path / "one.tar"), backup(root, tmp_path / "three.tar")
    assert three.workspaces == 3 and three.samples == 3 * one.samples
    pictures = sum(path.stat().st_size for path in (fitted.path / "models").rglob("*") if path.is_file())
    assert (tmp_path / "three.tar").stat().st_size < 3 * (tmp_path / "one.tar").stat().st_size - pictures
    back = restore(tmp_path / "three.tar", tmp_path / "back")
    assert back.workspaces == 3 and contents(tmp_path / "back") == contents(root)


@pytest.mark.parametrize("place", ["image", "database", "end"])
def test_a_damaged_backup_restores_nothing(fitted: Workspace, tmp_path: Path, place: str):
    file = tmp_path / "kept.tar"
    backup(fitted.path, file)
    data = bytearray(file.read_bytes())
    if place == "end":
        del data[len(data) * 2 // 3 :]
    else:
        with tarfile.open(file) as tar:
            first = next(
                m for m in tar if m.name.startswith("images/" if place == "image" else "longtail.sqlite")
            )
        data[first.offset_data + first.size // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(
        WorkspaceError, match="is not what it was" if place != "end" else "cut off|incomplete"
    ):
        restore(file, tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.tar", "ws"]


def test_nothing_is_overwritten(fitted: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "taken.tar").write_bytes(b"mine")
    with pytest.raises(InputError, match="there already"):
        backup(fitted.path, tmp_path / "taken.tar")
    backup(fitted.path, tmp_path / "kept.tar")
    with pytest.raises(InputError, match="not empty, and nothing is overwritten"):
        restore(tmp_path / "kept.tar", fitted.path)
    end = Packing.end

    def quicker(packing: object) -> None:
        (tmp_path / "late.tar").write_bytes(b"theirs")
        end(packing)

    monkeypatch.setattr(Packing, "end", quicker)
    with pytest.raises(InputError, match="appeared meanwhile"):
        backup(fitted.path, tmp_path / "late.tar")
    assert (tmp_path / "late.tar").read_bytes() == b"theirs" and (
        tmp_path / "taken.tar"
    ).read_bytes() == b"mine"
    (tmp_path / "empty").mkdir()
    assert restore(tmp_path / "kept.tar", tmp_path / "empty").samples == fitted.count()


def test_hostile_archives_are_refused(tmp_path: Path):
    outside = tmp_path / "outside.txt"
    for number, (made, error, text) in enumerate(
        [
            ([member("x.txt", b"hello")], InputError, "no backup"),
            ([about(format=99)], WorkspaceError, "newer version"),
            ([about(schema=SCHEMA_VERSION + 1)], WorkspaceError, "newer version"),
            ([about(), member("../outside.txt", b"x")], InputError, "leaves its folder"),
            ([about(), member(str(outside), b"x")], InputError, "leaves its folder"),
            ([about(), member("images/../../outside.txt", b"x")], InputError, "leaves its folder"),
            ([about(), member("a", b"", tarfile.SYMTYPE, "/etc/passwd")], InputError, "no plain file"),
            ([about(), member("a", b"", tarfile.LNKTYPE, "/etc/passwd")], InputError, "leaves its folder"),
            ([about(), member("a", b"", tarfile.LNKTYPE, "b")], WorkspaceError, "link to nothing"),
            ([about(), member("a", b"", tarfile.FIFOTYPE)], InputError, "no plain file"),
            ([about(), member("a", b"1"), member("a", b"2")], WorkspaceError, "cannot be used"),
            ([about()], WorkspaceError, "incomplete"),
        ]
    ):
        file = packed(tmp_path / f"{number}.tar", *made)
        with pytest.raises(error, match=text):
            restore(file, tmp_path / "back")
        assert not outside.exists() and not (tmp_path / "back").exists(), number
    (tmp_path / "none.tar").write_bytes(os.urandom(5000))
    with pytest.raises(WorkspaceError, match="damaged or cut off"):
        restore(tmp_path / "none.tar", tmp_path / "back")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_stop_and_a_full_disk_leave_nothing(
    fitted: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        backup(fitted.path, tmp_path / "kept.tar", cancel=token)

    def full(packing: object, name: str, path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(WorkspaceError, match="is full"):
        patched.setattr(Packing, "add", full)
        backup(fitted.path, tmp_path / "kept.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["ws"] and list(
        (fitted.path / "tmp").iterdir()
    ) == []
    with pytest.raises(InputError, match="no workspace"):
        backup(tmp_path / "nowhere", tmp_path / "kept.tar")


def test_both_are_commands(fitted: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "kept.tar"
    assert main(["backup", str(file), "--workspace", str(fitted.path), "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == fitted.count()
    assert main(["restore", str(file), "--workspace", str(tmp_path / "back"), "--quiet"]) == 0
    assert "every hash right" in capsys.readouterr().out
    assert main(["restore", str(file), "--workspace", str(tmp_path / "back")]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
