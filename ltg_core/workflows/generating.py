"""Generation as a run: units of eight images with their controls, each committed before the next begins."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from ltg_core.data.records import Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, ModelError
from ltg_core.generators.base import Generator
from ltg_core.generators.memory import fit_before
from ltg_core.guidance.resembling import way
from ltg_core.guidance.settings import Guidance
from ltg_core.guidance.validity import ValiditySettings
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.signals.reference import Reference
from ltg_core.workflows.loaded import generator_at
from ltg_core.workflows.planning import Plan, plan_likeness
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.setup import reference, reference_path, stored_classifier
from ltg_core.workflows.units import OWN_META, UNIT, Units

log = logging.getLogger(__name__)

_MAX_IMAGES = 100_000


def generate(
    ws: Workspace,
    classifier: Classifier,
    generator: Generator,
    *,
    prompts: Sequence[str],
    labels: Sequence[int],
    seeds: Sequence[int],
    guidance: Guidance,
    negative: str = "",
    sources: Sequence[str] | None = None,
    like: Sequence[str] | None = None,
    preset: str = "",
    weights: Sequence[float] | None = None,
    aim: Mapping[str, Any] | None = None,
    aims: Sequence[Mapping[str, Any]] | None = None,
    purpose: Mapping[str, Any] | None = None,
    unit: int = UNIT,
    validity: ValiditySettings | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Make guided images with their unguided controls, examine them, score them, and keep them in the
    workspace.

    Args:
        ws: The workspace.
        classifier: Under test; its reference must be fitted.
        generator: Latent diffusion model.
        prompts: One an image.
        labels: Intended class index of each.
        seeds: One an image; the same seed gives the same image.
        guidance: All settings; without search and climb the images are their own controls and none are
            stored.
        negative: What no image should show.
        sources: Ids of real samples to start from, one an image.
        like: Ids of real samples to resemble, one an image; without any and where ``guidance.like`` names a split,
            a random one of each image's class, drawn by the image's seed.
        preset: Name of the preset that the settings came from, for the record.
        weights: Strength of the climb of each image, where it is not that of the settings. Images of one seed,
            prompt and class then share their search and their control (see ``sweep``).
        aim: Metadata values that the images are meant to show, such as ``{"condition": "night"}``; each image
            carries them as its own metadata.
        aims: The same of each image for itself, where they differ.
        purpose: What the whole run is for, in plain values; kept with its settings.
        unit: Images that are made and committed together, 1 to 8.
        validity: When an image is believed.
        on_progress: Told at every denoising step; ``preview`` is uint8 (n, H, W, 3).
        cancel: Checked at every denoising step; finished units are kept.

    Returns:
        The run. Images have its id as origin; metadata say role ("guided" or "control"), prompt, seed,
        control, source, percentiles and findings. ``resume_generate`` continues it after an interruption, to
        the same images.

    Raises:
        InputError: Numbers that do not match, an unknown class or sample, or no reference.
        Cancelled: On request.
        WorkspaceError: The disk is full; finished units are kept.
    """
    chunk, said = fit_before(generator, guidance.climb if guidance.climbs else "none")
    if said:
        log.warning("%s", said)
    settings: dict[str, Any] = {
        "prompts": list(prompts),
        "labels": [int(label) for label in labels],
        "label_names": [classifier.labels[i] for i in labels if 0 <= i < classifier.num_classes],
        "seeds": [int(seed) for seed in seeds],
        "negative": negative,
        "sources": None if sources is None else list(sources),
        "preset": preset,
        "guidance": guidance.to_dict(),
        "validity": (validity or ValiditySettings()).to_dict(),
        "weights": None if weights is None else [float(weight) for weight in weights],
        "aim": dict(aim or {}),
        "unit": unit,
        "generator": str(getattr(generator, "folder", generator.name)),
        "chunk": chunk,
    }
    if generator.options.to_dict():
        settings["generator_options"] = generator.options.to_dict()
    if aims is not None:
        settings["aims"] = [dict(one) for one in aims]
    if purpose:
        settings["purpose"] = dict(purpose)
    if like is not None:
        settings["like"] = list(like)
    _check(ws, classifier, settings)
    if like is None and guidance.like:
        plan = Plan(list(prompts), settings["labels"], settings["seeds"])
        each = settings.get("aims") or [settings["aim"]] * len(settings["seeds"])
        settings["like"] = plan_likeness(ws, classifier, plan, split=guidance.like, aims=each)
    if settings.get("like"):
        way(generator, guidance, from_source=sources is not None)  # what cannot be done is said now
    ref = need_reference(ws, classifier)
    if generator.language != "text":
        generator.condition(
            settings["prompts"], negative
        )  # an unknown class is an error now, not after minutes
    hashes = {
        "classifier": classifier.hash,
        "generator": generator.hash,
        "reference": reference_hash(ws, classifier),
    }
    first = settings["seeds"][0]
    order = {
        name: value for name, value in settings.items() if name != "generator"
    }  # its folder may be elsewhere
    if "generator_options" in order:
        order["generator_options"] = generator.options.placeless()
    run_id = ws.engine.run_id("generate", {**order, "hashes": hashes})
    if run_id and (there := ws.known_run(run_id)) is not None and there.state == "done":
        return there
    with recorded(ws, "generate", settings, seed=first, hashes=hashes, id=run_id) as recording:
        Units(ws, classifier, generator, ref, recording, on_progress, cancel or CancelToken()).do()
    return recording.run


