"""Model folders as hubs lay them out: transformers, and timm; only configuration and safetensors are read."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import ModelError, UnsafeFile
from ltg_core.models import architectures, naming
from ltg_core.models.huggingface import (
    class_name,
    clean_config,
    meta_size,
    processor_preprocess,
    usual_preprocess,
)
from ltg_core.models.preprocess import Preprocess
from ltg_core.models.weights import BROKEN, State, first_line, read_weights

_CONFIG_LIMIT = 16 * 2**20
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """What a folder says about its classifier.

    Attributes:
        arch: Canonical name of the architecture.
        options: What the name leaves open.
        state: The tensors.
        labels: Class names, None where it has none.
        preprocess: As its configuration says.
        name: For people.
        notes: What was recognised.
    """

    arch: str
    options: dict[str, Any]
    state: State
    labels: list[str] | None
    preprocess: Preprocess
    name: str
    notes: list[str]


def read_folder(path: Path) -> ModelFolder:
    """Read a model folder: ``config.json``, ``preprocessor_config.json`` and ``*.safetensors``.

    Raises:
        ModelError: It is none, is damaged, describes another network than its weights, or one that does not classify
            images.
        UnsafeFile: Its weights are pickled only.
    """
    config = read_json(path / "config.json")
    if "model_type" in config and config.get("model_type") != "timm_wrapper":
        return _transformers_folder(path, config)
    if "architecture" in config:
        return _timm_folder(path, config)
    raise ModelError(
        f"'{path.name}/config.json' names neither a 'model_type' (transformers) nor an 'architecture' (timm); expected "
        "a folder written by save_pretrained, or a weight file"
    )


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file.

    Raises:
        ModelError: It is absent, too large, or no JSON object.
    """
    if not path.is_file():
        raise ModelError(
            f"there is no {path.name} in '{path.parent.name}'; expected a folder written by save_pretrained "
            "(transformers or timm), or a weight file"
        )
    try:
        if path.stat().st_size > _CONFIG_LIMIT:
            raise ModelError(f"{path.name} is larger than {_CONFIG_LIMIT // 2**20} MB")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{path.name} is not readable JSON: {first_line(error)}") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path.name} holds a {type(config).__name__}; expected an object")
    return config


def _transformers_folder(path: Path, config: dict[str, Any]) -> ModelFolder:
    kind = str(config["model_type"])
    if config.get("auto_map") and kind not in naming.transformers_names(required=True):
        raise UnsafeFile(
            f"'{path.name}' needs Python code from its own folder (auto_map), which is never run; only model types "
            "that transformers itself has can be used"
        )
    arch = naming.canonical(f"transformers:{kind}")
    classes = _classes(config)
    options = clean_config(config)
    files = _weight_files(path)
    _plausible(path, kind, classes, options, files)
    notes = [f"a transformers folder ({kind}, {classes} classes)"]
    state = _loaded(path, arch, classes, options)
    processor = path / "preprocessor_config.json"
    channels = int(options.get("num_channels", 3))
    if processor.is_file():
        preprocess = processor_preprocess(read_json(processor), channels)
    else:
        preprocess = usual_preprocess(kind, options)
        notes.append("no preprocessor_config.json; the preprocessing usual for this model type was taken")
    return ModelFolder(arch, options, state, _names(config, classes), preprocess, path.name, notes)


