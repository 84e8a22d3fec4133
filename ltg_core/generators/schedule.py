"""A diffusers scheduler as the samplers see it: steps by index, the affine form of the clean estimate, pruning.

For every scheduler and prediction type the clean estimate is affine in the network's output, z0 = A z + B out, so a
shift of the estimate by d is a shift of the output by d / B; a guided step is an ordinary step of the scheduler.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import InputError, UnsupportedError
from ltg_core.types import Latents

ensure_torchvision()
import diffusers  # noqa: E402

SAMPLERS: dict[str, str] = {
    "default": "",
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "flow euler": "FlowMatchEulerDiscreteScheduler",
}
"""Names that a person picks, and the deterministic diffusers scheduler behind each."""


class Schedule:
    """One pass of a scheduler over ``steps`` steps; holds the scheduler's history, so one a batch.

    Args:
        scheduler: The model's own scheduler; its configuration is used, the object is not touched.
        steps: Number of steps.
        sampler: A key of `SAMPLERS`.
        shift: Of a flow model's noise levels, on top of the model's own: above 1, more of the steps are spent on
            high noise, where the content is decided (Esser et al. 2024). Other models keep theirs.

    Raises:
        InputError: An unknown sampler.
        UnsupportedError: A sampler that cannot integrate this model's prediction type.
    """

    def __init__(self, scheduler: Any, steps: int, sampler: str = "default", shift: float = 1.0) -> None:
        if sampler not in SAMPLERS:
            raise InputError(f"there is no sampler {sampler!r}; known: {', '.join(SAMPLERS)}")
        self.scheduler = _make(scheduler, SAMPLERS[sampler], shift)
        self.scheduler.set_timesteps(steps)
        self.timesteps: list[float] = [float(t) for t in self.scheduler.timesteps]
        self._raw = self.scheduler.timesteps
        self.prediction = _prediction(self.scheduler)

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def start_scale(self) -> float:
        """Standard deviation of the initial latent."""
        return float(getattr(self.scheduler, "init_noise_sigma", 1.0))

    def begin(self, index: int) -> None:
        """Tell the scheduler that the first step will be ``index`` (for runs that start from a noised image)."""
        if hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(index)

    def scaled(self, z: Latents, index: int) -> Latents:
        """The latent as the network expects it."""
        if not hasattr(self.scheduler, "scale_model_input"):
            return z
        self._at(index)
        scaled: torch.Tensor = self.scheduler.scale_model_input(z, self._raw[index])
        return scaled

    def affine(self, index: int) -> tuple[float, float]:
        """(A, B) of z0 = A z + B out at this step."""
        self._at(index)
        return _affine(self.scheduler, self.prediction, index, self.timesteps[index])

    def noise_share(self, index: int) -> float:
        """How noisy the latent is before this step, from 1 (noise) to 0 (clean): the flow-matching time."""
        alpha, sigma = _alpha_sigma(self.scheduler, index, self.timesteps[index])
        return sigma / (alpha + sigma)

    def noise_amplitude(self, index: int) -> float:
        """sqrt(1 - abar) of the variance-preserving process with the same signal-to-noise ratio."""
        alpha, sigma = _alpha_sigma(self.scheduler, index, self.timesteps[index])
        return sigma / math.sqrt(alpha * alpha + sigma * sigma)

    def step(self, output: torch.Tensor, index: int, z: Latents) -> Latents:
        """The scheduler's own step from the network's (possibly shifted) output."""
        advanced: torch.Tensor = self.scheduler.step(output, self._raw[index], z, return_dict=False)[0]
        return advanced

    def add_noise(self, clean: Latents, noise: torch.Tensor, index: int) -> Latents:
        """A clean latent brought to the noise level before step ``index``."""
        alpha, sigma = _alpha_sigma(self.scheduler, index, self.timesteps[index])
        if _is_ve(self.scheduler):
            return clean + sigma / alpha * noise
        return alpha * clean + sigma * noise

    def take(self, rows: torch.Tensor) -> None:
        """Keep only these rows of the batch in the solver's history (repeats are allowed)."""
        for name, value in vars(self.scheduler).items():
            if _is_batch(value):
                setattr(self.scheduler, name, value[rows])
            elif isinstance(value, list) and any(_is_batch(v) for v in value):
                setattr(self.scheduler, name, [v[rows] if _is_batch(v) else v for v in value])

    def _at(self, index: int) -> None:
        scheduler = self.scheduler
        if getattr(scheduler, "step_index", 0) is None and hasattr(scheduler, "_init_step_index"):
            scheduler._init_step_index(self._raw[index])


