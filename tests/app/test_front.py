"""Behind a proxy: whose word is taken, and that the whole page works under a path."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit

import anyio
import httpx
import pytest
from driver import running
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from app.front import Front, network
from app.settings import Settings, free_port
from ltg_core import workflows

ROOT = "/longtail"


def echo(*, root: str = "", trusted: tuple[str, ...] = (), peer: str = "10.0.0.7") -> TestClient:
    """What is seen behind the front layer, for a request that comes from ``peer``."""

    async def seen(request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "url": str(request.url),
                "client": request.client.host if request.client else "",
                "headers": sorted(request.headers),
            }
        )

    inner = Starlette(routes=[Mount("/", Starlette(routes=[Route("/{path:path}", seen)]))])
    front = Front(inner, root=root, trusted=[network(one) for one in trusted])
    return TestClient(front, base_url="http://inside:7860", client=(peer, 1), follow_redirects=False)


SAID = {
    "x-forwarded-host": "lab.example.org",
    "x-forwarded-proto": "https",
    "x-forwarded-for": "6.6.6.6, 203.0.113.9",
    "x-gradio-server": "http://evil.example",
    "x-ltg-user": "ada",
    "Forwarded": "for=6.6.6.6",
}


def test_what_strangers_say_about_themselves_is_taken_out() -> None:
    for client in (echo(), echo(trusted=("10.0.0.8",)), echo(trusted=("10.0.0.7",), peer="not an address")):
        found = client.get("/x", headers=SAID).json()
        assert found["url"] == "http://inside:7860/x" and found["client"] != "203.0.113.9"
        assert not {name.lower() for name in SAID} & set(found["headers"])


@pytest.mark.parametrize("trusted", ("10.0.0.7", "10.0.0.0/24"))
def test_a_trusted_proxy_says_who_the_browser_is_and_what_it_asked_for(trusted: str) -> None:
    found = echo(trusted=(trusted,)).get("/x?y=1", headers=SAID).json()
    assert found["url"] == "https://lab.example.org/x?y=1"
    assert found["client"] == "203.0.113.9", "what stands before it, the browser may have written itself"
    assert not {name.lower() for name in SAID} & set(found["headers"])
    chain = {"x-forwarded-for": "6.6.6.6, 203.0.113.9, 10.0.0.7"}
    assert echo(trusted=(trusted,)).get("/x", headers=chain).json()["client"] == "203.0.113.9"
    odd = {"x-forwarded-for": "<script>", "x-forwarded-proto": "gopher"}
    found = echo(trusted=(trusted,)).get("/x", headers=odd).json()
    assert found["client"] == "10.0.0.7" and found["url"].startswith("http://")


def test_the_path_may_be_cut_off_by_the_proxy_or_not() -> None:
    client = echo(root=ROOT)
    assert client.get("/x").json()["url"] == client.get(ROOT + "/x").json()["url"]
    assert client.get(ROOT + "/x").json()["url"] == "http://inside:7860/longtail/x"
    bare = client.get(ROOT + "?tab=map")
    assert bare.status_code == 307 and bare.headers["location"] == "/longtail/?tab=map"


def proxy(target: str, *, cut: bool) -> Any:
    """A small reverse proxy: cuts the path off or leaves it, and says whom it speaks for."""

    async def forward(request: Request) -> StreamingResponse:
        client = httpx.AsyncClient(base_url=target, timeout=120)
        path = request.url.path.removeprefix(ROOT) if cut else request.url.path
        headers = [(k, v) for k, v in request.headers.items() if k not in ("host", "x-forwarded-host")]
        headers += [("x-forwarded-host", request.headers["host"]), ("x-forwarded-proto", "http")]
        headers += [("x-forwarded-for", request.client.host if request.client else "")]
        sent = client.build_request(
            request.method, path + "?" + request.url.query, headers=headers, content=await request.body()
        )
        answer = await client.send(sent, stream=True)

        async def body() -> Any:
            try:
                async for part in answer.aiter_raw():
                    yield part
            finally:
                with anyio.CancelScope(shield=True):
                    await client.aclose()

        given = {k: v for k, v in answer.headers.items() if k != "transfer-encoding"}
        made = StreamingResponse(body(), answer.status_code, given)
        cookies = answer.headers.get_list("set-cookie")
        made.raw_headers = [pair for pair in made.raw_headers if pair[0] != b"set-cookie"]
        made.raw_headers += [(b"set-cookie", one.encode()) for one in cookies]
        return made

    return Starlette(routes=[Route(ROOT + "/{path:path}", forward, methods=["GET", "POST"])])


@pytest.fixture(scope="module")
def behind(ctx: Any) -> Iterator[str]:
    """Address of the inner server, which believes 127.0.0.1."""
    from app.context import AppContext
    from app.main import mount

    port = free_port("127.0.0.1", 0)
    given = Settings(workspace=ctx.settings.workspace, port=port, root=ROOT, trusted=(network("127.0.0.1"),))
    inner = AppContext(given)
    with running(mount(inner, port=port), port) as address:
        yield address
    inner.close()
    inner.workspace.close()


@pytest.fixture(scope="module")
def made(ctx: Any) -> tuple[str, str]:
    """Paths of a report and of an export."""
    ws = ctx.workspace
    place = ws.exports_folder / "behind"
    workflows.export(ws, ws.query(limit=5), "imagefolder", place, with_real=True, held_out=True)
    return f"media/report/{workflows.tell(ws, workflows.Draft('t', 'w')).id}", "media/export/behind.zip"


@pytest.mark.parametrize("cut", (True, False))
def test_everything_that_the_page_names_is_there_under_the_path(
    behind: str, ctx: Any, made: tuple[str, str], cut: bool
) -> None:
    from driver import Driver, texts

    with running(proxy(behind, cut=cut), free_port("127.0.0.1", 0)) as outside:
        base = f"{outside}{ROOT}/"
        with httpx.Client(timeout=240) as http:
            page = http.get(base + "?tab=browse")
            assert page.status_code == 200
            cookie = page.headers["set-cookie"]
            assert cookie.startswith("ltg_visitor=") and f"Path={ROOT}/" in cookie
            named = {
                urljoin(base, one.strip()) for one in re.findall(r"""(?:src|href)=["']([^"'#]+)""", page.text)
            }
            named = {one for one in named if one.startswith("http")}
            assert len(named) > 3
            scripts = [one for one in named if one.endswith(".js")]
            for script in scripts:
                imported = re.findall(r"""(?:from|import)\s*["'](\.[^"']+)""", http.get(script).text)
                named |= {urljoin(script, one) for one in imported}
            for address in named:
                assert urlsplit(address).path.startswith(ROOT + "/"), address
                assert http.get(address).status_code == 200, address
            config = http.get(base + "config").json()
            assert config["root"] == base.rstrip("/"), "what the page's script puts before its requests"
            sample = ctx.workspace.query(limit=1)[0]
            for path in (
                f"media/thumb/{sample}",
                f"media/image/{sample}",
                "vendor/plotly.min.js",
                "theme.css",
            ):
                assert http.get(base + path).status_code == 200, path
            told, packed = (http.get(base + path) for path in made)
            assert (
                "<!doctype html" in told.text[:50].lower()
                and "sandbox" in told.headers["content-security-policy"]
            )
            assert "attachment" in packed.headers["content-disposition"]
            with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
                assert archive.testzip() is None and any(n.endswith(".png") for n in archive.namelist())
            sent = http.post(
                base + "gradio_api/upload", files={"files": ("a.txt", b"x")}, headers={"Origin": outside}
            )
            assert sent.status_code == 200
            foreign = http.post(base + "gradio_api/upload", headers={"Origin": behind}, content=b"")
            assert foreign.status_code == 403, "the inner address is another site"
        with Driver(base.rstrip("/")) as driver:  # through the queue and its event stream
            driver.fill("browse-sort")
            assert "samples" in texts(driver.call("browse-text", "submit", browse_text="")["browse-count"])
