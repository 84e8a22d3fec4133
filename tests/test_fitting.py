"""Checkpoints of trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ltg_core.errors import ModelError
from ltg_core.fitting import read_checkpoint, write_checkpoint


def test_a_checkpoint_that_is_cut_off_anywhere_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "work" / "net.ckpt"
    write_checkpoint(path, {"net": {"weight": torch.arange(6.0)}, "step": 3})
    whole = path.read_bytes()
    state = read_checkpoint(path)
    assert state["step"] == 3 and state["net"]["weight"].tolist() == [0, 1, 2, 3, 4, 5]
    assert [file.name for file in path.parent.iterdir()] == ["net.ckpt"]
    for length in [*range(0, 64), *range(64, len(whole), 97)]:
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"net\.ckpt' is damaged; delete it"):
            read_checkpoint(path)


@pytest.mark.parametrize("content", (b"I.", b"u.", b"0.", b"\x80\x02]q\x00.", b"\x80\x02h\x07.", b"x" * 40))
def test_a_file_that_is_no_checkpoint_is_called_damaged(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.ckpt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is damaged; delete it"):
        read_checkpoint(path)
