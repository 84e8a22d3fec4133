"""Which samples show which terms: by a text-image encoder and a vocabulary, or by captions; both are kept."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltg_core.data.workspace import Workspace
from ltg_core.errors import AnswerError, EndpointError, InputError
from ltg_core.generators.judge import phrases_of
from ltg_core.introspection.captions import Caption, Captioner, EndpointCaptioner, FolderCaptioner
from ltg_core.introspection.terms import (
    Shown,
    Term,
    from_phrases,
    general,
    of_captions,
    present,
    vocabulary_at,
    written,
)
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.llm import API_KEY, BASE_URL, MODEL, Endpoint
from ltg_core.models.textimage import TextImage
from ltg_core.params import Params, param
from ltg_core.types import Outputs
from ltg_core.workers.engine import There
from ltg_core.workflows.computing import (
    Answers,
    Asked,
    Files,
    answering,
    batch_size_of,
    files_of,
    fitting,
    in_batches,
    key_of,
)
from ltg_core.workflows.setup import plain_prompt
from ltg_core.workflows.store import FeatureStore

SOURCES = ("metadata", "vocabulary", "captions")
_CHUNK = 2048
_KEEP_EVERY = 32
_USELESS = 8


@dataclasses.dataclass(frozen=True)
class TermSettings(Params):
    """Where the words come from."""

    source: str = param("vocabulary", "Where words come from", choices=SOURCES)
    vocabulary: str = param(
        "", "Text file of terms, one a line; without one the generator's own conditions, or a general list"
    )
    own: str = param("", "Terms of your own with commas between them, instead of a file")
    encoder: str = param("", "Folder of a CLIP-style encoder; without one the generator's own")
    captioner: str = param("", "Folder of a captioner; without one the endpoint that the environment names")
    captions: int = param(400, "Caption at most so many samples, drawn by lot", low=10, high=100_000)
    rarely: int = param(5, "Of captions: words that fewer of them hold are no terms", low=2, high=10_000)


def encoder_of(ws: Workspace, folder: str = "") -> TextImage | None:
    """The encoder in a folder, else that of the active generator, None where it has none.

    Raises:
        ModelError: It cannot be read.
    """
    record = ws.get_state("generator") or {}
    place = Path(folder).expanduser() if folder else Path(record.get("path", "")) / "clip"
    if not folder and not (record and (place / "config.json").is_file()):
        return None
    weights = place / "model.safetensors"
    stamp = weights.stat().st_mtime_ns if weights.is_file() else 0
    return _load(str(place.resolve()), stamp, ws.device)


@functools.lru_cache(maxsize=2)
def _load(path: str, stamp: int, device: str) -> TextImage:
    """Once a process and device."""
    found = TextImage(path)
    found.clip.to(device)
    return found


def need_encoder(ws: Workspace, folder: str = "") -> TextImage:
    """The same.

    Raises:
        InputError: There is none.
    """
    found = encoder_of(ws, folder)
    if found is None:
        raise InputError(
            "a vocabulary needs a text-image encoder, and the generator has none: give the folder of a CLIP model "
            "(--encoder), or take the words from metadata or captions"
        )
    return found


def terms_of(
    ws: Workspace, encoder: TextImage, vocabulary: str = "", own: str = ""
) -> tuple[tuple[Term, ...], tuple[str, ...]]:
    """Terms to look for, and those that the encoder has never learned.

    Raises:
        InputError: The vocabulary cannot be read, or the encoder knows none of it.
    """
    record = ws.get_state("generator") or {}
    if own.strip():
        terms = written(own)
    elif vocabulary:
        terms = vocabulary_at(vocabulary)
    else:
        terms = from_phrases(phrases_of(record["path"]) if record else {}) or general()
    known = tuple(term for term in terms if encoder.knows(term.phrase))
    if not known:
        raise InputError(
            f"{encoder.name} has learned none of the {len(terms)} terms; write a vocabulary in words of its captions"
        )
    return known, tuple(term.name for term in terms if term not in known)


def vocabulary_of(ws: Workspace, encoder: str = "", vocabulary: str = "") -> tuple[Term, ...]:
    """The terms that ``shown`` looks for.

    Raises:
        InputError: No encoder, or no vocabulary that it knows.
    """
    return terms_of(ws, need_encoder(ws, encoder), vocabulary)[0]


def vectors(
    ws: Workspace,
    encoder: TextImage,
    ids: Sequence[str],
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of samples (N, D), zeros where a picture cannot be read, and (N,) bool where it could.

    They are kept beside the classifier's features and computed once.
    """
    token, store = cancel or CancelToken(), FeatureStore(ws, encoder)
    todo, bad = store.missing(list(dict.fromkeys(ids))), set()
    size, done, buffer = batch_size_of(encoder.preprocess), 0, list[tuple[list[str], Outputs]]()
    there = There[Sequence[str]](
        "ltg_core.workflows.terming:encoder_there",
        lambda: {"folder": str(encoder.folder.resolve())},
        lambda part: files_of(ws, part),
        lambda part: key_of(encoder.hash, part),
        (Outputs,),
    )
    by = f", {ws.engine.words}" if ws.engine.words else ""
    for part, out, broken in in_batches(ws, todo, size, _asked(encoder), there, token):
        bad |= {sample for sample, _ in broken}
        if part:
            buffer.append((part, out))
        done += len(part) + len(broken)
        if sum(len(some) for some, _ in buffer) >= _CHUNK or done == len(todo):
            _keep(store, buffer)
        on_progress(Progress(done, len(todo), f"looking at the pictures{by}"))
    good = np.array([sample not in bad for sample in ids], dtype=bool)
    found = np.zeros((len(ids), int(encoder.clip.config.projection_dim)), dtype=np.float32)
    found[good] = store.features([sample for sample in ids if sample not in bad])
    return found, good


