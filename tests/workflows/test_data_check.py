"""Copies, leaks, contradictions and odd images are found, and good images are left alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ltg_core.cli import main
from ltg_core.data import near
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError
from ltg_core.jobs import CancelToken
from ltg_core.workflows import check_data, check_source, import_data


def scene(seed: int, side: int = 64) -> Image.Image:
    """Soft blobs of colour with some grain: no two seeds look alike."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    small = small.resize((side, side), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 12, (side, side, 1))
    return Image.fromarray((np.asarray(small) + grain).clip(0, 255).astype(np.uint8))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    pictures = {
        **{f"train/stop/{n}.png": scene(n) for n in range(12)},
        **{f"train/yield/{n}.png": scene(50 + n) for n in range(12)},
        "test/stop/same.png": scene(3),
        "train/yield/contradiction.png": scene(5),
        "train/stop/dark.png": Image.fromarray(np.asarray(scene(90)) // 16),
        "train/stop/bright.png": Image.fromarray(255 - np.asarray(scene(91)) // 16),
        "train/stop/blank.png": Image.new("RGB", (64, 64), (90, 120, 30)),
        "train/stop/soft.png": scene(92).filter(ImageFilter.GaussianBlur(12)),
        "train/stop/narrow.png": scene(93).resize((100, 12)),
        "train/stop/tiny.png": scene(94).resize((5, 5)),
        "train/stop/grey.png": scene(95).convert("L").convert("RGB"),
    }
    for name, picture in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(root / name)
    scene(7).resize((80, 80)).save(root / "test" / "stop" / "near.jpg", quality=80)
    (root / "train" / "stop" / "broken.png").write_bytes(b"no picture")
    return root


def sources(found, groups: list[list[str]]) -> list[set[str]]:
    return sorted(({found.details[name][0] for name in group} for group in groups), key=sorted)


EXPECTED = {
    "duplicates": [
        {"test/stop/same.png", "train/stop/3.png"},
        {"train/stop/5.png", "train/yield/contradiction.png"},
    ],
    "near": [{"test/stop/near.jpg", "train/stop/7.png"}],
    "leaks": [{"test/stop/near.jpg", "train/stop/7.png"}, {"test/stop/same.png", "train/stop/3.png"}],
    "contradictions": [{"train/stop/5.png", "train/yield/contradiction.png"}],
}
ODD = {kind: kind for kind in ("dark", "bright", "blank", "narrow", "tiny", "grey")} | {"blurred": "soft"}


@pytest.mark.parametrize("imported", [False, True])
def test_what_is_wrong_is_found_before_and_after_an_import(
    data: Path, tmp_path: Path, imported: bool
) -> None:
    if imported:
        with Workspace(tmp_path / "ws") as ws:
            import_data(ws, data)
            found = check_data(ws)
            assert check_data(ws) == found
    else:
        found = check_source(data)
    for kind, expected in EXPECTED.items():
        assert sources(found, getattr(found, kind)) == expected, kind
    odd = {kind: {Path(found.details[name][0]).stem for name in names} for kind, names in found.odd.items()}
    for kind, stem in ODD.items():
        assert stem in odd[kind], (kind, odd)
    listed = {stem for stems in odd.values() for stem in stems}
    assert not {s for s in listed if s.isdigit()}, "good images were listed"
    assert found.images == 35 and found.corrupt[0][0] == "train/stop/broken.png"
    assert "2 groups of copies lie in more than one split" in found.summary()


def test_the_command_line_lists_it_as_text_and_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(data), "--json", "--quiet"]) == 0
    assert len(json.loads(capsys.readouterr().out)["duplicates"]) == 2
    assert main(["data", "check", str(data), "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "corrupt  train/stop/broken.png" in text and "train/stop/3.png (train, stop)" in text


def test_an_empty_workspace_says_what_to_do(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws") as ws, pytest.raises(DatasetError, match="import some"):
        check_data(ws)


def test_near_copies_found_by_hash_are_those_found_by_comparing_all() -> None:
    pictures = [scene(n) for n in range(300)]
    for n in range(0, 60):
        buffer = io.BytesIO()
        pictures[n].save(buffer, "JPEG", quality=85)
        pictures.append(Image.open(buffer).convert("RGB"))
    looks = near.stacked([near.look_of(picture) for picture in pictures])
    exact = set(near._all_pairs(looks, CancelToken()))
    hashed = set(near._hashed_pairs(looks, CancelToken()))
    assert exact == {(n, 300 + n) for n in range(60)}
    assert hashed <= exact and len(hashed) > 0.9 * len(exact)
