"""What a picture says about itself, and that nothing in a hostile text does harm."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from ltg_core import curation
from ltg_core.data.workspace import Workspace
from ltg_core.export import EXPORTERS, export
from ltg_core.export.base import safe_file_name
from ltg_core.export.text import cell, json_line
from tests.export.conftest import manifest, picture

IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
BIDI = "\u202egnp.exe\u2066"
NAMES = (
    "../../../etc/passwd",
    "C:\\Windows\\system32",
    "<img src=x onerror=alert(1)>",
    f"invoice{BIDI}",
    "x" * 10_000,
    "CON",
    "com1.png",
    "LPT\N{SUPERSCRIPT ONE}",
    "a\0b\nc\u2028d",
    "=cmd|' /C calc'!A0",
    "---\nlicense: mine\n---",
    "|`${7*7}`| [x](javascript:alert(1))",
    " ",
    ".hidden",
)


def _packet(path: Path) -> ElementTree.Element:
    with Image.open(path) as image:
        assert image.getxmp()["xmpmeta"]  # Pillow finds it where readers of XMP look
        return ElementTree.fromstring(image.info["XML:com.adobe.xmp"].strip("\ufeff"))


def test_a_generated_picture_is_marked_as_synthetic_and_knows_its_provenance(
    ws: Workspace, world, tmp_path: Path
):
    report = export(ws, [world["from train"], world["generated"]], tmp_path / "out")
    files = {id: report.path / record["file_name"] for id, record in manifest(report.path).items()}
    packet = _packet(files[world["generated"]])
    assert packet.findtext(f".//{IPTC}DigitalSourceType") == TRAINED
    assert packet.findtext(f".//{IPTC}AIPromptInformation") == "a stop sign at night"
    with Image.open(files[world["from train"]]) as image:
        said = json.loads(image.info["longtail:provenance"])
    assert said["made_from"]["id"] == world["train"] and said["seed"] == 6
    assert said["run"]["settings"]["weight"] == 2.5 and said["run"]["hashes"] == {"classifier": "m"}
    assert said["run"]["versions"]["torch"]


def test_a_real_picture_is_not_marked(ws: Workspace, world, tmp_path: Path):
    report = export(ws, [world["train"]], tmp_path / "out")
    data = (report.path / manifest(report.path)[world["train"]]["file_name"]).read_bytes()
    assert b"longtail:id" in data
    assert b"trainedAlgorithmicMedia" not in data and b"xmp" not in data and b"provenance" not in data


def test_a_prompt_that_is_no_xml_does_not_break_the_packet(ws: Workspace, world, tmp_path: Path):
    run = ws.sample(world["generated"]).origin
    prompt = "</rdf:RDF> & <b>\x00\x0b ]]> \N{CJK UNIFIED IDEOGRAPH-591C}"
    id = ws.add_image(
        picture(40), origin=run, label=0, label_name="stop", caption=prompt, meta={"prompt": prompt}
    )
    report = export(ws, [id], tmp_path / "out")
    packet = _packet(report.path / manifest(report.path)[id]["file_name"])
    found = packet.findtext(f".//{IPTC}AIPromptInformation")
    assert found == prompt.replace("\x00", "\ufffd").replace("\x0b", "\ufffd")
    assert packet.findtext(f".//{IPTC}DigitalSourceType") == TRAINED


def test_the_lists_of_a_long_run_are_written_once_and_no_folder_of_this_machine_at_all(
    ws: Workspace, tmp_path: Path
):
    prompts = [f"prompt {i}" for i in range(500)]
    settings = {"prompts": prompts, "generator": str(tmp_path / "secret" / "tiny-model")}
    run = ws.start_run("generate", settings, seed=1, hashes={"generator": "abc"})
    made: dict[str, Any] = {"origin": run.id, "label": 0, "label_name": "stop"}
    ids = [ws.add_image(picture(50 + i), meta={"prompt": prompts[i], "seed": i}, **made) for i in range(3)]
    report = export(ws, ids, tmp_path / "out")
    record = manifest(report.path)[ids[0]]
    assert record["run"]["settings"] == {"prompts": "500 values, see runs.jsonl", "generator": "tiny-model"}
    (whole,) = map(json.loads, (report.path / "runs.jsonl").read_text().splitlines())
    assert whole["settings"]["prompts"] == prompts
    packet = _packet(report.path / record["file_name"])
    assert packet.findtext(f".//{IPTC}AISystemUsed") == "tiny-model"
    assert packet.findtext(f".//{IPTC}AISystemVersionUsed") == "abc"
    assert all(b"secret" not in file.read_bytes() for file in report.path.rglob("*") if file.is_file())


@pytest.mark.parametrize("fmt", list(EXPORTERS))
def test_hostile_names_and_texts_are_harmless_in_every_format(tmp_path: Path, fmt):
    with Workspace(tmp_path / "ws") as ws:
        ws.set_label_names(NAMES)
        run = ws.start_run("generate", {})
        ids = []
        for i, name in enumerate(NAMES):
            made: dict[str, Any] = {"origin": run.id, "meta": {"prompt": name, name[:50]: name}}
            ids.append(ws.add_image(picture(i), label=i, label_name=name, source=name, caption=name, **made))
        for id, name in zip(ids, NAMES, strict=True):
            curation.tag(ws, [id], add=[name[:90] if name.strip() else "blank"])
            curation.note(ws, [id], name)
        notes = [sample.note for sample in ws.samples(ids)]
        report = export(ws, ids, tmp_path / "outer" / "out", fmt)
    assert report.n == len(NAMES)
    assert [path.name for path in (tmp_path / "outer").iterdir()] == ["out"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outer", "ws"]
    for path in report.path.rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9_][\w.-]{0,99}", path.name) and not path.is_symlink(), path.name
        assert not re.fullmatch(r"(?i)(con|com1|lpt1)(\..*)?", path.name)
        if path.is_file() and path.suffix in (".json", ".jsonl", ".csv", ".md"):
            text = path.read_text(encoding="utf-8")
            assert not set(text) & {"\u202e", "\u2066", "\u2028", "\0"}, path.name
    card = (report.path / "README.md").read_text(encoding="utf-8")
    assert "<img" not in card and "x" * 1000 not in card and "](javascript" not in card
    assert card.count("\n---\n") == 1 and "\nlicense" not in card
    # nothing is lost: the manifest has every name as it was
    found = manifest(report.path)
    assert [found[id]["class_name"] for id in ids] == list(NAMES)
    assert [found[id]["note"] for id in ids] == notes and notes[4] == "x" * 10_000


def test_a_spreadsheet_calculates_no_cell(ws: Workspace, tmp_path: Path):
    texts = [
        "=1+1",
        '=HYPERLINK("http://x")',
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1",
        "a;=1+1",
        "a\n=1",
        "＝1+1",
    ]
    ids = []
    for i, text in enumerate(texts):
        # fmt: off
        ids.append(ws.add_image(picture(60 + i), origin="real", split="train", label=0, label_name="stop",
                                source=text, caption=text, meta={text: text}))
        # fmt: on
    for id, text in zip(ids, texts, strict=True):
        curation.tag(ws, [id], add=[text])
        curation.note(ws, [id], text)
    report = export(ws, ids, tmp_path / "out", "csv")
    raw = (report.path / "metadata.csv").read_text(encoding="utf-8")
    for delimiter in ",;\t":  # the system's language decides which one a spreadsheet takes
        with open(report.path / "metadata.csv", encoding="utf-8", newline="") as file:
            for cells in csv.reader(file, delimiter=delimiter):
                for value in cells:
                    assert not re.match(r"\s*[=+\-@＝＋－＠]", value), (delimiter, value)
    assert "'=1+1" in raw and "a;'=1+1" in raw
    assert cell(-1.5) == -1.5 and cell(None) == "" and cell("stop - night") == "stop - night"


def test_escapes_in_json_lose_nothing():
    text = f"{BIDI}\u2028\u0085\ufeff<img>夜"
    line = json_line({"a": text})
    assert json.loads(line) == {"a": text} and len(line.splitlines()) == 1 and "夜" in line


def test_names_that_windows_keeps_for_itself_are_changed():
    reserved = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")
    for name in ("CON", "con.txt", "Aux", "COM1.tar.gz", "LPT\N{SUPERSCRIPT THREE}", "nul ", "CON..png"):
        assert not reserved.fullmatch(safe_file_name(name)), name
    assert safe_file_name("console") == "console"
