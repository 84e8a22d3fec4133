"""Training from a data set on disk: a small generator, a small classifier. Both go on where they were stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from ltg_core.data.database import explained
from ltg_core.errors import DatasetError, InputError
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.fit import ClassifierSettings, fit_classifier
from ltg_core.models.loaders import save_classifier
from ltg_core.workflows.gathering import TrainingImages, gather

CAPTION = "a photo of a {label}"


def fit_generator(
    source: str | Path,
    out: str | Path,
    settings: Any = None,
    *,
    side: int = 64,
    caption: str = CAPTION,
    split: str = "train",
    limit: int | None = None,
    device: str = "cpu",
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Train a text-to-image latent diffusion model on labelled or captioned images.

    Args:
        source: A data set.
        out: Directory of the generator (diffusers' layout); checkpoints go beside it, to ``<out>.work``.
        settings: A ``GeneratorSettings``; None for the defaults.
        side: Pixels of a side, a multiple of 16.
        caption: The text for pictures without a caption of their own; ``{label}`` stands for the class.
        split: Of the data, where it names splits.
        limit: At most so many pictures.
        device: Where the denoiser is trained.
        on_progress: Told about every 50 steps.
        cancel: Checked at every step; the next call goes on from the last checkpoint.

    Returns:
        The generator's card, with ``out`` and ``skipped``.

    Raises:
        DatasetError: Nothing usable is there.
        InputError: The checkpoints belong to other data, or neither captions nor classes are there.
        Cancelled: On request.
        WorkspaceError: The disk is full; the last checkpoint is kept.
    """
    from ltg_core.generators.fit import assemble

    settings = settings or assemble.GeneratorSettings()
    out = Path(out).expanduser()
    if "{label}" not in caption:
        raise InputError(f"the caption {caption!r} must contain {{label}}, which stands for the class")
    data = gather(source, side, split=split, limit=limit, on_progress=on_progress, cancel=cancel)
    captions = _captions(data, caption)
    work = out.with_name(out.name + ".work")
    with explained(out.parent, "folder"):
        _same_data(work, {"data": data.fingerprint, "caption": caption})
        card = {
            "trained_on": f"{len(data.images):,} images of {Path(source).name}, {side} × {side} pixels",
            "prompt": caption,
            "classes": list(data.classes),
            "data": data.fingerprint,
        }
        assemble.fit_generator(
            data.images,
            captions,
            out,
            settings,
            work=work,
            card=card,
            device=device,
            on_progress=on_progress,
            cancel=cancel,
        )
    made: dict[str, Any] = json.loads((out / "card.json").read_text(encoding="utf-8"))
    return {**made, "out": str(out), "skipped": list(data.skipped)}


def fit_small_classifier(
    source: str | Path,
    out: str | Path,
    arch: str,
    settings: ClassifierSettings | None = None,
    *,
    side: int = 64,
    split: str = "train",
    limit: int | None = None,
    group: str = "",
    holdout: float = 0.1,
    name: str = "",
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> tuple[Classifier, dict[str, Any]]:
    """Train a small classifier from scratch; its accuracy is measured on pictures that it never saw.

    Args:
        source: A labelled data set.
        out: File of the weights, ``.safetensors``; the card goes beside it, checkpoints to ``<out>.work``.
        arch: As in ``ltg_core.models.architectures.build``.
        settings: None for the defaults.
        side: Pixels of a side.
        split: To train on, where the data names splits.
        limit: At most so many pictures.
        group: Metadata column whose values stay together when pictures are held out.
        holdout: Share that is held out and measured; 0 for none.
        name: For people; the file's stem if not given.
        on_progress: Told about every 50 steps.
        cancel: Checked at every step; the next call goes on from the last checkpoint.

    Returns:
        The classifier and its card.

    Raises:
        DatasetError: Nothing usable is there, or fewer than two classes.
        InputError: The checkpoints belong to other data.
        Cancelled: On request.
        WorkspaceError: The disk is full; the last checkpoint is kept.
    """
    settings, out = settings or ClassifierSettings(), Path(out).expanduser()
    if out.suffix != ".safetensors":
        raise InputError(f"'{out.name}' must end in .safetensors")

    def read(held: bool) -> TrainingImages:
        return gather(
            source,
            side,
            split=split,
            limit=limit,
            resize="squash",
            group=group,
            holdout=holdout,
            held=held,
            on_progress=on_progress,
            cancel=cancel,
        )

    data = read(held=False)
    known = data.targets >= 0
    if len(set(data.targets[known].tolist())) < 2:
        raise DatasetError(
            f"'{Path(source).name}' has fewer than two classes; a classifier needs labelled images"
        )
    work = out.with_name(out.stem + ".work")
    with explained(out.parent, "folder"):
        _same_data(work, {"data": data.fingerprint, "arch": arch})
        classifier = fit_classifier(
            data.images[known],
            data.targets[known],
            data.classes,
            arch,
            settings,
            work / "classifier.ckpt",
            name=name or out.stem,
            on_progress=on_progress,
            cancel=cancel,
        )
    metrics: dict[str, float] = {}
    if holdout:
        held = read(held=True)
        metrics = {"held_out_accuracy": _accuracy(classifier, held), "held_out_images": len(held.images)}
    card = {
        "what": f"{arch} trained from scratch",
        "trained_on": f"{int(known.sum()):,} images of {Path(source).name}, {side} × {side} pixels",
        "held_out": {"share": holdout, "group": group},
        "data": data.fingerprint,
        "settings": settings.to_dict(),
        "metrics": metrics,
    }
    with explained(out.parent, "folder"):
        save_classifier(classifier, out, card)
    return classifier, {**card, "out": str(out), "skipped": list(data.skipped), **classifier.info()}


def _captions(data: TrainingImages, template: str) -> list[tuple[str, ...]]:
    texts: list[tuple[str, ...]] = []
    for text, target in zip(data.captions, data.targets.tolist(), strict=True):
        plain = template.replace("{label}", data.classes[target]) if target >= 0 else ""
        # Both, so that the class prompt alone works too: the caption thrice as often.
        options = (text, text, text, plain) if text and plain else (text or plain,)
        if not options[0]:
            raise InputError(
                "some images have neither a class nor a caption; there is nothing to say about them"
            )
        texts.append(options)
    return texts


def _same_data(work: Path, fingerprint: dict[str, str]) -> None:
    """Remember what the checkpoints belong to; refuse to mix."""
    file = work / "data.json"
    if file.is_file():
        if json.loads(file.read_text(encoding="utf-8")) != fingerprint:
            raise InputError(
                f"the checkpoints in '{work}' were made from other images, captions or another architecture; choose "
                "another output, or delete that folder"
            )
        return
    work.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(fingerprint), encoding="utf-8")
    os.replace(temporary, file)


def _accuracy(classifier: Classifier, held: TrainingImages) -> float:
    known = held.targets >= 0
    if not known.any():
        return float("nan")
    images = held.images[known]
    parts = [images[start : start + 512].float() / 255 for start in range(0, len(images), 512)]
    found = torch.cat([classifier.outputs(part).logits.argmax(dim=1) for part in parts])
    return round(float((found == held.targets[known]).float().mean()), 4)
