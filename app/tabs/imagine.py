"""Imagine: make new samples where the classifier is unsure, next to what it gets without guidance."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.controls import ANY, control, controls, run_time, settings_from
from app.render import data_url, empty, h, view
from app.session import EVERY, QUICK, Session, clicked, polite, text_ids
from app.triplets import results
from ltg_core.errors import InputError
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.jobs import CancelToken, Job, ProgressFn
from ltg_core.params import specs

TITLE = "Imagine"
ID = "imagine"

MOST = 64
_DEFAULT = "explore"
# Named here because the registry itself brings torch, and the page should stand before that; a test compares the two.
_SIGNALS = (
    "epistemic",
    "logit_variance",
    "entropy",
    "margin",
    "energy",
    "loss",
    "hardness",
    "density",
    "relative_mahalanobis",
    "leverage",
)
_ABOUT = {
    "explore": "search many drafts for rare ones, then push a little further",
    "hard but believable": "stay closer to real data, below the 90th percentile",
    "search only": "choose among drafts, follow no gradient",
    "gradient only": "follow the gradient alone; can paint texture",
    "gradient through the denoiser": "the exact gradient; several times slower",
    "feedback-guided": "follow one criterion of the classifier",
    "counterfactual": "re-draw a real sample until it becomes rare",
    "unguided": "no guidance, for comparison",
}


def build(ctx: AppContext) -> SimpleNamespace:
    """Controls on the left, what comes out on the right."""
    w = SimpleNamespace()
    with gr.Row(elem_classes="two"):
        with gr.Column(elem_classes="rail wide"):
            w.source = View(elem_id="imagine-source")
            w.label = gr.Dropdown(
                [("All classes in turn", ANY)],
                value=ANY,
                label="Class",
                elem_id="imagine-class",
                interactive=True,
            )
            w.prompt = gr.Textbox(
                label="Prompt",
                lines=2,
                max_length=500,
                elem_id="imagine-prompt",
                placeholder="a photo of a stop sign at night in fog; empty for the plain one of the class",
            )
            w.preset = gr.Dropdown(
                [(name.capitalize(), name) for name in PRESETS],
                value=_DEFAULT,
                label="What to look for",
                info=_ABOUT[_DEFAULT],
                elem_id="imagine-preset",
            )
            w.number = gr.Slider(1, MOST, value=8, step=1, label="Images", elem_id="imagine-number")
            with gr.Row():
                w.seed = gr.Number(
                    0,
                    label="Seed",
                    precision=0,
                    minimum=0,
                    maximum=2**31 - 1,
                    elem_id="imagine-seed",
                    min_width=100,
                    scale=3,
                )
                w.dice = gr.Button("New", size="sm", elem_classes="quiet", min_width=60, scale=1)
            _settings(w)
            with gr.Row():
                w.start = gr.Button("Imagine", variant="primary", elem_id="imagine-start")
                w.cancel = gr.Button("Cancel", elem_id="imagine-cancel", interactive=False)
        with gr.Column(elem_classes="middle"):
            w.progress = View(elem_id="imagine-progress")
            w.runs = gr.Dropdown(
                [], label="Shown run", visible=False, interactive=True, elem_id="imagine-runs"
            )
            w.results = View(elem_id="imagine-results")
    return w


def _settings(w: SimpleNamespace) -> None:
    """The strength, and all the rest folded away."""
    by_name = {spec.name: spec for spec in specs(Guidance)}
    weight = control(by_name["weight"])
    weight.label, weight.info, weight.maximum = "Strength", "Push along the gradient; 0 for none", 10
    with gr.Accordion("All settings", open=False, elem_id="imagine-all"):
        w.negative = gr.Textbox(
            label="Negative prompt", max_length=500, placeholder="what it should not show"
        )
        rest = {"signal": list(_SIGNALS)}
        w.settings = {**controls(Guidance, choices=rest, without=("weight",)), "weight": weight}
        for name, box in w.settings.items():
            box.elem_id = f"imagine-{name.replace('_', '-')}"


def wire(ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace]) -> None:
    """Connect the events."""
    w = widgets[ID]
    _wire_job(ctx, session, w)
    _wire_controls(ctx, session, w)
    _wire_results(ctx, session, w)

    @polite
    def refresh(values: dict[Any, Any]) -> dict[Any, Any]:
        names = ctx.workspace.label_names()
        label = values[w.label] if values[w.label] in names else ANY
        offered = [("All classes in turn", ANY), *[(n, n) for n in names]]
        update: dict[Any, Any] = {w.label: gr.Dropdown(offered, value=label)}
        runs, job, shown = run_choices(ctx), ctx.latest("generate"), values[session.run]
        if job is not None and not job.ended:
            return update
        if runs and not shown:
            return update | show_run(ctx, w, runs[0][1]) | {session.run: runs[0][1]}
        update[w.runs] = gr.Dropdown(runs, visible=bool(runs))
        if not runs:
            update[w.results] = view(_invitation(ctx))
        return update

    w.refresh, w.refresh_inputs = refresh, {w.label, session.run}
    w.refresh_outputs = [w.label, w.runs, w.results, session.run]


def _wire_job(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Start, follow, cancel."""
    plain = {w.label, w.prompt, w.preset, w.number, w.seed, w.negative}
    inputs = {*plain, session.sources, *w.settings.values()}
    outputs = [w.progress, w.start, w.cancel, w.results, w.runs, session.run]

    @polite
    def start(values: dict[Any, Any]) -> Any:
        job = submit(ctx, w, values, text_ids(values[session.sources]))
        return following(ctx, job, w) | {
            session.run: "",
            w.results: view(),
            w.runs: gr.Dropdown(visible=False),
        }

    @polite
    def follow(shown: str) -> Any:
        job = ctx.latest("generate")
        if job is None:
            return gr.skip()
        update = following(ctx, job, w)
        if job.ended:
            run = _run_of(ctx, job)
            if run and run != shown:
                update |= show_run(ctx, w, run) | {session.run: run}
        return update

    @polite
    def cancel() -> Any:
        job = ctx.latest("generate")
        if job is not None and not job.ended:
            ctx.jobs.cancel(job.id)
        return {w.cancel: gr.Button("Stopping …", interactive=False)}

    w.start.click(start, inputs, outputs, api_name="imagine", show_progress="hidden")
    session.beats["generate"].change(follow, session.run, outputs, **QUICK)
    w.cancel.click(cancel, None, w.cancel, api_name="cancel_imagine", **QUICK)


