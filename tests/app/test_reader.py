"""Files that were just uploaded are looked at in a process with limits of its own."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from driver import texts

from app.reader import Reader
from app.settings import Settings
from ltg_core import workflows
from ltg_core.data.images import read_image
from ltg_core.errors import InputError, UnsafeFile
from tests.conftest import draw


class Hostile:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit",)


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    made = Reader(Settings())
    yield made
    made.close()


def test_it_sees_what_this_process_would_see(
    reader: Reader, tmp_path: Path, tiny_classifier_file: Path
) -> None:
    draw("stop", 3).rotate(20).save(tmp_path / "a.jpg")
    picture = reader.picture(tmp_path / "a.jpg", tmp_path)
    assert np.array_equal(np.asarray(picture), np.asarray(read_image(tmp_path / "a.jpg")))
    assert not list(tmp_path.glob("*.pixels"))
    report = reader.weights(tiny_classifier_file, "")
    assert report == workflows.inspect_weights(tiny_classifier_file) and report.labels and report.preprocess


def test_it_refuses_in_the_same_words(reader: Reader, tmp_path: Path) -> None:
    torch.save({"state_dict": Hostile()}, tmp_path / "a.pt")
    with pytest.raises(UnsafeFile, match="refused unread"):
        reader.weights(tmp_path / "a.pt", "")
    (tmp_path / "b.png").write_text("<svg></svg>")
    with pytest.raises(InputError, match="SVG"):
        reader.picture(tmp_path / "b.png", tmp_path)


def test_its_memory_is_limited_and_what_takes_too_long_ends_with_it(tmp_path: Path) -> None:
    draw("stop", 3).save(tmp_path / "a.png")
    seconds = {"picture": 0.0}
    reader = Reader(Settings(upload_mb=1024), seconds=seconds)
    try:
        with pytest.raises(InputError, match="more time or memory"):
            reader.picture(tmp_path / "a.png", tmp_path)
        seconds["picture"] = 60.0
        assert reader.picture(tmp_path / "a.png", tmp_path).size == (32, 32), "the next one is read"
        limits = Path(f"/proc/{reader.worker.pid}/limits").read_text()
        assert re.search(rf"Max data size +{6 * 2**30} ", limits)
    finally:
        reader.close()


def test_the_page_asks_it_for_pictures_and_weights(
    ctx: Any, page: Any, tiny_classifier_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: Any) -> Any:
        raise AssertionError("decoded in the server's process")

    def sent(name: str, data: bytes) -> dict[str, Any]:
        found = page.http.post("/gradio_api/upload", files={"files": (name, data)}).json()[0]
        return {"path": found, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    buffer = io.BytesIO()
    draw("stop", 8).save(buffer, "PNG")
    picture, weights = (
        sent("a.png", buffer.getvalue()),
        sent("a.safetensors", tiny_classifier_file.read_bytes()),
    )
    ctx.machine.reader.worker.start()
    monkeypatch.setattr(sys.modules["ltg_core.workflows.bringing"], "read_state", never)
    looked = page.call("setup-weights", "change", setup_weights=[weights])
    assert "resnet14_small" in texts(looked["setup-inspected"])
    monkeypatch.setattr(sys.modules["ltg_core.workflows.likeness"], "read_image", never)
    found = page.call("browse-upload", "upload", browse_upload=picture)
    assert "like" in texts(found["browse-count"]).lower() or found["browse-grid"]["value"]["items"]
