"""Category extrapolation: which classes are weak, what may stand beside them, and how fine the classes are there."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltg_core.curation import auxiliary
from ltg_core.data.workspace import Workspace
from ltg_core.errors import AnswerError, InputError
from ltg_core.extension import asking, wordnet
from ltg_core.extension.proposals import Proposal, enough, refused, same, sift
from ltg_core.extension.space import Band, Fineness, fineness, groups, units
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.llm import BASE_URL, Endpoint
from ltg_core.models.classifier import Classifier
from ltg_core.models.imagenet import wordnet_aliases
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.weak_classes import (
    POOL,
    WeakRule,
    features,
    places,
    pool_ids,
    real_parts,
    weak_names,
)

SOURCES = ("wordnet", "llm", "clusters")
_NAMED = 20


def propose(
    ws: Workspace,
    classifier: Classifier,
    source: str,
    names: Sequence[str] = (),
    *,
    most: int = 8,
    rule: WeakRule | None = None,
    band: Band | None = None,
    folder: str | Path | None = None,
    pool: str = POOL,
    endpoint: Endpoint | None = None,
    seed: int = 0,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Propose classes that may stand beside weak ones; a person decides about them.

    Args:
        ws: The workspace.
        classifier: Whose classes.
        source: One of ``SOURCES``.
        names: Classes; empty for those that are weak.
        most: New classes beside each.
        rule: What is weak.
        band: Of "clusters": how like the class an image must be.
        folder: Of "wordnet": where its files are.
        pool: Of "clusters": the split of unlabelled images.
        endpoint: Of "llm"; None for what the environment names.
        seed: Of the clusters.
        on_progress: Told at every class.
        cancel: Checked at every class; what was found until then is kept.

    Returns:
        ``run``, ``classes`` (those that were looked at), ``added`` (numbers), ``dropped`` ((parent, name, reason)) and
        ``notes``.

    Raises:
        InputError: No such source, no weak class, no WordNet, no endpoint, no pool.
        EndpointError: The language model does not answer.
        AnswerError: It answers for no class in the form asked for; where it does for some, the notes name the others.
    """
    if source not in SOURCES:
        raise InputError(f"proposals come from {', '.join(SOURCES)}, not from {source!r}")
    token, band = cancel or CancelToken(), band or Band()
    wanted = weak_names(ws, classifier, names, rule)
    if source == "llm":
        endpoint = endpoint or Endpoint.from_environment()
        if endpoint is None:
            raise InputError(
                f"no language model is named: set {BASE_URL} (and LTG_LLM_MODEL, LTG_LLM_API_KEY), or propose from "
                "wordnet or clusters, which need none"
            )
    settings = {"source": source, "classes": wanted, "most": most, "band": band.to_dict(), "pool": pool}
    if endpoint is not None and source == "llm":
        settings |= {"model": endpoint.model, "host": endpoint.host}
    with recorded(ws, "propose", settings, seed=seed, hashes={"classifier": classifier.hash}) as recording:
        result = recording.result
        result |= {"classes": wanted, "added": [], "dropped": [], "notes": []}
        net = wordnet.WordNet(folder) if source == "wordnet" else None
        numbers = _numbers(classifier.labels) if net is not None else {}
        unusable: list[AnswerError] = []
        clusters = _Pool(ws, classifier, pool, on_progress, token) if source == "clusters" else None
        for done, name in enumerate(wanted):
            token.check()
            on_progress(Progress(done, len(wanted), f"what may stand beside {name}"))
            if net is not None:
                found, said = wordnet.propose(net, name, classifier.labels, numbers)
            elif clusters is not None:
                found, said = clusters.propose(name, most, band, seed)
            else:
                assert endpoint is not None
                ask = functools.partial(endpoint.ask_json, cancel=token)
                try:
                    found, said = asking.ask_for(name, classifier.labels, most, ask), ""
                except AnswerError as error:  # of one class: the others are asked for all the same
                    unusable.append(error)
                    found, said = [], f"nothing beside {name!r}: {error}"
            _keep(ws, classifier, name, found, most, result)
            if said:
                result["notes"].append(said)
        if unusable and len(unusable) == len(wanted):
            raise unusable[-1]
        if net is not None:
            net.close()
    return {"run": recording.run.id, **recording.run.result}


def add_by_hand(ws: Workspace, classifier: Classifier, parent: str, name: str, *, author: str = "") -> int:
    """An auxiliary class that a person names; it is accepted at once.

    Raises:
        InputError: It cannot be one; the message says why.
    """
    weak_names(ws, classifier, [parent])
    kept, dropped = sift([Proposal(parent, name, "hand")], classifier.labels, _known(ws), 1)
    if dropped:
        raise InputError(f"{dropped[0][0]!r} cannot stand beside {parent!r}: {dropped[0][1]}")
    new = auxiliary.add(ws, [{**_plain(kept[0]), "status": "accepted"}], author=author)
    if not new:
        raise InputError(f"{kept[0].name!r} is in the list already; accept it there")
    return new[0]


