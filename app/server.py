"""The web server around the page: checked routes for images, reports and exports, behind the guard."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.middleware.cors import CORSMiddleware

from app import loginpage
from app.context import AppContext
from app.entry import Entry
from app.front import Front
from app.guard import Guard
from app.health import Health
from app.intake import Intake
from app.loginpage import USER_HEADER
from app.logins import Logins
from app.pulse import felt
from app.quotas import Uploads, texts_in
from app.rooms import Rooms
from app.users import Users, usual_file
from ltg_core.errors import LtgError

# A report is a page of its own: no script, no form, nothing from anywhere, and apart from this site's storage.
_REPORT_HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'",
    "Cache-Control": "private, no-cache",
}
_NO_PICTURE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">
<rect width="96" height="96" fill="#94a3b8" fill-opacity=".18"/>
<g fill="none" stroke="#8593a8" stroke-width="2.5" stroke-linecap="round" stroke-linejoin="round">
<rect x="28" y="24" width="40" height="32" rx="4"/><path d="M29 51l11-11 8 8 6-6 13 12M24 62 72 18"/></g>
<text x="48" y="76" fill="#7b8aa0" font-family="system-ui" font-size="9" text-anchor="middle">picture gone</text>
</svg>"""


def make_server(site: AppContext | Rooms, *, key: str = "") -> FastAPI:
    """The web application without the page; the page is mounted on it.

    Args:
        site: The workspace of the process, or those of its users.
        key: Needed in the address of the first visit; "" for none (only this machine can reach the server).
    """
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # Having a policy of our own, Gradio adds none: its own answers every origin, with credentials.
    server.add_middleware(CORSMiddleware, allow_origins=[], allow_methods=["GET"])
    given = site.settings
    users = Users(given.users or usual_file())
    logins = Logins(users, file=given.workspace / "logins.json") if given.access == "login" else None
    limit = (given.upload_mb + 1) * 2**20
    site.machine.uploads = _uploads(site)
    server.add_middleware(Intake, uploads=site.machine.uploads)
    if isinstance(site, Rooms):
        server.add_middleware(Entry, rooms=site)
    server.add_middleware(Guard, given=given, max_bytes=limit, key=key, logins=logins)
    server.add_middleware(Front, root=given.root, trusted=given.trusted)  # the outermost is added last
    if logins is not None:
        loginpage.routes(server, logins)

    def whose(request: Request) -> AppContext:
        return site.of(request.headers.get(USER_HEADER, "")) if isinstance(site, Rooms) else site

    _media(server, whose)
    _routes(server, Health(site))
    return server


def _uploads(site: AppContext | Rooms) -> Uploads:
    from gradio.utils import get_upload_folder

    folder = Path(get_upload_folder())

    def needed() -> list[str]:
        specs = [job.spec for job in site.machine.line.open() if job.spec is not None]
        texts = (text for spec in specs for text in texts_in(spec.arguments))
        return [text for text in texts if Path(text[:4096]).is_relative_to(folder)]

    return Uploads(folder, site.settings.limits, needed)


def new_key() -> str:
    """A key that cannot be guessed."""
    return secrets.token_urlsafe(18)


def _media(server: FastAPI, whose: Callable[[Request], AppContext]) -> None:
    """What is in the workspace of whoever asks."""
    fresh = {"Cache-Control": "no-store"}

    @server.get("/media/thumb/{sample_id}")
    def thumb(sample_id: str, request: Request) -> Response:
        path = _existing(whose(request), sample_id, small=True)
        return _lost() if path is None else _picture(path)

    @server.get("/media/image/{sample_id}")
    def image(sample_id: str, request: Request) -> Response:
        path = _existing(whose(request), sample_id, small=False)
        return _lost() if path is None else _picture(path)

    @server.get("/pulse")
    def feel(request: Request) -> Response:
        return Response(felt(whose(request), request), media_type="text/plain", headers=fresh)

    @server.get("/media/report/{run}")
    def report(run: str, request: Request) -> FileResponse:
        path = _report(whose(request), run)
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=_REPORT_HEADERS)

    @server.get("/media/comparison/{run}")
    def comparison(run: str, request: Request) -> JSONResponse:
        headers = {
            "Content-Disposition": f'attachment; filename="{run}.json"',
            "Cache-Control": "private, no-cache",
        }
        return JSONResponse(_comparison(whose(request), run), headers=headers)

    @server.get("/media/export/{name}")
    def export(name: str, request: Request) -> FileResponse:
        path = _exported(whose(request), name.removesuffix(".zip"))
        return FileResponse(path, media_type="application/zip", filename=name)


