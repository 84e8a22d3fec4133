"""The examples of docs/extending.md, executed in a copy of the project."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```python file=(\S+)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with every example added as the page says: a file, and a word in a tuple."""
    folder = tmp_path_factory.mktemp("extended")
    for part in ("ltg_core", "app"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "assets").mkdir()
    for part in ("css", "components"):
        shutil.copytree(ROOT / "assets" / part, folder / "assets" / part)
    for name, text in BLOCKS.items():
        assert not (folder / name).exists(), f"{name} is a part of the project already"
        (folder / name).write_text(text, encoding="utf-8")
    add(
        folder / "ltg_core/signals/__init__.py",
        "from ltg_core.signals.crowd import Crowd",
        "Leverage,",
        "Crowd,",
    )
    add(
        folder / "ltg_core/export/__init__.py",
        "from ltg_core.export.listing import ListingExporter",
        "FiftyOneExporter,",
        "ListingExporter,",
    )
    family = re.search(r"^```python\n(Family\(.*\))\n```", PAGE, re.MULTILINE)
    assert family is not None
    add(folder / "ltg_core/generators/families.py", "", "FAMILIES = (", f"{family[1]},")
    add(folder / "app/main.py", "from app.tabs import tally", "TABS: tuple[ModuleType, ...] = (", "tally,")
    return folder


def add(path: Path, line: str, after: str, word: str) -> None:
    """An import, and one more word in a tuple."""
    text = path.read_text(encoding="utf-8")
    assert text.count(after) == 1, (path.name, after)
    start = "from __future__ import annotations\n"
    text = text.replace(after, f"{after} {word}")
    text = text.replace(start, f"{start}{line}\n", 1) if line else text
    path.write_text(text, encoding="utf-8")


def run(folder: Path, code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_signal_is_registered_and_counts_the_classes_that_share_a_prediction(copy: Path) -> None:
    code = """
import torch
from ltg_core.signals import SIGNALS
from ltg_core.types import Outputs
from ltg_core.params import specs
logits = torch.tensor([[0.0, 0, 0, 0], [90, 0, 0, 0], [5, 5, -90, -90]])
signal = SIGNALS["crowd"]
print([round(v, 4) for v in signal()(Outputs(logits, logits), None).tolist()], [s.name for s in specs(signal)])
"""
    assert run(copy, code).strip() == "[4.0, 1.0, 2.0] ['temperature']"


def test_the_format_writes_its_list(copy: Path, tmp_path: Path) -> None:
    code = f"""
import numpy as np
from pathlib import Path
from ltg_core.data.records import NewSample
from ltg_core.data.workspace import Workspace
from ltg_core.export import export
with Workspace({str(tmp_path / "ws")!r}) as ws:
    images = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    ids = ws.add_images([NewSample(x, "real", split="train", label=0, label_name="a\\tb") for x in images])
    report = export(ws, ids, {str(tmp_path / "out")!r}, "listing")
    print(report.n, sorted(Path({str(tmp_path / "out")!r}, "list.txt").read_text().splitlines()) == sorted(
        f'images/{{i}}.png\\t"a\\\\tb"' for i in ids))
"""
    assert run(copy, code).split() == ["2", "True"]


def test_the_generator_draws_what_the_pipeline_of_diffusers_draws(copy: Path, tmp_path: Path) -> None:
    code = f"""
import torch
from ltg_core.compat import ensure_torchvision
from ltg_core.generators.loading import load_generator
ensure_torchvision()
from diffusers import DDIMScheduler, LDMPipeline, UNet2DModel, VQModel
torch.manual_seed(0)
vq = VQModel(block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=3,
             up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, num_vq_embeddings=32, scaling_factor=0.5)
unet = UNet2DModel(sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 16), norm_num_groups=4,
                   layers_per_block=1, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
pipe = LDMPipeline(vqvae=vq, unet=unet, scheduler=DDIMScheduler())
pipe.set_progress_bar_config(disable=True)
pipe.save_pretrained({str(tmp_path / "ldm")!r})
there = pipe(generator=torch.Generator().manual_seed(3), num_inference_steps=4, output_type="np").images
ours = load_generator({str(tmp_path / "ldm")!r})
schedule = ours.schedule(4)
denoise, z = ours.denoiser(schedule, ours.condition([""])), ours.noise([3]) * schedule.start_scale
schedule.begin(0)
with torch.no_grad():
    for i in range(4):
        z = schedule.step(denoise(z, i).output, i, z)
    image = ours.decode(z).clamp(0, 1)
there = torch.from_numpy(there).permute(0, 3, 1, 2)
print(ours.language, ours.image_size, float((image - there).abs().max()) < 1e-3)
z = ours.encode(image).requires_grad_(True)
ours.decode(denoise(z, 1).clean, tiny=True).sum().backward()
print(tuple(z.shape), bool(z.grad.abs().sum() > 0))
"""
    assert run(copy, code).split("\n")[-3:-1] == ["nothing 16 True", "(1, 3, 8, 8) True"]


def test_the_tab_is_on_the_page_and_draws_what_is_there(copy: Path, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from app.context import AppContext
from app.main import TABS, build
from app.settings import Settings
page = build(AppContext(Settings(workspace=Path({str(tmp_path / "ws")!r}))))
print([tab.TITLE for tab in TABS].count("Tally"), sum(b.elem_id == "tally" for b in page.blocks.values()))
"""
    assert run(copy, code).split()[-2:] == ["1", "1"]
