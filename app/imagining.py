"""What Imagine asks for: presets in plain words, the order that the controls make, and its place in the queue."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from app.context import AppContext
from app.controls import ANY, settings_from
from ltg_core.errors import InputError
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.jobs import Job

if TYPE_CHECKING:
    from ltg_core.workflows import Order

MOST = 64
SWEEP = "sweep"
COUNTERFACTUAL = "counterfactual"
WEIGHTS = "0, 0.25, 0.5, 1, 2, 4"
OWN_CLASS = ""
BALANCE = "to balance"
"""Of the classes: those that have fewer training images more often."""
NEEDED = ("steps", "cfg")  # what generators ask for where they ask for anything
SLICE = "slice"
"""Column under which images that were made for a saved slice carry its name; a test compares it with the workflow's."""
ABOUT: dict[str, tuple[str, str]] = {
    "explore": (
        "Explore",
        "Rare images of the class. Many quick drafts are compared, the rarest is drawn in full and pushed a little "
        "further. Begin here.",
    ),
    "hard but believable": (
        "Hard but believable",
        "Images to train on. Stops at the 90th percentile and pulls twice as hard toward real data: more are believed, "
        "fewer are extreme.",
    ),
    COUNTERFACTUAL: (
        "Counterfactual to class …",
        "What would have to change? A real sample is re-drawn until it shows another class, or its own more rarely.",
    ),
    SWEEP: (
        "Sweep the weight",
        "The same seed at several strengths, side by side as a film strip: shows where rare tips over into broken.",
    ),
    "search only": (
        "Search only",
        "Chooses among drafts and follows no gradient, so it cannot paint texture. The fair comparison for the rest.",
    ),
    "gradient only": (
        "Gradient only",
        "Follows the gradient alone. It can paint texture that no camera sees: read the reasons of the quarantined.",
    ),
    "gradient through the denoiser": (
        "Gradient through the denoiser",
        "The exact gradient, through the whole denoiser; several times slower and hungrier for memory.",
    ),
    "feedback-guided": (
        "Feedback-guided",
        "Follows one criterion of the classifier (entropy, loss or hardness); each image also resembles a random real "
        "one of its class. To compare with published work.",
    ),
    "feedback-guided, as released": (
        "Feedback-guided, as released",
        "The same with the behaviours of the method's released code that can be repeated, for comparison with its "
        "published figures.",
    ),
    "unguided": ("Unguided", "What the generator draws by itself, for comparison."),
}


def base(preset: str, needs: Mapping[str, Any] | None = None) -> Guidance:
    """The settings behind a preset; a sweep shows the whole push, beyond the percentile at which others stop.

    Args:
        preset: Its name.
        needs: Settings that the generator needs instead, as ``suggested_settings`` gives them.
    """
    plain = dataclasses.replace(PRESETS["explore"], target=100.0) if preset == SWEEP else PRESETS[preset]
    return dataclasses.replace(plain, **needs) if needs else plain


def needs_of(ctx: AppContext) -> dict[str, Any]:
    """What the active generator asks for, such as few steps; nothing for most."""
    from ltg_core import workflows

    found = workflows.suggested_settings(ctx.workspace)
    return {name: found[name] for name in NEEDED if name in found}


def samplers(ctx: AppContext, chosen: str) -> tuple[tuple[str, ...], str]:
    """Names of samplers that fit the active generator, and the chosen one, or the model's own where it does not fit."""
    from ltg_core import workflows

    fit = workflows.fitting_samplers(ctx.workspace)
    return fit, chosen if chosen in fit else fit[0]


