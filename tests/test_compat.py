"""One mistaken warning is dropped, every other one of the same kind is shown; rows do not depend on their place."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch

from ltg_core.compat import ensure_torchvision, steady_rows

TEXT = "The config attributes {} were passed to {}, but are not expected and will be ignored. Please verify."


def test_only_the_mistaken_warning_about_the_tiny_autoencoder_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ensure_torchvision()
    ensure_torchvision()
    logger = logging.getLogger("diffusers.configuration_utils")
    logger.propagate, before = True, logger.propagate
    try:
        with caplog.at_level(logging.WARNING, logger.name):
            logger.warning(TEXT.format({"block_out_channels": [24, 24]}, "AutoencoderTiny"))
            assert not caplog.records
            logger.warning(TEXT.format({"block_out_channels": [24], "depth": 3}, "AutoencoderTiny"))
            logger.warning(TEXT.format({"block_out_channels": [24]}, "AutoencoderKL"))
            logger.warning(TEXT.format({"depth": 3}, "AutoencoderTiny"))
    finally:
        logger.propagate = before
    assert len(caplog.records) == 3


@pytest.mark.parametrize("columns", (1, 2, 3, 4, 12))
def test_a_row_of_a_product_has_the_same_bits_wherever_it_stands(columns: int) -> None:
    generator = torch.Generator().manual_seed(columns)
    for width in (16, 32, 64, 96, 128, 512):
        rows, weights = (torch.randn(n, width, generator=generator) for n in (8, columns))
        told = torch.nn.functional.linear(rows, weights)
        for by in range(1, 8):
            moved = torch.nn.functional.linear(rows.roll(by, 0), weights)
            assert torch.equal(moved, told.roll(by, 0)), (width, by)


def test_strict_products_are_asked_for_where_they_are_needed_and_nobody_is_overruled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "cpuinfo"
    monkeypatch.delenv("MKL_CBWR", raising=False)
    place.write_text("vendor_id\t: AuthenticAMD\n")
    steady_rows(place)
    assert "MKL_CBWR" not in os.environ
    monkeypatch.setenv("PROCESSOR_IDENTIFIER", "Intel64 Family 6 Model 85 Stepping 4, GenuineIntel")
    steady_rows(tmp_path / "nothing here")
    assert os.environ.pop("MKL_CBWR") == "AUTO,STRICT"
    place.write_text("processor\t: 0\nvendor_id\t: GenuineIntel\n")
    steady_rows(place)
    assert os.environ["MKL_CBWR"] == "AUTO,STRICT"
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    steady_rows(place)
    assert os.environ["MKL_CBWR"] == "COMPATIBLE"
