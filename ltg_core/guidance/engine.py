"""One guided generation: controls, search, the guided pass, the final decode and the final score."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable

from ltg_core.generators.base import Calls, Generator
from ltg_core.generators.memory import shrinking
from ltg_core.guidance.request import GenerateRequest, GenerateResult, Target
from ltg_core.guidance.session import DRAFT_SHIFT, Session
from ltg_core.guidance.settings import Guidance
from ltg_core.guidance.watching import from_uint8, to_uint8
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.types import Latents

__all__ = [
    "DRAFT_SHIFT",
    "GenerateRequest",
    "GenerateResult",
    "Target",
    "from_uint8",
    "generate_images",
    "to_uint8",
]

log = logging.getLogger(__name__)


def generate_images(
    generator: Generator,
    target: Target,
    guidance: Guidance,
    request: GenerateRequest,
    *,
    controls: bool = True,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> GenerateResult:
    """Generate guided images with their matched controls.

    Args:
        generator: The frozen diffusion model.
        target: Classifier, reference, judge.
        guidance: All settings.
        request: Prompts, classes, seeds.
        controls: Whether to make the unguided image of every seed as well.
        on_progress: Told after every denoising step; ``preview`` is uint8 (n, H, W, 3), the current clean estimates.
        cancel: Checked at every denoising step.

    When memory runs out, everything begins again with half as many rows in every network call; the result says so, and
    the generator has its own number again afterwards.

    Raises:
        Cancelled: On request, at the next step.
        InputError: Settings that do not fit each other.
        ModelError: There is not enough memory for one image.
    """
    started, notes = time.monotonic(), list[str]()
    token = cancel or CancelToken()

    def say(text: str) -> None:
        if text in notes:
            return
        notes.append(text)
        log.warning("%s: %s", generator.name, text)
        on_progress(Progress(0, 1, text))

    with generator.at_rows(generator.chunk):
        result = shrinking(
            generator,
            lambda: _generate(generator, target, guidance, request, controls, on_progress, token, say),
            say,
        )
    return dataclasses.replace(result, seconds=time.monotonic() - started, notes=notes)


def _generate(
    generator: Generator,
    target: Target,
    guidance: Guidance,
    request: GenerateRequest,
    controls: bool,
    on_progress: ProgressFn,
    cancel: CancelToken,
    say: Callable[[str], None],
) -> GenerateResult:
    session = Session(generator, target, guidance, request, controls, on_progress, cancel, say)
    control: Latents | None = None
    before = Calls(generator.calls)
    if controls:
        session.watch.stage = "control"
        control = session.unguided()
    control_images = to_uint8(session.decode(control)) if control is not None else None
    control_calls = dict(generator.calls - before)
    before = Calls(generator.calls)
    if guidance.searches or guidance.climbs or control is None:
        session.watch.stage = "guided"
        latents, chosen = session.guided()
        images = to_uint8(session.decode(latents))
    else:
        assert control_images is not None
        images, chosen = control_images, [0] * len(request.seeds)
    spent = dict(generator.calls - before)
    signal, percentile = session.final_score(images)
    signal_c, percentile_c = (
        session.final_score(control_images) if control_images is not None else (None, None)
    )
    return GenerateResult(
        images=images,
        controls=control_images,
        signal=signal,
        signal_control=signal_c,
        percentile=percentile,
        percentile_control=percentile_c,
        chosen=chosen,
        trace=session.trace,
        looks=session.watch.looks,
        calls=spent,
        calls_control=control_calls,
        seconds=0.0,
        chunk=generator.chunk,
        notes=[],
    )
