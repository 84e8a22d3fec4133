"""What the README promises: the notebook's lines run, the import is quick."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TinyWorld

ROOT = Path(__file__).resolve().parent.parent


def test_the_notebook_lines_run_from_a_classifier_and_a_folder_to_guided_images(
    tiny_world: TinyWorld,
    tiny_classifier_file: Path,
    tiny_generator: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    for suffix in (".safetensors", ".json"):
        shutil.copy(tiny_classifier_file.with_suffix(suffix), tmp_path / f"net{suffix}")
    shutil.copytree(tiny_generator, tmp_path / "my-generator")
    shutil.copytree(tiny_world.folder, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    exec(compile(found[1], "README.md", "exec"), {})
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 4
    assert all("believed" in line or "quarantined" in line for line in lines)


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, ltg_core; print('torch' in sys.modules, 'gradio' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stdout.split() == ["False", "False"]


def test_the_readme_names_both_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make app" in text and "make test" in text


PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def anchors(text: str) -> set[str]:
    """The names under which the headings of a page can be linked, as GitHub makes them."""
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", plain, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_picture_of_the_documentation_is_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.is_file(), f"{page.name} leads to {target}, which is not there"
        assert place.is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors(place.read_text(encoding="utf-8")), (
                f"{page.name}: no heading for {target}"
            )


def test_the_guide_walks_all_journeys_and_every_screenshot_is_shown() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    assert [int(n) for n in re.findall(r"^## (\d+)\. ", guide, re.MULTILINE)] == list(range(1, 12))
    assert "docs/guide.md" in (ROOT / "README.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"screenshots/([\w-]+\.png)", "".join(page.read_text("utf-8") for page in PAGES)))
    assert shown == {path.name for path in (ROOT / "docs" / "screenshots").glob("*.png")}