def _routes(server: FastAPI, health: Health) -> None:
    """What is the same for all."""

    @server.get("/vendor/plotly.min.js")
    def plotly() -> FileResponse:
        return FileResponse(
            _plotly_script(), media_type="text/javascript", headers={"Cache-Control": "max-age=86400"}
        )

    @server.api_route("/healthz", methods=["GET", "HEAD"])
    def healthy() -> JSONResponse:
        wrong = health.wrong()
        said = {"status": "failing", "reasons": wrong} if wrong else {"status": "ok"}
        return JSONResponse(said, 503 if wrong else 200, {"Cache-Control": "no-store"})


def _existing(ctx: AppContext, sample_id: str, *, small: bool) -> Path | None:
    """The file of a sample's picture, None where sample or file are gone.

    The id is looked up in the database; no part of a path comes from outside.
    """
    if not sample_id.isalnum() or len(sample_id) > 64:
        raise HTTPException(404)
    try:
        path = ctx.workspace.thumb_path(sample_id) if small else ctx.workspace.image_path(sample_id)
    except LtgError:
        return None
    return path if path.is_file() else None


def _picture(path: Path) -> Response:
    """A stored picture; what it is called decides what it is."""
    kind = "jpeg" if path.suffix == ".jpg" else path.suffix.removeprefix(".")
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return FileResponse(path, media_type=f"image/{kind}", headers=headers)


def _lost() -> Response:
    """What stands in the place of a picture that was deleted underneath: a browser shows it although it is a 404."""
    return Response(_NO_PICTURE, 404, {"Cache-Control": "no-store"}, media_type="image/svg+xml")


def _report(ctx: AppContext, run: str) -> Path:
    """The file of a report that this workspace made; the run is looked up, no part of a path comes from outside."""
    from ltg_core import workflows

    found = next((one for one in ctx.workspace.runs("tell") if one.id == run and one.state == "done"), None)
    path = None if found is None else workflows.report_path(ctx.workspace, found.id)
    if path is None or not path.is_file():
        raise HTTPException(404)
    return path


def _comparison(ctx: AppContext, run: str) -> dict[str, Any]:
    """A comparison that this workspace made, what became worse first; the run is looked up."""
    found = next(
        (one for one in ctx.workspace.runs("compare") if one.id == run and one.state == "done"), None
    )
    if found is None:
        raise HTTPException(404)
    result = found.result
    asked = {"run": found.id, "settings": found.settings, "versions": found.versions}
    return {"regressions": result["regressions"], **asked, **result}


def _exported(ctx: AppContext, name: str) -> Path:
    """The zip of an export that this workspace holds; made at the first request."""
    from ltg_core.export import zip_export

    folder = ctx.workspace.exports_folder
    found = next((one for one in folder.iterdir() if one.is_dir() and one.name == name), None)
    if found is None or found.is_symlink():
        raise HTTPException(404)
    packed = folder / f"{name}.zip"
    try:
        # An export that was replaced is newer than what was packed of its predecessor.
        if packed.is_file() and packed.stat().st_mtime_ns >= found.stat().st_ctime_ns:
            return packed
        return zip_export(found, overwrite=True)
    except LtgError as error:
        raise HTTPException(507 if "full" in str(error) else 404) from error


@functools.cache
def _plotly_script() -> Path:
    import importlib.util

    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise HTTPException(404)
    return Path(found.origin).parent / "package_data" / "plotly.min.js"