def _asked(encoder: TextImage) -> Asked:
    @torch.no_grad()
    def ask(images: torch.Tensor) -> Outputs:
        features = encoder.images(images.to(encoder.clip.device)).cpu()
        return Outputs(features.new_zeros(len(features), 0), features)

    return Asked(fitting(encoder.preprocess), ask)


def encoder_there(options: Mapping[str, Any]) -> Callable[[Files], Answers]:
    """A text-image encoder in another process."""
    encoder = TextImage(options["folder"])
    encoder.clip.to(options["device"])
    return answering(_asked(encoder))


def _keep(store: FeatureStore, buffer: list[tuple[list[str], Outputs]]) -> None:
    ids = [sample for part, _ in buffer for sample in part]
    if ids:
        features = torch.cat([out.features for _, out in buffer])
        store.add(ids, Outputs(features.new_zeros(len(ids), 0), features))
    buffer.clear()


def shown(
    ws: Workspace,
    ids: Sequence[str],
    labels: np.ndarray,
    settings: TermSettings,
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Shown:
    """Which of these samples show which terms.

    Args:
        ws: The workspace.
        ids: N samples.
        labels: (N,) class of each, or intended class; -1 for the one that the encoder sees.
        settings: Where the words come from; not metadata, which needs no looking.
        on_progress: Told about every few pictures.
        cancel: Checked at every picture.

    Raises:
        InputError: No encoder, no endpoint and no captioner, or no vocabulary.
        EndpointError: The endpoint cannot be used.
        Cancelled: On request.
    """
    if settings.source == "captions":
        return _by_captions(ws, ids, settings, on_progress, cancel or CancelToken())
    encoder = need_encoder(ws, settings.encoder)
    terms, unknown = terms_of(ws, encoder, settings.vocabulary, settings.own)
    seen, good = vectors(ws, encoder, ids, on_progress=on_progress, cancel=cancel)
    found = showing(ws, encoder, seen, labels, terms)
    skipped = (f"{', '.join(unknown[:5])}: not in the encoder's words",) if unknown else ()
    return Shown(terms, found & good[:, None], good, "vocabulary", skipped)


def showing(
    ws: Workspace, encoder: TextImage, seen: np.ndarray, labels: np.ndarray, terms: Sequence[Term]
) -> np.ndarray:
    """Which pictures show which terms, (N, T) bool.

    Args:
        ws: Knows the classes, and how the generator's captions speak of them.
        encoder: Text-image encoder.
        seen: (N, D) unit vectors of pictures.
        labels: (N,) class indices; of samples without one the class whose plain text fits best is taken.
        terms: T of them.
    """
    plain = [plain_prompt(ws, name) for name in ws.label_names()]
    own = seen @ encoder.texts(plain).numpy().T
    known = (labels >= 0) & (labels < len(plain))
    of = np.where(known, labels, own.argmax(axis=1))
    cosines = np.zeros((len(seen), len(terms)), dtype=np.float32)
    for label in np.unique(of).tolist():
        rows = of == label
        texts = encoder.texts([f"{plain[label]} {term.phrase}" for term in terms]).numpy()
        cosines[rows] = seen[rows] @ texts.T
    return present(cosines, own[np.arange(len(seen)), of], terms, float(encoder.temperature))


def captioner_of(settings: TermSettings) -> Captioner:
    """Who describes pictures.

    Raises:
        InputError: Nobody was named.
        ModelError: The folder cannot be read.
    """
    if settings.captioner:
        return FolderCaptioner(settings.captioner)
    endpoint = Endpoint.from_environment()
    if endpoint is None:
        raise InputError(
            "captions need somebody who describes pictures: name an endpoint that speaks OpenAI's protocol in "
            f"{BASE_URL}, {MODEL} and {API_KEY}, or the folder of a captioner (--captioner)"
        )
    return EndpointCaptioner(endpoint)


def _by_captions(
    ws: Workspace, ids: Sequence[str], settings: TermSettings, on_progress: ProgressFn, cancel: CancelToken
) -> Shown:
    captioner = captioner_of(settings)
    chosen = np.sort(np.random.default_rng(0).permutation(len(ids))[: settings.captions])
    told = describe(ws, captioner, [ids[i] for i in chosen], on_progress=on_progress, cancel=cancel)
    captions: list[Caption | None] = [None] * len(ids)
    for place, caption in zip(chosen.tolist(), told, strict=True):
        captions[place] = caption
    found = of_captions(captions, ws.label_names(), settings.rarely)
    left = len(ids) - int(found.known.sum())
    skipped = (f"{left:,} samples without a caption",) if left else ()
    return dataclasses.replace(found, skipped=skipped)


def describe(
    ws: Workspace,
    captioner: Captioner,
    ids: Sequence[str],
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> list[Caption | None]:
    """Captions of samples, None where nothing usable came; each picture is described once.

    Raises:
        EndpointError: It cannot be used at all, or the first eight answers are of no use.
        Cancelled: On request; what was said until then is kept.
    """
    token, key = cancel or CancelToken(), f"captions-{captioner.name}"
    kept: dict[str, Caption] = ws.get_state(key) or {}
    hashes = {sample.id: sample.image_hash for sample in ws.samples(ids)}
    todo = [sample for sample in dict.fromkeys(ids) if hashes[sample] not in kept]
    useless = 0
    refused: list[EndpointError] = []

    def ask(sample: str) -> Caption | AnswerError:
        if refused:  # those that wait for their turn are not asked any more
            raise refused[0]
        try:
            return captioner.describe(ws.image(sample), token)
        except AnswerError as error:
            return error
        except EndpointError as error:
            refused.append(error)
            raise

    pool = ThreadPoolExecutor(captioner.at_once, thread_name_prefix="describe")
    try:
        for done, (sample, said) in enumerate(zip(todo, pool.map(ask, todo), strict=True), start=1):
            if isinstance(said, AnswerError):
                useless += 1
                if useless >= _USELESS and not kept:
                    raise EndpointError(f"{useless} answers were of no use: {said}") from said
            else:
                kept[hashes[sample]] = said
            on_progress(Progress(done, len(todo), f"asking {captioner.name}"))
            if done % _KEEP_EVERY == 0:
                ws.put_state(key, kept)
    finally:
        pool.shutdown(cancel_futures=True)
        if todo:
            ws.put_state(key, kept)
    return [kept.get(hashes[sample]) for sample in ids]