def _wire_controls(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """What one control fills in for others."""

    @polite
    def fill_prompt(label: str) -> Any:
        return plain_prompt(ctx, label) if label != ANY else ""

    @polite
    def fill_settings(preset: str) -> dict[Any, Any]:
        chosen = PRESETS[preset].to_dict()
        update: dict[Any, Any] = {widget: chosen[name] for name, widget in w.settings.items()}
        return update | {w.preset: gr.update(info=_ABOUT.get(preset, ""))}

    w.label.input(fill_prompt, w.label, w.prompt, **QUICK)
    w.preset.change(fill_settings, w.preset, [w.preset, *w.settings.values()], **QUICK)
    w.dice.click(lambda: random.randrange(2**31), None, w.seed, **QUICK)
    session.sources.change(lambda ids: sources_view(ctx, text_ids(ids)), session.sources, w.source, **QUICK)


def _wire_results(ctx: AppContext, session: Session, w: SimpleNamespace) -> None:
    """Which run is shown, and verdicts on its images."""

    @polite
    def choose_run(run: str) -> Any:
        return show_run(ctx, w, run) | {session.run: run} if run else gr.skip()

    @polite
    def act(run: str, event: gr.EventData) -> Any:
        from ltg_core.curation import verdicts

        data = clicked(event)
        if data.get("name") == "cancel":
            ctx.jobs.cancel(str(data.get("job")))
        elif data.get("name") == "verdict":
            ids = text_ids(data.get("ids"))
            verdicts.set_verdict(ctx.workspace, ids, str(data.get("verdict")))
            return {w.results: results(ctx, run)}
        elif data.get("name") == "clear":
            return {session.sources: [], w.source: view(), w.preset: _DEFAULT}
        return gr.skip()

    w.runs.input(choose_run, w.runs, [w.results, w.runs, session.run], **QUICK)
    for part in (w.results, w.source, w.progress):
        part.act(act, session.run, [w.results, session.sources, w.source, w.preset], **EVERY)


def submit(ctx: AppContext, w: SimpleNamespace, values: dict[Any, Any], sources: list[str]) -> Job:
    """Check everything that can be checked now, then queue the work."""
    classifier = ctx.need_classifier()
    if ctx.generator_name() is None:
        raise InputError("There is no generator yet. Add one under Setup.")
    busy = ctx.latest("generate")
    if busy is not None and not busy.ended:
        raise InputError("a generation is under way; cancel it or wait for its end")
    number, seed = int(values[w.number]), int(values[w.seed] or 0)
    if not 1 <= number <= MOST:
        raise InputError(f"{number} images were asked for; give 1 to {MOST}")
    guidance = settings_from(Guidance, w.settings, values)
    labels = _labels(ctx, values[w.label], sources, number, list(classifier.labels))
    text, preset = (values[w.prompt] or "").strip(), values[w.preset]
    preset = preset if PRESETS.get(preset) == guidance else f"custom ({preset})"
    negative = values[w.negative] or ""

    def work(on_progress: ProgressFn, cancel: CancelToken) -> Any:
        from ltg_core import workflows

        generator = workflows.active_generator(ctx.workspace)
        prompts = [text or workflows.prompt_for(generator, classifier.labels[label]) for label in labels]
        return workflows.generate(
            ctx.workspace,
            classifier,
            generator,
            prompts=prompts,
            labels=labels,
            seeds=[seed + i for i in range(number)],
            guidance=guidance,
            negative=negative,
            sources=[sources[i % len(sources)] for i in range(number)] if sources else None,
            preset=preset,
            on_progress=on_progress,
            cancel=cancel,
        )

    title = f"Imagining {number} image{'s' if number != 1 else ''}"
    return ctx.submit("generate", title, work)


def _labels(ctx: AppContext, chosen: str, sources: list[str], number: int, names: list[str]) -> list[int]:
    """The intended class of each image: the chosen one, that of its source, or all in turn."""
    if chosen != ANY:
        if chosen not in names:
            raise InputError(f"the classifier has no class {chosen!r}")
        return [names.index(chosen)] * number
    if sources:
        found = [sample.label for sample in ctx.workspace.samples(sources)]
        if any(label is None for label in found):
            raise InputError("the sample has no label; choose the class that the image should show")
        return [int(found[i % len(found)] or 0) for i in range(number)]
    return [i % len(names) for i in range(number)]


def following(ctx: AppContext, job: Job, w: SimpleNamespace) -> dict[Any, Any]:
    """The job's progress and previews, and which buttons make sense."""
    previews = job.progress.preview if job.state == "running" else None
    shown = None
    if previews is not None:
        shown = h(
            "div.previews", *[h("img", src=data_url(image), alt="preview") for image in list(previews)[:MOST]]
        )
    node = ctx.bar(job, cancel=False) if not job.ended or job.state in ("failed", "cancelled") else None
    return {
        w.progress: view(node, shown),
        w.start: gr.Button(interactive=job.ended),
        w.cancel: gr.Button("Cancel", interactive=not job.ended),
    }


def _run_of(ctx: AppContext, job: Job) -> str:
    """The run that a job wrote; a cancelled one kept what was finished."""
    if getattr(job.result, "id", None):
        return str(job.result.id)
    since = (job.started or 0) - 1
    return next((run.id for run in ctx.workspace.runs("generate") if run.started >= since), "")


def run_choices(ctx: AppContext) -> list[tuple[str, str]]:
    """Earlier generations: (words, id), the newest first."""
    found = []
    for run in ctx.workspace.runs("generate")[:40]:
        state = "" if run.state == "done" else f" ({run.state})"
        found.append((f"{run_time(run.started)} · {run.settings.get('preset') or 'custom'}{state}", run.id))
    return found


def show_run(ctx: AppContext, w: SimpleNamespace, run: str) -> dict[Any, Any]:
    """A finished generation and its place in the list."""
    return {w.results: results(ctx, run), w.runs: gr.Dropdown(run_choices(ctx), value=run, visible=True)}


def plain_prompt(ctx: AppContext, label: str) -> str:
    """How the generator's captions describe a class."""
    from ltg_core import workflows

    if ctx.generator_name() is None:
        return f"a photo of a {label}"
    return workflows.prompt_for(workflows.active_generator(ctx.workspace), label)


def sources_view(ctx: AppContext, ids: list[str]) -> dict[str, Any]:
    """Which real samples the generation starts from."""
    if not ids:
        return view()
    return view(
        h(
            "div.sources",
            *[h("img.thumb", src=f"thumb:{one}", alt="source") for one in ids[:8]],
            h(
                "div",
                h(
                    "b",
                    "Starting from a real sample"
                    if len(ids) == 1
                    else f"Starting from {len(ids)} real samples",
                ),
                h("span.soft", "It is re-drawn until it becomes rare."),
            ),
            h("button.link", "Remove", act=("clear", {}), type="button"),
        )
    )


def _invitation(ctx: AppContext) -> dict[str, Any]:
    if ctx.generator_name() is None:
        return empty(
            "No generator yet",
            "Add a folder with a diffusion model under Setup, or train one with fit-generator.",
        )
    return empty(
        "Nothing imagined yet",
        "Choose a class and press Imagine. Each image appears beside its unguided twin of the same seed, the nearest "
        "real sample and the difference, with the reason why it is believed or not.",
    )
