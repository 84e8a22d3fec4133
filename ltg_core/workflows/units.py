"""The units of one generation: made, examined, committed and scored, eight images and their controls at a
time.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ltg_core.data.records import Filter, NewSample, Sample
from ltg_core.data.workspace import Workspace
from ltg_core.generators.base import Generator
from ltg_core.generators.judge import Judge, find_judge
from ltg_core.guidance.engine import GenerateRequest, GenerateResult, Target, generate_images
from ltg_core.guidance.settings import STAGES, Guidance
from ltg_core.guidance.validity import Validity, ValiditySettings, examine
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.reference import Reference
from ltg_core.types import Images
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.recording import Recording
from ltg_core.workflows.scoring import refresh_scores, unscored

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
        self.ws, self.classifier, self.generator, self.recording = ws, classifier, generator, recording
        self.on_progress, self.cancel = on_progress, cancel
        self.run = recording.run
        self.settings = self.run.settings
        self.guidance = Guidance.from_dict(self.settings["guidance"])
        self.validity = ValiditySettings.from_dict(self.settings["validity"])
        self.target = Target(classifier, ref, judge_of(generator, classifier))
        self.paired = self.guidance.searches or self.guidance.climbs

    def do(self) -> None:
        """Make every unit that is not there."""
        count, size = len(self.settings["seeds"]), int(self.settings["unit"])
        units = [list(range(start, min(start + size, count))) for start in range(0, count, size)]
        self.generator.chunk = self._chunk()
        there = {int(s.meta["index"]) for s in self._made("guided")}
        try:
            for number, rows in enumerate(units):
                if not there.issuperset(rows):
                    self.cancel.check()
                    self._unit(number, rows, len(units))
            self._score_left()
        finally:
            self.recording.result |= self._summary()

    def _unit(self, number: int, rows: list[int], units: int) -> None:
        which = f"image {rows[0] + 1} to {rows[-1] + 1} of {len(self.settings['seeds'])}"
        last = Progress(0, 1)

        def report(p: Progress) -> None:
            nonlocal last
            last = p
            done = number * p.total + p.done
            self.on_progress(Progress(done, units * p.total, f"{p.message}, {which}", p.preview))

        weights = self.settings.get("weights")
        request = GenerateRequest(
            prompts=tuple(self.settings["prompts"][i] for i in rows),
            labels=tuple(self.settings["labels"][i] for i in rows),
            seeds=tuple(self.settings["seeds"][i] for i in rows),
            negative=self.settings["negative"],
            sources=self._pictures("sources", rows),
            like=self._pictures("like", rows),
            weights=None if not weights else tuple(float(weights[i]) for i in rows),
        )
        result = generate_images(
            self.generator,
            self.target,
            self.guidance,
            request,
            controls=self.paired,
            on_progress=report,
            cancel=self.cancel,
        )
        report(dataclasses.replace(last, message=STAGES["examined"]))
        self._write_trace(number, rows, result)  # first: a unit whose images are there is not made again
        controls = self._keep_controls(number, rows, result)
        guided = self._keep_guided(number, rows, result, controls)
        self._score([*guided, *(c for c in controls if c)])

    def _keep_controls(self, number: int, rows: list[int], result: GenerateResult) -> list[str | None]:
        if result.controls is None or not self.paired or result.percentile_control is None:
            return [None] * len(rows)
        # Images of a sweep share their control: it is kept once.
        own = [self._key(i) for i in rows]
        kept = [k for k, key in enumerate(own) if own.index(key) == k]
        images, indices = result.controls[kept], [rows[k] for k in kept]
        found = self._examine(indices, images)
        batch = [
            self._meta(number, rows[k], found[place], "control")
            | {"percentile": _number(result.percentile_control[k])}
            for place, k in enumerate(kept)
        ]
        ids = dict(zip((own[k] for k in kept), self._add(batch, indices, images, found), strict=True))
        return [ids[key] for key in own]

    def _key(self, index: int) -> tuple[Any, ...]:
        """What two images of one control have in common."""
        if not self.settings.get("weights"):
            return (index,)
        return tuple(self.settings[name][index] for name in ("prompts", "labels", "seeds"))

    def _keep_guided(
        self, number: int, rows: list[int], result: GenerateResult, controls: Sequence[str | None]
    ) -> list[str]:
        found = self._examine(rows, result.images)
        batch = []
        for k, i in enumerate(rows):
            meta = self._meta(number, i, found[k], "guided")
            meta |= {"percentile": _number(result.percentile[k]), "candidate": result.chosen[k]}
            if controls[k] is not None and result.percentile_control is not None:
                meta |= {
                    "control": controls[k],
                    "percentile_control": _number(result.percentile_control[k]),
                }
            batch.append(meta)
        return self._add(batch, rows, result.images, found)

    def _meta(self, number: int, index: int, found: Validity, role: str) -> dict[str, Any]:
        """Metadata of one image."""
        weight = self.guidance.weight if self.guidance.climbs else 0.0
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
            "signal": self.guidance.signal,
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
                    label_name=self.classifier.labels[self.settings["labels"][i]],
                    source=f"{self.run.id}/{i:05d}/{meta['role']}",
                    caption=self.settings["prompts"][i],
                    meta=meta,
                    belief="believed" if finding.believed else "quarantined",
                    belief_reason=finding.reason,
                )
                for i, meta, image, finding in zip(rows, metas, images, found, strict=True)
            ]
        )

    def _examine(self, rows: list[int], images: np.ndarray) -> list[Validity]:
        labels = torch.tensor([self.settings["labels"][i] for i in rows])
        return examine(self.generator, self.target, self.guidance.signal, images, labels, self.validity)

    def _pictures(self, which: str, rows: list[int]) -> Images | None:
        """Real images that the setting ``which`` names, fitted to the generator's size."""
        if not self.settings.get(which):
            return None
        side = int(self.generator.image_size)
        fit = Preprocess(side, side, resize="crop", crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3)
        pictures = [self.ws.image(self.settings[which][i]) for i in rows]
        return torch.cat([fit(fit.from_pil(picture)[None]) for picture in pictures])

    def _score(self, ids: list[str]) -> None:
        compute_outputs(self.ws, self.classifier, ids)
        refresh_scores(self.ws, self.classifier, ids)

    def _score_left(self) -> None:
        """Score what an earlier, broken attempt had stored and not scored: unit by unit, as it would have done itself,
        for the number of rows decides the last bits.
        """
        units: dict[int, list[str]] = {}
        for role in ("guided", "control"):
            for sample in self._made(role):
                units.setdefault(int(sample.meta["unit"]), []).append(sample.id)
        left = unscored(self.ws, self.classifier, [id for ids in units.values() for id in ids])
        for ids in units.values():
            if not left.isdisjoint(ids):
                self._score(ids)

    def _write_trace(self, number: int, rows: list[int], result: GenerateResult) -> None:
        """Beside the run: what guidance did at every step, and what it cost."""
        record = {
            "rows": rows,
            "trace": result.trace,
            "looks": result.looks,
            "calls": result.calls,
            "calls_control": result.calls_control,
            "seconds": round(result.seconds, 3),
            "chunk": result.chunk,
            "notes": result.notes,
        }
        path = self.ws.run_folder(self.run.id) / f"unit-{number:04d}.json"
        self.ws.blobs.write(path, json.dumps(record, default=float).encode())

    def _chunk(self) -> int:
        """Rows of a network call: as in the last finished unit, so that a resumed run goes on as it was stopped."""
        chunk = int(self.settings.get("chunk", self.generator.chunk))
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


def judge_of(generator: Generator, classifier: Classifier) -> Judge | None:
    """The independent judge that comes with a generator, for the classes of a classifier; loaded once a
    process.
    """
    folder = getattr(generator, "folder", None)
    return None if folder is None else _judge(str(folder), generator.hash, classifier.labels)


@functools.lru_cache(maxsize=4)
def _judge(folder: str, stamp: str, labels: tuple[str, ...]) -> Judge | None:
    return find_judge(folder, labels)


def _number(value: float) -> float | None:
    return None if not math.isfinite(value) else round(float(value), 6)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 3) if known else None
