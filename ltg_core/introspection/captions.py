"""Who says in words what a picture shows: a model behind an endpoint, or one in a folder of this machine."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any, final

from PIL import Image

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import AnswerError, ModelError
from ltg_core.jobs import CancelToken
from ltg_core.llm import Endpoint
from ltg_core.models.weights import first_line

Caption = str | list[str]
"""A sentence, or terms."""
_QUESTION = (
    "What would a photographer note about this picture, besides what its main object is? Light, weather, viewpoint, "
    "state of the object, what hides it, surroundings, quality of the picture. Up to 8 terms of one to three English "
    "words, in lower case, only what can be seen."
)
_TERMS = {
    "type": "object",
    "properties": {
        "terms": {
            "type": "array",
            "maxItems": 20,
            "items": {"type": "string", "minLength": 1, "maxLength": 80},
        }
    },
    "required": ["terms"],
}
_LONGEST = 500


class Captioner(abc.ABC):
    """Describes pictures.

    Attributes:
        name: For people and for the records; says which model.
        at_once: How many may be asked at the same time.
    """

    name: str
    at_once: int = 1

    @abc.abstractmethod
    def describe(self, image: Image.Image, cancel: CancelToken) -> Caption:
        """What one picture shows.

        Raises:
            AnswerError: Nothing usable about this picture; others may go on.
            EndpointError: Nothing usable at all.
        """


@final
class EndpointCaptioner(Captioner):
    """A vision model behind an OpenAI-compatible endpoint; the pictures go there, reduced and without metadata."""

    at_once = 4

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.name = f"{endpoint.model} at {endpoint.host}"

    def describe(self, image: Image.Image, cancel: CancelToken) -> Caption:
        """Terms."""
        answer = self.endpoint.ask_json(_QUESTION, _TERMS, [image], cancel=cancel)
        return [str(term) for term in answer["terms"]]


@final
class FolderCaptioner(Captioner):
    """A captioner in transformers' layout: BLIP, GIT, ViT with GPT-2, or a vision-language model with a chat template.

    Raises:
        ModelError: The folder cannot be read.
    """

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        ensure_torchvision()
        from transformers import AutoModelForImageTextToText, AutoProcessor

        folder = Path(folder).expanduser()
        try:
            self.processor: Any = AutoProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            model: Any = AutoModelForImageTextToText.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise ModelError(
                f"the captioner in {folder.name!r} cannot be read: {first_line(error)}"
            ) from error
        self.model = model.to(device).eval().requires_grad_(False)
        self.name = folder.name

    def describe(self, image: Image.Image, cancel: CancelToken) -> Caption:
        """A sentence."""
        import torch

        cancel.check()
        asked: dict[str, Any] = {"images": image, "return_tensors": "pt"}
        if getattr(self.processor, "chat_template", None):
            said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": _QUESTION}]}]
            asked["text"] = self.processor.apply_chat_template(said, add_generation_prompt=True)
        given = self.processor(**asked).to(self.model.device)
        with torch.no_grad():
            ids = self.model.generate(**given, max_new_tokens=40, do_sample=False)
        start = given["input_ids"].shape[1] if "text" in asked else 0
        text = str(self.processor.batch_decode(ids[:, start:], skip_special_tokens=True)[0])
        if not text.strip():
            raise AnswerError(f"{self.name} says nothing about the picture")
        return text[:_LONGEST]