def rename(ws: Workspace, classifier: Classifier, key: int, name: str, *, author: str = "") -> str:
    """Another name for an auxiliary class.

    Raises:
        InputError: It is no name, a class of the classifier, or another auxiliary class's.
    """
    reason = refused(name)
    if reason is None and same(name) in {same(label) for label in classifier.labels}:
        reason = "it is a class of the classifier itself"
    if reason is not None:
        raise InputError(f"the name cannot be used: {reason}")
    return auxiliary.rename(ws, key, " ".join(name.split()), author=author)


def granularity(
    ws: Workspace,
    classifier: Classifier,
    names: Sequence[str] = (),
    *,
    extended: bool = False,
    rule: WeakRule | None = None,
    band: Band | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> list[Fineness]:
    """How fine the label space is around weak classes, in the classifier's feature space, on real training images.

    Args:
        ws: The workspace.
        classifier: Whose features.
        names: Classes; empty for those that are weak.
        extended: Count accepted auxiliary classes with images as classes too.
        rule: What is weak.
        band: Within which a class's mean counts as near.
        on_progress: Told while features are computed.
        cancel: Checked often.

    Returns:
        One record a class; the run of the kind "granularity" has them too.

    Raises:
        InputError: No such class, or none is weak.
    """
    wanted = weak_names(ws, classifier, names, rule)
    rows = real_parts(ws, classifier)[0]
    labels = list(classifier.labels)
    if extended:
        for one in auxiliary.every(ws):
            if one.images and one.status == "accepted" and not one.control:
                rows += [(id, len(labels)) for id in auxiliary.images_of(ws, one.key)]
                labels.append(one.name)
    ids, x = features(ws, classifier, [id for id, _ in rows], on_progress, cancel or CancelToken())
    label_of = dict(rows)
    y = np.array([label_of[id] for id in ids], dtype=np.int64)
    found = fineness(x, y, labels, [labels.index(name) for name in wanted], band=band)
    settings = {"classes": wanted, "extended": extended, "band": (band or Band()).to_dict()}
    with recorded(ws, "granularity", settings, hashes={"classifier": classifier.hash}) as recording:
        recording.result["classes"] = [one._asdict() for one in found]
    return found


class _Pool:
    """Unlabelled images and their features, read once."""

    def __init__(
        self, ws: Workspace, classifier: Classifier, split: str, on_progress: ProgressFn, cancel: CancelToken
    ) -> None:
        self.ws, self.classifier, self.told = ws, classifier, (on_progress, cancel)
        self.ids, self.x = features(ws, classifier, pool_ids(ws, split), on_progress, cancel)
        self.taken: set[str] = set()

    def propose(self, name: str, most: int, band: Band, seed: int) -> tuple[list[Proposal], str]:
        """Clusters of what is like a class; an image belongs to one class only."""
        mean = places(self.ws, self.classifier, [name], *self.told)[name].mean
        cosines = units(self.x) @ mean
        free = np.array([id not in self.taken for id in self.ids])
        inside = np.flatnonzero(band.where(cosines)[1] & free)
        if len(inside) < 4:
            return (
                [],
                f"{len(inside)} images of the pool are like {name!r} (cosine {band.low:g} to {band.high:g})",
            )
        found = []
        for number, rows in enumerate(
            groups(self.x[inside], most, max(4, len(inside) // (4 * most)), seed), 1
        ):
            members = [self.ids[i] for i in inside[rows]]
            self.taken.update(members)
            mean_cosine = float(cosines[inside[rows]].mean())
            about = {"members": members, "cosine": round(mean_cosine, 4)}
            relation = f"{len(members)} images of the pool that are like each other"
            difference = f"mean cosine to the class {mean_cosine:.2f}; give it a name when you have seen it"
            found.append(Proposal(name, f"like {name} {number}", "clusters", relation, difference, about))
        return found, ""


def _keep(
    ws: Workspace,
    classifier: Classifier,
    parent: str,
    found: Sequence[Proposal],
    most: int,
    result: dict[str, Any],
) -> None:
    """Sift proposals and write down what is left; what was rejected before is not proposed again."""
    kept, dropped = sift(found, classifier.labels, _known(ws), most)
    result["added"] += auxiliary.add(ws, [_plain(one) for one in kept])
    wrong = [[parent, name, reason] for name, reason in dropped if reason != enough(most)]
    result["dropped"] += wrong[:_NAMED]
    if len(wrong) > _NAMED:
        result["notes"].append(f"{len(wrong):,} proposals for {parent!r} were left out; the first are named")
    if over := len(dropped) - len(wrong):
        result["notes"].append(f"{over:,} more were proposed for {parent!r}, and left out: {enough(most)}")


def _known(ws: Workspace) -> dict[str, str]:
    every = auxiliary.every(ws)
    return {one.proposed: one.parent for one in every} | {one.name: one.parent for one in every}


def _plain(one: Proposal) -> dict[str, Any]:
    return {**dataclasses.asdict(one), "about": dict(one.about)}


def _numbers(names: Sequence[str]) -> dict[str, str]:
    """ImageNet's numbers of those classes whose names are ImageNet's."""
    known = {name: number for number, name in wordnet_aliases(1000).items()}
    return {name: known[name] for name in names if name in known}
