"""All that a page, a notebook and the command line do: one function a workflow, each writes one run."""

from __future__ import annotations

from ltg_core.embedding.layout import MapSettings
from ltg_core.extension.space import Band
from ltg_core.generators.options import GeneratorOptions
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.introspection.weak import WeakSettings
from ltg_core.signals.head import HeadSettings
from ltg_core.training.settings import LoopSettings, MixSettings, TrainSettings
from ltg_core.workflows.asking import ASKED, MOST_ASKED, AskSettings, find_asked, images_of, words_to_ask
from ltg_core.workflows.balancing import Balance, BalanceSettings, accept_believed, fill, plan_balance
from ltg_core.workflows.breakdown import (
    Ranked,
    Tally,
    class_table,
    column_counts,
    ranked,
    reliability,
    samples_stamp,
    stamp,
    tag_counts,
    tally,
)
from ltg_core.workflows.bringing import (
    WeightsReport,
    bring_classifier,
    bring_data,
    bring_head,
    inspect_weights,
    last_import,
    map_labels,
    revise_classifier,
)
from ltg_core.workflows.causes import CauseSettings, cell_to_check, check_cause, prompt_of, untested
from ltg_core.workflows.checking import check_classifier, discovery
from ltg_core.workflows.compared import chances, figure_words, learned_from, overall
from ltg_core.workflows.comparing import CompareSettings, compare
from ltg_core.workflows.costing import Estimate, estimate, measure_cost, measured
from ltg_core.workflows.coverage import (
    Coverage,
    condition_of,
    coverage,
    coverage_columns,
    prompt_for_cell,
    shared_condition,
)
from ltg_core.workflows.data_check import DataCheck, check_data, check_source
from ltg_core.workflows.demo import DEMO, open_demo, prepare_demo
from ltg_core.workflows.examining import (
    CAUSES,
    Alternative,
    Examination,
    accept_check,
    alternatives,
    check_accepted,
    examine,
    known_alternatives,
)
from ltg_core.workflows.explaining import (
    Explanation,
    explain,
    explain_matrix,
    question_words,
    stored_matrix,
)
from ltg_core.workflows.exporting import export, plan_export
from ltg_core.workflows.extending import add_by_hand, granularity, propose
from ltg_core.workflows.extending import rename as rename_auxiliary
from ltg_core.workflows.extension_images import add_images, random_control
from ltg_core.workflows.finding import Finding, State, glance, held_out_split, samples_of, surprising
from ltg_core.workflows.free import without_training
from ltg_core.workflows.generating import generate, resume_generate, triplets
from ltg_core.workflows.heads import fit_head
from ltg_core.workflows.imagined import find_imagined
from ltg_core.workflows.imagining import WEIGHTS, Order, film_strips, imagine, intended, sweep_order
from ltg_core.workflows.importing import import_data, label_mapping
from ltg_core.workflows.intervals import Share, share
from ltg_core.workflows.likeness import Likeness, likeness, picture_of, upload
from ltg_core.workflows.loop_plan import loop_needs, loop_state, plan_loop, step_of
from ltg_core.workflows.looping import loop, resume_loop
from ltg_core.workflows.mapcolumns import map_colouring, map_table, nearest_real
from ltg_core.workflows.mapping import map_points, map_samples, place_on_map
from ltg_core.workflows.naming import find_slices
from ltg_core.workflows.planning import Plan, class_index, plan_classes, plan_likeness, plan_sources
from ltg_core.workflows.pool import retrieve, text_of
from ltg_core.workflows.quality import QualitySettings, measure_quality
from ltg_core.workflows.relabelling import NameRow, name_rows
from ltg_core.workflows.retrain_plan import plan_retrain
from ltg_core.workflows.retrained import adopt, arm_of, best_of
from ltg_core.workflows.retraining import resumable, resume_retrain, retrain
from ltg_core.workflows.scoring import features, outputs, score
from ltg_core.workflows.setup import (
    active_classifier,
    active_generator,
    fitting_samplers,
    generator_options,
    plain_prompt,
    prompt_for,
    reference,
    stored_classifier,
    suggested_settings,
    use_classifier,
    use_generator,
)
from ltg_core.workflows.slicing import (
    Slice,
    keep_slice,
    remove_slice,
    rename_slice,
    restore_slice,
    save_slice,
    slice_of,
    slices,
)
from ltg_core.workflows.spurious import find_habits
from ltg_core.workflows.telling import report_path, suggest, tell
from ltg_core.workflows.terming import SOURCES, TermSettings, vocabulary_of
from ltg_core.workflows.tracing import ImageTrace, RunTrace, run_trace
from ltg_core.workflows.weak_classes import WeakRule, weakness
from ltg_core.workflows.wording import Draft

