"""The units of one generation: made and examined here or by other processes, then committed and scored in order, eight
images and their controls at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ltg_core.data.records import Filter, NewSample, Sample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.generators.base import Generator
from ltg_core.guidance.engine import GenerateRequest, GenerateResult, Target
from ltg_core.guidance.settings import STAGES, Guidance
from ltg_core.guidance.validity import Validity, ValiditySettings
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.reference import Reference
from ltg_core.types import Images
from ltg_core.workers.engine import There
from ltg_core.workflows.computing import compute_outputs, keep_outputs
from ltg_core.workflows.making import RESULTS, Made, Maker, Wanted, judge_of
from ltg_core.workflows.recording import Recording
from ltg_core.workflows.scoring import refresh_scores, unscored
from ltg_core.workflows.setup import reference_path, where_classifier
from ltg_core.workflows.store import FeatureStore

UNIT = 8
"""Images that are made and committed together. The division of a run into units is fixed before it starts."""
SPLIT = "generated"
OWN_META = frozenset(
    (
        *(
            "role",
            "unit",
            "index",
            "prompt",
            "seed",
            "negative",
            "preset",
            "signal",
            "weight",
            "judge",
            "agrees",
        ),
        *("distance", "distance_limit", "survival", "neighbours", "source", "control", "candidate"),
        *("percentile", "percentile_control", "like"),
    )
)
"""Metadata that generated images have; what they are aimed at must have other names."""


class Unit(NamedTuple):
    """A part of a run.

    Attributes:
        number: From 0.
        rows: The indices of its images.
    """

    number: int
    rows: list[int]


class Units:
    """The units of one run, those that are finished left alone."""

    def __init__(
        self,
        ws: Workspace,
        classifier: Classifier,
        generator: Generator,
        ref: Reference,
        recording: Recording,
        on_progress: ProgressFn,
        cancel: CancelToken,
    ) -> None:
        self.ws, self.recording, self.run = ws, recording, recording.run
        self.on_progress, self.cancel = on_progress, cancel
        self.settings = self.run.settings
        self.target = Target(classifier, ref, judge_of(generator, classifier))
        self.maker = Maker(
            generator,
            self.target,
            Guidance.from_dict(self.settings["guidance"]),
            ValiditySettings.from_dict(self.settings["validity"]),
        )
        self.units, self.chunk = 0, self.maker.generator.chunk
        self.store = FeatureStore(ws, classifier)  # one for the run: its index of all chunks is read once

    def do(self) -> None:
        """Make every unit that is not there."""
        count, size = len(self.settings["seeds"]), int(self.settings["unit"])
        rows = [list(range(start, min(start + size, count))) for start in range(0, count, size)]
        self.units, engine = len(rows), self.ws.engine
        self.chunk = self._chunk()
        there = {int(s.meta["index"]) for s in self._made("guided")}
        todo = [Unit(number, part) for number, part in enumerate(rows) if not there.issuperset(part)]
        elsewhere = There[Unit](
            "ltg_core.workflows.making:maker",
            self._options,
            self._wanted,
            lambda unit: f"{self.run.id}-{unit.number:05d}",
            RESULTS,
            lambda unit: unit.number,
        )
        if todo and engine.words:
            self.on_progress(Progress(todo[0].number, self.units, f"starting {engine.words}"))
        try:
            for unit, made in engine.map(todo, self._make, elsewhere, self.cancel):
                self._keep(unit, made)
                if engine.words:
                    message = f"{STAGES['examined']}, {self._which(unit)}, by {engine.words}"
                    shown = made.result.images
                    self.on_progress(Progress(unit.number + 1, self.units, message, shown))
            self._score_left()
        finally:
            self.recording.result |= self._summary()

    def _make(self, unit: Unit) -> Made:
        """In this process."""

        def report(p: Progress) -> None:
            done, all = unit.number * p.total + p.done, self.units * p.total
            self.on_progress(Progress(done, all, f"{p.message}, {self._which(unit)}", p.preview))

        made = self.maker.make(self._wanted(unit), report, self.cancel)
        self.chunk = made.result.chunk  # where memory has run out, the next unit does not try again
        return made

    def _which(self, unit: Unit) -> str:
        rows = unit.rows
        return f"image {rows[0] + 1} to {rows[-1] + 1} of {len(self.settings['seeds'])}"

    def _wanted(self, unit: Unit) -> Wanted:
        """A unit in full, so that whoever makes it needs no workspace."""
        rows, weights = unit.rows, self.settings.get("weights")
        request = GenerateRequest(
            prompts=tuple(self.settings["prompts"][i] for i in rows),
            labels=tuple(self.settings["labels"][i] for i in rows),
            seeds=tuple(self.settings["seeds"][i] for i in rows),
            negative=self.settings["negative"],
            sources=self._pictures("sources", rows),
            like=self._pictures("like", rows),
            weights=None if not weights else tuple(float(weights[i]) for i in rows),
        )
        return Wanted(request, self._own_controls(rows), self.chunk)

    def _options(self) -> dict[str, Any]:
        """What ``maker`` needs to load the same models in another process."""
        maker, classifier = self.maker, self.target.classifier
        folder = getattr(maker.generator, "folder", None)
        if folder is None:
            raise InputError(f"{maker.generator.name} has no folder from which other processes could load it")
        return {
            "classifier": where_classifier(self.ws, classifier),
            "reference": str(reference_path(self.ws, classifier.hash)),
            "generator": str(folder),
            "generator_options": maker.generator.options.to_dict(),
            "generator_hash": maker.generator.hash,
            "guidance": maker.guidance.to_dict(),
            "validity": maker.validity.to_dict(),
        }

    def _keep(self, unit: Unit, made: Made) -> None:
        self._write_trace(unit, made.result)  # first: a unit whose images are there is not made again
        controls = self._keep_controls(unit, made)
        guided = self._keep_guided(unit, made, controls)
        kept = dict.fromkeys(c for c in controls if c)
        keep_outputs(self.store, [*guided, *kept], made.outputs)
        refresh_scores(self.ws, self.target.classifier, [*guided, *kept], store=self.store)

    def _own_controls(self, rows: list[int]) -> tuple[int, ...]:
        """Images of a sweep share their control, which is kept once: the places of those that bring one."""
        own = [self._key(i) for i in rows]
        return tuple(k for k, key in enumerate(own) if own.index(key) == k)

    def _keep_controls(self, unit: Unit, made: Made) -> list[str | None]:
        result, rows = made.result, unit.rows
        if result.controls is None or not self.maker.paired or result.percentile_control is None:
            return [None] * len(rows)
        kept = self._own_controls(rows)
        indices = [rows[k] for k in kept]
        batch = [
            self._meta(unit.number, rows[k], found, "control")
            | {"percentile": _number(result.percentile_control[k])}
            for k, found in zip(kept, made.controls, strict=True)
        ]
        added = self._add(batch, indices, result.controls[list(kept)], made.controls)
        ids = dict(zip((self._key(i) for i in indices), added, strict=True))
        return [ids[self._key(i)] for i in rows]

    def _key(self, index: int) -> tuple[Any, ...]:
        """What two images of one control have in common."""
        if not self.settings.get("weights"):
            return (index,)
        return tuple(self.settings[name][index] for name in ("prompts", "labels", "seeds"))

    def _keep_guided(self, unit: Unit, made: Made, controls: Sequence[str | None]) -> list[str]:
        result, batch = made.result, []
        for k, i in enumerate(unit.rows):
            meta = self._meta(unit.number, i, made.guided[k], "guided")
            meta |= {"percentile": _number(result.percentile[k]), "candidate": result.chosen[k]}
            if controls[k] is not None and result.percentile_control is not None:
                meta |= {
                    "control": controls[k],
                    "percentile_control": _number(result.percentile_control[k]),
                }
            batch.append(meta)
        return self._add(batch, unit.rows, result.images, made.guided)

    def _meta(self, number: int, index: int, found: Validity, role: str) -> dict[str, Any]:
        """Metadata of one image."""
        guidance = self.maker.guidance
        weight = guidance.weight if guidance.climbs else 0.0
        if self.settings.get("weights"):
            weight = float(self.settings["weights"][index])
        meta: dict[str, Any] = {
            **(self.settings.get("aim") or {}),
            **(self.settings["aims"][index] if self.settings.get("aims") else {}),
            "role": role,
            "unit": number,
            "index": index,
            "prompt": self.settings["prompts"][index],
            "seed": self.settings["seeds"][index],
            "negative": self.settings["negative"],
            "preset": self.settings["preset"],
            "signal": guidance.signal,
            "weight": weight if role == "guided" else 0.0,
            "judge": _number(found.judge),
            "agrees": found.agrees,
            "distance": _number(found.distance),
            "distance_limit": _number(found.limit),
            "survival": _number(found.survival),
            "neighbours": list(found.neighbours),
        }
        if self.settings["sources"]:
            meta["source"] = self.settings["sources"][index]
        if self.settings.get("like"):
            meta["like"] = self.settings["like"][index]
        return {key: value for key, value in meta.items() if value not in (None, "")}

    def _add(
        self, metas: list[dict[str, Any]], rows: list[int], images: np.ndarray, found: Sequence[Validity]
    ) -> list[str]:
        """Commit the images of a unit in one transaction; repeating it changes nothing."""
        return self.ws.add_images(
            [
                NewSample(
                    image=image,
                    origin=self.run.id,
                    split=SPLIT,
                    label=self.settings["labels"][i],
                    label_name=self.target.classifier.labels[self.settings["labels"][i]],
                    source=f"{self.run.id}/{i:05d}/{meta['role']}",
                    caption=self.settings["prompts"][i],
                    meta=meta,
                    belief="believed" if finding.believed else "quarantined",
                    belief_reason=finding.reason,
                )
                for i, meta, image, finding in zip(rows, metas, images, found, strict=True)
            ]
        )

    def _pictures(self, which: str, rows: list[int]) -> Images | None:
        """Real images that the setting ``which`` names, fitted to the generator's size."""
        if not self.settings.get(which):
            return None
        side = int(self.maker.generator.image_size)
        fit = Preprocess(side, side, resize="crop", crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
        pictures = [self.ws.image(self.settings[which][i]) for i in rows]
        return torch.cat([fit(fit.from_pil(picture)[None]) for picture in pictures])

    def _score(self, ids: list[str]) -> None:
        compute_outputs(self.ws, self.target.classifier, ids, store=self.store)
        refresh_scores(self.ws, self.target.classifier, ids, store=self.store)

    def _score_left(self) -> None:
        """Score what an earlier, broken attempt had stored and not scored: unit by unit, as it would have done itself,
        for the number of rows decides the last bits.
        """
        units: dict[int, list[str]] = {}
        for role in ("guided", "control"):
            for sample in self._made(role):
                units.setdefault(int(sample.meta["unit"]), []).append(sample.id)
        left = unscored(self.ws, self.target.classifier, [id for ids in units.values() for id in ids])
        for ids in units.values():
            if not left.isdisjoint(ids):
                self._score(ids)

    def _write_trace(self, unit: Unit, result: GenerateResult) -> None:
        """Beside the run: what guidance did at every step, and what it cost."""
        record = {
            "rows": unit.rows,
            "trace": result.trace,
            "looks": result.looks,
            "calls": result.calls,
            "calls_control": result.calls_control,
            "seconds": round(result.seconds, 3),
            "chunk": result.chunk,
            "notes": result.notes,
        }
        path = self.ws.run_folder(self.run.id) / f"unit-{unit.number:04d}.json"
        self.ws.blobs.write(path, json.dumps(record, default=float).encode())

    def _chunk(self) -> int:
        """Rows of a network call: as in the last finished unit, so that a resumed run goes on as it was stopped."""
        chunk = int(self.settings.get("chunk", self.maker.generator.chunk))
        for path in sorted(self.ws.run_folder(self.run.id).glob("unit-*.json")):
            chunk = int(json.loads(path.read_text(encoding="utf-8")).get("chunk", chunk))
        return chunk

    def _made(self, role: str) -> list[Sample]:
        return self.ws.samples(self.ws.query(Filter(origin=self.run.id, meta={"role": role})))

    def _summary(self) -> dict[str, Any]:
        """What the whole run came to, earlier attempts included."""
        guided = self._made("guided")
        calls: dict[str, int] = {}
        calls_control: dict[str, int] = {}
        notes: list[str] = []
        seconds = 0.0
        for path in sorted(self.ws.run_folder(self.run.id).glob("unit-*.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            seconds += record["seconds"]
            notes += record.get("notes", [])
            for sums, part in ((calls, "calls"), (calls_control, "calls_control")):
                for name, number in record[part].items():
                    sums[name] = sums.get(name, 0) + number
        return {
            "images": len(guided),
            "wanted": len(self.settings["seeds"]),
            "believed": sum(sample.belief == "believed" for sample in guided),
            "quarantined": sum(sample.belief == "quarantined" for sample in guided),
            "mean_percentile": _mean([sample.meta.get("percentile") for sample in guided]),
            "mean_percentile_control": _mean([sample.meta.get("percentile_control") for sample in guided]),
            "calls": calls,
            "calls_control": calls_control,
            "seconds": round(seconds, 2),
            **({"notes": list(dict.fromkeys(notes))} if notes else {}),
        }


def _number(value: float) -> float | None:
    return None if not math.isfinite(value) else round(float(value), 6)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 3) if known else None
