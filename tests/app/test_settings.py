"""The command line of the page."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from app.settings import free_port, labels_from_text, parse
from ltg_core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def test_without_arguments_the_demo_is_wanted_on_this_machine_alone() -> None:
    settings = parse([])
    assert settings.wants_demo and settings.local
    assert (settings.host, settings.port, settings.workspace) == ("127.0.0.1", 7860, Path("workspace/demo"))


def test_own_data_gets_a_workspace_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "my photos"
    folder.mkdir()
    settings = parse([str(folder), "--no-browser", "--port", "0"])
    assert settings.workspace == Path("workspace/my-photos")
    assert not settings.wants_demo and not settings.browser


@pytest.mark.parametrize("arguments", (["nowhere/"], ["--port", "99999"], ["--max-upload-mb", "0"]))
def test_wrong_arguments_end_with_a_message(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(arguments)
    assert stop.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        assert free_port("127.0.0.1", busy) != busy


def test_the_page_opens_on_another_port_where_the_usual_one_is_taken_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "photos" / "stop").mkdir(parents=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        command = [sys.executable, "-W", "ignore", "-u", "app.py", "--no-browser", "--port", str(busy)]
        command += [str(tmp_path / "photos"), "--workspace", str(tmp_path / "ws")]
        server = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert server.stdout is not None
        try:
            said = next(line for line in server.stdout if line.startswith("Port "))
            other = int(said.split("using ")[1].split(" ")[0])
            assert f"Port {busy} is taken" in said and other != busy
            assert f"http://127.0.0.1:{other}/" in server.stdout.readline()
            transport = httpx.HTTPTransport(retries=8)
            with httpx.Client(transport=transport, timeout=60) as client:
                assert client.get(f"http://127.0.0.1:{other}/healthz").status_code == 200
        finally:
            server.kill()
            server.wait()
            server.stdout.close()


@pytest.mark.parametrize(
    "text", ("cat\ndog", '["cat", "dog"]', '{"0": "cat", "1": "dog"}', "cat, dog", " cat \n\n dog ")
)
def test_class_names_are_read_in_every_usual_spelling(text: str) -> None:
    assert labels_from_text(text) == ["cat", "dog"]


@pytest.mark.parametrize("text", ("", "[1, 2", "{}"))
def test_class_names_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        labels_from_text(text)


def test_help_is_quick_and_the_page_is_imported_without_torch() -> None:
    began = time.monotonic()
    help_ = subprocess.run(
        [sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--workspace" in help_.stdout
    assert time.monotonic() - began < 10
    code = (
        "import sys, app.main; from app.context import AppContext; from app.settings import parse;"
        "app.main.build(AppContext(parse([]))); print('torch' in sys.modules)"
    )
    built = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert built.stdout.strip().endswith("False"), "the page must stand before torch is imported"
