"""Work in processes of their own: they live on between tasks, tell their progress, and end with their parent."""

from __future__ import annotations

from ltg_core.workers.handle import Worker, as_json

__all__ = ["Worker", "as_json"]
