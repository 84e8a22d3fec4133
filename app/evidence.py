"""What the checks of a heat map rest on, as nodes; and its layers as pictures."""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING, Any

from app.controls import words
from app.render import Node, h, percent

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from ltg_core.attribution.trust import Evidence
    from ltg_core.workflows import Explanation

METHOD_WORDS = {"grad_cam": "Grad-CAM", "gradient_shap": "GradientSHAP"}
SIDES = {True: 320, False: 192}
"""Pixels of a layer: of a sample alone, in a table."""


def method_words(name: str) -> str:
    """A method as the literature writes it."""
    return METHOD_WORDS.get(name) or words(name)


def evidence(one: Explanation, charts: dict[str, Any]) -> Node:
    """Both checks of a map: the map of a randomised network beside it, and both curves with their baseline."""
    from ltg_core.attribution.base import Heatmap

    found = one.evidence
    assert found is not None and one.trust is not None  # a map without them has no button that leads here
    trust = found.trust
    unlearned = Heatmap(one.sample_id, one.method, one.target, found.unlearned, one.signed)
    pair = h(
        "div.evidence-pair",
        _twin(one.sample_id, layers(one, SIDES[True])[0], "This map"),
        _twin(one.sample_id, layers(unlearned, SIDES[True])[0], "Last layers at random"),
    )
    alike = (
        f"Rank correlation {trust.randomisation:.2f}; beyond ±0.5 the map shows the image, not the network."
    )
    name = f"{one.sample_id}:{one.method}"
    return h(
        "section.evidence",
        h(
            "div.evidence-head",
            h("h4", f"{method_words(one.method)}: this map {trust.verdict}."),
            h(
                "button.link",
                "Close",
                act=("evidence", {"id": one.sample_id, "method": one.method}),
                type="button",
            ),
        ),
        h("div.evidence-part", h("h4", "Randomisation"), pair, h("p.soft", alike)),
        _curve(charts, f"{name}:deletion", found, 0, "Hottest pixels removed first: the lower, the better"),
        _curve(charts, f"{name}:insertion", found, 1, "Hottest pixels added first: the higher, the better"),
        key=f"evidence-{name}",
    )


def _twin(sample_id: str, layer: str, text: str) -> Node:
    heat = h("div.heat", h("img", src=f"image:{sample_id}", alt=""), h("img.over", src=layer, alt=text))
    return h("figure.evidence-map", heat, h("figcaption", text))


def _curve(charts: dict[str, Any], name: str, found: Evidence, row: int, text: str) -> Node:
    trust = found.trust
    area, chance = (
        (trust.deletion, trust.deletion_random) if row == 0 else (trust.insertion, trust.insertion_random)
    )
    charts[name] = {
        "label": f"{text}. Area {_share(area)}, in random order {_share(chance)}.",
        "axis": "pixels removed" if row == 0 else "pixels added",
        "lines": [
            {"kind": "random", "values": _points(found.curves[row + 2])},
            {"kind": "map", "values": _points(found.curves[row])},
        ],
    }
    key = h(
        "p.soft.evidence-key",
        h("span", h("i.key-map"), f"by heat, area {_share(area)}"),
        h("span", h("i.key-random"), f"random order, {_share(chance)}"),
    )
    title = "Faithfulness: deletion" if row == 0 else "Faithfulness: insertion"
    return h("div.evidence-part", h("h4", title), h("div.curve", key=name), key, h("p.soft", f"{text}."))


def _points(values: np.ndarray) -> list[float | None]:
    return [round(float(v), 4) if math.isfinite(v) else None for v in values]


def _share(value: float) -> str:
    return percent(value) if math.isfinite(value) else "undefined"


def layers(heat: Any, side: int) -> tuple[str, str]:
    """The heat and its outline as pictures with opacity, so that the browser can fade them."""
    from ltg_core.attribution.layers import heat_layer, outline_layer

    return (
        _inline(
            heat_layer(heat.values, signed=heat.signed, side=side), "WEBP", quality=88, method=0, exact=True
        ),
        _inline(outline_layer(heat.values, signed=heat.signed, side=side), "PNG", compress_level=6),
    )


def _inline(picture: Image.Image, form: str, **settings: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form, **settings)
    return f"data:image/{form.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
