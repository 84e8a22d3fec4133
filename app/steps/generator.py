"""Step 5: the generator, how quickly it draws and how much memory that takes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr

from app.components import View
from app.context import AppContext
from app.imagining import needs_of
from app.pricing import needed
from app.render import Node, empty, facts, h, view
from app.session import polite
from app.steps.paths import local_path
from app.steps.states import Place
from ltg_core.errors import InputError
from ltg_core.jobs import Job

_ASKED = {
    "text": "a text",
    "classes": "the name of one of its classes",
    "nothing": "nothing: search and climb lead it",
}
_COMMAND = "python -m ltg_core fit-generator YOUR-IMAGES --out my-generator"
_BEST = -1
_PRECISIONS = [
    ("Usual: full on a CPU, half on a GPU", ""),
    ("Full (float32)", "float32"),
    ("Half (bfloat16)", "bfloat16"),
    ("Half (float16)", "float16"),
]
_ROWS = [
    ("Usual: the family's own", 0),
    ("Quickest here (measured)", _BEST),
    *[(str(number), number) for number in (1, 2, 4, 8, 16, 32, 64)],
]


def build(ctx: AppContext, w: SimpleNamespace) -> None:
    """A folder and how it is run, or a command to train one."""
    with gr.Row(elem_classes="boxes"):
        with gr.Column(elem_classes="box"):
            w.folder = gr.Textbox(
                label="Folder of a diffusion model on this machine",
                max_length=4000,
                placeholder="…/stable-diffusion-v1-5",
                visible=ctx.settings.local,
                elem_id="setup-folder",
            )
            with gr.Accordion(
                "Speed and memory", open=False, visible=ctx.settings.local, elem_id="setup-speed"
            ) as w.speed:
                _speed_fields(w)
            w.use_generator = gr.Button(
                "Use this generator", variant="primary", elem_id="setup-generator", visible=ctx.settings.local
            )
            w.generator_how = View(
                view(
                    h("h4", "Or train one on your images"),
                    h(
                        "p.soft",
                        "A small text-to-image model; hours without a GPU, and it can be stopped and taken up.",
                    ),
                    h("code.command", _COMMAND),
                ),
                elem_id="setup-generator-how",
            )
        with gr.Column(elem_classes="box"):
            w.generator_now = View(elem_id="setup-generator-now")


def _speed_fields(w: SimpleNamespace) -> None:
    w.dtype = gr.Dropdown(
        _PRECISIONS,
        value="",
        label="Precision",
        info="Half precision takes half the memory and is quicker on a GPU; images differ a little.",
        elem_id="setup-dtype",
    )
    w.rows = gr.Dropdown(
        _ROWS,
        value=0,
        label="Images a call",
        info="More are quicker up to a point and take more memory; measuring takes some seconds while it loads.",
        elem_id="setup-rows",
    )
    w.compile = gr.Checkbox(
        False,
        label="Compile the networks",
        info="Loading takes up to minutes each time; every image after it comes quicker, mostly on a GPU.",
        elem_id="setup-compile",
    )
    w.tiny = gr.Textbox(
        label="Tiny decoder for guidance",
        info="Saves most of the memory and time of guidance; empty for its own, or a folder or file of TAESD's kind.",
        placeholder="its own, or a path",
        max_length=4000,
        elem_id="setup-tiny",
    )


def speed_parts(w: SimpleNamespace) -> list[Any]:
    """What ``filled`` sets."""
    return [w.folder, w.dtype, w.rows, w.compile, w.tiny]


def filled(ctx: AppContext, w: SimpleNamespace, place: Place) -> dict[Any, Any]:
    """The options of the generator in use in the form, once for each: what somebody has begun to change stays."""
    record = ctx.workspace.get_state("generator") or {}
    options = record.get("options") or {}
    key = repr((record.get("path"), options))
    if not (ctx.settings.local and record) or place.filled == key:
        return {}
    place.filled = key
    rows = int(options.get("chunk", 0))
    choices = _ROWS if rows in dict(map(reversed, _ROWS)) else [*_ROWS, (str(rows), rows)]
    return {
        w.folder: str(record.get("path", "")),
        w.dtype: str(options.get("dtype", "")),
        w.rows: gr.Dropdown(choices, value=rows),
        w.compile: bool(options.get("compile", False)),
        w.tiny: str(options.get("tiny", "")),
    }


def wire(ctx: AppContext, w: SimpleNamespace, started: Any, outputs: list[Any]) -> None:
    """One job."""

    @polite
    def use_generator(folder: str, dtype: str, rows: int, compiles: bool, tiny: str) -> Any:
        options = {"dtype": dtype or "", "chunk": int(rows or 0), "compile": bool(compiles)}
        return started(bring_generator(ctx, folder, {**options, "tiny": (tiny or "").strip()}))

    w.use_generator.click(
        use_generator, speed_parts(w), outputs, api_name="use_generator", show_progress="hidden"
    )


def bring_generator(ctx: AppContext, folder: str, options: dict[str, Any]) -> Job:
    """Use a diffusion model that lies on this machine.

    Args:
        ctx: The workspace.
        folder: Its path.
        options: ``dtype``, ``chunk``, ``compile`` and ``tiny`` of ``GeneratorOptions``; what else was loaded onto the
            generator in use (LoRA, offloading) stays where it is the same one.

    Raises:
        InputError: The page is served to others too, or a path does not exist.
    """
    place = str(local_path(ctx, folder).resolve())
    if options["tiny"]:
        options["tiny"] = str(local_path(ctx, options["tiny"]).resolve())
    record = ctx.workspace.get_state("generator") or {}
    kept = dict(record.get("options") or {}) if record.get("path") == place else {}
    if options["dtype"] not in dict(map(reversed, _PRECISIONS)):
        raise InputError(f"there is no precision {options['dtype']!r}")
    arguments = {"path": place, "options": {**kept, **options}}
    # In the lane of generations: it is loaded where it will be used.
    return ctx.run("setup", "Loading the generator", "use_generator", arguments, lane="compute")


def shown(ctx: AppContext) -> Node:
    """Which generator is in use, and how it is run."""
    name = ctx.generator_name()
    if name is None:
        text = (
            "Imagine needs one, in diffusers' layout: Stable Diffusion 1 to 3.5 or XL, FLUX.1, DiT, or a model of "
            "pixels. All other tabs work without."
        )
        return view(h("h3", "No generator yet"), empty("Optional", text))
    record = ctx.workspace.get_state("generator") or {}
    rows = [("Name", name), ("Asked by", _ASKED.get(str(record.get("language")), "a text"))]
    if needs := needed(needs_of(ctx)):
        rows.append(("Made for", needs))
    return view(
        h("h3", "In use"),
        facts([*rows, *_speed(record)]),
        h("p.soft", "A diffusion model in diffusers' layout; it stays where it is."),
    )


def _speed(record: dict[str, Any]) -> list[tuple[str, str]]:
    """How it is run, as it was when it was loaded; empty for one of an earlier version."""
    run, options = record.get("running") or {}, record.get("options") or {}
    if not run:
        return []
    measured = ", measured here" if options.get("chunk") == _BEST else ""
    found = [
        ("Precision", str(run.get("dtype"))),
        ("Images a call", f"{run.get('chunk')}{measured}"),
        ("Networks", str(run.get("compiled") or "not compiled")),
        ("Guided by", str(run.get("decoder"))),
    ]
    if options.get("lora"):
        found.append(("LoRA", ", ".join(Path(str(one)).name for one in options["lora"])))
    return found
