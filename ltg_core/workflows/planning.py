"""What a generation is to make: prompts, intended classes, seeds and sources, one an image."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ltg_core.data.records import REAL, Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.generators.base import Generator
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.setup import prompt_for


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a generation is to make; every field has one entry an image.

    Attributes:
        prompts: Texts.
        labels: Intended class indices.
        seeds: Seeds of the initial noise.
        sources: Ids of the real samples to start from, or None.
    """

    prompts: list[str]
    labels: list[int]
    seeds: list[int]
    sources: list[str] | None = None


def plan_classes(
    classifier: Classifier,
    generator: Generator,
    classes: Sequence[str] = (),
    *,
    per_class: int = 8,
    seed: int = 0,
    prompt: str = "",
) -> Plan:
    """Images of classes, in the generator's own words unless a prompt is given.

    Args:
        classifier: Knows the classes.
        generator: Knows how its captions speak.
        classes: Names; none for all.
        per_class: Images of each.
        seed: Of the first image; every image has the next one.
        prompt: A text, ``{label}`` stands for the class.

    Raises:
        InputError: An unknown class.
    """
    labels = [
        class_index(classifier, name) for name in classes or classifier.labels for _ in range(per_class)
    ]
    return Plan(
        prompts=[prompt_of_class(classifier, generator, label, prompt) for label in labels],
        labels=labels,
        seeds=list(range(seed, seed + len(labels))),
    )


def plan_sources(
    ws: Workspace,
    classifier: Classifier,
    generator: Generator,
    ids: Sequence[str],
    *,
    per_source: int = 1,
    seed: int = 0,
    toward: str = "",
    prompt: str = "",
) -> Plan:
    """Counterfactuals of real samples: a rarer one of the same class, or one of the class ``toward``.

    Raises:
        InputError: An unknown sample or class, or a sample without a label and no class to turn it into.
    """
    plan = Plan([], [], [], [])
    assert plan.sources is not None
    for sample in ws.samples(list(ids)):
        label = class_index(classifier, toward) if toward else sample.label
        if label is None or not 0 <= label < classifier.num_classes:
            raise InputError(
                f"sample {sample.id} has no class that the classifier knows; say which class to turn it into"
            )
        for _ in range(per_source):
            plan.prompts.append(prompt_of_class(classifier, generator, label, prompt))
            plan.labels.append(label)
            plan.seeds.append(seed + len(plan.seeds))
            plan.sources.append(sample.id)
    return plan


def plan_likeness(
    ws: Workspace,
    classifier: Classifier,
    plan: Plan,
    *,
    split: str = "train",
    aims: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """A random real sample of its class for each image of a plan, to be resembled.

    The draw belongs to the image's own seed, so it does not depend on what else is planned.

    Args:
        ws: The workspace.
        classifier: Knows the classes.
        plan: What is to be made.
        split: Of the real samples.
        aims: Metadata values that each image is meant to show: a real sample with the same ones is taken where there
            is any, one of its class otherwise.

    Raises:
        InputError: A class without real samples in that split.
    """
    known: dict[tuple[int, str], list[str]] = {}

    def real(label: int, aim: Mapping[str, Any]) -> list[str]:
        key = (label, json.dumps(dict(aim), sort_keys=True, default=str))
        if key not in known:
            known[key] = ws.query(Filter(origin=REAL, split=split, label=label, meta=dict(aim)))
        return known[key]

    chosen = []
    for place, (seed, label) in enumerate(zip(plan.seeds, plan.labels, strict=True)):
        aim = aims[place] if aims else {}
        offered = real(label, aim) or real(label, {})
        if not offered:
            raise InputError(
                f"there is no real sample of {classifier.labels[label]!r} in the split {split!r} to resemble"
            )
        draw = hashlib.sha256(f"{seed}/like/{label}".encode()).digest()
        chosen.append(offered[int.from_bytes(draw[:7], "big") % len(offered)])
    return chosen


def class_index(classifier: Classifier, name: str | int) -> int:
    """The index of a class given by name (case does not matter) or number.

    Raises:
        InputError: There is none.
    """
    text = str(name).strip()
    folded = [label.casefold() for label in classifier.labels]
    if text in classifier.labels:
        return classifier.labels.index(text)
    if folded.count(text.casefold()) == 1:
        return folded.index(text.casefold())
    if text.isdecimal() and int(text) < classifier.num_classes:
        return int(text)
    raise InputError(f"the classifier has no class {text!r}; it has {', '.join(classifier.labels[:20])}")


def prompt_of_class(classifier: Classifier, generator: Generator, label: int, prompt: str) -> str:
    """The text for a class: the given one, ``{label}`` filled in, or the generator's own words."""
    name = classifier.labels[label]
    return prompt.replace("{label}", name) if prompt.strip() else prompt_for(generator, name)