def _loaded(path: Path, arch: str, classes: int, options: Mapping[str, Any]) -> State:
    """The tensors under the names that transformers has for them today; older spellings are its own business."""
    ensure_torchvision()
    from transformers import AutoConfig, AutoModelForImageClassification
    from transformers.utils import logging as their_logging

    kind = arch.partition(":")[2]
    rest = {name: value for name, value in options.items() if name != "architectures"}
    made = AutoConfig.for_model(kind, num_labels=classes, **rest)
    made.architectures = [class_name(kind, options.get("architectures"))]
    before, bars = their_logging.get_verbosity(), their_logging.is_progress_bar_enabled()
    their_logging.set_verbosity(logging.CRITICAL)
    their_logging.disable_progress_bar()
    try:
        with torch.random.fork_rng(devices=[]):
            net, info = AutoModelForImageClassification.from_pretrained(
                path,
                config=made,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below, in words
                dtype=torch.float32,
            )
    except (safetensors.SafetensorError, ImportError, *BROKEN) as error:
        raise ModelError(f"'{path.name}' cannot be loaded by transformers: {first_line(error)}") from error
    finally:
        their_logging.set_verbosity(before)
        if bars:
            their_logging.enable_progress_bar()
    absent = sorted(str(key) for key in info.get("missing_keys", ()))
    odd = sorted(str(key if isinstance(key, str) else key[0]) for key in info.get("mismatched_keys", ()))
    if absent or odd:
        raise ModelError(
            f"the weights in '{path.name}' are not those of its configuration: "
            + "; ".join(
                f"{len(some)} tensors {what} ({', '.join(some[:4])})"
                for some, what in ((absent, "are missing"), (odd, "have another shape"))
                if some
            )
            + ". It may be a backbone without a classification layer"
        )
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def _plausible(path: Path, kind: str, classes: int, options: Mapping[str, Any], files: list[Path]) -> None:
    """Refuse a configuration that describes far more numbers than its files hold, before anything is allocated."""
    held = 0
    for file in files:
        try:
            with safetensors.safe_open(file, framework="pt") as content:
                for name in content.keys():  # noqa: SIM118  # no mapping
                    size = 1
                    for side in content.get_slice(name).get_shape():
                        size *= side
                    held += size
        except (safetensors.SafetensorError, *BROKEN) as error:
            raise ModelError(
                f"{file.name} is not a readable safetensors file: {first_line(error)}"
            ) from error
    wanted = meta_size(kind, classes, options)
    if wanted > 1.5 * held + 100_000:
        raise ModelError(
            f"'{path.name}' describes a network of {wanted:,} numbers, but its files hold {held:,}; they do not belong "
            "together"
        )


def _timm_folder(path: Path, config: dict[str, Any]) -> ModelFolder:
    arch = naming.canonical(f"timm:{config['architecture']}")
    found = read_weights(_weight_files(path)[0])
    shapes = {name: tuple(tensor.shape) for name, tensor in found.state.items()}
    cfg = config.get("pretrained_cfg")
    preprocess = architectures.timm_preprocess(cfg if isinstance(cfg, dict) else config)
    options = architectures.infer_options(arch, shapes, (preprocess.height, preprocess.width))
    given = config.get("label_names")
    texts = config.get("label_descriptions")
    if isinstance(given, list) and isinstance(texts, dict):
        given = [str(texts.get(name, name)).split(",")[0] for name in given]
    labels = [str(name) for name in given] if isinstance(given, list) else None
    notes = [f"a timm folder ({config['architecture']})", *found.notes]
    return ModelFolder(arch, options, found.state, labels, preprocess, path.name, notes)


def without_weights(folder: str, names: Sequence[str]) -> ModelError:
    """What to say of a folder with these files and no safetensors among them."""
    if any(Path(name).suffix in _PICKLED for name in names):
        return UnsafeFile(
            f"'{folder}' holds pickled weights only; convert them where you trust their maker "
            "(model.save_pretrained writes safetensors), and choose the folder again"
        )
    return ModelError(f"'{folder}' holds no *.safetensors")


def _weight_files(path: Path) -> list[Path]:
    """The safetensors files of a folder, those that lie outside it refused."""
    files = sorted(path.glob("*.safetensors"))
    if (path / "model.safetensors").is_file():
        files = [path / "model.safetensors"]
    if not files:
        raise without_weights(path.name, [file.name for file in path.iterdir()])
    root = path.resolve()
    index = path / "model.safetensors.index.json"
    named = list(read_json(index).get("weight_map", {}).values()) if index.is_file() else []
    for name in [*(file.name for file in files), *named]:
        target = path / str(name)
        if Path(str(name)).name != str(name) or not target.is_file():
            raise ModelError(f"'{path.name}' names the weight file {str(name)!r:.80}, which is not in it")
        if target.is_symlink() and not target.resolve().is_relative_to(root.parent.parent):
            raise UnsafeFile(f"'{path.name}' was refused: {target.name} is a link to a file elsewhere")
    return files


def _classes(config: Mapping[str, Any]) -> int:
    names = config.get("id2label")
    count = len(names) if isinstance(names, dict) and names else config.get("num_labels", 2)
    if not isinstance(count, int) or not 1 <= count <= 100_000:
        raise ModelError(f"the configuration has {count!r} classes; expected 1 to 100,000")
    return count


def _names(config: Mapping[str, Any], classes: int) -> list[str] | None:
    given = config.get("id2label")
    if not isinstance(given, dict):
        return None
    names = [str(given.get(str(i), given.get(i, f"class {i}"))) for i in range(classes)]
    return None if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names
