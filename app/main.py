"""Builds the page out of its tabs and serves it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import webbrowser
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gradio as gr

from app import jumps, places, queue
from app.components import ASSETS, Address, Pulse, View
from app.context import AppContext
from app.header import header, header_key
from app.pulse import pulse
from app.rooms import Here, Rooms
from app.server import make_server, new_key
from app.serving import begin_with, in_order
from app.session import BEATS, BESIDE, IN_ORDER, QUICK, Seen, Session, clicked, polite
from app.settings import USUAL_PORT, Settings, free_port
from app.stopping import Stopping
from app.tabs import browse, coverage, curate, explain, extend, imagine, retrain, setup, start, tell
from app.tabs import map as map_tab

log = logging.getLogger(__name__)

NAME = "Longtail"
TABS: tuple[ModuleType, ...] = (
    start,
    browse,
    coverage,
    imagine,
    explain,
    map_tab,
    curate,
    extend,
    retrain,
    tell,
    setup,
)
STYLES = (
    "page.css",
    "browse.css",
    "change.css",
    "slices.css",
    "jobs.css",
    "imagine.css",
    "coverage.css",
    "start.css",
    "setup.css",
    "explain.css",
    "map.css",
    "curate.css",
    "extend.css",
    "retrain.css",
)
_SYSTEM_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
_FILES = 65_536
_MONO_FONT = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")


def build(ctx: AppContext | Here) -> gr.Blocks:
    """The whole page: all tabs are built, then all are wired. Nothing of a workspace is in it."""
    with gr.Blocks(
        title=f"{NAME} — find the blind spots of a classifier", analytics_enabled=False, fill_width=True
    ) as page:
        top = View(elem_id="header")
        beat = Pulse(elem_id="pulse")
        address = Address(elem_id="address")
        states = {
            name: gr.State(value)
            for name, value in (
                ("sample", ""),
                ("sources", []),
                ("explained", []),
                ("run", ""),
                ("shown", ""),
            )
        }
        widgets: dict[str, SimpleNamespace] = {}
        with gr.Tabs(elem_id="tabs", selected=start.ID) as tabs:
            for tab in TABS:
                with gr.Tab(tab.TITLE, id=tab.ID, elem_id=f"tab-{tab.ID}") as shell:
                    widgets[tab.ID] = tab.build(ctx)
                    widgets[tab.ID].tab = shell
        many: dict[str, dict[str, gr.State]] = {
            "beats": {kind: gr.State("") for kind in BEATS},
            "due": {tab.ID: gr.State(-1) for tab in TABS},
            "drawn": {tab.ID: gr.State(-1) for tab in TABS},
        }
        session = Session(tabs=tabs, address=address, **many, **states)
        for tab in TABS:
            tab.wire(ctx, session, widgets)
        jumps.wire(ctx, session, widgets)
        _follow(ctx, session, widgets, top, beat)
    _spare(page, beat)
    return page


def _spare(page: gr.Blocks, beat: Pulse) -> None:
    """No progress is shown over parts of the page, so all handlers name one small part to hold it.

    Gradio's script goes before and after every event through all outputs of all handlers that have ever run, to tell
    each how far the event is; that was most of what a click took in the browser.
    """
    for handler in page.fns.values():
        handler.show_progress_on = [beat]


def _follow(
    ctx: AppContext, session: Session, widgets: dict[str, SimpleNamespace], top: View, beat: Pulse
) -> None:
    """The header, and the shown tab's refresh whenever the workspace has changed."""

    def follow(seen: Seen, tab: str, told: str | None = None) -> dict[Any, Any]:
        heard = pulse(ctx)  # first: what changes from here on is heard next time
        if told not in (None, seen.heard):
            # The last answer is not there yet, or was lost: all of it again.
            seen.header, seen.beats, seen.due = "", {}, {}
        now = Seen(heard, header_key(ctx), {kind: ctx.beat(kind) for kind in BEATS}, dict(seen.due))
        if tab in widgets:
            now.due[tab] = ctx.revision
        changed: dict[Any, Any] = {beat: {"heard": heard, "tab": tab}}
        if now.header != seen.header:
            changed[top] = header(ctx)
        for states, new, old in (
            (session.beats, now.beats, seen.beats),
            (session.due, now.due, seen.due),
        ):
            changed |= {states[name]: value for name, value in new.items() if value != old.get(name, "")}
        seen.heard, seen.header, seen.beats, seen.due = heard, now.header, now.beats, now.due
        return changed

    @polite
    def tick(seen: Seen, shown: str, event: gr.EventData) -> Any:
        asked = clicked(event)
        return follow(seen, str(asked.get("tab", "")) if shown else "", asked.get("heard"))

    @polite
    def first(seen: Seen, shown: str) -> Any:
        # Any other tab is drawn because it is selected now; this one was from the beginning.
        return follow(seen, start.ID if shown == start.ID else "")

    asked = [gr.State(Seen()), session.shown]
    told = [top, beat, *session.due.values(), *session.beats.values()]
    arrived = places.wire(ctx, session, widgets)
    beat.tick(tick, asked, told, **BESIDE)  # the page asks again where no answer came
    # A page begins with what its address says; only then is it drawn.
    arrived.then(first, asked, told, **QUICK)
    queue.wire(ctx, session, widgets, top)
    for name, w in widgets.items():
        w.tab.select(None, js=f"() => window.longtailTab('{name}')")
        if hasattr(w, "refresh"):
            _draw(ctx, session, name, w)


