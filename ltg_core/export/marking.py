"""What a picture itself says about its origin, for when it is found without its manifest."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from ltg_core.data.records import Sample
from ltg_core.export.base import class_of
from ltg_core.export.text import json_line, without_control

SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for media made by a model that was trained on other media."""
XMP_KEY = "XML:com.adobe.xmp"
"""The text chunk in which PNG keeps XMP."""
PROVENANCE_KEY = "longtail:provenance"
_NOTED = ("prompt", "seed", "control", "meta", "run", "made_from")


def png_text(sample: Sample, record: dict[str, Any]) -> dict[str, str]:
    """Text chunks: who and what the picture is; for a generated one also XMP and its provenance as JSON.

    Args:
        sample: The sample.
        record: Its provenance.
    """
    text = {
        "Software": "longtail",
        "longtail:id": sample.id,
        "longtail:origin": sample.origin,
        "longtail:class": class_of(sample),
        "longtail:source": sample.source,
        "longtail:prompt": sample.meta.get("prompt"),
        "longtail:seed": sample.meta.get("seed"),
        "Description": sample.caption,
    }
    if not sample.real:
        text[PROVENANCE_KEY] = json_line({key: record[key] for key in _NOTED}).strip()
        text[XMP_KEY] = _xmp(sample, record)
    return {key: without_control(str(value)) for key, value in text.items() if value not in (None, "")}


def _xmp(sample: Sample, record: dict[str, Any]) -> str:
    """An XMP packet with the fields of IPTC Photo Metadata 2025.1 for generated pictures."""
    run = record["run"] or {}
    settings, versions = run.get("settings") or {}, run.get("versions") or {}
    fields = {
        "Iptc4xmpExt:DigitalSourceType": SYNTHETIC,
        "Iptc4xmpExt:AISystemUsed": settings.get("generator") or run.get("kind") or "unknown",
        "Iptc4xmpExt:AISystemVersionUsed": (run.get("hashes") or {}).get("generator"),
        "Iptc4xmpExt:AIPromptInformation": sample.meta.get("prompt"),
        "xmp:CreatorTool": f"longtail {versions.get('longtail', '')}".strip(),
    }
    lines = [
        f"<{name}>{_escaped(value)}</{name}>" for name, value in fields.items() if value not in (None, "")
    ]
    if sample.caption:
        inner = f'<rdf:Alt><rdf:li xml:lang="x-default">{_escaped(sample.caption)}</rdf:li></rdf:Alt>'
        lines.append(f"<dc:description>{inner}</dc:description>")
    body = "\n   ".join(lines)
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/">
   {body}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def _escaped(value: Any) -> str:
    return escape(without_control(str(value)))
