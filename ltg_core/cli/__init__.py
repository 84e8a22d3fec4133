"""The command line: every workflow as a sub-command; text for people, ``--json`` for programs.

Exit status: 0 done, 2 wrong use or an error that the user can act on (one line on stderr), 130 stopped with
Ctrl-C or SIGTERM; what was finished until then is kept.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from ltg_core import __version__
from ltg_core.cli.console import Console
from ltg_core.cli.flags import LazyParser
from ltg_core.errors import Cancelled, LtgError, ShardMade


class Command(NamedTuple):
    """A sub-command; its module is imported only when it is the one that was asked for.

    Attributes:
        name: As typed.
        module: Below ``ltg_core.cli``; it has ``configure_<name>(parser)``, which sets ``command``.
        help: One line.
    """

    name: str
    module: str
    help: str


COMMANDS = (
    Command("demo", "data", "load the bundled demo into a workspace, or build it anew"),
    Command("import", "data", "import images: a folder of class folders, a zip of one, or a table"),
    Command("data", "datacheck", "check images for copies, leaks between splits, wrong labels and odd ones"),
    Command("use", "data", "choose the classifier under test, or the generator"),
    Command("runs", "data", "list what was done in a workspace"),
    Command("backup", "backing", "write a workspace into one file, also while it is in use"),
    Command("restore", "backing", "make a workspace from a backup, once every hash in it was found right"),
    Command("score", "judging", "run the classifier on all samples and compute every signal"),
    Command("fit-head", "judging", "fit the epistemic head on the workspace's training data"),
    Command("check", "judging", "accuracy, confusion, and which signal finds the errors"),
    Command("rank", "judging", "list samples by a signal, the rarest first"),
    Command("curate", "judging", "accept, reject, flag or tag samples; undo and redo"),
    Command("sets", "curating", "versioned sets: keep, compare, restore, list, delete"),
    Command("review", "curating", "blind second reviews and how well they agree"),
    Command("generate", "imagining", "make guided images with their unguided controls"),
    Command("sweep", "planning", "draw a generated image at several weights, everything else as it was"),
    Command(
        "name", "naming", "find what goes wrong and call it by words; causal check; spurious correlations"
    ),
    Command("pool", "naming", "real evidence: pictures of an unlabelled pool that fit a finding"),
    Command("coverage", "planning", "class by condition: training samples, errors, need"),
    Command("balance", "balancing", "make the images that classes or groups lack to be balanced"),
    Command("explain", "imagining", "heat maps of a prediction or of the uncertainty itself"),
    Command("map", "imagining", "lay real and generated samples out in two dimensions"),
    Command("export", "imagining", "write accepted samples as training data, with provenance"),
    Command(
        "tell",
        "telling",
        "write one HTML file that tells of a weakness: numbers, pinned cases, how it was made",
    ),
    Command(
        "fit-generator", "fitting", "train a small latent diffusion model on labelled or captioned images"
    ),
    Command("extend", "extending", "auxiliary classes beside weak ones: propose, review, give images"),
    Command("retrain", "retraining", "train a copy of the classifier with curated synthetic images"),
    Command("compare", "retraining", "compare classifiers on fixed real images, what became worse first"),
    Command("quality", "quality", "how good made images are beside real ones: fidelity and diversity"),
    Command(
        "loop", "looping", "discover, generate, accept, retrain and re-measure until it is of no more use"
    ),
    Command("fit-classifier", "fitting", "train a small classifier on labelled images"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = build_parser().parse_args(argv)
    args.began = time.time()
    console = Console(json=args.json, quiet=args.quiet)
    try:
        with console.interruptible():
            data, text = args.command(args, console)
        console.answer(data, text)
        return 0
    except (Cancelled, KeyboardInterrupt) as stop:
        console.stopped(str(stop), _kept(args))
        return 130
    except ShardMade as made:
        console.answer(made.record, str(made))
        return 0
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except LtgError as error:
        console.failed(str(error))
        return 2


def build_parser() -> argparse.ArgumentParser:
    """The parser; a sub-command gets its flags when it is the one that is read."""
    parser = argparse.ArgumentParser(
        prog="python -m ltg_core",
        description="Find, generate, explain and repair the blind spots of an image classifier.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"longtail {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=LazyParser
    )
    for command in COMMANDS:
        commands.add_parser(
            command.name,
            help=command.help,
            description=command.help[0].upper() + command.help[1:] + ".",
            configure=functools.partial(_configure, command),
        )
    return parser


def _configure(command: Command, parser: argparse.ArgumentParser) -> None:
    module = importlib.import_module(f"ltg_core.cli.{command.module}")
    getattr(module, "configure_" + command.name.replace("-", "_"))(parser)


def _kept(args: argparse.Namespace) -> str:
    """What an interrupted command leaves, in words."""
    if getattr(args, "shard", None) is not None:
        return f"what was made of shard {args.shard} is kept; the same command goes on from there"
    hint = getattr(args, "after_stop", None)
    return (
        str(hint(args))
        if hint is not None
        else "what was finished is kept; the same command goes on from there"
    )
