"""The loop without a person in it: discover, generate, accept, retrain, re-measure; until it is of no more use."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

from ltg_core.curation import verdicts
from ltg_core.data.database import explained
from ltg_core.data.records import Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.training.losses.balanced_softmax import BalancedSoftmax
from ltg_core.training.losses.base import Loss
from ltg_core.training.settings import LoopSettings, MixSettings, TrainSettings
from ltg_core.workflows.comparing import CompareSettings, compare
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.generating import resume_generate
from ltg_core.workflows.heads import fit_head
from ltg_core.workflows.imagining import Order, imagine
from ltg_core.workflows.loop_plan import (
    COMPARING,
    IMAGES,
    LAST,
    MEASURED,
    STATE,
    TRAINING,
    enough,
    labelled,
    loop_needs,
    wanted,
)
from ltg_core.workflows.recording import Recording, recorded
from ltg_core.workflows.retrained import best_of
from ltg_core.workflows.retraining import resumable, resume_retrain, retrain
from ltg_core.workflows.setup import reference, stored_classifier
from ltg_core.workflows.store import FeatureStore

KIND = "loop"
_MEASURE = "balanced_accuracy"
_SPANS = {IMAGES: (0.0, 0.75), TRAINING: (0.75, 0.95), COMPARING: (0.95, 1.0)}
"""Part of a round that each of its steps is, about."""


def loop(
    ws: Workspace,
    classifier: Classifier,
    settings: LoopSettings | None = None,
    train: TrainSettings | None = None,
    *,
    loss: Loss | None = None,
    mix: MixSettings | None = None,
    guidance: dict[str, Any] | None = None,
    device: str | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Repair a classifier in rounds, each aimed at what the best classifier so far does not know.

    A round asks for images by class, more where validation errors are more frequent; makes them against the best
    classifier so far and its own head; accepts what is believed; trains copies of the first classifier on all that was
    accepted so far, also by people; and compares them with the best so far on the real validation images. It ends when
    balanced accuracy there has not improved by more than its interval for ``patience`` rounds. The test split is looked
    at once, at the end, to compare the result with the first classifier; where there is none that is left out and said.
    The classifier in use stays as it is.

    Args:
        ws: The workspace, with a generator.
        classifier: The first one.
        settings: None for the defaults.
        train: Of each retraining; None for the last layer only.
        loss: None for balanced softmax.
        mix: Which synthetic images; None for those that were accepted.
        guidance: Settings that differ from the preset's.
        device: "cpu" or "cuda"; None for the device of the workspace.
        on_progress: Told often.
        cancel: Checked at every step; ``resume_loop`` goes on from there.

    Returns:
        The run; its result has ``rounds`` (``wanted``, ``generations``, ``accepted``, ``retrain``, ``compare``,
        ``change``, ``improved``), ``ended`` (why), ``best`` (a retrain run, "" where nothing improved), ``compare``
        (the last comparison, on the test split; "" where there was none) and ``notes``.

    Raises:
        DatasetError: No labelled real validation images, or too few for an interval.
        InputError: There is no generator, or a wrong setting.
    """
    settings, train = settings or LoopSettings(), train or TrainSettings()
    loop_needs(ws, classifier)
    plain = Guidance.from_dict({**PRESETS[settings.preset].to_dict(), **(guidance or {})}).to_dict()
    record = {
        "classifier": classifier.hash,
        "loop": settings.to_dict(),
        "train": train.to_dict(),
        "loss": _named(loss or BalancedSoftmax()),
        "mix": (mix or MixSettings()).to_dict(),
        "guidance": plain,
    }
    hashes = {"classifier": classifier.hash}
    with recorded(ws, KIND, record, seed=settings.seed, hashes=hashes) as recording:
        _Looping(ws, recording, device, on_progress, cancel or CancelToken()).do()
    return recording.run


