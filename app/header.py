"""The line on top: what is loaded, how good it is, what is being done."""

from __future__ import annotations

from app import joblist, visitors
from app.context import AppContext
from app.details import accuracy
from app.render import Node, h, percent, view
from app.session import KINDS
from ltg_core.devices import CPU
from ltg_core.jobs import Job


def header_key(ctx: AppContext) -> str:
    """Changes whenever the header does."""
    failed = _last_failure(ctx, ctx.running())
    return f"{ctx.revision}|{joblist.key(ctx)}|{failed.id if failed else ''}|{ctx.machine.device}"


def header(ctx: AppContext) -> Node:
    """Name, chips, the queue, and a bar for work that belongs to no tab."""
    running = ctx.running()
    failed = _last_failure(ctx, running)
    facts = ctx.cached("header", lambda: _facts(ctx))
    return view(
        h(
            "header.top",
            h(
                "div.brand",
                h("span.brand-mark"),
                h("b", "Longtail"),
                h("span.brand-sub", "find the blind spots of a classifier"),
            ),
            h("div.chips", joblist.menu(ctx), *[_chip(*fact) for fact in facts], _device(ctx), _account()),
        ),
        # A tab shows its own jobs at full width.
        *[ctx.bar(job) for job in running if job.kind not in KINDS],
        ctx.bar(failed) if failed and failed.kind not in KINDS else None,
    )


def _device(ctx: AppContext) -> Node | None:
    """Where the networks run; nothing until that is known."""
    device = ctx.machine.device
    if device is None:
        return None
    gpu = device.name != CPU
    said = f"{device.words} ({device.name})" if gpu else f"The CPU: {device.words}"
    return _chip("Runs on", "GPU" if gpu else "CPU", "setup", f"{said}; --device chooses")


def _account() -> Node | None:
    """Who is logged in, and the way out."""
    name = visitors.name()
    if not name:
        return None
    return h(
        "a.chip.account",
        h("span.chip-name", "Logged in"),
        h("b", name),
        href="account:",
        title="Account, log out",
    )


def _chip(name: str, value: str, tab: str, note: str) -> Node:
    known = "" if value != "none" else ".is-none"
    return h(
        f"button.chip{known}",
        h("span.chip-name", name),
        h("b", value),
        act=("go", {"tab": tab}),
        title=note,
        type="button",
    )


def _facts(ctx: AppContext) -> list[tuple[str, str, str, str]]:
    workspace, classifier = ctx.workspace, ctx.classifier()
    from ltg_core.data.records import Filter

    real, made = workspace.count(Filter(origin="real")), workspace.count(Filter(origin="generated"))
    check = accuracy(ctx)
    samples = f"{real:,}" + (f" + {made:,} generated" if made else "") if real or made else "none"
    return [
        (
            "Classifier",
            classifier.name if classifier else "none",
            "setup",
            "The classifier under test; click for details",
        ),
        ("Samples", samples, "browse", "Samples in the workspace"),
        (
            "Accuracy",
            percent(check["accuracy"], 1) if check else "–",
            "browse",
            "On real samples that it was not trained on",
        ),
        (
            "Generator",
            ctx.generator_name() or "none",
            "imagine",
            "The text-to-image model that imagines new samples",
        ),
    ]


def _last_failure(ctx: AppContext, running: list[Job]) -> Job | None:
    """The newest job, if it failed within the last minutes and nothing has been started since."""
    import time

    latest = next(iter(ctx.jobs.all()), None)
    if running or latest is None or latest.state != "failed" or latest.finished is None:
        return None
    return latest if time.time() - latest.finished < 300 else None
