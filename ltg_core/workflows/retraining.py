"""Retraining: a copy of the classifier learns from real and curated synthetic images and becomes a new classifier."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ltg_core.data.database import explained
from ltg_core.data.records import Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import save_classifier
from ltg_core.training.loop import Fetch, Fit, Trained, TrainingSet
from ltg_core.training.losses import LOSSES, Loss
from ltg_core.training.losses.cross_entropy import CrossEntropy
from ltg_core.training.samplers import SAMPLERS, Sampler
from ltg_core.training.samplers.instance import InstanceSampler
from ltg_core.training.settings import MixSettings, TrainSettings
from ltg_core.training.student import Teacher
from ltg_core.training.watching import better, watched
from ltg_core.workflows.recording import Recording, recorded
from ltg_core.workflows.retrain_inputs import Pictures, features_of
from ltg_core.workflows.retrain_rows import Rows, choose
from ltg_core.workflows.retrained import KIND
from ltg_core.workflows.setup import stored_classifier

_ROWS = "rows.json"
_SMALL_VALIDATION = 100
_PRIOR = ("balanced-softmax", "logit-adjusted", "neighbour-silencing")


def retrain(
    ws: Workspace,
    classifier: Classifier,
    settings: TrainSettings | None = None,
    *,
    loss: Loss | None = None,
    sampler: Sampler | None = None,
    mix: MixSettings | None = None,
    runs: Sequence[str] = (),
    soft_labels: Mapping[str, Sequence[float]] | None = None,
    seeds: Sequence[int] = (0,),
    name: str = "",
    device: str | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Train copies of a classifier, one a seed; each becomes a classifier of the workspace. This one stays as it is.

    It learns from the real split "train" (without rejected images and copies of held-out ones) and from curated
    synthetic images that the leakage guard of exports lets through. The real split "val" says when to stop, or a
    tenth of the training images where there is none; "test" is never read.

    Args:
        ws: The workspace.
        classifier: Where it starts; stored in the workspace.
        settings: None for the defaults: the last layer only.
        loss: None for cross-entropy.
        sampler: None for every image once an epoch.
        mix: Which synthetic images, and how much they count.
        runs: Generations to take them from; empty for all.
        soft_labels: Sample id → probabilities of the classes.
        seeds: One training each.
        name: For people.
        device: "cpu" or "cuda"; None for the device of the workspace.
        on_progress: Told often.
        cancel: Checked at every step; ``resume_retrain`` goes on from there.

    Returns:
        The run. Its result has ``seeds`` (``seed``, ``classifier``: its hash, ``epochs``, ``best_epoch``,
        ``stopped_early``, ``validation``, ``before``, ``seconds``), ``best`` (the hash with the best validation
        figure), ``from`` (name of the classifier that it started from), ``data`` (counts) and ``notes``.

    Raises:
        DatasetError: Too little labelled real data.
        UnsupportedError: The loss needs what is not there, or the classifier cannot be trained in this way.
        Cancelled: On request.
        WorkspaceError: The disk is full; the last checkpoint is kept.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"the seeds are {list(seeds)}; give one or more, each once")
    settings, mix = settings or TrainSettings(), mix or MixSettings()
    loss, sampler = loss or CrossEntropy(), sampler or InstanceSampler()
    record = {
        "classifier": classifier.hash,
        "train": settings.to_dict(),
        "loss": {"name": loss.NAME, **loss.to_dict()},
        "sampler": {"name": sampler.NAME, **sampler.to_dict()},
        "mix": mix.to_dict(),
        "runs": list(runs),
        "seeds": [int(seed) for seed in seeds],
        "name": name,
    }
    token = cancel or CancelToken()
    hashes = {"classifier": classifier.hash}
    with recorded(ws, KIND, record, seed=int(seeds[0]), hashes=hashes) as recording:
        rows = choose(ws, classifier, mix, runs, soft_labels or {}, on_progress=on_progress, cancel=token)
        _write_rows(ws, recording.run, rows)
        _Retraining(ws, classifier, recording, rows, device, on_progress, token).do()
    return recording.run


def resume_retrain(
    ws: Workspace,
    run_id: str,
    *,
    device: str | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Go on with a retraining that was stopped, to the same weights: with the images that it began with.

    Raises:
        InputError: It is done, is no retraining, had not begun, or another process works at it; or images that it had
            chosen are gone.
        ModelError: Its checkpoint is damaged.
    """
    run = ws.run(run_id)
    if run.kind != KIND:
        raise InputError(f"{run_id} is a run of {run.kind}, not of {KIND}")
    file = ws.run_folder(run_id) / _ROWS
    if not file.is_file():
        raise InputError(f"{run_id} was stopped before its images were chosen; start it again")
    rows = Rows.from_json(file.read_text(encoding="utf-8"))
    chosen = {*rows.ids, *rows.held}
    gone = len(chosen) - len(ws.there(sorted(chosen)))
    if gone:
        raise InputError(
            f"{gone:,} of the {len(chosen):,} images that {run_id} had chosen have been removed since, so it cannot go "
            "on to the same weights; start it again"
        )
    classifier = stored_classifier(ws, run.settings["classifier"])
    with recorded(ws, KIND, {}, resume=run_id, alone=True) as recording:
        _Retraining(ws, classifier, recording, rows, device, on_progress, cancel or CancelToken()).do()
    return recording.run


