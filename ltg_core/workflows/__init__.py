"""All that a page, a notebook and the command line do: one function a workflow, each writes one run."""

from __future__ import annotations

from ltg_core.embedding.layout import MapSettings
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.signals.head import HeadSettings
from ltg_core.workflows.breakdown import Tally, class_table, column_counts, stamp, tag_counts, tally
from ltg_core.workflows.checking import check_classifier, discovery
from ltg_core.workflows.demo import DEMO, open_demo
from ltg_core.workflows.explaining import Explanation, explain
from ltg_core.workflows.exporting import export
from ltg_core.workflows.generating import generate, resume_generate, triplets
from ltg_core.workflows.heads import fit_head
from ltg_core.workflows.importing import import_data, label_mapping
from ltg_core.workflows.mapping import map_points, map_samples
from ltg_core.workflows.planning import Plan, class_index, plan_classes, plan_sources
from ltg_core.workflows.scoring import features, outputs, score
from ltg_core.workflows.setup import (
    active_classifier,
    active_generator,
    generator_at,
    prompt_for,
    reference,
    stored_classifier,
    use_classifier,
    use_generator,
)

__all__ = [
    "DEMO",
    "PRESETS",
    "Explanation",
    "Guidance",
    "HeadSettings",
    "MapSettings",
    "Plan",
    "Tally",
    "active_classifier",
    "active_generator",
    "check_classifier",
    "class_index",
    "class_table",
    "column_counts",
    "discovery",
    "explain",
    "export",
    "features",
    "fit_head",
    "generate",
    "generator_at",
    "import_data",
    "label_mapping",
    "map_points",
    "map_samples",
    "open_demo",
    "outputs",
    "plan_classes",
    "plan_sources",
    "prompt_for",
    "reference",
    "resume_generate",
    "score",
    "stamp",
    "stored_classifier",
    "tag_counts",
    "tally",
    "triplets",
    "use_classifier",
    "use_generator",
]