__all__ = [
    "add_by_hand",
    "add_images",
    "granularity",
    "prompt_of",
    "propose",
    "random_control",
    "rename_auxiliary",
    "weakness",
    "Band",
    "WeakRule",
    "ASKED",
    "MOST_ASKED",
    "CAUSES",
    "DEMO",
    "PRESETS",
    "SOURCES",
    "WEIGHTS",
    "Alternative",
    "AskSettings",
    "Balance",
    "BalanceSettings",
    "CauseSettings",
    "CompareSettings",
    "Coverage",
    "DataCheck",
    "Draft",
    "Estimate",
    "Examination",
    "Explanation",
    "Finding",
    "GeneratorOptions",
    "Guidance",
    "HeadSettings",
    "ImageTrace",
    "Likeness",
    "LoopSettings",
    "MapSettings",
    "MixSettings",
    "NameRow",
    "Order",
    "Plan",
    "QualitySettings",
    "Ranked",
    "RunTrace",
    "Share",
    "Slice",
    "State",
    "Tally",
    "TermSettings",
    "TrainSettings",
    "WeakSettings",
    "WeightsReport",
    "accept_believed",
    "accept_check",
    "active_classifier",
    "active_generator",
    "adopt",
    "alternatives",
    "arm_of",
    "best_of",
    "bring_classifier",
    "bring_data",
    "bring_head",
    "cell_to_check",
    "chances",
    "check_accepted",
    "check_cause",
    "untested",
    "check_classifier",
    "check_data",
    "check_source",
    "class_index",
    "class_table",
    "column_counts",
    "compare",
    "condition_of",
    "coverage",
    "coverage_columns",
    "discovery",
    "estimate",
    "examine",
    "explain",
    "explain_matrix",
    "export",
    "features",
    "figure_words",
    "film_strips",
    "find_habits",
    "find_asked",
    "find_imagined",
    "images_of",
    "words_to_ask",
    "fill",
    "find_slices",
    "fit_head",
    "generate",
    "generator_at",
    "generator_options",
    "glance",
    "held_out_split",
    "imagine",
    "import_data",
    "inspect_weights",
    "intended",
    "keep_slice",
    "known_alternatives",
    "label_mapping",
    "last_import",
    "learned_from",
    "likeness",
    "loop",
    "loop_needs",
    "loop_state",
    "map_colouring",
    "map_labels",
    "map_points",
    "map_samples",
    "map_table",
    "measure_cost",
    "measure_quality",
    "measured",
    "name_rows",
    "nearest_real",
    "open_demo",
    "outputs",
    "overall",
    "picture_of",
    "place_on_map",
    "plain_prompt",
    "plan_classes",
    "plan_export",
    "plan_likeness",
    "plan_balance",
    "plan_loop",
    "plan_retrain",
    "plan_sources",
    "prepare_demo",
    "prompt_for",
    "prompt_for_cell",
    "question_words",
    "ranked",
    "reference",
    "reliability",
    "remove_slice",
    "rename_slice",
    "report_path",
    "restore_slice",
    "resumable",
    "resume_generate",
    "resume_loop",
    "resume_retrain",
    "retrain",
    "retrieve",
    "revise_classifier",
    "run_trace",
    "samples_of",
    "samples_stamp",
    "save_slice",
    "score",
    "share",
    "shared_condition",
    "slice_of",
    "slices",
    "stamp",
    "step_of",
    "stored_classifier",
    "stored_matrix",
    "suggest",
    "fitting_samplers",
    "suggested_settings",
    "surprising",
    "sweep_order",
    "tag_counts",
    "tally",
    "tell",
    "text_of",
    "triplets",
    "upload",
    "use_classifier",
    "use_generator",
    "vocabulary_of",
    "without_training",
]