def suited(
    w: SimpleNamespace, preset: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[Any, Any]:
    """The controls that change when another generator needs other settings than the one before."""
    chosen = base(preset, now).to_dict()
    return {w.settings[name]: chosen[name] for name in sorted({*before, *now})} if before != now else {}


def fitting(w: SimpleNamespace) -> set[Any]:
    """The controls that an order is read from."""
    return {
        w.label,
        w.prompt,
        w.preset,
        w.number,
        w.seed,
        w.negative,
        w.weights,
        w.aim,
        w.needs,
        *w.settings.values(),
    }


def order_of(w: SimpleNamespace, values: Mapping[Any, Any], sources: Sequence[str]) -> Order:
    """What the controls ask for.

    Raises:
        LtgError: A value out of bounds, or settings that do not fit each other; says which.
    """
    from ltg_core.workflows import Order

    number, preset = int(values[w.number]), str(values[w.preset])
    if not 1 <= number <= MOST:
        raise InputError(f"{number} images were asked for; give 1 to {MOST}")
    guidance: Any = settings_from(Guidance, w.settings, dict(values))
    weights = weights_of(values[w.weights]) if preset == SWEEP else ()
    if weights and number * len(weights) > MOST:
        raise InputError(
            f"{number} strips of {len(weights)} frames are {number * len(weights)} images; at most {MOST} at a time"
        )
    name = preset if preset != SWEEP else "sweep of the weight"
    return Order(
        number=number,
        seed=int(values[w.seed] or 0),
        label="" if values[w.label] in (ANY, BALANCE) else str(values[w.label]),
        balance=values[w.label] == BALANCE,
        prompt=(values[w.prompt] or "").strip(),
        negative=(values[w.negative] or "").strip(),
        sources=tuple(sources),
        guidance=guidance.to_dict(),
        preset=name if not custom(preset, guidance, values[w.needs]) else f"custom ({name})",
        weights=weights,
        aim=values[w.aim] or {},
    )


def weights_of(text: str | None) -> tuple[float, ...]:
    """Numbers between commas.

    Raises:
        InputError: Something else.
    """
    parts = [part for part in (text or "").replace(";", ",").split(",") if part.strip()]
    try:
        found = tuple(sorted({float(part) for part in parts}))
    except ValueError:
        raise InputError(
            f"the weights are {text!r}; give numbers with commas between, such as {WEIGHTS}"
        ) from None
    if not found:
        raise InputError(f"a sweep needs weights; give numbers with commas between, such as {WEIGHTS}")
    return found


def custom(
    preset: str, guidance: Guidance, needs: Mapping[str, Any] | None = None
) -> dict[str, tuple[Any, Any]]:
    """What differs from the preset; the class of a counterfactual belongs to it, and so does what the generator
    needs.
    """
    found = guidance.differences(base(preset, needs))
    if preset == COUNTERFACTUAL:
        found.pop("toward", None)
    if preset == SWEEP:
        found.pop("weight", None)
    return found


def submit(ctx: AppContext, order: Order) -> Job:
    """Check everything that can be checked now, then queue the work."""
    from ltg_core import workflows

    classifier = ctx.need_classifier()
    if ctx.generator_name() is None:
        raise InputError("There is no generator yet. Add one under Setup.")
    workflows.intended(ctx.workspace, order, classifier.labels)
    plain = order.to_dict()
    if any(job.about.get("order") == plain for job in under_way(ctx)):
        raise InputError("exactly these images are under way already; change the seed for others")
    title = f"Imagining {order.frames} image{'s' if order.frames != 1 else ''}"
    if order.weights:
        title = f"Sweeping the weight, {order.frames} frames"
    arguments = {"order": plain, "classifier": classifier.hash}
    return ctx.run("generate", title, "imagine", arguments, about={"order": plain})


def under_way(ctx: AppContext) -> list[Job]:
    """The visitor's generations that run or wait, the first to run first."""
    found = [job for job in ctx.jobs.all() if job.kind == "generate" and not job.ended]
    return sorted(found, key=lambda job: (job.state != "running", job.created))


def resumed(ctx: AppContext, run: str) -> Job | None:
    """The job under way that makes what a stopped generation lacks."""
    given = ((job, job.spec.arguments if job.spec else {}) for job in under_way(ctx))
    return next((job for job, arguments in given if run in (job.run, arguments.get("run"))), None)


def resume(ctx: AppContext, run: str) -> Job:
    """Queue what a stopped generation still lacks.

    Raises:
        InputError: It is under way already, or its record does not say what was asked for.
    """
    settings = ctx.workspace.run(run).settings
    if resumed(ctx, run) is not None:
        raise InputError("the rest of these images is under way already")
    if not settings.get("seeds") or not settings.get("guidance"):
        raise InputError("this run cannot be completed: its record does not say what was asked for")
    about = {"order": {"guidance": settings["guidance"]}}
    title = f"Imagining the rest of {len(settings['seeds'])} images"
    return ctx.run("generate", title, "resume_generate", {"run": run}, about=about)


def measure(ctx: AppContext) -> Job | None:
    """Queue the timing of the active models, unless it is known, under way, or cannot be done yet."""
    from ltg_core import workflows
    from ltg_core.workflows.setup import reference_path

    classifier, workspace = ctx.classifier(), ctx.workspace
    busy, last = ctx.latest("measure", "generate", "open"), ctx.latest("measure")
    if classifier is None or ctx.generator_name() is None or (busy is not None and not busy.ended):
        return None
    if (last is not None and last.state == "failed") or workflows.measured(
        workspace, device=ctx.device
    ) is not None:
        return None
    if not reference_path(workspace, classifier.hash).exists():
        return None
    return ctx.run("measure", "Timing the generator", "measure_cost", {}, owner="", kept=False)


def prompt_of(ctx: AppContext, label: str, aimed: Mapping[str, Any]) -> str:
    """How the generator's captions describe a class, under the condition that is aimed at."""
    from ltg_core import workflows

    names = ctx.workspace.label_names()
    if not aimed or label not in names:
        return workflows.plain_prompt(ctx.workspace, label)
    column, value = next(iter(aimed.items()))
    if column == SLICE:  # the name of a slice is no word that a generator knows, but its condition may be
        saved = workflows.slices(ctx.workspace, "saved")
        found = next((workflows.condition_of(one.filter) for one in saved if one.name == value), None)
        if found is None:
            return workflows.plain_prompt(ctx.workspace, label)
        column, value = found
    return workflows.prompt_for_cell(ctx.workspace, names, names.index(label), str(column), value)
