"""Commands about real samples: score, fit-head, check, rank, curate."""

from __future__ import annotations

import argparse
import dataclasses
import math
from typing import TYPE_CHECKING, Any

from ltg_core.cli.console import Console, table
from ltg_core.cli.flags import add_params, common, device_of, opened, params_from
from ltg_core.errors import InputError

if TYPE_CHECKING:
    from ltg_core.data.records import Filter
    from ltg_core.data.workspace import Workspace
    from ltg_core.models.classifier import Classifier

Answer = tuple[Any, str]


def configure_score(parser: argparse.ArgumentParser) -> None:
    """``score``."""
    common(parser, device=True, engine=True)
    parser.add_argument("--split", help="only this split")
    parser.add_argument("--batch-size", type=int, help="images at once")
    parser.set_defaults(command=_score)


def _score(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows
    from ltg_core.data.records import Filter

    with opened(args, on_progress=console.progress) as ws:
        run = workflows.score(
            ws,
            workflows.active_classifier(ws, device=device_of(args)),
            filter=Filter(split=args.split) if args.split else None,
            batch_size=args.batch_size,
            on_progress=console.progress,
            cancel=console.cancel,
        )
        result = run.result
        text = (
            f"{result['samples']:,} samples: {result['computed']:,} run through the classifier, {result['scored']:,} "
            f"scored, {result['skipped']:,} could not be read ({result['seconds']:.1f} s)."
        )
        lines = [text, *(f"  {sample}: {reason}" for sample, reason in result["first_skipped"][:10])]
        return {"run": run.id, **result}, "\n".join(lines)


def configure_fit_head(parser: argparse.ArgumentParser) -> None:
    """``fit-head``."""
    from ltg_core.signals.head import HeadSettings
    from ltg_core.signals.reference import ReferenceSettings

    common(parser, device=True)
    parser.add_argument("--seed", type=int, default=0, help="of every random draw")
    add_params(parser, HeadSettings, title="head")
    add_params(parser, ReferenceSettings, title="reference")
    parser.set_defaults(command=_fit_head)


def _fit_head(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows
    from ltg_core.signals.head import HeadSettings
    from ltg_core.signals.reference import ReferenceSettings

    with opened(args) as ws:
        run = workflows.fit_head(
            ws,
            workflows.active_classifier(ws, device=device_of(args)),
            params_from(args, HeadSettings),
            options=params_from(args, ReferenceSettings),
            seed=args.seed,
            on_progress=console.progress,
            cancel=console.cancel,
        )
    result = run.result
    text = (
        f"Fitted on {result['fitted_on']:,} samples ({result['splits']['fitted_on']}), percentiles from "
        f"{result['held_out']:,} ({result['splits']['held_out']}); {result['scored']:,} samples scored "
        f"({result['seconds']:.1f} s)."
    )
    return {"run": run.id, **result}, text


def configure_check(parser: argparse.ArgumentParser) -> None:
    """``check``."""
    common(parser)
    parser.add_argument("--split", help="only this split; all real samples where it is not given")
    parser.add_argument("--confusion", action="store_true", help="show the largest confusions too")
    parser.set_defaults(command=_check)


def _check(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows
    from ltg_core.errors import DatasetError

    with opened(args) as ws:
        classifier = workflows.active_classifier(ws)
        found = workflows.check_classifier(ws, classifier, args.split)
        alone = ""
        try:
            signals = workflows.discovery(ws, classifier, args.split)
        except DatasetError as error:  # no held-out split: the accuracy stands alone
            signals, alone = [], f"Not measured, which signal finds the errors: {error}."
    lines = [
        f"Accuracy {found['accuracy']:.2%} on {found['n']:,} labelled real samples"
        + (f" of the split {args.split!r}" if args.split else "")
        + f"; mean over classes {found['balanced_accuracy']:.2%}, chance {found['chance']:.1%}, "
        f"calibration error {found['ece']:.3f}."
    ]
    if found["warning"]:
        lines.append(f"WARNING: {found['warning']}.")
    rows = [
        [row["label"], f"{row['n']:,}", "–" if row["accuracy"] is None else f"{row['accuracy']:.1%}"]
        for row in sorted(
            found["per_class"], key=lambda row: 2.0 if row["accuracy"] is None else row["accuracy"]
        )
    ]
    lines += ["", table(rows, ["class", "samples", "accuracy"])]
    if args.confusion:
        lines += ["", _confusions(found["confusion"], classifier)]
    if alone:
        lines += ["", alone]
    if signals:
        first = signals[0]
        what = f"{first['n_errors']:,} errors among {first['n']:,} samples of the split {first['split']!r}"
        rows = [[row["signal"], _three(row["auroc_errors"]), _three(row["aupr_errors"])] for row in signals]
        lines += ["", f"How well each signal finds the {what}:", table(rows, ["signal", "AUROC", "AUPR"])]
    return {**found, "labels": classifier.labels, "discovery": signals}, "\n".join(lines)


def _confusions(confusion: Any, classifier: Classifier) -> str:
    pairs = [
        (int(confusion[i, j]), classifier.labels[i], classifier.labels[j])
        for i in range(len(confusion))
        for j in range(len(confusion))
        if i != j and confusion[i, j]
    ]
    rows = [[true, guess, f"{n:,}"] for n, true, guess in sorted(pairs, key=lambda pair: -pair[0])[:15]]
    return table(rows, ["class", "taken for", "times"])


def configure_rank(parser: argparse.ArgumentParser) -> None:
    """``rank``."""
    common(parser)
    parser.add_argument("--signal", default="epistemic", help="signal, or confidence, created")
    parser.add_argument("--top", type=int, default=20, help="so many")
    _add_filter(parser)
    parser.set_defaults(command=_rank)


def _rank(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core import workflows

    with opened(args) as ws:
        classifier = workflows.active_classifier(ws)
        known = ws.score_names(classifier.hash)
        if args.signal not in (*known, "confidence", "created"):
            raise InputError(
                f"there are no scores of {args.signal!r}; there are: {', '.join(known) or 'none, run score first'}. "
                "Signals of the head need 'fit-head'"
            )
        ids = ws.query(_filter(args, ws, classifier), sort=args.signal, limit=args.top)
        scores = ws.scores(ids, classifier.hash, args.signal)
        said = ws.predictions(ids, classifier.hash)
        data, rows = [], []
        for sample in ws.samples(ids):
            score, guess = scores.get(sample.id), said.get(sample.id)
            predicted = classifier.labels[guess.pred] if guess else None
            entry = {
                "id": sample.id,
                "value": score.value if score else None,
                "percentile": None if score is None or math.isnan(score.percentile) else score.percentile,
                "label": sample.label_name,
                "prediction": predicted,
                "confidence": guess.confidence if guess else None,
                "correct": guess.correct if guess else None,
                "split": sample.split,
                "source": sample.source,
                "belief": sample.belief,
                "path": str(ws.image_path(sample.id)),
            }
            data.append(entry)
            rows.append(
                [
                    sample.id,
                    "–" if score is None else f"{score.value:.4g}",
                    "–" if entry["percentile"] is None else f"{entry['percentile']:.1f}",
                    sample.label_name or "–",
                    predicted or "–",
                    "–" if guess is None else f"{guess.confidence:.0%}",
                    sample.source[:40],
                ]
            )
    head = ["sample", args.signal, "percentile", "label", "prediction", "confidence", "source"]
    return data, table(rows, head) if rows else "No sample passes."


def configure_curate(parser: argparse.ArgumentParser) -> None:
    """``curate``."""
    common(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    for verdict, flag in (
        ("accepted", "accept"),
        ("rejected", "reject"),
        ("flagged", "flag"),
        ("undecided", "reset"),
    ):
        what.add_argument(
            f"--{flag}",
            dest="verdict",
            action="store_const",
            const=verdict,
            help=f"make the samples {verdict}",
        )
    what.add_argument("--add-tag", metavar="TAG", help="tag the samples")
    what.add_argument("--remove-tag", metavar="TAG", help="take a tag from the samples")
    what.add_argument(
        "--rate", metavar="N", type=int, help="give the samples 1 to 5 stars; 0 takes them back"
    )
    what.add_argument("--note", metavar="TEXT", help="write a note on the samples; an empty one removes it")
    what.add_argument("--history", action="store_true", help="list what was done lately")
    what.add_argument("--undo", action="store_true", help="take the last action back")
    what.add_argument("--redo", action="store_true", help="repeat what was taken back")
    parser.add_argument("ids", nargs="*", help="samples; or choose them by the filters")
    _add_filter(parser)
    parser.set_defaults(command=_curate)


def _curate(args: argparse.Namespace, console: Console) -> Answer:
    from ltg_core.curation import history, verdicts

    with opened(args) as ws:
        if args.history:
            actions = history(ws)
            rows = [[str(a.id), "undone" if a.undone else "", a.author, a.description] for a in actions]
            text = table(rows, ["action", "", "by", "what"]) if rows else "Nothing was done yet."
            return [dataclasses.asdict(a) for a in actions], text
        if args.undo or args.redo:
            done = verdicts.undo(ws) if args.undo else verdicts.redo(ws)
            what = "Taken back" if args.undo else "Repeated"
            return {
                "done": done
            }, f"{what}: {done}." if done else "There is nothing to take back or to repeat."
        ids = chosen(args, ws)
        if args.verdict:
            done = verdicts.set_verdict(ws, ids, args.verdict)
        elif args.rate is not None:
            done = verdicts.rate(ws, ids, args.rate or None)
        elif args.note is not None:
            done = verdicts.note(ws, ids, args.note)
        else:
            add = [args.add_tag] if args.add_tag else []
            done = verdicts.tag(ws, ids, add=add, remove=[] if add else [args.remove_tag])
        return {"done": done, "samples": len(ids)}, done[0].upper() + done[1:] + "."


def chosen(args: argparse.Namespace, ws: Workspace) -> list[str]:
    """Samples named one by one, or those that pass the filters.

    Raises:
        InputError: Neither, both, or none that passes.
    """
    from ltg_core.data.records import Filter

    if args.ids:
        if _filter(args, ws, None, check=False) != Filter():
            raise InputError("name samples one by one or by filters, not both")
        return list(args.ids)
    wanted = _filter(args, ws, None)
    if wanted == Filter():
        raise InputError(
            "which samples? Name them, or choose them by --run, --believed, --split, --label, --tag …"
        )
    ids = ws.query(wanted)
    if not ids:
        raise InputError("no sample passes these filters")
    return ids


def _add_filter(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("filters")
    group.add_argument("--split", help="only this split")
    group.add_argument("--label", help="only this class")
    group.add_argument("--run", help="only images of this generation")
    group.add_argument("--role", choices=("guided", "control"), help="only guided images, or only controls")
    group.add_argument("--errors", action="store_true", help="only samples that the classifier gets wrong")
    group.add_argument("--believed", action="store_true", help="only generated images that are believed")
    group.add_argument("--verdict", dest="by_verdict", help="only samples with this verdict")
    group.add_argument("--tag", help="only samples with this tag")
    group.add_argument("--text", default="", help="only samples with these words")


def _filter(
    args: argparse.Namespace, ws: Workspace, classifier: Classifier | None, *, check: bool = True
) -> Filter:
    from ltg_core import workflows
    from ltg_core.data.records import Filter

    if check and classifier is None and (args.errors or args.label is not None):
        classifier = workflows.active_classifier(ws)
    label = workflows.class_index(classifier, args.label) if classifier and args.label is not None else None
    return Filter(
        split=args.split,
        label=label if check else args.label,
        origin=args.run,
        correct=False if args.errors else None,
        believed=True if args.believed else None,
        verdict=args.by_verdict,
        tag=args.tag,
        text=args.text,
        meta={"role": args.role} if args.role else {},
        model_hash=classifier.hash if classifier else None,
    )


def _three(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


add_filter = _add_filter
