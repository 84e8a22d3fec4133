"""A diffusers scheduler as the samplers see it: steps by index, the affine form of the clean estimate, pruning.

For every scheduler and prediction type the clean estimate is affine in the network's output, z0 = A z + B out, so a
shift of the estimate by d is a shift of the output by d / B; a guided step is an ordinary step of the scheduler.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import InputError, UnsupportedError
from ltg_core.generators.samplers import CHOICES, SAMPLERS, fitting, prediction_of, solver_of
from ltg_core.types import Latents


class Schedule:
    """One pass of a scheduler over ``steps`` steps; holds the scheduler's history, so one a batch.

    Args:
        scheduler: The model's own scheduler; its configuration is used, the object is not touched.
        steps: Number of steps.
        sampler: One of ``samplers.CHOICES``; a pace stands for its solver here.
        shift: Of a flow model's noise levels, on top of the model's own: above 1, more of the steps are spent on
            high noise, where the content is decided (Esser et al. 2024). Other models keep theirs.
        mu: Of flow models whose shift depends on the number of tokens ("dynamic shifting"); from `shift_of_size`.
        even: Whether the noise levels of the model's own flow scheduler begin as n even parts of 1, as FLUX has it.

    Raises:
        InputError: An unknown sampler, or a number of steps that the scheduler cannot make.
        UnsupportedError: A sampler that cannot integrate this model's prediction type.
    """

    def __init__(
        self,
        scheduler: Any,
        steps: int,
        sampler: str = "default",
        shift: float = 1.0,
        *,
        mu: float | None = None,
        even: bool = False,
    ) -> None:
        if sampler not in CHOICES:
            raise InputError(f"there is no sampler {sampler!r}; known: {', '.join(CHOICES)}")
        fit = fitting(scheduler)
        if sampler not in fit:
            raise UnsupportedError(
                f"the sampler {sampler!r} does not fit this model ({prediction_of(scheduler)}, "
                f"{type(scheduler).__name__}); choose {' or '.join(fit)}"
            )
        self.scheduler = _make(scheduler, SAMPLERS[solver_of(sampler)], shift, mu)
        self._set_timesteps(steps, shift, mu, even)
        self._draws = _draws(self.scheduler)
        self._rngs: list[torch.Generator] = []
        self.timesteps: list[float] = [float(t) for t in self.scheduler.timesteps]
        self._raw = self.scheduler.timesteps
        self.prediction = prediction_of(self.scheduler)

    def _set_timesteps(self, steps: int, shift: float, mu: float | None, even: bool) -> None:
        config = self.scheduler.config
        options: dict[str, Any] = {}
        if config.get("use_dynamic_shifting"):
            if mu is None:
                raise UnsupportedError("this scheduler shifts its noise levels by the image's size (mu)")
            exponential = config.get("time_shift_type", "exponential") == "exponential"
            options["mu"] = mu + math.log(shift) if exponential else mu * shift
        if even and _is_flow_match(self.scheduler) and not config.get("use_flow_sigmas"):
            options["sigmas"] = np.linspace(1.0, 1 / steps, steps)
            self.scheduler.set_timesteps(**options)
            return
        try:
            self.scheduler.set_timesteps(steps, **options)
        except ValueError as error:
            raise InputError(f"{type(self.scheduler).__name__} cannot make {steps} steps: {error}") from error

    def __len__(self) -> int:
        return len(self.timesteps)

    def seed(self, seeds: Sequence[int], shape: Sequence[int]) -> None:
        """Give every row its own random numbers, for schedulers that draw noise at every step; others need none.

        They go on where the initial noise of ``shape`` ended, so the pipelines of diffusers draw the same from a list
        of generators.
        """
        if self._draws:
            self._rngs = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
            for rng in self._rngs:
                torch.randn(tuple(shape), generator=rng)

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

    def noise_affine(self, index: int) -> tuple[float, float]:
        """(A, B) as ``affine`` gives it for a network that predicts noise, whatever this one predicts.

        At an amplitude of the signal of zero both are 0.
        """
        self._at(index)
        return _affine(self.scheduler, "epsilon", index, self.timesteps[index])

    def noise_share(self, index: int) -> float:
        """How noisy the latent is before this step, from 1 (noise) to 0 (clean): the flow-matching time."""
        alpha, sigma = _alpha_sigma(self.scheduler, index, self.timesteps[index])
        return sigma / (alpha + sigma)

    def noise_amplitude(self, index: int) -> float:
        """sqrt(1 - abar) of the variance-preserving process with the same signal-to-noise ratio."""
        alpha, sigma = _alpha_sigma(self.scheduler, index, self.timesteps[index])
        return sigma / math.sqrt(alpha * alpha + sigma * sigma)

    def moved(self, shift: Latents, index: int) -> None:
        """Tell the solver that the latent before step ``index`` was moved by ``shift``, so that all of it arrives.

        What comes after a jump is a new initial value problem. A multistep solver begins anew, as it does at the first
        step: estimates of before the jump would be taken for a trend, and the corrector of UniPC would go on from a
        latent of before, without the jump. A solver amid a step of several evaluations (Heun, PNDM) goes on from a
        latent that it kept one step ago, so that one is moved along.

        Args:
            shift: (B, C, h, w), as in the latent that is handed to `step` next.
            index: Of that step.
        """
        scheduler = self.scheduler
        if hasattr(scheduler, "lower_order_nums"):
            scheduler.lower_order_nums = 0
            if hasattr(scheduler, "last_sample"):
                scheduler.last_sample = None
            return
        for name in ("sample", "cur_sample"):
            kept = vars(scheduler).get(name)
            if kept is not None:
                setattr(scheduler, name, kept + self._growth(index) * shift)

    def _growth(self, index: int) -> float:
        """What a shift of the clean latent is before the step ago, in units of what it is before this one."""
        if _is_ve(self.scheduler) or index == 0:
            return 1.0
        before, now = (_alpha_sigma(self.scheduler, i, self.timesteps[i])[0] for i in (index - 1, index))
        return before / now

    def step(self, output: torch.Tensor, index: int, z: Latents) -> Latents:
        """The scheduler's own step from the network's (possibly shifted) output."""
        options: dict[str, Any] = {}
        if self._draws:
            if len(self._rngs) != len(z):
                raise InputError(f"{type(self.scheduler).__name__} draws noise at every step; give it seeds")
            options["generator"] = self._rngs
        advanced: torch.Tensor = self.scheduler.step(
            output, self._raw[index], z, return_dict=False, **options
        )[0]
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
        if self._rngs:
            self._rngs = _rows_of(self._rngs, rows.tolist())

    def _at(self, index: int) -> None:
        scheduler = self.scheduler
        if getattr(scheduler, "step_index", 0) is None and hasattr(scheduler, "_init_step_index"):
            scheduler._init_step_index(self._raw[index])


def _is_batch(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim >= 3


def shift_of_size(scheduler: Any, tokens: int, largest: float = 1.15) -> float:
    """The shift "mu" of a model with dynamic shifting at this number of latent tokens: linear between two known sizes.

    The two sizes and their shifts are the scheduler's; where it names none, those of the pipelines of diffusers.
    """
    config = scheduler.config
    small, large = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", largest)
    slope = (high - low) / (large - small)
    return float(tokens * slope + (low - slope * small))


def few_steps(scheduler: Any, *, embedded: bool) -> dict[str, float]:
    """Settings that a model distilled to few steps needs, told by its scheduler; none for others.

    Consistency models have schedulers of their own. Adversarially distilled ones ("turbo", "lightning") come with an
    Euler scheduler that begins at the last step.
    """
    name = type(scheduler).__name__
    if name in ("LCMScheduler", "TCDScheduler"):
        return {"steps": 4, "cfg": 8.0 if embedded else 1.0}
    if name.startswith("Euler") and scheduler.config.get("timestep_spacing") == "trailing":
        return {"steps": 4, "cfg": 1.0}
    return {}


def _draws(scheduler: Any) -> bool:
    """Whether a step draws random numbers."""
    name, config = type(scheduler).__name__, scheduler.config
    if "generator" not in inspect.signature(scheduler.step).parameters:
        return False
    if "Ancestral" in name or name in ("DDPMScheduler", "LCMScheduler", "TCDScheduler"):
        return True
    return bool(config.get("stochastic_sampling")) or "sde" in str(config.get("algorithm_type", ""))


def _rows_of(rngs: list[torch.Generator], rows: list[int]) -> list[torch.Generator]:
    """The random numbers of these rows; a row that is there twice goes two ways."""
    kept, copies = [], dict.fromkeys(rows, 0)
    for row in rows:
        rng = rngs[row]
        if copies[row]:
            state = rngs[row].get_state().numpy().tobytes() + copies[row].to_bytes(4, "big")
            rng = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(state).digest()[:7], "big"))
        copies[row] += 1
        kept.append(rng)
    return kept


def _make(scheduler: Any, class_name: str, more_shift: float, mu: float | None) -> Any:
    config = copy.deepcopy(dict(scheduler.config))
    if not class_name or type(scheduler).__name__ == class_name:
        changes = {name: more_shift * config[name] for name in ("flow_shift", "shift") if config.get(name)}
        if str(config.get("variance_type", "")).startswith("learned"):
            changes["variance_type"] = "fixed_small"  # the network's own guess of it is not integrated here
        return type(scheduler).from_config(config, **changes)
    ensure_torchvision()
    import diffusers  # with it comes a second of imports; most processes draw nothing

    if class_name == "FlowMatchEulerDiscreteScheduler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=more_shift * _own_shift(config, mu))
    if prediction_of(scheduler) == "flow_prediction":
        return getattr(diffusers, class_name)(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=more_shift * _own_shift(config, mu),
        )
    return getattr(diffusers, class_name).from_config(config)


def _own_shift(config: dict[str, Any], mu: float | None) -> float:
    """A flow model's shift as the factor s in s t / (1 + (s - 1) t)."""
    if config.get("use_dynamic_shifting") and mu is not None:
        return math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else mu
    return float(config.get("flow_shift", config.get("shift", 1.0)) or 1.0)


def _is_flow_match(scheduler: Any) -> bool:
    return type(scheduler).__name__.startswith("FlowMatch")


def _is_ve(scheduler: Any) -> bool:
    """Whether latents carry noise of unbounded variance (Euler, Heun) instead of unit total variance."""
    return type(scheduler).__name__ in (
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "HeunDiscreteScheduler",
    )


def _alpha_sigma(scheduler: Any, index: int, timestep: float) -> tuple[float, float]:
    """Signal and noise coefficients of the latent before step ``index``."""
    if _is_flow_match(scheduler):
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
