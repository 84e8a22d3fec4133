"""Commands that fill a workspace: demo, import, use, runs."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltg_core.cli.console import Console, table
from ltg_core.cli.flags import LazyParser, add_params, common, device_of, given_params, opened, params_from
from ltg_core.cli.generators import add_generator_flags, described, fetch, generator_options, offered
from ltg_core.errors import InputError

if TYPE_CHECKING:
    from ltg_core.data.records import Run
    from ltg_core.models.classifier import Classifier
    from ltg_core.models.preprocess import Preprocess

Answer = tuple[Any, str]


def configure_demo(parser: argparse.ArgumentParser) -> None:
    """``demo load`` and ``demo build``."""
    what = parser.add_subparsers(title="what to do", metavar="WHAT", required=True, parser_class=LazyParser)
    what.add_parser(
        "load", help="put the demo into a workspace, score it and fit its head", configure=_configure_load
    )
    what.add_parser(
        "build",
        help="render the world and train every model anew; hours without a GPU; goes on where it was stopped",
        configure=_configure_build,
    )


def _configure_load(parser: argparse.ArgumentParser) -> None:
    common(parser, device=True)
    parser.add_argument("--from", dest="folder", metavar="DIR", type=Path, help="another demo folder")
    parser.set_defaults(command=_demo_load)


def _configure_build(parser: argparse.ArgumentParser) -> None:
    from ltg_core.demo.build import BuildSettings

    common(parser, workspace=False, device=True)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("assets/demo"), help="where the demo goes"
    )
    parser.add_argument(
        "--work", metavar="DIR", type=Path, default=Path("build/demo"), help="checkpoints and pictures"
    )
    add_params(parser, BuildSettings, title="sizes")
    parser.set_defaults(command=_demo_build)


def _demo_load(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    console.hush()
    with opened(args, create=True) as ws:
        classifier = workflows.prepare_demo(
            ws,
            args.folder or workflows.DEMO,
            device=device_of(args),
            on_progress=console.progress,
            cancel=console.cancel,
        )
        data = {"samples": ws.count(), "classifier": classifier.info()}
        return data, f"The demo is in '{ws.path}': {ws.count():,} samples, scored, and the head fitted."


def _demo_build(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.demo.build import BuildSettings, build

    console.hush()
    settings = params_from(args, BuildSettings)
    build(
        args.out,
        args.work,
        settings,
        device=device_of(args),
        on_progress=console.progress,
        cancel=console.cancel,
    )
    return {"out": args.out, "settings": settings.to_dict()}, f"The demo is in '{args.out}'."


def configure_import(parser: argparse.ArgumentParser) -> None:
    """``import PATH``."""
    common(parser)
    parser.add_argument(
        "path",
        help="a folder (class folders, Parquet files, tar shards, save_to_disk), .zip, .parquet, .csv, .jsonl, .tar, "
        ".npz, .npy, or hf:owner/name, which is fetched",
    )
    parser.add_argument("--split", help="split of images for which the data names none")
    parser.add_argument("--limit", type=int, help="at most so many, spread over splits and classes")
    parser.add_argument(
        "--holdout",
        metavar="VAL[,TEST]",
        type=_shares,
        help="share that goes to val, or shares for val and test, where the data has no splits or only train",
    )
    parser.add_argument(
        "--group", default="", metavar="COLUMN", help="metadata column whose values --holdout does not divide"
    )
    parser.add_argument("--seed", type=int, default=0, help="of --holdout")
    parser.set_defaults(command=_import)


def _import(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    with opened(args, create=True) as ws:
        report = workflows.import_data(
            ws,
            args.path,
            split=args.split,
            limit=args.limit,
            holdout=args.holdout,
            group=args.group,
            seed=args.seed,
            online=True,
            on_progress=console.progress,
            cancel=console.cancel,
        )
        mapping = workflows.label_mapping(ws)
        lines = [
            report.summary(),
            "Splits: " + ", ".join(f"{k or 'none'} {v:,}" for k, v in report.splits.items()),
        ]
        lines += [f"  {name}: {reason}" for name, reason in report.skipped[:10]]
        if ws.get_state("classifier"):
            lines.append(mapping["text"])
        return dataclasses.asdict(report) | {"mapping": mapping}, "\n".join(lines)


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; give 0.2, or 0.1,0.2") from None


def configure_use(parser: argparse.ArgumentParser) -> None:
    """``use --classifier FILE``, ``use --generator DIR``."""
    from ltg_core.models.preprocess import Preprocess

    common(parser, device=True)
    group = parser.add_argument_group("classifier")
    group.add_argument(
        "--classifier",
        metavar="PATH",
        type=Path,
        help="safetensors, weights-only state dict, ONNX file (experimental), or a folder of transformers or timm",
    )
    group.add_argument(
        "--arch", help="architecture, such as resnet20_cifar or timm:resnet18; needed without a card"
    )
    group.add_argument(
        "--labels",
        metavar="NAMES",
        help="class names in the order of the outputs: a,b,c or a file with one a line",
    )
    group.add_argument("--name", help="for people")
    group.add_argument(
        "--key",
        help="entry of a wrapped checkpoint that holds the weights, such as model_ema",
        metavar="NAME",
    )
    group.add_argument(
        "--factory",
        metavar="PACKAGE.MODULE:FUNCTION",
        help="your own function that returns the network; it is called whenever this workspace's classifier is loaded. "
        "Without --classifier its weights are kept as it gives them",
    )
    group.add_argument(
        "--allow-programs",
        action="store_true",
        help="take the weights out of a torch.export or TorchScript file in a locked process; needs --arch",
    )
    group.add_argument(
        "--restrict",
        metavar="NAMES",
        help="predict only these classes: a,b,c or a file, or 'data' for those that the imported images have",
    )
    add_params(
        parser, Preprocess, title="preprocessing, where it differs from the card's or the architecture's own"
    )
    add_generator_flags(parser)
    parser.set_defaults(command=_use)


def _use(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    chosen = args.classifier is not None or args.factory is not None
    if not chosen and args.generator is None:
        raise InputError(
            "give --classifier PATH, --factory PACKAGE.MODULE:FUNCTION, --generator DIR, or several of them"
        )
    if args.download:
        offer, text = offered(args)
        if text:
            return dataclasses.asdict(offer), text
        fetch(args, offer, console)
    data: dict[str, Any] = {}
    lines: list[str] = []
    with opened(args, create=True) as ws:
        if chosen:
            classifier = workflows.use_classifier(
                ws,
                args.classifier,
                arch=args.arch,
                labels=_labels(args.labels),
                preprocess=_preprocess(args),
                name=args.name,
                key=args.key,
                factory=args.factory,
                programs=args.allow_programs,
                restrict=_labels(args.restrict),
                device=device_of(args),
            )
            mapping = workflows.label_mapping(ws)
            data |= {"classifier": classifier.info(), "mapping": mapping}
            lines += [_described(classifier)] + ([mapping["text"]] if ws.count() else [])
        if args.generator is not None:
            console.hush()
            generator = workflows.use_generator(
                ws, args.generator, options=generator_options(args), device=device_of(args)
            )
            facts, text = described(generator)
            data["generator"] = facts
            lines.append(text)
    return data, "\n".join(lines)


def _preprocess(args: argparse.Namespace) -> Preprocess | None:
    """The usual preprocessing with what the flags change, None where they change nothing."""
    from ltg_core.models.loaders import usual_preprocess
    from ltg_core.models.preprocess import Preprocess

    if not given_params(args, Preprocess):
        return None
    if args.allow_programs and args.arch:
        from ltg_core.models.architectures import default_preprocess

        return params_from(args, Preprocess, default_preprocess(args.arch))
    own = args.factory is not None or args.classifier is None
    usual = Preprocess() if own else usual_preprocess(args.classifier, args.arch)
    return params_from(args, Preprocess, usual)


def _labels(text: str | None) -> list[str] | None:
    """Class names from ``a,b,c``, or from a file with one a line or a JSON list."""
    import json

    if text is None:
        return None
    file = Path(text)
    if not file.is_file():
        if file.suffix in (".txt", ".json"):
            raise InputError(f"the file of class names '{file}' does not exist")
        return [name.strip() for name in text.split(",")]
    content = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        try:
            names = json.loads(content)
        except ValueError as error:
            raise InputError(f"'{file}' is not JSON: {error}") from error
        if not isinstance(names, list):
            raise InputError(f"'{file}' holds no list of class names")
        return [str(name) for name in names]
    return [line.strip() for line in content.splitlines() if line.strip()]


def _described(classifier: Classifier) -> str:
    names = ", ".join(classifier.labels[:10]) + (", …" if classifier.num_classes > 10 else "")
    return (
        f"Classifier {classifier.name} ({classifier.arch}, {classifier.hash}), {classifier.num_classes} classes: "
        f"{names}\nImages are {classifier.preprocess.describe()}.\nFeatures: the input of {classifier.feature_layer}"
        + (f", and {classifier.early_layer}." if classifier.early_layer else ".")
        + "".join(f"\nNote: {note}." for note in classifier.notes)
    )


def configure_runs(parser: argparse.ArgumentParser) -> None:
    """``runs [ID]``."""
    common(parser)
    parser.add_argument("id", nargs="?", help="show this run with settings, hashes, versions and result")
    parser.add_argument("--kind", help="only runs of this kind, such as generate")
    parser.add_argument("--limit", type=int, default=30, help="at most so many")
    parser.set_defaults(command=_runs)


def _runs(args: argparse.Namespace, console: Console) -> Answer:
    import json

    with opened(args) as ws:
        if args.id:
            run = dataclasses.asdict(ws.run(args.id))
            return run, json.dumps(run, ensure_ascii=False, indent=2)
        runs = ws.runs(args.kind)[: args.limit]
    rows = [[run.id, run.state, _when(run), _took(run), run.reason[:60]] for run in runs]
    text = table(rows, ["run", "state", "started", "took", ""]) if rows else "Nothing was done here yet."
    return [dataclasses.asdict(run) for run in runs], text


def _when(run: Run) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started))


def _took(run: Run) -> str:
    return "" if run.finished is None else f"{run.finished - run.started:.1f} s"
