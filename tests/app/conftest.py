"""A real server on a free port, on a copy of the small fitted workspace."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ltg_core.jobs import Job


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The web server, its client and the browser close sockets when the collector comes by, not before."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore::ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
            item.add_marker(
                pytest.mark.filterwarnings("ignore:.*no_silent_downcasting")
            )  # Gradio's, with pandas 3
            item.add_marker(pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"))  # the same


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """What Gradio leaves open is collected here: in a later test it would count as an error of that one."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def lanes() -> Iterator[Any]:
    """Worker processes for the contexts of all files: each start takes seconds of CPU, and they keep no workspace."""
    from app.lanes import Lanes

    shared = Lanes()
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def ctx(_fitted_workspace: Path, tmp_path_factory: pytest.TempPathFactory, lanes: Any) -> Iterator[Any]:
    """The process state; nothing is started by itself."""
    from app.context import AppContext
    from app.settings import Settings, free_port

    folder = tmp_path_factory.mktemp("served") / "ws"
    shutil.copytree(_fitted_workspace, folder)
    context = AppContext(Settings(workspace=folder, port=free_port("127.0.0.1", 0)))
    own, context.lanes, context.machine.lanes = context.lanes, lanes, lanes
    yield context
    for job in context.jobs.all():
        context.jobs.cancel(job.id)
    context.machine.lanes = own  # which has begun nothing
    context.close()
    context.workspace.close()


@pytest.fixture(scope="module")
def address(ctx: Any) -> Iterator[str]:
    """Where the page is served."""
    import uvicorn

    from app.main import mount

    port = ctx.settings.port
    server = uvicorn.Server(
        uvicorn.Config(mount(ctx, port=port), host="127.0.0.1", port=port, log_level="warning")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 240
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.started
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """One page load, its choices filled as the page's own script has them filled."""
    from driver import Driver

    with Driver(address) as driver:
        driver.fill("browse-sort", "imagine-class")
        yield driver


@pytest.fixture
def ended(ctx: Any) -> Callable[..., Job]:
    """Waits for the newest job of a kind."""

    def wait(kind: str, seconds: float = 280) -> Job:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            job = ctx.latest(kind)
            if job is not None and job.ended:
                return job
            time.sleep(0.1)
        raise AssertionError(f"the {kind} job did not end")

    return wait
