"""Images of accepted auxiliary classes: from a folder, the pool or the generator, within the cosine band, no copies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ltg_core.curation import auxiliary
from ltg_core.curation.auxiliary import AUXILIARY, KEY, Auxiliary
from ltg_core.data.datasets import open_source
from ltg_core.data.images import read_image
from ltg_core.data.sources import closing
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export.guard import protected
from ltg_core.extension.proposals import same
from ltg_core.extension.space import Band
from ltg_core.guidance.engine import GenerateRequest, Target, generate_images
from ltg_core.guidance.settings import PRESETS
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.extension_gate import CHUNK, Candidate, Gate, Held
from ltg_core.workflows.generating import need_reference
from ltg_core.workflows.recording import Recording, recorded
from ltg_core.workflows.setup import active_generator, prompt_for
from ltg_core.workflows.units import UNIT
from ltg_core.workflows.weak_classes import POOL, pool_ids


def add_images(
    ws: Workspace,
    classifier: Classifier,
    *,
    folder: str | Path | None = None,
    pool: str = "",
    generate: int = 0,
    keys: Sequence[int] = (),
    band: Band | None = None,
    limit: int = 0,
    seed: int = 0,
    device: str | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Give accepted auxiliary classes images. What is unlike the class, or a copy of held-out images, is left out.

    Args:
        ws: The workspace.
        classifier: In whose feature space likeness is measured.
        folder: A data set as ``import_data`` reads them; its classes are found by name, and pictures without a class
            are of the only class in ``keys``.
        pool: A split; images whose class has the name of an auxiliary class, and the members of accepted clusters.
        generate: So many images of each class from the workspace's generator, asked for by the class's name.
        keys: Only these classes; empty for all that are accepted.
        band: Cosines to the mean of the parent's real training images.
        limit: At most so many images a class, those that are there included; 0 for any number.
        seed: Of the first generated image.
        device: Where the generator is; None for the device of the workspace.
        on_progress: Told often.
        cancel: Checked often; what was added until then is kept.

    Returns:
        ``run``, ``classes`` (``key``, ``name``, ``parent``, ``added``, ``left_out``: reason → number) and ``notes``.

    Raises:
        InputError: Not exactly one source, no accepted class, a generator that is not asked by text.
        DatasetError: Nothing usable in the folder.
    """
    if (folder is not None) + bool(pool) + bool(generate) != 1:
        raise InputError("images come from a folder, from a pool or from the generator: name one of them")
    token, band = cancel or CancelToken(), band or Band()
    wanted = _accepted(ws, keys)
    settings = {
        "folder": None if folder is None else str(folder), "pool": pool, "generate": generate,
        "keys": [one.key for one in wanted], "band": band.to_dict(), "limit": limit,
    }  # fmt: skip
    with recorded(ws, "extend", settings, seed=seed, hashes={"classifier": classifier.hash}) as recording:
        gate = Gate(ws, classifier, wanted, band, limit, recording, on_progress, token)
        if folder is not None:
            found = _in_folder(Path(folder).expanduser(), wanted, gate)
        elif pool:
            found = _in_pool(ws, pool, wanted)
        else:
            found = _generated(ws, classifier, wanted, generate, seed, device, recording, on_progress, token)
        gate.take(found)
    return {"run": recording.run.id, **recording.run.result}