def _write_rows(ws: Workspace, run: Run, rows: Rows) -> None:
    ws.blobs.write(ws.run_folder(run.id) / _ROWS, rows.to_json().encode())


class _Retraining:
    """The trainings of one run; seeds that are finished are left alone."""

    def __init__(
        self,
        ws: Workspace,
        classifier: Classifier,
        recording: Recording,
        rows: Rows,
        device: str | None,
        on_progress: ProgressFn,
        cancel: CancelToken,
    ) -> None:
        self.ws, self.classifier, self.recording, self.rows = ws, classifier, recording, rows
        self.device, self.on_progress, self.cancel = device or ws.device, on_progress, cancel
        given = recording.run.settings
        self.settings = TrainSettings.from_dict(given["train"])
        self.loss = plugin(LOSSES, given["loss"])
        self.sampler = plugin(SAMPLERS, given["sampler"])
        self.seeds, self.name = [int(s) for s in given["seeds"]], str(given["name"])

    def do(self) -> None:
        """Every seed that is not there."""
        self.loss.check(self.rows.about(self.classifier.num_classes))  # before all images are read
        self.sampler.check(torch.tensor(self.rows.groups, dtype=torch.long))
        data, rows = self._data()
        result = self.recording.result
        result |= {"data": rows.summary(self.classifier.num_classes), "fingerprint": rows.fingerprint}
        result["from"] = self.classifier.name
        mix = MixSettings.from_dict(self.recording.run.settings["mix"])
        result["notes"] = notes_on(rows, self.settings, mix, self.loss.NAME, self.sampler.NAME)
        done: list[dict[str, Any]] = result.setdefault("seeds", [])
        for number, seed in enumerate(self.seeds):
            if seed not in [one["seed"] for one in done]:
                done.append(self._one(seed, number, data, rows))
        values = {one["classifier"]: one["validation"].get(self.settings.monitor) for one in done}
        best: str | None = None
        for hash, value in values.items():
            if best is None or (value is not None and better(self.settings.monitor, value, values[best])):
                best = hash
        result["best"] = best
        for file in self.ws.run_folder(self.recording.run.id).glob("seed-*.ckpt"):
            file.unlink()

    def _one(self, seed: int, number: int, data: TrainingSet, rows: Rows) -> dict[str, Any]:
        """One training; returns its record."""
        began, count = time.monotonic(), len(self.seeds)
        names = [name for name, _ in rows.auxiliary]
        teacher = Teacher(self.classifier, self.settings, names, seed)

        def report(p: Progress) -> None:
            self.on_progress(dataclasses.replace(p, done=number * p.total + p.done, total=count * p.total))

        with explained(self.ws.path):
            trained = Fit(
                teacher.student(),
                data,
                self.loss,
                self.sampler,
                self.settings,
                seed=seed,
                checkpoint=self.ws.run_folder(self.recording.run.id) / f"seed-{seed}.ckpt",
                device=self.device,
            ).run(what=f"seed {number + 1} of {count}", on_progress=report, cancel=self.cancel)
        made = teacher.finished(trained.state, self._called(seed), [f"retrained from {self.classifier.name}"])
        record = {
            "seed": seed,
            "classifier": made.hash,
            "name": made.name,
            "epochs": trained.epochs,
            "best_epoch": trained.best_epoch,
            "stopped_early": trained.stopped_early,
            "validation": _at(trained),
            "before": self._before(data),
            "seconds": round(time.monotonic() - began, 2),
        }
        place = self.ws.models_folder / made.hash / "classifier.safetensors"
        with explained(self.ws.path):
            save_classifier(made, place, self._card(record, rows))
            log = self.ws.run_folder(self.recording.run.id) / f"seed-{seed}.json"
            self.ws.blobs.write(log, json.dumps(trained.history).encode())
        return record

    def _data(self) -> tuple[TrainingSet, Rows]:
        """Inputs of the student, without what cannot be read."""
        ids = [*self.rows.ids, *self.rows.held]
        told: dict[str, Any] = {"on_progress": self.on_progress, "cancel": self.cancel}
        if self.settings.scope == "head":
            features, broken = features_of(self.ws, self.classifier, ids, **told)
            fetch: Fetch = features.__getitem__
        else:
            fetch = pictures = Pictures(self.ws, ids, self.classifier.preprocess, **told)
            broken = pictures.broken
        rows = self.rows.without(broken)
        place_of = {id: place for place, id in enumerate(ids)}
        own = torch.tensor([place_of[id] for id in rows.ids])
        held = torch.tensor([place_of[id] for id in rows.held], dtype=torch.long)
        classes = self.classifier.num_classes
        data = TrainingSet(
            fetch=lambda places: fetch(own[places]),
            targets=rows.targets(classes),
            weights=torch.tensor(rows.weights),
            groups=torch.tensor(rows.groups),
            about=rows.about(classes),
            held=lambda places: fetch(held[places]),
            held_labels=torch.tensor(rows.held_labels, dtype=torch.long),
            classes=classes,
            fingerprint=f"{rows.fingerprint} {self.classifier.hash}",
        )
        return data, rows

    def _before(self, data: TrainingSet) -> dict[str, float]:
        """What the classifier itself scores on the validation images."""
        parts = []
        for places in torch.split(torch.arange(len(data.held_labels)), 256):
            x = data.held(places)
            if self.settings.scope == "head":
                head = self.classifier.layer(self.classifier.feature_layer)
                with torch.no_grad():
                    logits = head(x.to(self.classifier.device, self.classifier.dtype))
                parts.append(self.classifier.units(logits).float().cpu())
            else:
                parts.append(self.classifier.outputs(x).logits.float().cpu())
        found = watched(torch.cat(parts), data.held_labels, data.classes)
        return {name: round(value, 6) for name, value in found.items()}

    def _called(self, seed: int) -> str:
        base = self.name or f"{self.classifier.name}, {self.loss.NAME}, {self.settings.scope}"
        return base if len(self.seeds) == 1 else f"{base}, seed {seed}"

    def _card(self, record: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
        """Provenance, on the card of the new classifier."""
        given = self.recording.run.settings
        data = rows.summary(self.classifier.num_classes)
        return {
            "what": f"{self.classifier.name} retrained ({given['train']['scope']}, {given['loss']['name']})",
            "trained_from": {"name": self.classifier.name, "hash": self.classifier.hash},
            "trained_on": ", ".join(f"{data[kind]:,} {kind}" for kind in ("real", "synthetic", "auxiliary"))
            + " images",
            "run": self.recording.run.id,
            "seed": record["seed"],
            "data": rows.fingerprint,
            "settings": {key: given[key] for key in ("train", "loss", "sampler", "mix", "runs")},
            "metrics": {"validation": record["validation"], "before": record["before"]},
        }


def notes_on(rows: Rows, settings: TrainSettings, mix: MixSettings, loss: str, sampler: str) -> list[str]:
    """What somebody should know who reads the figures of such a training."""
    notes = []
    if len(rows.held) < _SMALL_VALIDATION:
        notes.append(
            f"only {len(rows.held)} real validation images say when to stop; the choice of the epoch is noisy"
        )
    if rows.where.get("stopped_by", "val") != "val":
        notes.append(
            "there is no split 'val': a part of the training images was held out to say when to stop"
        )
    if loss in _PRIOR and sampler != "instance":
        notes.append(
            f"{loss} corrects for the class frequencies and the sampler {sampler} changes them: rare classes are "
            "favoured twice"
        )
    made = rows.kinds.count("synthetic")
    if made < mix.limit:
        notes.append(f"{mix.limit} synthetic images were asked for, {made} are there")
    if settings.scope == "head" and settings.augments:
        notes.append("shift, flip and exposure are not applied: features are computed once")
    return notes


def rows_of(ws: Workspace, ref: str) -> Rows | None:
    """The images of a retraining; None where there is no such run, or it had not begun."""
    file = ws.run_folder(ref) / _ROWS if any(run.id == ref for run in ws.runs(KIND)) else None
    return Rows.from_json(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else None


def resumable(ws: Workspace, run: str) -> bool:
    """Whether a retraining that was stopped has chosen its images, so that it can go on to the same weights."""
    return (ws.run_folder(run) / _ROWS).is_file()


def _at(trained: Trained) -> dict[str, float]:
    """What was watched at the epoch whose weights were kept."""
    if not trained.history:
        return {}
    chosen = next((h for h in trained.history if h["epoch"] == trained.best_epoch), trained.history[-1])
    return {name: value for name, value in chosen.items() if name not in ("epoch", "train_loss")}


def plugin(registry: Any, given: Mapping[str, Any]) -> Any:
    """A loss or a sampler from its name and parameters, as a run records them.

    Raises:
        InputError: There is none of this name, or a parameter is wrong.
    """
    return registry[str(given.get("name", ""))].from_dict({k: v for k, v in given.items() if k != "name"})
