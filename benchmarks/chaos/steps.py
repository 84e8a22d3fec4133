"""The kinds of work that are disturbed: how each is done, taken up again, and what it has to come to.

Every step says after its end, as one JSON value, what it made: equal values mean equal images, scores and weights bit
for bit. Times and random ids are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.chaos.kill import Ack
from ltg_core import curation, workflows
from ltg_core.data.backup import backup
from ltg_core.data.records import Filter
from ltg_core.data.restoring import restore
from ltg_core.data.workspace import Workspace
from ltg_core.guidance.settings import Guidance

GUIDANCE = Guidance(
    steps=2, search="none", climb="denoiser-free", band_start=0.0, band_end=1.0, every=1, augment=False
)
UNIT, IMAGES = 2, 6
DECISIONS = 40


class Step:
    """One kind of work.

    Attributes:
        name: For people.
        empty: Whether it begins with an empty workspace.
    """

    name = ""
    empty = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def work(self, place: Path, ack: Ack) -> Any:
        """Do it from the beginning; returns what it made."""
        raise NotImplementedError

    def again(self, place: Path, ack: Ack) -> Any:
        """Take it up where it ended early; returns what it made."""
        return self.work(place, ack)

    def kept(self, ws: Workspace, acks: list[Any], reference: Any) -> list[str]:
        """What is missing of that which was acknowledged."""
        return []

    def same(self, made: Any, acks: list[Any], reference: Any) -> bool:
        """Whether what came out in the end is what an unbroken run makes."""
        return bool(made == reference)


class Import(Step):
    """Three hundred pictures with a hold-out by group."""

    name, empty = "import", True

    def work(self, place: Path, ack: Ack) -> Any:
        with Workspace(place) as ws:
            data = self.folder / "set" / "list.jsonl"
            workflows.import_data(
                ws, data, holdout=0.2, group="track", on_progress=lambda step: ack(ws.count())
            )
            return _samples(ws)

    def kept(self, ws: Workspace, acks: list[Any], reference: Any) -> list[str]:
        there = ws.count()
        return (
            [f"{acks[-1]} samples were acknowledged, {there} are there"] if acks and there < acks[-1] else []
        )


class Head(Step):
    """The epistemic head, then every score."""

    name = "head fit"

    def work(self, place: Path, ack: Ack) -> Any:
        with Workspace(place) as ws:
            classifier = workflows.active_classifier(ws)
            settings = workflows.HeadSettings(members=4, hidden=8, epochs=3)
            workflows.fit_head(ws, classifier, settings, seed=3)
            ack("fitted")
            workflows.score(ws, classifier)
            file = ws.path / "arrays" / f"reference-{classifier.hash}.safetensors"
            names = ws.score_names(classifier.hash)
            found = {name: ws.scores(ws.query(), classifier.hash, name) for name in names}
            scores = {name: sorted((i, *map(_text, s)) for i, s in by.items()) for name, by in found.items()}
            return [_sha(file.read_bytes()), _sha(json.dumps(scores).encode()), names]

    def kept(self, ws: Workspace, acks: list[Any], reference: Any) -> list[str]:
        classifier = workflows.active_classifier(ws)
        found = workflows.reference(ws, classifier)
        file = ws.path / "arrays" / f"reference-{classifier.hash}.safetensors"
        if found is None:
            return ["there is no head any more"]
        lost = acks == ["fitted"] and _sha(file.read_bytes()) != reference[0]
        return ["the head that was fitted is another"] if lost else []


class Generation(Step):
    """Six guided images with their controls in units of two."""

    name = "generation"

    def work(self, place: Path, ack: Ack) -> Any:
        with Workspace(place) as ws:
            classifier, generator = workflows.active_classifier(ws), workflows.active_generator(ws)
            run = workflows.generate(
                ws, classifier, generator, prompts=["a photo of a stop sign"] * IMAGES, labels=[0] * IMAGES,
                seeds=list(range(40, 40 + IMAGES)), guidance=GUIDANCE, unit=UNIT,
                on_progress=_telling(ws, ack),
            )  # fmt: skip
            return generated(ws, run.id)

    def again(self, place: Path, ack: Ack) -> Any:
        with Workspace(place) as ws:
            runs = ws.runs("generate")
            if not runs:
                return _close(ws, self.work, place, ack)
            if runs[0].state != "done":
                workflows.resume_generate(ws, runs[0].id, on_progress=_telling(ws, ack))
            return generated(ws, runs[0].id)

    def kept(self, ws: Workspace, acks: list[Any], reference: Any) -> list[str]:
        wanted = {hash for ack in acks for hash in ack}
        there = {sample.image_hash for sample in ws.samples(ws.query(Filter(origin="generated")))}
        return [f"{len(wanted - there)} finished images are gone"] if wanted - there else []


class Curation(Step):
    """Forty decisions of every kind, each acknowledged; reference: the state after each of them."""

    name = "curation"

    def work(self, place: Path, ack: Ack) -> Any:
        with Workspace(place) as ws:
            states = [_decided(ws)]
            for number, decide in enumerate(decisions(ws.query())):
                decide(ws)
                ack(number + 1)
                states.append(_decided(ws))
            return states

    def again(self, place: Path, ack: Ack) -> Any:
        with Workspace(place) as ws:
            return [_decided(ws)]

    def same(self, made: Any, acks: list[Any], reference: Any) -> bool:
        """Exactly the acknowledged decisions, or the one more that was just being answered."""
        if len(made) > 1:
            return bool(made == reference)
        done = acks[-1] if acks else 0
        return made[0] in reference[done : done + 2]


class Export(Step):
    """The accepted samples as a folder, over an earlier export."""

    name = "export"

    def work(self, place: Path, ack: Ack) -> Any:
        with Workspace(place) as ws:
            accepted = ws.query(Filter(verdict="accepted"))
            if not (ws.exports_folder / "out").exists():
                workflows.export(ws, accepted[:3], "imagefolder", ws.exports_folder / "out")
                ack("first")
            workflows.export(ws, accepted, "imagefolder", ws.exports_folder / "out", overwrite=True)
            ack("second")
            return self._made(ws)

    def kept(self, ws: Workspace, acks: list[Any], reference: Any) -> list[str]:
        names = sorted(path.name for path in ws.exports_folder.iterdir())
        if names not in ([], ["out"]):
            return [f"the folder of exports holds {names}"]
        if acks and not names:
            return ["an export that was done is gone"]
        if not names:
            return []
        made, lines = self._made(ws), (ws.exports_folder / "out" / "manifest.jsonl").read_text().splitlines()
        pictures = sum(name.endswith(".png") for name, _ in made)
        whole = pictures == len(lines) and (pictures == 3 or made == reference)
        return [] if whole else [f"a half-written export: {pictures} pictures, {len(lines)} lines"]

    @staticmethod
    def _made(ws: Workspace) -> Any:
        out = ws.exports_folder / "out"
        files = sorted(path for path in out.rglob("*") if path.is_file())
        timed = ("runs.json", "README.md", "manifest.jsonl")
        return [
            [path.relative_to(out).as_posix(), "" if path.name in timed else _sha(path.read_bytes())]
            for path in files
        ]


class Retraining(Step):
    """Two seeds of a few epochs of the last layer."""

    name = "retraining"

    def work(self, place: Path, ack: Ack) -> Any:
        with Workspace(place) as ws:
            settings = workflows.TrainSettings(epochs=3, batch_size=12, patience=0, lr=0.01)
            run = workflows.retrain(
                ws, workflows.active_classifier(ws), settings, seeds=(0, 1), name="repaired"
            )
            return self._made(ws, run.result)

    def again(self, place: Path, ack: Ack) -> Any:
        with Workspace(place) as ws:
            run = next(iter(ws.runs("retrain")), None)
            if run is None or (run.state != "done" and not workflows.resumable(ws, run.id)):
                return _close(ws, self.work, place, ack)
            if run.state != "done":
                run = workflows.resume_retrain(ws, run.id)
            return self._made(ws, run.result)

    @staticmethod
    def _made(ws: Workspace, result: dict[str, Any]) -> Any:
        hashes = [one["classifier"] for one in result["seeds"]]
        weights = [ws.models_folder / hash / "classifier.safetensors" for hash in hashes]
        plain = [{k: v for k, v in one.items() if k != "seconds"} for one in result["seeds"]]
        return [plain, result["best"], [_weights(file) for file in weights]]


class Backup(Step):
    """A backup, and its way back."""

    name = "backup"

    def work(self, place: Path, ack: Ack) -> Any:
        kept, back = place.parent / "kept.tar", place.parent / "back"
        if not kept.exists():
            backup(place, kept)
        ack("backup")
        if not back.exists():
            restore(kept, back)
        ack("restored")
        with Workspace(back) as ws:
            return _samples(ws)

    def kept(self, ws: Workspace, acks: list[Any], reference: Any) -> list[str]:
        place = ws.path.parent
        found = [path.name for path in place.iterdir() if not path.name.startswith(".")]
        names = {"backup": "kept.tar", "restored": "back"}
        return [f"{names[ack]} is gone" for ack in acks if names[ack] not in found]


STEPS: tuple[type[Step], ...] = (Import, Head, Generation, Curation, Export, Retraining, Backup)


def decisions(ids: list[str], seed: int = 0) -> list[Callable[[Workspace], Any]]:
    """Verdicts, tags, ratings, notes, undo, redo and sets, drawn once."""
    rng = np.random.default_rng(seed)
    made: list[Callable[[Workspace], Any]] = []
    for number in range(DECISIONS):
        some = [ids[i] for i in rng.choice(len(ids), size=int(rng.integers(1, 6)), replace=False)]
        kind = int(rng.integers(8))
        verdict, stars = ("accepted", "rejected", "flagged")[int(rng.integers(3))], int(rng.integers(1, 6))
        made.append(
            (
                lambda ws, some=some, verdict=verdict: curation.set_verdict(ws, some, verdict),
                lambda ws, some=some, verdict=verdict: curation.set_verdict(ws, some, verdict),
                lambda ws, some=some, number=number: curation.tag(ws, some, add=[f"tag {number % 4}"]),
                lambda ws, some=some, stars=stars: curation.rate(ws, some, stars),
                lambda ws, some=some, number=number: curation.note(ws, some, f"note {number}"),
                lambda ws: curation.undo(ws),
                lambda ws: curation.redo(ws),
                lambda ws, number=number: curation.sets.snapshot(ws, f"set {number}"),
            )[kind]
        )
    return made


def _telling(ws: Workspace, ack: Ack) -> Callable[[Any], None]:
    """Acknowledges the images that are committed whenever their number has changed."""
    seen = -1

    def told(step: Any) -> None:
        nonlocal seen
        ids = ws.query(Filter(origin="generated"))
        if len(ids) != seen:
            seen = len(ids)
            ack([sample.image_hash for sample in ws.samples(ids)])

    return told


def _close(ws: Workspace, work: Callable[[Path, Ack], Any], place: Path, ack: Ack) -> Any:
    ws.close()
    return work(place, ack)


def _samples(ws: Workspace) -> Any:
    rows = ws.database.rows(
        "SELECT id, image_hash, split, label, label_name, source, caption, meta FROM samples ORDER BY id"
    )
    return _sha(json.dumps([list(row) for row in rows]).encode())


def generated(ws: Workspace, run_id: str) -> Any:
    """What a generation made: images, findings, predictions, scores, counts of calls."""
    found = ws.samples(ws.query(Filter(origin=run_id)))
    result = ws.run(run_id).result
    classifier = workflows.active_classifier(ws)
    said = ws.predictions([sample.id for sample in found], classifier.hash)
    scores = ws.scores([sample.id for sample in found], classifier.hash, "epistemic")
    rows = sorted(
        [
            s.meta["index"], s.meta["role"], s.image_hash, s.belief, s.meta.get("percentile"), said[s.id][:2],
            [_text(value) for value in scores[s.id]],
        ]
        for s in found
    )  # fmt: skip
    return json.loads(json.dumps([rows, {k: v for k, v in result.items() if k != "seconds"}]))


def _decided(ws: Workspace) -> str:
    """Everything that a person decided, without times."""
    questions = (
        "SELECT sample, verdict, note, rating FROM verdicts ORDER BY sample",
        "SELECT sample, tag FROM tags ORDER BY sample, tag",
        "SELECT field, description, before, after, undone FROM actions ORDER BY id",
        "SELECT name, version, hash, n, deleted FROM sets ORDER BY key",
        "SELECT owner, sample, verdict, tags FROM members ORDER BY owner, sample",
    )
    rows = [[list(row) for row in ws.database.rows(question)] for question in questions]
    return _sha(json.dumps(rows).encode())


def _weights(file: Path) -> str:
    """Of the tensors; the card beside them tells the run and the time."""
    from safetensors.numpy import load_file

    found = load_file(file)
    return _sha(b"".join(name.encode() + found[name].tobytes() for name in sorted(found)))


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _text(value: float) -> str:
    return float(value).hex()
