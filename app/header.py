"""The line on top: what is loaded, how good it is, what is being done."""

from __future__ import annotations

from app.context import AppContext
from app.details import accuracy
from app.render import Node, h, percent, view, waiting
from app.session import KINDS
from ltg_core.jobs import Job


def header(ctx: AppContext) -> tuple[Node, str]:
    """The header's nodes, and a key that changes whenever they do."""
    running = ctx.running()
    failed = _last_failure(ctx, running)
    key = (
        f"{ctx.revision}|"
        + ",".join(f"{job.id}:{job.version}:{ctx.before(job)}" for job in running)
        + f"|{failed.id if failed else ''}"
    )
    return ctx_view(ctx, running, failed), key


def ctx_view(ctx: AppContext, running: list[Job], failed: Job | None) -> Node:
    """Name, chips, and a bar for each job in progress."""
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
            h(
                "div.chips",
                *[_busy(ctx, job) for job in running if job.kind in KINDS],
                *[_chip(*fact) for fact in facts],
            ),
        ),
        # A tab shows its own jobs at full width; here they are a chip that leads to it.
        *[ctx.bar(job) for job in running if job.kind not in KINDS],
        ctx.bar(failed) if failed and failed.kind not in KINDS else None,
    )


def _busy(ctx: AppContext, job: Job) -> Node:
    step = job.progress
    share = f"{100 * step.done / step.total:.0f} %" if step.total else "…"
    before = ctx.before(job)
    if job.state == "queued":
        share = f"{before} before it" if before else "next"
    tab = {"generate": "imagine", "export": "curate"}.get(job.kind, job.kind)
    return h(
        "button.chip.is-busy",
        h("span.dot"),
        h("span.chip-name", ctx.title(job)),
        h("b", share),
        act=("go", {"tab": tab}),
        title=waiting(job, before) if job.state == "queued" else step.message,
        type="button",
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
