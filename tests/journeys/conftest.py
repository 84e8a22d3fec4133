"""A real browser on a real server with the demo in it."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from benchmarks.ui import CHROMIUM, FLAGS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300_000
"""Milliseconds: what is waited for is work, and two other test processes want the same processor."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The web server, its client and the browser close sockets when the collector comes by, not before.

    One that hangs must not take the time of all the others.
    """
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


def demo_folder() -> Path:
    """The bundled demo, or the one that LTG_DEMO_DIR names."""
    return Path(os.environ.get("LTG_DEMO_DIR") or ROOT / "assets" / "demo")


def _need(condition: bool, what: str) -> None:
    """In CI a missing browser is a failure, on a laptop a clear skip."""
    if condition:
        return
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """What the browser's client leaves open is collected here: in a later test it would be an error of that one."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def _patience() -> None:
    """Work beside the test must not fail it."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    path = CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium") or shutil.which("google-chrome")
    _need(
        path is not None, "no Chromium: install it with 'apt-get install chromium' to run the browser tests"
    )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def opened_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the demo has been opened, to be copied; made once for all processes of these tests."""
    from ltg_core.jobs import CancelToken
    from ltg_core.workflows import tasks

    if not (demo_folder() / "generator" / "model_index.json").is_file():
        pytest.skip("the demo's generator is not there; 'python -m ltg_core demo build' makes it")
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "opened-demo"
    with FileLock(f"{place}.lock"):
        if not place.exists():
            half = place.with_name("opening-demo")
            folder = {"folder": str(demo_folder())}
            tasks.do(str(half), "open_demo", folder, lambda progress: None, CancelToken())
            half.rename(place)
    return place


@pytest.fixture(scope="session")
def server(browser: Any, opened_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``python app.py`` as a process of its own, with the demo in its workspace."""
    folder = tmp_path_factory.mktemp("journey")
    shutil.copytree(opened_demo, folder / "ws")
    with serve(folder) as address:
        yield address


IDLE: list[Any] = []
"""Contexts of the browser that nobody uses: a new one reads and compiles the page's scripts anew."""
SERVERS: dict[str, int] = {}
"""The process at each address."""


def children(pid: int) -> list[int]:
    """Processes that this one has started; none where there is no /proc."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(place.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(place.parent.name))
    return found


def signalled(pids: Iterable[int], what: signal.Signals) -> None:
    """A signal for all of them that live."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)


@contextlib.contextmanager
def slowly(address: str) -> Iterator[None]:
    """The workers rest most of the time, so that a page that is slow beside them still sees them."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.3):
            signalled(children(SERVERS[address]), signal.SIGSTOP)
            over.wait(0.6)
            signalled(children(SERVERS[address]), signal.SIGCONT)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join()


@contextlib.contextmanager
def serve(folder: Path, *arguments: str) -> Iterator[str]:
    """A server with a new workspace in ``folder``; gives its address."""
    from app.settings import free_port

    port = free_port("127.0.0.1", 0)
    command = [sys.executable, "app.py", *arguments, "--no-browser", "--port", str(port)]
    command += ["--workspace", str(folder / "ws")]
    environment = {**os.environ, "LTG_DEMO_DIR": str(demo_folder())}
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    SERVERS[address] = process.pid
    try:
        _wait(address, process, folder / "server.log")
        yield address
    finally:
        process.terminate()
        process.wait(120)
        print(f"{address} said:\n" + (folder / "server.log").read_text()[-4000:])


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/healthz", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not answer: " + log.read_text())


@dataclasses.dataclass
class Visit:
    """A page, and everything that went wrong on it."""

    page: Any
    address: str
    wrong: list[str]

    def shot(self, name: str) -> None:
        """A picture of what is visible: for the README when asked for, else with the test's results."""
        readme = os.environ.get("LTG_SCREENSHOTS") == "1"
        folder = ROOT / "docs" / "screenshots" if readme else ROOT / "test-results"
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png")

    def tab(self, name: str) -> None:
        """Change the tab, also where it hides behind the overflow menu, or is just about to."""
        from playwright.sync_api import TimeoutError as NotThere

        self.page.evaluate("window.scrollTo(0, 0)")
        shown = self.page.get_by_role("tab", name=name, exact=True).first
        more = self.page.locator("#tabs .overflow-menu > button").first
        hidden = self.page.locator("#tabs .overflow-dropdown button", has_text=name).first
        deadline = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < deadline:  # a page that has just been opened moves its tabs about
            with contextlib.suppress(NotThere):
                if shown.is_visible():
                    shown.click(timeout=5000)
                    return
                if not hidden.is_visible():  # a second click would close the menu
                    more.click(timeout=5000)
                hidden.click(timeout=5000)
                return
        raise AssertionError(f"the page shows no tab named {name}")


@pytest.fixture
def visit(browser: Any, server: str) -> Iterator[Visit]:
    """A fresh visitor of the demo."""
    with visiting(browser, server) as seen:
        yield seen


@contextlib.contextmanager
def visiting(browser: Any, address: str, path: str = "/?tab=browse") -> Iterator[Visit]:
    """A fresh visitor; page errors, failed answers and requests that leave the machine fail the test.

    ``path`` is the view; Browse where none is named.
    """
    context = IDLE.pop() if IDLE else browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    forget = {"origin": address, "storageTypes": "cookies,local_storage"}
    context.new_cdp_session(page).send("Storage.clearDataForOrigin", forget)
    page.set_default_timeout(PATIENCE)
    seen = Visit(page, address, [])
    page.on("pageerror", lambda error: seen.wrong.append(f"page error: {error}"))
    page.on("response", lambda r: seen.wrong.append(f"{r.status} {r.url}") if r.status >= 500 else None)
    page.on("request", lambda r: _outside(seen, r.url))
    page.goto(address + path)
    try:
        yield seen
    except BaseException:
        context.close()
        raise
    for opened in context.pages:
        opened.close()
    IDLE.append(context)
    assert not seen.wrong, seen.wrong


def _outside(seen: Visit, url: str) -> None:
    if not url.startswith((seen.address, "data:", "blob:")):
        seen.wrong.append(f"a request that leaves the machine: {url}")
