"""One mistaken warning is dropped; every other one of the same kind is shown."""

from __future__ import annotations

import logging

import pytest

from ltg_core.compat import ensure_torchvision

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