def resume_loop(
    ws: Workspace,
    run_id: str,
    *,
    device: str | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Go on with a loop that was stopped, in the step in which it was stopped.

    Raises:
        InputError: It is done, or is no loop, or what it needs is there no more.
    """
    run = ws.run(run_id)
    if run.kind != KIND:
        raise InputError(f"{run_id} is a run of {run.kind}, not of {KIND}")
    loop_needs(ws, stored_classifier(ws, run.settings["classifier"]))
    with recorded(ws, KIND, {}, resume=run_id, alone=True) as recording:
        _Looping(ws, recording, device, on_progress, cancel or CancelToken()).do()
    return recording.run


def _named(loss: Loss) -> dict[str, Any]:
    return {"name": loss.NAME, **loss.to_dict()}


class _Looping:
    """The rounds of one loop. What is done is written down after every step, so that a kill loses one step at most."""

    def __init__(
        self,
        ws: Workspace,
        recording: Recording,
        device: str | None,
        on_progress: ProgressFn,
        cancel: CancelToken,
    ) -> None:
        from ltg_core.training.losses import LOSSES
        from ltg_core.workflows.retraining import plugin

        given = recording.run.settings
        self.ws, self.recording, self.device = ws, recording, device or ws.device
        self.settings = LoopSettings.from_dict(given["loop"])
        self.train = TrainSettings.from_dict(given["train"])
        self.mix = MixSettings.from_dict(given["mix"])
        self.loss: Loss = plugin(LOSSES, given["loss"])
        self.guidance: dict[str, Any] = given["guidance"]
        self.first = stored_classifier(ws, given["classifier"])
        self.cancel, self._tell = cancel, on_progress
        self._doing, self._share = IMAGES, 0.0
        self._span = _SPANS[IMAGES]
        self._file = ws.run_folder(recording.run.id) / STATE
        empty: dict[str, Any] = {"rounds": [], "best": "", "pending": ""}
        self.state: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else empty
        self.told: dict[str, Any] = {"on_progress": self._said, "cancel": cancel}

    def do(self) -> None:
        """Rounds until one of the rules ends them, then the test split, once."""
        rounds = self.state["rounds"]
        ended = self._ended()
        while not ended:
            if not rounds or rounds[-1].get("improved") is not None:
                rounds.append({"generations": []})
            self._round(rounds[-1], len(rounds) - 1)
            ended = self._ended()
        notes = self._last() if self.state["best"] else []
        self.recording.result |= {"compare": "", **self.state, "ended": ended, "notes": notes}
        self.recording.result.pop("pending")

    def _last(self) -> list[str]:
        """Compare the best with the first on the test split, once; says where that cannot be done."""
        if not labelled(self.ws, self.first, LAST):
            return [
                f"there are no labelled real images of a split {LAST!r}, so there is no last comparison: the images of "
                f"{MEASURED!r} chose the rounds, and figures on them are too good"
            ]
        if "compare" not in self.state:
            self._at("last comparison", 1.0, 1.0)
            asked = CompareSettings(split=LAST, rounds=self.settings.resamples, seed=self.settings.seed)
            run = compare(
                self.ws, self.first.hash, [self.state["best"]], asked, device=self.device, **self.told
            )
            self._keep(compare=run.id)
        return []

    def _ended(self) -> str:
        """Why it ends now, "" where it goes on."""
        done = [one["improved"] for one in self.state["rounds"] if one.get("improved") is not None]
        last = done[-self.settings.patience :]
        if len(last) == self.settings.patience and not any(last):
            return f"no improvement beyond the interval in {len(last)} round{'s' if len(last) != 1 else ''}"
        if len(done) < self.settings.rounds:
            return ""
        return "one round is done" if len(done) == 1 else f"{len(done)} rounds are done"

    def _round(self, one: dict[str, Any], number: int) -> None:
        """One round, from the step that is not done."""
        best = best_of(self.ws, self.state["best"]) if self.state["best"] else self.first
        if "accepted" not in one:
            self._make(one, number, best)
            one["accepted"] = self._accept(one["generations"])
            self._keep()
        if "retrain" not in one:
            self._at(TRAINING, *_SPANS[TRAINING])
            seeds = [
                self.settings.seed + number * self.settings.seeds + k for k in range(self.settings.seeds)
            ]
            one["retrain"] = self._step("retrain", lambda: self._retrained(seeds), self._go_on_training).id
            self._keep()
        self._at(COMPARING, *_SPANS[COMPARING])
        asked = CompareSettings(
            split=MEASURED, rounds=self.settings.resamples, seed=0, free=False, quality=False
        )
        base = self.state["best"] or self.first.hash
        run = compare(self.ws, base, [one["retrain"]], asked, device=self.device, **self.told)
        change = next(d for d in run.result["arms"][0]["differences"] if d["name"] == _MEASURE)
        improved = change["low"] is not None and change["low"] > 0
        one |= {"compare": run.id, "change": change, "improved": improved}
        self._keep(best=one["retrain"] if improved else self.state["best"])

    def _make(self, one: dict[str, Any], number: int, best: Classifier) -> None:
        """The images of a round, all classes in one generation, whose calls are then full."""
        self._at(IMAGES, 0.0, 0.0)
        best = best.to(self.device)
        if "wanted" not in one:
            one["wanted"] = self._wanted(best)
            self._keep()
        if reference(self.ws, best) is None:
            fit_head(self.ws, best, **self.told)
        self._at(IMAGES, *_SPANS[IMAGES])
        if one["generations"]:
            return
        settings = self.settings
        order = Order(
            settings.number,
            settings.seed + number * settings.number,
            guidance=self.guidance,
            preset=settings.preset,
            each=tuple(one["wanted"]),
        )

        def begin() -> Run:
            return imagine(self.ws, order.to_dict(), classifier=best, device=self.device, **self.told)

        def go_on(run: str) -> Run:
            return resume_generate(self.ws, run, device=self.device, **self.told)

        one["generations"].append(self._step("generate", begin, go_on).id)
        self._keep()

    def _wanted(self, best: Classifier) -> list[int]:
        """Images by class that a round asks for; images that cannot be read do not count."""
        held = labelled(self.ws, self.first, MEASURED)
        compute_outputs(self.ws, best, held, **self.told)
        absent = set(FeatureStore(self.ws, best).missing(held))
        held = [id for id in held if id not in absent]
        enough(len(held))
        return wanted(self.ws, best, held, self.settings.number)

    def _accept(self, runs: Sequence[str]) -> int:
        """Accept the believed images that nobody has decided on."""
        ids = [
            id
            for run in runs
            for id in self.ws.query(Filter(origin=run, believed=True, meta={"role": "guided"}))
        ]
        open_still = [s.id for s in self.ws.samples(ids) if s.verdict == "undecided"]
        if open_still:
            verdicts.set_verdict(self.ws, open_still, "accepted", author=KIND)
            self._said(Progress(0, 0, "accepted what is believed", changed=True))
        return sum(s.verdict == "accepted" for s in self.ws.samples(ids))

    def _retrained(self, seeds: Sequence[int]) -> Run:
        more: dict[str, Any] = {"loss": self.loss, "mix": self.mix, "seeds": seeds, "device": self.device}
        return retrain(self.ws, self.first, self.train, name=f"{self.first.name}, loop", **more, **self.told)

    def _go_on_training(self, run: str) -> Run | None:
        if not resumable(self.ws, run):
            return None
        return resume_retrain(self.ws, run, device=self.device, **self.told)

    def _step(self, kind: str, begin: Callable[[], Run], go_on: Callable[[str], Run | None]) -> Run:
        """A run of its own: the one that was pending goes on, else a new one begins and is remembered at once."""
        pending = self.state["pending"]
        found: Run | None = None
        if pending:
            run = self.ws.run(pending)
            found = run if run.state == "done" else go_on(pending)
        if found is None:
            before = self.ws.on_run

            def began(run: Run) -> None:
                if run.kind == kind:
                    self._keep(pending=run.id)
                if before is not None:
                    before(run)

            self.ws.on_run = began
            try:
                found = begin()
            finally:
                self.ws.on_run = before
        self.state["pending"] = ""
        return found

    def _keep(self, **changed: Any) -> None:
        self.state |= changed
        with explained(self.ws.path):
            self.ws.blobs.write(self._file, json.dumps(self.state).encode())

    def _at(self, doing: str, low: float, high: float) -> None:
        """What is done now, and which part of its round that is."""
        self._doing, self._span = doing, (low, high)

    def _said(self, progress: Progress) -> None:
        """A step of a step, as one of the whole loop."""
        number, rounds = max(1, len(self.state["rounds"])), self.settings.rounds
        low, high = self._span
        inside = min(1.0, progress.done / progress.total) if progress.total else 0.0
        self._share = max(self._share, number - 1 + low + (high - low) * inside)
        text = f"round {number} of {rounds}, {self._doing}"
        if progress.message:
            text += f": {progress.message}"
        done = int(100 * self._share / rounds)
        self._tell(dataclasses.replace(progress, done=done, total=100, message=text))