def random_control(
    ws: Workspace,
    classifier: Classifier,
    *,
    pool: str = POOL,
    seed: int = 0,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """The control: for every accepted class with images, as many images of random other classes of a pool.

    They stand beside the same parent and are learned from with ``retrain --auxiliary random`` only. A pool whose images
    have classes gives images of one class where it has enough; one without gives any images. Copies of held-out images
    are left out, and the cosine band does not hold: random classes are what it would refuse.

    Raises:
        InputError: No accepted class has images, or the pool has fewer.
    """
    token = cancel or CancelToken()
    every = auxiliary.every(ws)
    mine = [one for one in every if one.status == "accepted" and one.images and not one.control]
    if not mine:
        raise InputError("no accepted auxiliary class has images yet; add some first (extend images)")
    near = {same(one.name) for one in every if not one.control} | {same(one.proposed) for one in every}
    free = [s for s in ws.there(pool_ids(ws, pool)) if not s.label_name or same(s.label_name) not in near]
    there = {one.about.get("beside"): one for one in every if one.control}
    lacking = {one.key: one.images - (there[one.key].images if one.key in there else 0) for one in mine}
    with recorded(ws, "extend-control", {"pool": pool}, seed=seed) as recording:
        held = Held(ws, on_progress, token)
        copies = held.copies_among([sample.id for sample in free])
        by_class: defaultdict[str, list[str]] = defaultdict(list)
        order = np.random.default_rng(seed).permutation(len(free))
        for sample in (free[i] for i in order):
            if sample.id not in copies:
                by_class[sample.label_name or ""].append(sample.id)
        total, needed = sum(map(len, by_class.values())), sum(max(0, n) for n in lacking.values())
        if total < needed:
            raise InputError(
                f"the pool has {total:,} images of other classes and {needed:,} are needed, as many as the "
                "neighbours have; import more, or give the neighbours fewer (extend images --limit)"
            )
        added = 0
        for one in mine:
            ids = _draw(by_class, lacking[one.key])
            if ids:
                key = there[one.key].key if one.key in there else _control_of(ws, one)
                ws.merge_meta({id: {AUXILIARY: one.parent, KEY: key} for id in ids})
                added += len(ids)
        recording.result |= {"added": added, "classes": len(mine), "copies": len(copies)}
    return {"run": recording.run.id, **recording.run.result}


def _control_of(ws: Workspace, one: Auxiliary) -> int:
    found = {
        "parent": one.parent, "name": f"random {one.key}", "source": auxiliary.RANDOM, "status": "accepted",
        "relation": f"as many random images as {one.name!r} has", "about": {"beside": one.key},
    }  # fmt: skip
    return auxiliary.add(ws, [found])[0]


def _draw(by_class: dict[str, list[str]], count: int) -> list[str]:
    """So many images, of one class if one has enough; they are taken out."""
    found: list[str] = []
    while len(found) < count:
        rest = count - len(found)
        name = next((n for n, ids in by_class.items() if len(ids) >= rest), None)
        name = name if name is not None else max(by_class, key=lambda n: len(by_class[n]))
        found += by_class[name][:rest]
        del by_class[name][:rest]
    return found


def _accepted(ws: Workspace, keys: Sequence[int]) -> list[Auxiliary]:
    every = [one for one in auxiliary.every(ws) if not one.control]
    wanted = [one for one in every if one.status == "accepted" and (not keys or one.key in keys)]
    missing = set(keys) - {one.key for one in wanted}
    if missing or not wanted:
        which = f"number {min(missing)} is not" if missing else "none is"
        raise InputError(
            f"images are added to accepted auxiliary classes, and {which} accepted; accept it first"
        )
    return wanted


def _in_folder(path: Path, wanted: Sequence[Auxiliary], gate: Gate) -> Iterator[Candidate]:
    """Pictures of a data set whose class is one of those wanted."""
    by_name = {same(name): one for one in wanted for name in (one.proposed, one.name)}
    only = wanted[0] if len(wanted) == 1 else None
    with closing(open_source(path)) as source:
        keys = source.keys()
        of = [by_name.get(same(key.class_name)) if key.class_name else only for key in keys]
        # A folder of class folders names its splits; those that are held out are left alone.
        chosen = [i for i, one in enumerate(of) if one is not None and not protected(keys[i].split)]
        names = sorted({str(key.class_name) for key in keys if key.class_name})
        if not chosen:
            raise InputError(
                f"'{path.name}' has no class of the names {', '.join(repr(one.name) for one in wanted[:8])}; it has "
                f"{', '.join(map(repr, names[:12])) or 'pictures without classes'}. Rename one or the other, or name a "
                "single class for pictures without any"
            )
        for row in source.rows(chosen):
            one = of[row.index]
            assert one is not None
            try:
                if row.data is None:
                    raise InputError(row.error)
                image = read_image(row.data)
            except InputError:
                gate.left_out[one.key]["it cannot be read"] += 1
                continue
            yield Candidate(one, image, row.source, row.data, meta=dict(row.meta))


def _in_pool(ws: Workspace, split: str, wanted: Sequence[Auxiliary]) -> Iterator[Candidate]:
    """Members of accepted clusters, and images of a pool whose class has the name."""
    by_name = {same(name): one for one in wanted for name in (one.proposed, one.name)}
    member = {id: one for one in wanted for id in one.about.get("members", ())}
    for start in range(0, len(ids := pool_ids(ws, split)), CHUNK):
        for sample in ws.there(ids[start : start + CHUNK]):
            one = member.get(sample.id) or by_name.get(same(sample.label_name or ""))
            if one is not None:
                yield Candidate(one, ws.image(sample.id), sample.source, sample=sample.id)


def _generated(
    ws: Workspace,
    classifier: Classifier,
    wanted: Sequence[Auxiliary],
    number: int,
    seed: int,
    device: str | None,
    recording: Recording,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Iterator[Candidate]:
    """Unguided images of the classes' names."""
    generator = active_generator(ws, device=device)
    if generator.language != "text":
        raise InputError(
            f"{generator.name} is not asked by text, so it cannot draw a class that it was not trained on; give "
            "images in a folder"
        )
    target = Target(classifier, need_reference(ws, classifier))
    total, run = number * len(wanted), recording.run.id
    for place, one in enumerate(wanted):
        prompt = prompt_for(generator, one.name)
        label = classifier.labels.index(one.parent)
        for start in range(0, number, UNIT):
            count = min(UNIT, number - start)
            seeds = tuple(range(seed + start, seed + start + count))
            request = GenerateRequest((prompt,) * count, (label,) * count, seeds)
            on_progress(Progress(place * number + start, total, f"drawing {one.name}"))
            result = generate_images(
                generator, target, PRESETS["unguided"], request, controls=False, cancel=cancel
            )
            for s, pixels in zip(seeds, result.images, strict=True):
                meta = {"prompt": prompt, "seed": s, "role": "auxiliary"}
                yield Candidate(one, Image.fromarray(pixels), f"{run}/{one.key}/{s}", made=True, meta=meta)
