"""Blind spots that can be asked for: every class is drawn with and without every word, what errs is drawn again."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ltg_core.data.records import Filter, Run, Sample
from ltg_core.data.runs import dump
from ltg_core.data.saved import to_record
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.generators.base import Generator
from ltg_core.generators.judge import phrases_of
from ltg_core.guidance.settings import PRESETS
from ltg_core.introspection.paired import Errs, confirmed, errs, promising
from ltg_core.introspection.statistics import wilson
from ltg_core.introspection.terms import Term, general, written
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.params import Params, param
from ltg_core.workflows.causes import PRESET, CauseSettings, effect
from ltg_core.workflows.generating import generate, reference_hash, resume_generate
from ltg_core.workflows.planning import class_index
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.setup import plain_prompt, suggested_settings
from ltg_core.workflows.slicing import insert, replace_found
from ltg_core.workflows.terming import TermSettings, need_encoder, terms_of

ASKED = "asked"
MOST_ASKED = 50_000
"""Images of one search, at most."""


@dataclasses.dataclass(frozen=True)
class AskSettings(Params):
    """How much is asked for."""

    first: int = param(12, "Pairs of every class and word", low=4, high=1000)
    second: int = param(48, "New pairs of those that are asked for again; these are tested", low=6, high=5000)
    again: int = param(20, "So many classes and words are asked for again, at most", low=1, high=1000)
    classes: str = param("", "Only these classes, with commas between them; without any, all")
    signal: str = param("epistemic", "Signal whose change is said beside the errors")
    seed: int = param(0, "Of the first pair; each has the next one", low=0, high=2**31 - 1)
    alpha: float = param(
        0.05, "Expected share of false findings among those shown, at most", low=0.0, high=1.0
    )


class Cell(NamedTuple):
    """What is asked for: a class and a term."""

    label: int
    term: Term


class Drawn(NamedTuple):
    """The pairs of a cell of which both images show their class.

    Attributes:
        without: Images without the term.
        with_: Those with it, of the same seeds.
        wrong: (2, N) bool, which of either are read wrongly.
    """

    without: list[Sample]
    with_: list[Sample]
    wrong: np.ndarray

    @property
    def ids(self) -> tuple[list[str], list[str]]:
        """Without and with the term, pair by pair."""
        return [one.id for one in self.without], [one.id for one in self.with_]

    @property
    def errs(self) -> Errs:
        """Counted and tested."""
        return errs(self.wrong[0], self.wrong[1])


def find_asked(
    ws: Workspace,
    classifier: Classifier,
    generator: Generator,
    words: TermSettings | None = None,
    settings: AskSettings | None = None,
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Ask a generator for every class with every word, and find the words that make the classifier err.

    All images are unguided. Both images of a pair have one seed; their prompts differ in the words alone. Pairs of
    which an image does not show its class (quarantined) do not count, so an error is the classifier's. What errs most
    often is asked for again, and only these new pairs are tested (``introspection.paired.errs``), corrected for all
    classes and words that were asked for again. The findings replace those of the last search, as slices of the
    images with the words; each has its causal check already. No real sample is needed but those of the reference.

    A search that was interrupted goes on with the images that are there.

    Args:
        ws: The workspace.
        classifier: Its reference must be fitted.
        generator: Must understand text.
        words: Vocabulary; None for the generator's own.
        settings: None for the defaults.
        on_progress: Told at every step.
        cancel: Checked at every step; finished images are kept.

    Returns:
        The run; its result says ``tried`` (classes and words), ``again`` (those that were asked for again), ``images``,
        ``shown`` (findings), ``runs`` (the two generations), ``skipped`` (words that the encoder does not know).

    Raises:
        InputError: A generator that understands no text, words that are no vocabulary, an unknown class, or too much to
            ask for.
        Cancelled: On request.
    """
    words, settings = words or TermSettings(), settings or AskSettings()
    if generator.language != "text":
        raise InputError(f"{generator.name} understands no text, so nothing can be asked for in words")
    if words.source != "vocabulary":
        raise InputError("words to ask for come from a vocabulary; captions and metadata say what is there")
    encoder = need_encoder(ws, words.encoder)
    terms, skipped = terms_of(ws, encoder, words.vocabulary, words.own)
    labels = _classes(classifier, settings.classes)
    expected = images_of(len(labels), len(terms), settings)
    if expected > MOST_ASKED:
        raise InputError(
            f"{len(labels)} classes and {len(terms)} words are {expected:,} images, more than {MOST_ASKED:,}; name "
            "fewer classes (--classes) or words (--own), or ask for fewer pairs (--first)"
        )
    every = [Cell(label, term) for label in labels for term in terms]
    record = {"outcome": ASKED, **settings.to_dict(), "words": words.to_dict()}
    hashes = {"classifier": classifier.hash, "generator": generator.hash}
    with recorded(ws, "slices", record, seed=settings.seed, hashes=hashes) as recording:
        draw = _Drawing(ws, classifier, generator, settings, on_progress, cancel)
        first = draw(every, settings.seed, settings.first, "asking for every word")
        again = promising([one.errs for one in first], settings.again)
        second = draw(
            [every[i] for i in again], settings.seed + settings.first, settings.second, "asking again"
        )
        found = confirmed([one.errs for one in second], settings.alpha)
        how = CauseSettings(signal=settings.signal, seed=settings.seed)
        causes = []
        for i, _ in found:
            cell, sides = every[again[i]], second[i].ids
            asked = _words(classifier, cell)
            causes.append(effect(ws, classifier, sides, [cell.label] * len(sides[0]), asked, how, encoder))
        with replace_found(ws):
            for place, ((i, q), cause) in enumerate(zip(found, causes, strict=True)):
                figures = {"place": place, "q": q, "tried": len(again)}
                _keep(ws, classifier, every[again[i]], second[i], figures, cause | {"run": draw.runs[-1]})
        recording.result |= {
            "outcome": ASKED,
            "words": words.source,
            "tried": len(every),
            "again": len(again),
            "first": settings.first,
            "second": settings.second,
            "images": draw.images,
            "significant": len(found),
            "shown": len(found),
            "samples": draw.images,
            "bad": sum(int(one.wrong.sum()) for one in second),
            "splits": [],
            "skipped": list(skipped),
            "alpha": settings.alpha,
            "runs": draw.runs,
        }
    return recording.run


