"""Attribution: which pixels move the prediction, or the uncertainty itself."""

from __future__ import annotations

from ltg_core.attribution.base import Attribution, Heatmap, heatmaps
from ltg_core.attribution.grad_cam import GradCam
from ltg_core.attribution.gradient_shap import GradientShap
from ltg_core.attribution.integrated_gradients import IntegratedGradients
from ltg_core.attribution.occlusion import Occlusion
from ltg_core.attribution.saliency import Saliency
from ltg_core.attribution.targets import ClassTarget, ContrastTarget, SignalTarget, Target
from ltg_core.registry import Registry

ATTRIBUTIONS: Registry[Attribution] = Registry(
    "attribution", (IntegratedGradients, GradCam, Saliency, Occlusion, GradientShap)
)

__all__ = [
    "ATTRIBUTIONS",
    "Attribution",
    "ClassTarget",
    "ContrastTarget",
    "GradCam",
    "GradientShap",
    "Heatmap",
    "IntegratedGradients",
    "Occlusion",
    "Saliency",
    "SignalTarget",
    "Target",
    "heatmaps",
]
