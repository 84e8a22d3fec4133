"""Model directories of every family."""

from __future__ import annotations

from tests.generators.tiny_models import model_folder

__all__ = ["model_folder"]
