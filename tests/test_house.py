"""The house: imports go down only, and discovery never reads the demo's ground truth."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "ltg_core"

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "types", "compat", "logs"}),
    frozenset({"params", "registry", "jobs", "devices"}),
    frozenset({"fitting", "workers"}),
    frozenset({"models", "data"}),
    frozenset({"signals", "curation", "training", "evaluation", "llm"}),
    frozenset({"generators", "attribution", "embedding", "export", "extension", "introspection", "report"}),
    frozenset({"guidance"}),
    frozenset({"demo"}),
    frozenset({"workflows"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def imports(path: Path) -> list[str]:
    """Modules that a file imports when it runs; what only a type checker reads does not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def parts() -> list[Path]:
    return sorted(CORE.rglob("*.py"))


def unit(path: Path) -> str:
    """The part of the house that a file belongs to."""
    relative = path.relative_to(CORE).with_suffix("")
    return relative.parts[0]


@pytest.mark.parametrize("path", parts(), ids=lambda p: str(p.relative_to(CORE)))
def test_imports_go_down_only(path: Path) -> None:
    own = unit(path)
    if own == "__init__":
        return
    for name in imports(path):
        if name.startswith("ltg_core."):
            other = name.split(".")[1]
            if other in ("__version__", own):
                continue
            assert other in LEVEL, f"{path.name} imports {name}, which is in no layer"
            assert LEVEL[other] < LEVEL[own], f"{own}/{path.name} imports {name}: {other} is not below {own}"


@pytest.mark.parametrize("path", parts(), ids=lambda p: str(p.relative_to(CORE)))
def test_the_core_knows_neither_gradio_nor_the_app(path: Path) -> None:
    for name in imports(path):
        assert name.split(".")[0] not in ("gradio", "app"), f"{path.name} imports {name}"


def test_only_the_builder_and_the_benchmarks_read_the_planted_list() -> None:
    allowed = {CORE / "demo" / "plan.py", CORE / "demo" / "data.py", CORE / "demo" / "build.py"}
    readers = {
        path
        for folder in (CORE, ROOT / "app")
        for path in folder.rglob("*.py")
        if any(name.startswith("ltg_core.demo.plan") for name in imports(path))
    }
    assert readers <= allowed, f"the ground truth is read by {sorted(readers - allowed)}"
    text = {
        p for p in (CORE / "guidance").rglob("*.py") if "planted" in p.read_text(encoding="utf-8").lower()
    }
    assert not text


def test_the_bundled_data_does_not_say_which_cells_are_planted() -> None:
    path = ROOT / "assets" / "demo" / "data.parquet"
    if not path.exists():
        pytest.skip("the demo's assets are not built")
    import pyarrow.parquet as pq

    assert not any("planted" in name for name in pq.read_schema(path).names)


def test_every_file_of_the_core_is_in_a_layer() -> None:
    units = {unit(path) for path in parts()} - {"__init__"}
    assert units == set(LEVEL)


def test_no_two_test_files_have_one_name() -> None:
    """The second of them would not be collected."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
