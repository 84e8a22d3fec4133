"""A captioner in a folder of this machine, tiny and untrained: it says one word about every picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import ModelError
from ltg_core.introspection.captions import FolderCaptioner
from ltg_core.jobs import CancelToken


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BLIP with one layer in each tower."""
    ensure_torchvision()
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    place = tmp_path_factory.mktemp("captioner")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "fog", "night", "sign"]
    (place / "vocab.txt").write_text("\n".join(words) + "\n")
    inner = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep")}
    tokenizer = BertTokenizerFast(tokenizer_object=inner, **names)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(words), "encoder_hidden_size": 16, "max_position_embeddings": 64}
    text |= {"bos_token_id": 4, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    vision = {**small, "image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision)).save_pretrained(place)
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(images, tokenizer).save_pretrained(place)
    return place


def test_a_local_captioner_says_a_sentence(folder: Path) -> None:
    captioner = FolderCaptioner(folder)
    said = captioner.describe(Image.new("RGB", (40, 30), "gray"), CancelToken())
    assert said == "[DEC]" and captioner.name == folder.name


def test_a_folder_without_a_captioner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="captioner"):
        FolderCaptioner(tmp_path)