def resume_generate(
    ws: Workspace,
    run_id: str,
    *,
    device: str | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Make what an interrupted generation still lacks; the images are those of an unbroken run.

    Raises:
        InputError: The run is no generation, is done, or its models have vanished.
        ModelError: A model has changed since, so that the images would be others.
    """
    run = ws.run(run_id)
    if run.kind != "generate":
        raise InputError(f"run {run_id} is a {run.kind!r} run; only generations can be resumed")
    record = ws.get_state("classifier") or {}
    labels = record.get("labels") if record.get("hash") == run.hashes["classifier"] else None
    classifier = stored_classifier(ws, run.hashes["classifier"], labels=labels, device=device)
    generator = generator_at(
        run.settings["generator"], options=run.settings.get("generator_options"), device=device or ws.device
    )
    ref = need_reference(ws, classifier)
    now = {"generator": generator.hash, "reference": reference_hash(ws, classifier)}
    changed = [role for role, hash in now.items() if hash != run.hashes[role]]
    if changed:
        raise ModelError(
            f"the {' and the '.join(changed)} changed since run {run_id} began, so its images would not match those "
            "that are there; start a new generation"
        )
    with recorded(ws, run.kind, run.settings, resume=run_id) as recording:
        Units(ws, classifier, generator, ref, recording, on_progress, cancel or CancelToken()).do()
    return recording.run


def triplets(ws: Workspace, run_id: str) -> list[dict[str, Any]]:
    """The images of a generation with what they belong to, in the order in which they were asked for.

    Returns:
        One record an image: ids ``guided``, ``control`` and ``source`` (None where there is none);
        ``belief``, ``reason``, ``percentile`` and ``percentile_control`` (audit heads, held-out real data),
        ``weight`` of the climb, ``label``, ``prompt``, ``seed``.
    """
    ids = ws.query(Filter(origin=run_id, meta={"role": "guided"}))
    found = sorted(ws.there(ids), key=lambda sample: int(sample.meta["index"]))
    return [
        {
            "guided": sample.id,
            "control": sample.meta.get("control"),
            "weight": sample.meta.get("weight"),
            "source": sample.meta.get("source"),
            "belief": sample.belief,
            "reason": sample.belief_reason,
            "percentile": sample.meta.get("percentile"),
            "percentile_control": sample.meta.get("percentile_control"),
            "label": sample.label,
            "prompt": sample.caption,
            "seed": sample.meta.get("seed"),
        }
        for sample in found
    ]


def _check(ws: Workspace, classifier: Classifier, settings: dict[str, Any]) -> None:
    sizes = {name: len(settings[name]) for name in ("prompts", "labels", "seeds")}
    if settings.get("like") is not None:
        sizes["like"] = len(settings["like"])
        ws.samples(settings["like"])
    if settings["sources"] is not None:
        sizes["sources"] = len(settings["sources"])
        ws.samples(settings["sources"])  # an unknown one is an error now, not after minutes
    if settings["weights"] is not None:
        sizes["weights"] = len(settings["weights"])
    if settings.get("aims") is not None:
        sizes["aims"] = len(settings["aims"])
    if len(set(sizes.values())) != 1:
        given = ", ".join(f"{number} {name}" for name, number in sizes.items())
        raise InputError(f"{given}; give one of each for every image")
    count = sizes["seeds"]
    if not 1 <= count <= _MAX_IMAGES:
        raise InputError(f"{count} images were asked for; give 1 to {_MAX_IMAGES:,}")
    wrong = [i for i in settings["labels"] if not 0 <= i < classifier.num_classes]
    if wrong:
        raise InputError(
            f"class {wrong[0]} does not exist; the classifier has classes 0 to {classifier.num_classes - 1}"
        )
    named = {name for aim in (settings["aim"], *settings.get("aims", ())) for name in aim}
    if taken := sorted(OWN_META & named):
        raise InputError(
            f"{taken} are names of what is recorded of every image; give the metadata other names"
        )
    if not 1 <= settings["unit"] <= UNIT:
        raise InputError(f"{settings['unit']} images a unit; give 1 to {UNIT}")
    if any(not 0 <= seed < 2**63 for seed in settings["seeds"]):
        raise InputError("seeds are whole numbers from 0 to 2^63 - 1")


def need_reference(ws: Workspace, classifier: Classifier) -> Reference:
    """What was fitted on real data of this classifier.

    Raises:
        InputError: Nothing was yet; says what to do.
    """
    found = reference(ws, classifier)
    if found is None:
        raise InputError(
            f"guidance needs to know the real data of {classifier.name}: fit its head first ('fit-head'), on a "
            "labelled split 'train'"
        )
    return found


def reference_hash(ws: Workspace, classifier: Classifier) -> str:
    """Of the reference's file, 16 hex digits."""
    path = reference_path(ws, classifier.hash)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""
