"""Commands that train: fit-generator, fit-classifier. Both go on where they were stopped when they are
called again.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltg_core.cli.console import Console
from ltg_core.cli.flags import add_params, common, device_of, opened, params_from

if TYPE_CHECKING:
    from ltg_core.generators.fit.assemble import GeneratorSettings

Answer = tuple[Any, str]
_STAGES = ("autoencoder", "tiny", "text", "denoiser")


def _data_flags(parser: argparse.ArgumentParser, side: int) -> None:
    parser.add_argument("data", type=Path, help="folder of class folders, .zip, .parquet, .csv or .jsonl")
    parser.add_argument("--size", type=int, default=side, help="pixels of a side")
    parser.add_argument("--split", default="train", help="split to train on, where the data names splits")
    parser.add_argument("--limit", type=int, help="at most so many images, spread over the classes")


def configure_fit_generator(parser: argparse.ArgumentParser) -> None:
    """``fit-generator DATA --out DIR``."""
    from ltg_core.generators.fit.assemble import GeneratorSettings
    from ltg_core.workflows.training import CAPTION

    common(parser, workspace=False, device=True)
    _data_flags(parser, 64)
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="where the generator goes")
    parser.add_argument("--caption", default=CAPTION, help="for images without a caption of their own")
    parser.add_argument("--seed", type=int, help="of all four trainings")
    parser.add_argument(
        "--use", metavar="WORKSPACE", dest="workspace", type=Path, help="make it this workspace's generator"
    )
    defaults = GeneratorSettings()
    for stage in _STAGES:
        base = getattr(defaults, stage)
        add_params(parser, type(base), base, prefix=f"{stage}_", title=f"{stage} training", skip=("seed",))
    parser.set_defaults(command=_fit_generator, after_stop=_after_fit)


def _fit_generator(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows
    from ltg_core.workflows.training import fit_generator

    console.hush()
    card = fit_generator(
        args.data,
        args.out,
        _generator_settings(args),
        side=args.size,
        caption=args.caption,
        split=args.split,
        limit=args.limit,
        device=device_of(args),
        on_progress=console.progress,
        cancel=console.cancel,
    )
    sharpness = card["metrics"]["autoencoder_psnr_db"]
    text = f"The generator is in '{args.out}': {card['trained_on']}, autoencoder PSNR {sharpness} dB."
    if args.workspace is not None:
        with opened(args, create=True) as ws:
            workflows.use_generator(ws, args.out)
        text += f" The workspace '{args.workspace}' uses it."
    return card, _with_skipped(text, card["skipped"])


def _generator_settings(args: argparse.Namespace) -> GeneratorSettings:
    from ltg_core.generators.fit.assemble import GeneratorSettings

    defaults = GeneratorSettings()
    stages = {}
    for stage in _STAGES:
        base = getattr(defaults, stage)
        made = params_from(args, type(base), base, prefix=f"{stage}_")
        stages[stage] = made if args.seed is None else dataclasses.replace(made, seed=args.seed)
    return GeneratorSettings(**stages)


def configure_fit_classifier(parser: argparse.ArgumentParser) -> None:
    """``fit-classifier DATA --out FILE``."""
    from ltg_core.models.fit import ClassifierSettings

    common(parser, workspace=False)
    _data_flags(parser, 64)
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="weights, .safetensors")
    parser.add_argument("--arch", default="resnet14_small", help="architecture")
    parser.add_argument("--name", default="", help="for people")
    parser.add_argument(
        "--holdout", type=float, default=0.1, help="share that is held out and measured; 0 for none"
    )
    parser.add_argument(
        "--group", default="", help="column whose values stay together when images are held out"
    )
    add_params(parser, ClassifierSettings, title="training", skip=("size",))  # --size is that of the images
    parser.set_defaults(command=_fit_classifier, after_stop=_after_fit)


def _fit_classifier(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.models.fit import ClassifierSettings
    from ltg_core.workflows.training import fit_small_classifier

    classifier, card = fit_small_classifier(
        args.data,
        args.out,
        args.arch,
        params_from(args, ClassifierSettings),
        side=args.size,
        split=args.split,
        limit=args.limit,
        group=args.group,
        holdout=args.holdout,
        name=args.name,
        on_progress=console.progress,
        cancel=console.cancel,
    )
    text = f"{classifier.name}: {card['what']} on {card['trained_on']}, in '{args.out}'."
    if card["metrics"]:
        metrics = card["metrics"]
        text += (
            f" Accuracy {metrics['held_out_accuracy']:.2%} on {metrics['held_out_images']:,} held-out images."
        )
    return card, _with_skipped(text, card["skipped"])


def _after_fit(args: argparse.Namespace) -> str:
    return f"checkpoints are kept beside '{args.out}'; the same command goes on from there"


def _with_skipped(text: str, skipped: list[tuple[str, str]]) -> str:
    if not skipped:
        return text
    return "\n".join(
        [text, f"{len(skipped):,} images could not be read:", *(f"  {n}: {why}" for n, why in skipped[:10])]
    )