def words_to_ask(ws: Workspace, own: str = "") -> int:
    """How many words a search would ask for, before somebody has seen which of them the encoder knows.

    Raises:
        InputError: ``own`` are no words.
    """
    if own.strip():
        return len(written(own))
    record = ws.get_state("generator") or {}
    return len(phrases_of(record["path"]) if record else {}) or len(general())


def images_of(classes: int, terms: int, settings: AskSettings | None = None) -> int:
    """Images that a search draws, at most."""
    settings = settings or AskSettings()
    again = min(settings.again, classes * terms)
    return classes * (1 + terms) * settings.first + (again + min(again, classes)) * settings.second


def _words(classifier: Classifier, cell: Cell) -> dict[str, Any]:
    """The cell as findings write it down."""
    name = classifier.labels[cell.label]
    return {"class": name, "column": "", "value": cell.term.name, "phrase": cell.term.phrase}


def _classes(classifier: Classifier, names: str) -> list[int]:
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        return list(range(classifier.num_classes))
    return list(dict.fromkeys(class_index(classifier, name) for name in wanted))


class _Drawing:
    """Draws cells in pairs; keeps the ids of the generations and the number of their images."""

    def __init__(
        self,
        ws: Workspace,
        classifier: Classifier,
        generator: Generator,
        settings: AskSettings,
        on_progress: ProgressFn,
        cancel: CancelToken | None,
    ) -> None:
        self.ws, self.classifier, self.generator, self.settings = ws, classifier, generator, settings
        self.on_progress, self.cancel = on_progress, cancel
        self.runs: list[str] = []
        self.images = 0

    def __call__(self, cells: Sequence[Cell], seed: int, pairs: int, doing: str) -> list[Drawn]:
        """The pairs of every cell; a class's images without a term are shared by its cells."""
        if not cells:
            return []
        labels = list(dict.fromkeys(cell.label for cell in cells))
        asked: list[Cell | int] = [*labels, *cells]
        made = self._made(asked, seed, pairs, doing)
        said = self.ws.predictions([sample.id for side in made for sample in side], self.classifier.hash)
        plain = dict(zip(labels, made, strict=False))
        found = []
        for cell, with_ in zip(cells, made[len(labels) :], strict=True):
            both = [
                pair
                for pair in zip(plain[cell.label], with_, strict=True)
                if all(one.belief != "quarantined" and one.id in said for one in pair)
            ]
            wrong = np.array([[said[one.id].pred != cell.label for one in pair] for pair in both], dtype=bool)
            found.append(Drawn([a for a, _ in both], [b for _, b in both], wrong.reshape(-1, 2).T))
        return found

    def _made(self, asked: Sequence[Cell | int], seed: int, pairs: int, doing: str) -> list[list[Sample]]:
        """The images of every prompt, in the order of their seeds."""
        texts, labels = zip(*[self._prompt(one) for one in asked], strict=True)
        guidance = dataclasses.replace(PRESETS["unguided"], signal=self.settings.signal)
        guidance = dataclasses.replace(guidance, **suggested_settings(self.ws))
        order: dict[str, Any] = {
            "prompts": [text for text in texts for _ in range(pairs)],
            "labels": [label for label in labels for _ in range(pairs)],
            "seeds": [seed + i for _ in texts for i in range(pairs)],
            "guidance": guidance,
            "preset": PRESET,
        }

        def told(progress: Progress) -> None:
            self.on_progress(dataclasses.replace(progress, message=f"{doing}: {progress.message}"))

        run = self._generated(order, told)
        self.runs.append(run)
        ids = self.ws.query(Filter(origin=run))
        made = sorted(self.ws.samples(ids), key=lambda sample: int(sample.meta["index"]))
        self.images += len(made)
        return [made[i : i + pairs] for i in range(0, len(made), pairs)]

    def _prompt(self, asked: Cell | int) -> tuple[str, int]:
        label = asked if isinstance(asked, int) else asked.label
        plain = plain_prompt(self.ws, self.classifier.labels[label])
        return (plain if isinstance(asked, int) else f"{plain} {asked.term.phrase}"), label

    def _generated(self, order: dict[str, Any], told: ProgressFn) -> str:
        """Id of the generation: one that made, or began, just these images is used."""
        ws = self.ws
        given: dict[str, Any] = {"on_progress": told, "cancel": self.cancel}
        said = order | {"guidance": order["guidance"].to_dict()}
        hashes = [self.classifier.hash, self.generator.hash, reference_hash(ws, self.classifier)]
        key = hashlib.sha256(dump([said, hashes]).encode()).hexdigest()[:16]
        for run in ws.runs("generate"):
            if run.settings.get("purpose", {}).get("asked") != key:
                continue
            if run.state == "running":
                continue
            if run.state != "done":
                resume_generate(ws, run.id, device=str(self.generator.device), **given)
            if ws.count(Filter(origin=run.id)) == len(order["seeds"]):  # nobody has removed some since
                return run.id
        made = generate(ws, self.classifier, self.generator, purpose={"asked": key}, **order, **given)
        return made.id


def _keep(
    ws: Workspace,
    classifier: Classifier,
    cell: Cell,
    drawn: Drawn,
    figures: dict[str, Any],
    cause: dict[str, Any],
) -> None:
    got, name = drawn.errs, classifier.labels[cell.label]
    low, high = wilson(got.with_, got.n)
    evidence: dict[str, Any] = {
        "outcome": ASKED,
        "n": got.n,
        "bad": got.with_,
        "low": low,
        "high": high,
        "rest": got.without / got.n,
        "p": got.p,
        **figures,
        "cluster": False,
        "cell": _words(classifier, cell),
        "cause": cause,
    }
    said = f"{got.with_:,} of {got.n:,} images with the words are read wrongly, {got.without:,} of those without."
    chosen = to_record(Filter(ids=tuple(one.id for one in drawn.with_)), ws.label_names())
    insert(ws, "found", f"{name} {cell.term.phrase}", said, chosen, evidence)