def _draw(ctx: AppContext, session: Session, name: str, w: SimpleNamespace) -> None:
    """A tab is drawn when it is shown and not as the workspace is; one with ``w.always`` whenever it is selected.

    Redraws are done in order with the page's clicks: one that was begun before a click and came after its answer
    would take the click back, and two of the same revision would both be drawn.

    ``w.refresh`` takes the values of ``w.refresh_inputs``, a set or a list as handlers of Gradio do, and answers with a
    dictionary; ``w.afterwards`` (handler, inputs, outputs) follows what was drawn anew.
    """
    done = session.drawn[name]

    def draw(values: dict[Any, Any], *, always: bool) -> Any:
        now = ctx.revision  # first: what changes from here on is drawn next time
        if not values[session.shown] or (values[done] == now and not always):
            return gr.skip()
        given = {part: values[part] for part in w.refresh_inputs}
        found = w.refresh(given) if isinstance(w.refresh_inputs, set) else w.refresh(*given.values())
        return found | {done: now} if any(part in found for part in w.refresh_outputs) else found

    @polite
    def selected(values: dict[Any, Any]) -> Any:
        return draw(values, always=hasattr(w, "always"))

    @polite
    def changed(values: dict[Any, Any]) -> Any:
        return draw(values, always=False)

    inputs, outputs = {*w.refresh_inputs, session.shown, done}, [*w.refresh_outputs, done]
    w.tab.select(selected, inputs, outputs, **IN_ORDER)
    session.due[name].change(changed, inputs, outputs, **IN_ORDER)
    if hasattr(w, "afterwards"):
        done.change(*w.afterwards, **IN_ORDER)


def theme() -> gr.themes.Base:
    """Quiet greys, one blue, the system's own letters: nothing is fetched."""
    made = gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_sm,
        text_size=gr.themes.sizes.text_sm,
        font=_SYSTEM_FONT,
        font_mono=_MONO_FONT,
    )
    return made


def mount(site: AppContext | Rooms, *, port: int, key: str = "") -> Any:
    """The web application with the page on it: one page, also where every user has a workspace of their own."""
    page = build(Here(site) if isinstance(site, Rooms) else site)
    page.queue(default_concurrency_limit=4, api_open=False, max_size=site.settings.limits.events or None)
    in_order(page._queue)
    begin_with((ASSETS / "head.js").read_text(encoding="utf-8"))
    return gr.mount_gradio_app(
        make_server(site, key=key),
        page,
        path="/",
        root_path=site.settings.root or None,
        server_name=site.settings.host,
        server_port=port,
        allowed_paths=[],
        max_file_size=f"{site.settings.upload_mb}mb",
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        theme=theme(),
        css_paths=[ASSETS / "css" / name for name in STYLES],
        head='<meta name="viewport" content="width=device-width, initial-scale=1">',
        favicon_path=str(ASSETS / "icon.png") if (ASSETS / "icon.png").exists() else None,
    )


def site_of(settings: Settings) -> AppContext | Rooms:
    """The workspace of this process, or one for every user."""
    return Rooms(settings) if settings.apart else AppContext(settings)


def serve(settings: Settings) -> int:
    """Serve until interrupted; returns the exit status."""
    from app.serving import Server, config_of

    port = free_port(settings.host, settings.port)
    site = site_of(settings)
    _keep_uploads_here(settings)
    _allow_files()
    key = new_key() if settings.access == "key" else ""
    server = mount(site, port=port, key=key)
    site.start()
    if settings.port not in (0, port):
        print(f"Port {settings.port} is taken; using {port} instead.")
    shown = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    address = f"http://{shown}:{port}{settings.root}/" + (f"?key={key}" if key else "")
    print(f"{NAME} is at {address}\nThe workspace is {settings.workspace}. Stop with Ctrl+C.", flush=True)
    if settings.space:
        print("This is a Space: its visitors share one machine, one workspace and one queue.", flush=True)
    if settings.access == "login":
        print("Users log in; 'python app.py users add NAME' adds one, also while this runs.", flush=True)
        print(_whose(settings), flush=True)
    elif not settings.local and not key and not settings.space:
        print("Everybody who can reach this address may come in (--no-login).", flush=True)
    if settings.share:
        _share(port, key)
    if settings.browser:
        threading.Timer(1.0, webbrowser.open, [address]).start()
    runner = Server(config_of(server, host=settings.host, port=port))
    stopping = Stopping()
    with stopping.heard(runner):
        runner.run()
        stopping.finish(site.machine, settings.grace)
        site.close()
    return 0 if runner.started else 1


def _keep_uploads_here(settings: Settings) -> None:
    """Uploads go into the workspace, not into a folder that all accounts of the machine share."""
    folder = settings.workspace.resolve() / "uploads"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)


def _whose(settings: Settings) -> str:
    """In which workspace users work."""
    if settings.shared:
        return "They share this one workspace (--shared)."
    old = " What this one holds by itself is seen with --shared only." if _used(settings.workspace) else ""
    return f"Each has a workspace of their own, under {settings.workspace / 'users'}.{old}"


def _used(workspace: Path) -> bool:
    from ltg_core.data.cloning import DATABASE

    return (workspace / DATABASE).is_file()


def _allow_files() -> None:
    """Every thread keeps a connection to the workspace it works in, so that many users need many open files."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _share(port: int, key: str) -> None:
    """A public link through Gradio's tunnel; the key in it, or the log-in, keeps others out."""
    import secrets

    import httpx
    from gradio.networking import setup_tunnel

    try:
        link = setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)
        print(f"Public link: {link}/" + (f"?key={key}" if key else ""), flush=True)
    except (OSError, RuntimeError, ValueError, httpx.HTTPError) as error:  # the local page works on
        print(f"No public link could be made: {error}", file=sys.stderr)


__all__ = ["USUAL_PORT", "build", "mount", "serve", "site_of"]
