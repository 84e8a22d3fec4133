"""Classifiers that cost no training: logits adjusted for the class frequencies, or scaled by a temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ltg_core.data.database import explained
from ltg_core.data.records import Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, UnsupportedError
from ltg_core.evaluation.frame import Array
from ltg_core.evaluation.posthoc import fit_tau, fit_temperature, log_prior
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import save_classifier
from ltg_core.models.units import Units
from ltg_core.training.settings import TrainSettings
from ltg_core.training.student import Teacher
from ltg_core.training.watching import watched
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.heads import division
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.retrained import KIND
from ltg_core.workflows.scoring import labels_of
from ltg_core.workflows.store import FeatureStore

METHODS = ("logit-adjustment", "temperature")


def without_training(
    ws: Workspace,
    classifier: Classifier,
    method: str,
    *,
    tau: float | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """A new classifier whose last layer says z - tau log(share of the class), or z / T.

    Args:
        ws: The workspace.
        classifier: Whose logits; it stays as it is.
        method: "logit-adjustment" or "temperature".
        tau: Strength of the adjustment; None for the one with the best balanced accuracy on real validation images.
        on_progress: Told while images are looked at.
        cancel: Checked at every batch.

    Returns:
        A run like that of ``retrain``, with ``tau`` or ``temperature`` in its result.

    Raises:
        InputError: Another method.
        DatasetError: Too few real validation images.
        UnsupportedError: The last layer is not linear or has no bias; ``compare`` can do without.
    """
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}; known: {', '.join(METHODS)}")
    settings = {"classifier": classifier.hash, "free": method, "tau": tau}
    with recorded(ws, KIND, settings, hashes={"classifier": classifier.hash}) as recording:
        fitting, held, where = division(ws, classifier)
        compute_outputs(ws, classifier, held, on_progress=on_progress, cancel=cancel)
        store = FeatureStore(ws, classifier)
        absent = set(store.missing(held))
        held = [id for id in held if id not in absent]
        z, y = store.outputs(held).logits.numpy(), labels_of(ws, held, classifier.num_classes)
        of = labels_of(ws, fitting, classifier.num_classes)
        counts = np.bincount(of[of >= 0], minlength=classifier.num_classes)
        scale, shift = 1.0, np.zeros(classifier.num_classes)
        if method == "temperature":
            scale = fit_temperature(z, y)
            recording.result["temperature"] = scale
        else:
            chosen = fit_tau(z, y, counts) if tau is None else tau
            shift = chosen * log_prior(counts)
            recording.result["tau"] = chosen
        made = folded(classifier, scale, shift, f"{classifier.name}, {method}")
        record: dict[str, Any] = {
            "seed": 0,
            "classifier": made.hash,
            "name": made.name,
            "epochs": 0,
            "validation": watched(
                torch.from_numpy((z - shift) / scale), torch.from_numpy(y), made.num_classes
            ),
            "before": watched(torch.from_numpy(z), torch.from_numpy(y), made.num_classes),
        }
        card = {
            "what": f"{classifier.name} with {method}, nothing was trained",
            "trained_from": {"name": classifier.name, "hash": classifier.hash},
            "run": recording.run.id,
            "settings": settings | recording.result,
            "metrics": {"validation": record["validation"], "before": record["before"]},
        }
        with explained(ws.path):
            save_classifier(made, ws.models_folder / made.hash / "classifier.safetensors", card)
        data: dict[str, Any] = {"real": len(fitting), "synthetic": 0, "auxiliary": 0, "validation": len(held)}
        data |= {"trained_on": where["fitted_on"], "stopped_by": where["held_out"]}
        recording.result |= {
            "seeds": [record],
            "best": made.hash,
            "data": data,
            "notes": [],
            "from": classifier.name,
        }
    return recording.run


@torch.no_grad()
def folded(classifier: Classifier, scale: float, shift: Array, name: str) -> Classifier:
    """A classifier with the logits (z - shift) / scale, by another last layer.

    Raises:
        UnsupportedError: The last layer is not linear or has no bias.
    """
    teacher = Teacher(classifier, TrainSettings(scope="head"))
    student = teacher.student()
    head = student.net
    if not isinstance(head, nn.Linear) or head.bias is None:
        raise UnsupportedError(
            f"the last layer of {classifier.name} has no bias, so that its logits cannot be shifted in place; "
            "'compare' shows what the adjustment would do"
        )
    head.bias.sub_(_by_output(classifier.units, shift).to(head.bias))
    head.bias.div_(scale)
    head.weight.div_(scale)
    return teacher.finished(student.state_dict(), name, [f"made from {classifier.name} without training"])


def _by_output(units: Units, shift: Array) -> torch.Tensor:
    """The shift of each of the network's outputs."""
    values = torch.from_numpy(np.asarray(shift, dtype=np.float64))
    if units.binary:  # one output, the log-odds of the second class
        return values[1:] - values[:1]
    found = torch.zeros(units.count, dtype=torch.double)
    found[list(units.keep) if units.keep is not None else slice(None)] = values
    return found
