"""The queue: a button on top that says what is going on, and below it every job of this visitor."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType

from app.context import AppContext
from app.discreet import discreet
from app.render import Node, h, time_left
from ltg_core.jobs import Job

TAB_OF: Mapping[str, str] = MappingProxyType(
    {
        "generate": "imagine",
        "measure": "imagine",
        "export": "curate",
        "open": "browse",
        "slices": "browse",
        "compare": "retrain",
        "adopt": "retrain",
        "loop": "retrain",
    }
)
"""Where the result of a kind of job is shown; any other kind has the name of its tab."""
_ENDED = 10
_RECENT = 24 * 3600
_ALARM = 3600
_MARKS = {"done": "✓", "failed": "!", "cancelled": "–", "interrupted": "!"}


def tab_of(job: Job) -> str:
    """The tab that shows this job and its result."""
    return TAB_OF.get(job.kind, job.kind)


def shown(ctx: AppContext) -> tuple[list[Job], list[Job]]:
    """The visitor's jobs: those under way, and those that ended lately, the newest first."""
    jobs = ctx.jobs.all()
    open_still = sorted((j for j in jobs if not j.ended), key=lambda j: (j.state != "running", j.created))
    since = time.time() - _RECENT
    ended = [j for j in jobs if j.ended and (j.finished or j.created) > since and _worth_showing(ctx, j)]
    return open_still, sorted(ended, key=lambda j: j.finished or 0.0, reverse=True)[:_ENDED]


def key(ctx: AppContext) -> str:
    """Changes whenever the list does."""
    open_still, ended = shown(ctx)
    parts = [f"{j.id}:{j.version}:{ctx.before(j)}:{ctx.strangers(j)}" for j in open_still]
    return "|".join([*parts, *(f"{j.id}:{j.state}" for j in ended), str(ctx.jobs.others())])


def menu(ctx: AppContext) -> Node:
    """The button and what hangs from it; the browser opens and closes it."""
    open_still, ended = shown(ctx)
    return h(
        "details.popover.jobs",
        _button(ctx, open_still, ended),
        h(
            "div.jobs-panel",
            h("div.jobs-head", h("h3", "Jobs"), h("span.soft", "They go on when you leave this page.")),
            _list("Now", [_open(ctx, job) for job in open_still]),
            _list("Ended", [_ended(ctx, job) for job in ended]),
            None if open_still or ended else _nothing(),
            _strangers(ctx.jobs.others()),
        ),
        key="jobs",
    )


def _worth_showing(ctx: AppContext, job: Job) -> bool:
    """Not what the page starts by itself, nor what a newer job has taken up."""
    return (job.kind not in ("open", "measure") or job.state == "failed") and not ctx.taken_up(job)


def _button(ctx: AppContext, open_still: list[Job], ended: list[Job]) -> Node:
    if open_still:
        first = next((job for job in open_still if job.kind != "open"), open_still[0])
        more = f"+{len(open_still) - 1}" if len(open_still) > 1 else None
        return h(
            "summary.chip.is-busy",
            h("span.dot"),
            h("span.chip-name", first.title),
            h("b", share(ctx, first)),
            h("span.jobs-more", more) if more else None,
            aria_label=f"Jobs: {first.title}, {share(ctx, first)}; {len(open_still)} under way",
        )
    bad = [job for job in ended if _alarms(job, ended)]
    text = f"{len(bad)} {bad[0].state}" if bad else "none"
    kind = ".is-bad" if bad else ".is-none"
    return h(f"summary.chip{kind}", h("span.chip-name", "Jobs"), h("b", text), aria_label=f"Jobs: {text}")


def _alarms(job: Job, ended: list[Job]) -> bool:
    """Whether a job's end is worth a word on the button: lately, and none of its kind has gone better since."""
    if job.state not in ("failed", "interrupted") or time.time() - (job.finished or 0.0) > _ALARM:
        return False
    return all(one.kind != job.kind or one.created <= job.created for one in ended)


