"""Samplers by name: which there are, and which fit a model. Knows schedulers by their configuration only."""

from __future__ import annotations

from typing import Any, NamedTuple

SAMPLERS: dict[str, str] = {
    "default": "",
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "flow euler": "FlowMatchEulerDiscreteScheduler",
}
"""Names that a person picks, and the deterministic diffusers scheduler behind each."""


class Pace(NamedTuple):
    """A sampler for people who do not want to know: a solver with a number of steps."""

    solver: str
    steps: int


PACES: dict[str, Pace] = {
    "quality": Pace("unipc", 40),
    "balanced": Pace("unipc", 20),
    "fast": Pace("unipc", 10),
}
"""They bring their own number of steps; how near each comes to the exact solution is in docs/performance.md."""
CHOICES: tuple[str, ...] = (next(iter(SAMPLERS)), *PACES, *list(SAMPLERS)[1:])
"""Everything that can be picked, in the order in which it is offered."""

_FLOWS = ("dpm++", "unipc", "flow euler")
_OTHERS = ("ddim", "dpm++", "unipc", "euler")


def solver_of(name: str) -> str:
    """The solver behind a name: a pace's, or the name itself."""
    return PACES[name].solver if name in PACES else name


def fitting(scheduler: Any) -> tuple[str, ...]:
    """The samplers that can integrate a model, told by its own scheduler, in the order of ``CHOICES``.

    Consistency models (LCM, TCD) have their own way only. Models distilled to few steps by an Euler scheduler can be
    solved otherwise, but not at a pace, for the paces bring more steps than they were made for.
    """
    name, config = type(scheduler).__name__, scheduler.config
    found = {"default"}
    if name in ("LCMScheduler", "TCDScheduler"):
        return ("default",)
    prediction = prediction_of(scheduler)
    if prediction == "flow_prediction":
        found.update(_FLOWS)
    elif prediction in ("epsilon", "v_prediction", "sample") and (
        "beta_schedule" in config or "trained_betas" in config
    ):
        found.update(_OTHERS)
    distilled = name.startswith("Euler") and config.get("timestep_spacing") == "trailing"
    if "unipc" in found and not distilled:
        found.update(PACES)
    return tuple(choice for choice in CHOICES if choice in found)


def prediction_of(scheduler: Any) -> str:
    """What the network's output is: "epsilon", "v_prediction", "sample" or "flow_prediction"."""
    if type(scheduler).__name__.startswith("FlowMatch"):
        return "flow_prediction"
    return str(scheduler.config.get("prediction_type", "epsilon"))
