"""The directory that ``fit-generator`` writes."""

from __future__ import annotations

import json
from pathlib import Path


def test_a_generator_tells_nothing_of_the_machine_it_was_made_on(tiny_generator: Path) -> None:
    configs = sorted(tiny_generator.rglob("*.json"))
    assert any(path.name == "model_index.json" for path in configs)
    for path in configs:
        text = path.read_text(encoding="utf-8")
        assert str(tiny_generator.parent) not in text, path.name
        if path.name == "config.json":
            assert "_name_or_path" not in json.loads(text)
