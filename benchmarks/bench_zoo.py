"""Which architectures work: each randomly initialised one through everything that a classifier is asked for.

    python -m benchmarks.bench_zoo [--only timm:resnet18 …] [--again]

Writes docs/zoo.md and benchmarks/results/zoo.json. A row that was finished with the present ``ltg_core/models`` is kept,
so that a stopped run goes on; ``--again`` measures all anew. Rows of earlier code are measured again and, until then,
marked in the table. The work is done in a process apart: an architecture that crashes or hangs is a row with its reason.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "zoo.json"
TABLE = ROOT / "docs" / "zoo.md"
CLASSES = 6
LIMIT_S = 300

# (architecture, side of the input, options). The smallest input that it takes: hierarchical networks shrink theirs 32
# times; token models are built for a smaller image where they allow it.
ZOO: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("timm:resnet18", 64, {}),
    ("timm:resnet50", 64, {}),
    ("timm:resnext50_32x4d", 64, {}),
    ("timm:seresnet50", 64, {}),
    ("timm:regnety_004", 64, {}),
    ("timm:densenet121", 64, {}),
    ("timm:efficientnet_b0", 64, {}),
    ("timm:tf_efficientnetv2_s", 64, {}),
    ("timm:mobilenetv3_large_100", 64, {}),
    ("timm:mobilenetv4_conv_small", 64, {}),
    ("timm:mnasnet_100", 64, {}),
    ("timm:ghostnet_100", 64, {}),
    ("timm:repvgg_a0", 64, {}),
    ("timm:inception_v3", 96, {}),
    ("timm:xception41", 64, {}),
    ("timm:vgg11_bn", 64, {}),
    ("timm:dpn68", 64, {}),
    ("timm:hrnet_w18_small", 64, {}),
    ("timm:cspdarknet53", 64, {}),
    ("timm:convnext_atto", 64, {}),
    ("timm:convnextv2_atto", 64, {}),
    ("timm:convmixer_768_32", 56, {}),
    ("timm:vit_tiny_patch16_224", 32, {"img_size": [32, 32]}),
    ("timm:vit_small_patch16_224", 48, {"img_size": [48, 48]}),
    ("timm:deit_tiny_distilled_patch16_224", 32, {"img_size": [32, 32]}),
    ("timm:beit_base_patch16_224", 32, {"img_size": [32, 32]}),
    ("timm:eva02_tiny_patch14_224", 28, {"img_size": [28, 28]}),
    ("timm:vit_small_patch14_reg4_dinov2", 28, {"img_size": [28, 28]}),
    ("timm:vit_tiny_r_s16_p8_224", 64, {"img_size": [64, 64]}),
    ("timm:swin_tiny_patch4_window7_224", 64, {"img_size": [64, 64]}),
    ("timm:swinv2_tiny_window8_256", 64, {"img_size": [64, 64]}),
    ("timm:cait_xxs24_224", 32, {"img_size": [32, 32]}),
    ("timm:xcit_nano_12_p16_224", 64, {}),
    ("timm:pvt_v2_b0", 64, {}),
    ("timm:coatnet_0_rw_224", 64, {"img_size": [64, 64]}),
    ("timm:maxvit_tiny_rw_224", 64, {"img_size": [64, 64]}),
    ("timm:mobilevit_s", 64, {}),
    ("timm:edgenext_xx_small", 64, {}),
    ("timm:efficientformer_l1", 224, {}),
    ("timm:levit_128s", 224, {}),
    ("timm:poolformer_s12", 64, {}),
    ("timm:mixer_s32_224", 64, {"img_size": [64, 64]}),
    ("timm:resmlp_12_224", 32, {"img_size": [32, 32]}),
    ("timm:resnet18", 64, {"in_chans": 1}),
    ("torchvision:resnet18", 64, {}),
    ("torchvision:alexnet", 64, {}),
    ("torchvision:vgg11", 64, {}),
    ("torchvision:squeezenet1_1", 64, {}),
    ("torchvision:googlenet", 64, {}),
    ("torchvision:shufflenet_v2_x1_0", 64, {}),
    ("torchvision:mobilenet_v2", 64, {}),
    ("torchvision:efficientnet_v2_s", 64, {}),
    ("torchvision:regnet_y_400mf", 64, {}),
    ("torchvision:convnext_tiny", 64, {}),
    ("torchvision:vit_b_32", 64, {"image_size": 64}),
    ("torchvision:swin_t", 64, {}),
    ("torchvision:maxvit_t", 224, {}),
    ("transformers:vit", 32, {"image_size": 32}),
    ("transformers:deit", 32, {"image_size": 32}),
    ("transformers:beit", 32, {"image_size": 32}),
    ("transformers:dinov2", 28, {"image_size": 28}),
    ("transformers:resnet", 64, {}),
    ("transformers:convnext", 64, {}),
    ("transformers:convnextv2", 64, {}),
    ("transformers:swin", 224, {}),
    ("transformers:mobilenet_v2", 64, {}),
    ("transformers:mobilevit", 64, {"image_size": 64}),
    ("transformers:poolformer", 64, {}),
    ("transformers:pvt", 64, {"image_size": 64}),
    ("transformers:segformer", 64, {}),
    ("transformers:levit", 224, {}),
    ("transformers:siglip", 32, {"vision_config": {"image_size": 32}}),
)  # fmt: skip


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="only these architectures")
    parser.add_argument("--again", action="store_true", help="measure all anew")
    parser.add_argument("--walk", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.walk:
        serve()
        return
    apart = Apart()
    now = code()
    rows: dict[str, Any] = {}
    if RESULTS.is_file() and not options.again:
        rows = json.loads(RESULTS.read_text(encoding="utf-8"))
    for number, (arch, _, given) in enumerate(ZOO):
        key = key_of(arch, given)
        done = rows.get(key, {}).get("code") == now
        if (options.only and arch not in options.only) or (done and not options.only):
            continue
        rows[key] = {**apart(number), "code": now}
        print(f"{number + 1} of {len(ZOO)}  {key}: {rows[key].get('failed') or 'works'}", flush=True)
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    apart.close()
    write_table(rows)


def code() -> str:
    """A short hash of the code that a row depends on most: everything in ltg_core/models."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "ltg_core" / "models").rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def key_of(arch: str, options: dict[str, Any]) -> str:
    """The name of a row."""
    return arch + (" grey" if options.get("in_chans") == 1 else "")