def share(ctx: AppContext, job: Job) -> str:
    """How far it is, in few words."""
    if job.state == "queued":
        before = ctx.before(job)
        return f"{before} before it" if before else "next"
    step = job.progress
    return f"{100 * step.done / step.total:.0f} %" if step.total else "…"


def _list(name: str, rows: list[Node]) -> Node | None:
    return h("section.jobs-part", h("h4", name), h("ul.jobs-list", *rows)) if rows else None


def _open(ctx: AppContext, job: Job) -> Node:
    step, running = job.progress, job.state == "running"
    part = 100.0 * step.done / step.total if step.total else 0.0
    text = step.message or "working" if running else _waits_for(ctx, job)
    if job.token.cancelled:
        text = "stopping at its next step"
    left = time_left(job) if running else ""
    bar = h(
        "div.bar",
        h("div.bar-fill"),
        w=f"{part:.1f}%",
        role="progressbar",
        aria_valuemin="0",
        aria_valuemax="100",
        aria_valuenow=f"{part:.0f}",
        aria_label=job.title,
    )
    return h(
        "li.jobrow"
        + (".is-now" if running else ".is-waiting")
        + ("" if step.total or not running else ".is-open"),
        h("span.jobrow-mark", "" if running else str(ctx.before(job) + 1)),
        h("b.jobrow-title", job.title),
        _buttons(
            _go("Show", job) if job.kind != "open" else None,
            None
            if job.token.cancelled
            else h("button.link", "Cancel", act=("cancel", {"job": job.id}), type="button"),
        ),
        h("p.jobrow-text", text + (f" · {left}" if left else "")),
        bar if running else None,
        key=job.id,
    )


def _waits_for(ctx: AppContext, job: Job) -> str:
    """Who has to end first: one's own jobs by name, those of others by number."""
    ahead, others = ctx.jobs.ahead(job), ctx.strangers(job)
    mine = [f"“{one.title}”" for one in ahead if ctx.jobs.may_see(one)]
    names = mine[:2] + ([f"{len(mine) - 2} more of yours"] if len(mine) > 2 else [])
    names += [f"{others} job{'s' if others != 1 else ''} of others"] if others else []
    if not names:
        return "about to start"
    return "starts after " + (", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0])


def _ended(ctx: AppContext, job: Job) -> Node:
    when = time.strftime("%H:%M", time.localtime(job.finished or job.created))
    took = _duration((job.finished or 0) - job.started) if job.started and job.state == "done" else ""
    said = job.result if job.state == "done" and isinstance(job.result, str) else discreet(job.reason)
    text = " · ".join(part for part in (when, took, "" if job.state == "done" else job.state) if part)
    again = ctx.offer(job)
    return h(
        f"li.jobrow.is-{job.state}",
        h("span.jobrow-mark", _MARKS[job.state]),
        h("b.jobrow-title", job.title),
        _buttons(
            h("button.link", again, act=("again", {"job": job.id}), type="button") if again else None,
            _go("Show", job) if job.state == "done" or job.run else None,
        ),
        h("p.jobrow-text", text),
        h("p.jobrow-said", said[:1].upper() + said[1:]) if said else None,
        key=job.id,
    )


def _buttons(*buttons: Node | None) -> Node:
    return h("span.jobrow-buttons", *buttons)


def _go(name: str, job: Job) -> Node:
    return h("button.link", name, act=("result", {"job": job.id}), type="button", title=f"{name} {job.title}")


def _duration(seconds: float) -> str:
    return f"took {seconds:.0f} s" if seconds < 90 else f"took {seconds / 60:.0f} min"


def _nothing() -> Node:
    return h(
        "p.soft.jobs-none",
        "Nothing is under way. What takes longer than a moment (imagining, explaining, importing, the map) is listed "
        "here while it runs and for a day after.",
    )


def _strangers(others: int) -> Node | None:
    if not others:
        return None
    text = f"{others} job{'s' if others != 1 else ''} of others wait{'s' if others == 1 else ''} or run"
    return h("p.soft.jobs-others", f"{text}{'s' if others == 1 else ''} on this server.")
