"""A workspace's copy: all of it at once, and what happens to one does not happen to the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltg_core import curation, workflows
from ltg_core.data import cloning
from ltg_core.data.joblog import JobRecords
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import WorkspaceError
from ltg_core.jobs import JobBoard, Spec
from tests.conftest import draw


def test_a_copy_has_everything_but_jobs_and_goes_its_own_way(fitted: Workspace, tmp_path: Path) -> None:
    JobBoard(log=JobRecords(fitted.database)).submit("a", lambda p, c: None, spec=Spec("score", {}))
    cloning.clone(fitted.path, tmp_path / "users" / "copy")
    with Workspace(tmp_path / "users" / "copy") as copy:
        assert copy.query() == fitted.query() and JobRecords(copy.database).recover() == []
        first = workflows.active_classifier(fitted)
        assert workflows.active_classifier(copy) is first, "one model in memory serves both"
        ids = fitted.query(limit=3)
        assert copy.image_path(ids[0]).samefile(fitted.image_path(ids[0]))
        curation.set_verdict(copy, ids, "accepted")
        copy.add_image(draw("stop", 77), origin="real")
        workflows.score(copy, first)
        copy.image_path(ids[1]).unlink()
        assert fitted.count(Filter(verdict="accepted")) == 0 and fitted.count() == copy.count() - 1
        assert fitted.image_path(ids[1]).is_file()


def test_a_copy_that_fails_leaves_nothing(
    fitted: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: str, name: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cloning, "_linked", full)
    with pytest.raises(WorkspaceError, match="full"):
        cloning.clone(fitted.path, tmp_path / "users" / "copy")
    assert list((tmp_path / "users").iterdir()) == []