def _is_batch(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim >= 3


def _make(scheduler: Any, class_name: str, more_shift: float = 1.0) -> Any:
    config = copy.deepcopy(dict(scheduler.config))
    if not class_name or type(scheduler).__name__ == class_name:
        shifts = {name: more_shift * config[name] for name in ("flow_shift", "shift") if config.get(name)}
        return type(scheduler).from_config(config, **shifts)
    prediction = _prediction(scheduler)
    flow = prediction == "flow_prediction"
    if class_name == "FlowMatchEulerDiscreteScheduler":
        if not flow:
            raise UnsupportedError(
                f"the model predicts {prediction}, flow euler integrates flows; choose ddim or dpm++"
            )
        shift = config.get("flow_shift", config.get("shift", 1.0))
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=more_shift * (shift or 1.0))
    if flow:
        if class_name not in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler"):
            raise UnsupportedError("the model predicts a flow; choose default, dpm++, unipc or flow euler")
        shift = config.get("flow_shift", config.get("shift", 1.0)) or 1.0
        return getattr(diffusers, class_name)(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=more_shift * shift
        )
    return getattr(diffusers, class_name).from_config(config)


def _prediction(scheduler: Any) -> str:
    if type(scheduler).__name__.startswith("FlowMatch"):
        return "flow_prediction"
    return str(scheduler.config.get("prediction_type", "epsilon"))


def _is_ve(scheduler: Any) -> bool:
    """Whether latents carry noise of unbounded variance (Euler, Heun) instead of unit total variance."""
    return type(scheduler).__name__ in (
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "HeunDiscreteScheduler",
    )


def _alpha_sigma(scheduler: Any, index: int, timestep: float) -> tuple[float, float]:
    """Signal and noise coefficients of the latent before step ``index``."""
    if type(scheduler).__name__.startswith("FlowMatch"):
        sigma = float(scheduler.sigmas[index])
        return 1.0 - sigma, sigma
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        alpha, sigma = scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[index])
        return float(alpha), float(sigma)
    if _is_ve(scheduler):
        ratio = float(scheduler.sigmas[index])
        alpha = 1.0 / math.sqrt(1.0 + ratio * ratio)
        return alpha, ratio * alpha
    if hasattr(scheduler, "alphas_cumprod"):
        product = float(scheduler.alphas_cumprod[int(timestep)])
        return math.sqrt(product), math.sqrt(1.0 - product)
    raise UnsupportedError(f"{type(scheduler).__name__} is not supported; choose ddim, dpm++, unipc or euler")


def _affine(scheduler: Any, prediction: str, index: int, timestep: float) -> tuple[float, float]:
    alpha, sigma = _alpha_sigma(scheduler, index, timestep)
    if _is_ve(scheduler):
        ratio = sigma / alpha
        forms = {
            "epsilon": (1.0, -ratio),
            "v_prediction": (1.0 / (ratio**2 + 1.0), -ratio / math.sqrt(ratio**2 + 1.0)),
            "sample": (0.0, 1.0),
        }
    else:
        forms = {
            "epsilon": (1.0 / alpha, -sigma / alpha) if alpha > 0 else (0.0, 0.0),
            "v_prediction": (alpha, -sigma),
            "sample": (0.0, 1.0),
            "flow_prediction": (1.0, -sigma),
        }
    if prediction not in forms:
        raise UnsupportedError(
            f"the prediction type {prediction!r} is not supported with {type(scheduler).__name__}"
        )
    return forms[prediction]