class Apart:
    """A process that walks; it lives on for the next architecture unless one crashes or hangs."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, number: int) -> dict[str, Any]:
        """One architecture; what ends the process is its row."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.bench_zoo", "--walk"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={"OMP_NUM_THREADS": "1", **os.environ},
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        alarm = threading.Timer(LIMIT_S, process.kill)
        alarm.start()
        started = time.monotonic()
        line = process.stdout.readline()
        alarm.cancel()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        self._process = None
        late = time.monotonic() - started >= LIMIT_S
        return {
            "failed": f"not finished after {LIMIT_S} s" if late else f"ended with status {process.wait()}"
        }

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()


def serve() -> None:
    """Numbers of architectures in, rows out; what libraries print does not get between."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(walk(*ZOO[int(line)])) + "\n")
        answers.flush()


def walk(arch: str, side: int, options: dict[str, Any]) -> dict[str, Any]:
    """Load → logits → features → gradient of a signal → one attribution → head fit."""
    import torch

    from ltg_core.models.architectures import build, default_preprocess, grey, suggest
    from ltg_core.models.classifier import Classifier
    from ltg_core.models.loaders import load_classifier, save_classifier
    from ltg_core.models.preprocess import Preprocess

    torch.manual_seed(0)
    started = time.monotonic()
    row: dict[str, Any] = {"input": side, "stage": "load"}
    try:
        net = build(arch, CLASSES, options)
        fill(net)
        settle(net, torch.randn(8, options.get("in_chans", 3), side, side))
        usual = default_preprocess(arch, options)
        usual = grey(usual) if options.get("in_chans") == 1 and usual.channels == 3 else usual
        changed = {"height": side, "width": side, "resize": "squash"}
        preprocess = Preprocess.from_dict({**usual.to_dict(), **changed})
        labels = [f"class {i}" for i in range(CLASSES)]
        made = Classifier(net, labels, preprocess, name=arch, arch=arch, options=options)
        with tempfile.TemporaryDirectory() as folder:
            save_classifier(made, Path(folder) / "a.safetensors")
            classifier = load_classifier(Path(folder) / "a.safetensors")
        assert classifier.hash == made.hash, "the classifier read back is another one"
        shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
        row |= {
            "parameters": sum(p.numel() for p in net.parameters()),
            "feature_layer": classifier.feature_layer,
            "early_layer": classifier.early_layer,
            "gradcam_layer": classifier.gradcam_layer,
            "suggested": next(iter(suggest(shapes)), ("", 0.0)),
        }
        del net, made
        walk_through(classifier, side, row)
    except Exception as error:  # noqa: BLE001  # a failure is a row with its reason
        return {
            **row,
            "failed": f"{row['stage']}: {type(error).__name__}: {' '.join(str(error).split())[:240]}",
        }
    del row["stage"]
    return {**row, "seconds": round(time.monotonic() - started, 1)}


def fill(net: Any) -> None:
    """Draw what an architecture begins as zeros, as training would: last layers and last scales of residual branches.

    With them every logit is the same whatever the image, or a branch is not there: the gradient is zero because
    of where training begins, which says nothing of the code under test. What is added (bias, beta) stays zero.
    """
    import torch

    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if (
                parameter.is_floating_point()
                and not name.endswith(("bias", "beta"))
                and not bool(parameter.any())
            ):
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=0.02)
                else:
                    torch.nn.init.ones_(parameter)


def settle(net: Any, batch: Any) -> None:
    """Give batch normalisation the statistics of a batch, as training would; untouched ones let signals die out."""
    import torch

    norms = [m for m in net.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # a plain average over all batches
        norm.reset_running_stats()
    with torch.no_grad():
        net.train()(batch)
    net.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def walk_through(classifier: Any, side: int, row: dict[str, Any]) -> None:
    """Everything after loading; ``row["stage"]`` says where it is."""
    import torch

    from ltg_core.attribution import ATTRIBUTIONS, ClassTarget
    from ltg_core.models.classifier import Classifier
    from ltg_core.signals import SIGNALS
    from ltg_core.signals.head import HeadSettings
    from ltg_core.signals.reference import fit_reference

    assert isinstance(classifier, Classifier)
    draws = torch.Generator().manual_seed(1)
    row["stage"] = "logits"
    images = torch.rand(4, 3, side, side, generator=draws)
    out = classifier.outputs(images, batch_size=4)
    assert out.logits.shape == (4, CLASSES) and bool(torch.isfinite(out.logits).all()), (
        "logits are not finite"
    )
    row["stage"] = "features"
    row["features"] = int(out.features.shape[1])
    row["early"] = None if out.early is None else int(out.early.shape[1])
    assert bool(torch.isfinite(out.stacked()).all()), "features are not finite"
    row["stage"] = "signal gradient"
    one = images[:1].clone().requires_grad_()
    for name in (
        "entropy",
        "energy",
    ):  # random logits may be so far apart that entropy is 0 with all its digits
        value = SIGNALS[name]()(classifier(one), None)
        (gradient,) = torch.autograd.grad(value.sum(), one)
        assert bool(torch.isfinite(gradient).all()), f"the gradient of {name} is not finite"
        if float(gradient.abs().sum()) > 0:
            break
    else:
        raise AssertionError("the gradient is zero")
    row["stage"] = "attribution"
    row["attribution"] = "grad_cam" if classifier.gradcam_layer else "saliency"
    heat = ATTRIBUTIONS[row["attribution"]]().attribute(ClassTarget(classifier, 0), images[:1])
    heat = heat[0] if isinstance(heat, tuple) else heat
    assert bool(torch.isfinite(torch.as_tensor(heat)).all()), "the heat is not finite"
    row["stage"] = "head"
    more = torch.rand(24, 3, side, side, generator=draws)
    known = classifier.outputs(more, batch_size=8)
    labels = torch.arange(24) % CLASSES
    reference = fit_reference(
        known,
        labels,
        out,
        labels[:4],
        CLASSES,
        HeadSettings(members=4, hidden=8, epochs=2, batch_size=8),
        generator=draws,
    )
    again = images[:1].clone().requires_grad_()
    value = SIGNALS["epistemic"]()(classifier(again), reference)
    (gradient,) = torch.autograd.grad(value.sum(), again)
    assert bool(torch.isfinite(gradient).all()), "the gradient of the head's signal is not finite"


def write_table(rows: dict[str, Any]) -> None:
    """docs/zoo.md."""
    versions = {
        name: metadata.version(name).split("+")[0]
        for name in ("torch", "torchvision", "timm", "transformers")
    }
    keys = [key_of(arch, options) for arch, _, options in ZOO if key_of(arch, options) in rows]
    works = [key for key in keys if not rows[key].get("failed")]
    counts = ", ".join(
        f"{sum(k.startswith(f'{name}:') for k in works)} of {sum(k.startswith(f'{name}:') for k in keys)} of {name}"
        for name in ("timm", "torchvision", "transformers")
    )
    now = code()
    old = {key for key in keys if rows[key].get("code") != now}
    lines = [
        "# Architectures that were tried",
        "",
        "Written by `make bench-zoo`; do not edit. Each network has random weights (those that its architecture begins as zeros are drawn too, for a "
        "last layer of zeros has no gradient) and the statistics of one random batch, so nothing here is about accuracy; it gets the smallest input that was found to work. It is built by name, saved, **loaded** again from its file, asked for "
        "**logits** and **features**, for the **gradient of a signal** (entropy, or energy where random logits saturate) with respect to the image, for one "
        "**attribution** (Grad-CAM where a layer with places was found, else saliency), and an **epistemic head** is fitted on "
        "it and differentiated.",
        "",
        f"All steps passed: {counts}. "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        "",
        *age_note(len(old), len(keys)),
        "*Suggested*: the architecture that its tensors alone were taken for, and how well they fit.",
        "",
        "| architecture | input | parameters | feature layer (width) | earlier layer (width) | Grad-CAM layer | suggested | result |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in keys:
        lines.append(table_row(key + (" †" if key in old else ""), rows[key]))
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def age_note(old: int, everything: int) -> list[str]:
    """What is said of rows that earlier code gave."""
    if not old:
        return []
    return [
        f"**{old} of the {everything} rows, marked †, were measured with earlier code** of `ltg_core/models` and may have "
        "changed since; they are in the counts above. `make bench-zoo` measures them again.",
        "",
    ]


def table_row(key: str, row: dict[str, Any]) -> str:
    """One line of the table."""
    side = f"{row['input']}×{row['input']}" if "input" in row else ""
    size = f"{row['parameters'] / 1e6:.1f} M" if "parameters" in row else ""
    layers = [
        f"`{row[name]}`" + (f" ({row[width]})" if row.get(width) else "") if row.get(name) else "–"
        for name, width in (("feature_layer", "features"), ("early_layer", "early"), ("gradcam_layer", ""))
    ]
    name, score = row.get("suggested", ("", 0.0))
    suggested = f"{name} {score:.0%}" if score > 0.1 else "–"
    return " | ".join(["| " + key, side, size, *layers, suggested, row.get("failed") or "works"]) + " |"


if __name__ == "__main__":
    main()
