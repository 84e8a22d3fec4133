"""The command line of the page."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import free_port, labels_from_text, parse
from ltg_core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def test_without_arguments_the_demo_is_wanted_on_this_machine_alone() -> None:
    settings = parse([])
    assert settings.wants_demo and settings.local
    assert (settings.host, settings.port, settings.workspace) == ("127.0.0.1", 7860, Path("workspace/demo"))


def test_a_space_listens_to_all_and_nothing_else_does_without_being_told(monkeypatch: Any) -> None:
    for name in ("GRADIO_SERVER_NAME", "HOST", "HF_HOME", "SPACE_HOST"):
        monkeypatch.setenv(name, "0.0.0.0")
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert parse([]).host == "127.0.0.1" and parse([]).local and not parse([]).space
    opened = parse(["--host", "0.0.0.0", "--no-login"])
    assert not opened.local and not opened.space
    monkeypatch.setenv("SPACE_ID", "somebody/longtail")
    there = parse([])
    assert (there.host, there.port, there.upload_mb) == ("0.0.0.0", 7860, 256)
    assert there.space and there.wants_demo and not there.local and not there.browser
    told = parse(["--host", "127.0.0.1", "--port", "8000", "--max-upload-mb", "9"])
    assert (told.host, told.port, told.upload_mb) == ("127.0.0.1", 8000, 9)
    assert not told.local, "visitors still come through the platform"


def test_the_readme_header_is_what_a_space_needs() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    head = text.split("---\n")[1]
    given = {
        key: value.strip().strip('"') for key, _, value in (line.partition(":") for line in head.splitlines())
    }
    pins = dict(line.split("==") for line in (ROOT / "requirements.txt").read_text().split())
    assert given["sdk"] == "gradio" and given["sdk_version"] == pins["gradio"]
    assert (ROOT / given["app_file"]).is_file() and given["pinned"] == "false"
    assert tuple(map(int, given["python_version"].split("."))) >= (3, 11)
    assert len(given["short_description"]) <= 60 and given["title"] == "Longtail" and given["emoji"]
    assert ("license" in given) == any(ROOT.glob("LICENSE*"))
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in pins), (
        "plain names from the package index only"
    )


def test_a_space_may_stand_in_the_platforms_page_and_says_that_it_is_shared(tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    from app.context import AppContext
    from app.server import make_server
    from app.settings import Settings
    from app.welcome import start_view

    shared = AppContext(Settings(workspace=tmp_path / "ws", host="0.0.0.0", space=True))
    with TestClient(make_server(shared), base_url="https://somebody-longtail.hf.space") as client:
        answer = client.get("/healthz")
    assert answer.status_code == 200 and "x-frame-options" not in answer.headers
    policy = answer.headers["content-security-policy"]
    assert policy.endswith("frame-ancestors 'self' https://huggingface.co https://*.hf.space")
    assert "SameSite=None; Secure; Partitioned" in answer.headers["set-cookie"]
    assert "share one machine and one workspace" in str(start_view(shared, []))
    alone = AppContext(Settings(workspace=tmp_path / "alone"))
    assert "share one machine" not in str(start_view(alone, []))
    with TestClient(make_server(alone), base_url="http://127.0.0.1") as client:
        answer = client.get("/healthz")
    assert (
        answer.headers["x-frame-options"] == "SAMEORIGIN"
        and "SameSite=Strict" in answer.headers["set-cookie"]
    )
    for one in (shared, alone):
        one.workspace.close()


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
            transport = httpx.HTTPTransport(retries=10)
            with httpx.Client(transport=transport, timeout=240) as client:
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
    command = [sys.executable, "-X", "importtime", "app.py", "--help"]
    help_ = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--workspace" in help_.stdout and "argparse" in help_.stderr
    assert not re.findall(r"\|\s+(?:torch|gradio|numpy)$", help_.stderr, re.MULTILINE)
    code = (
        "import sys, app.main; from app.context import AppContext; from app.settings import parse;"
        "app.main.build(AppContext(parse([]))); print('torch' in sys.modules)"
    )
    built = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert built.stdout.strip().endswith("False"), "the page must stand before torch is imported"
