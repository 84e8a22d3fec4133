"""Maps: two coordinates per sample."""

from __future__ import annotations

from ltg_core.embedding.maps import MapResult, MapSettings, compute_map, place
from ltg_core.embedding.umap_worker import UmapWorker

__all__ = ["MapResult", "MapSettings", "UmapWorker", "compute_map", "place"]
