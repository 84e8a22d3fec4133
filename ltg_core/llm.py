"""A language model behind an OpenAI-compatible endpoint, asked for JSON; the only part of the package that calls out.

Nothing is sent unless somebody has named an endpoint in the environment and asks for work that needs it. The key goes
into one header and nowhere else: not into messages, logs, records or representations.
"""

from __future__ import annotations

import base64
import dataclasses
import ipaddress
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final
from urllib.parse import urlsplit

from ltg_core.data.images import PixelData, encode_png, to_pil
from ltg_core.errors import AnswerError, EndpointError, InputError
from ltg_core.jobs import CancelToken

if TYPE_CHECKING:
    import httpx

BASE_URL, API_KEY, MODEL = "LTG_LLM_BASE_URL", "LTG_LLM_API_KEY", "LTG_LLM_MODEL"
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_REFUSED = frozenset({401, 403})
_LONGEST_WAIT = 30.0
_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


@final
@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where a model answers: ``POST {base_url}/chat/completions``, as OpenAI, vLLM, llama.cpp and Ollama speak it.

    Attributes:
        base_url: With its version: "https://api.openai.com/v1", "http://127.0.0.1:11434/v1".
        model: Name of the model there.
        key: Sent as a bearer token; "" for none. Never shown.
        timeout: Seconds for one whole answer.
        retries: How often a question is asked again when the endpoint is busy, broken or out of reach.
        pause: Seconds before the first of these; each later wait is twice as long.
        most_bytes: Longest answer that is read.
        most_pixels: Longer side to which pictures are reduced before they are sent.

    Raises:
        InputError: An address that is none, that holds a password, or that would send a key in clear over the network.
    """

    base_url: str
    model: str
    key: str = dataclasses.field(default="", repr=False)
    timeout: float = 60.0
    retries: int = 3
    pause: float = 1.0
    most_bytes: int = 1_000_000
    most_pixels: int = 512

    def __post_init__(self) -> None:
        import httpx

        try:
            parts = urlsplit(self.base_url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            httpx.URL(self.base_url)  # reads an address more strictly
        except (ValueError, httpx.InvalidURL):
            known = False
        if not known:
            raise InputError(f"{BASE_URL} should look like https://host/v1 or http://127.0.0.1:11434/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise InputError(f"{BASE_URL} should hold an address only; put the key into {API_KEY}")
        if not self.model:
            raise InputError(f"name the model of the endpoint in {MODEL}")
        if any(ord(letter) < 33 or ord(letter) > 126 for letter in self.key):
            raise InputError(f"the key in {API_KEY} holds spaces or letters that no key has; copy it again")
        if self.key and parts.scheme == "http" and not _near(parts.hostname or ""):
            raise InputError(
                f"the key in {API_KEY} would travel unencrypted to {parts.hostname}; use https in {BASE_URL}, or leave "
                "the key empty"
            )

    @classmethod
    def from_environment(cls) -> Endpoint | None:
        """What ``LTG_LLM_BASE_URL``, ``LTG_LLM_API_KEY`` and ``LTG_LLM_MODEL`` say; None where no address is set."""
        address = os.environ.get(BASE_URL, "").strip()
        if not address:
            return None
        return cls(address, os.environ.get(MODEL, "").strip(), os.environ.get(API_KEY, "").strip())

    @property
    def host(self) -> str:
        """Where it is, for messages and records."""
        return urlsplit(self.base_url).netloc

    def ask_json(
        self,
        prompt: str,
        schema: Mapping[str, Any],
        images: Sequence[PixelData] = (),
        *,
        cancel: CancelToken | None = None,
    ) -> Any:
        """The model's answer as JSON of a given form. An answer of another form is asked for once more, then refused.

        Args:
            prompt: The question. The schema is added to it, for endpoints that know no other way.
            schema: JSON schema: type, properties, required, items, enum, minItems, maxItems, minLength, maxLength,
                minimum and maximum are checked; properties that it does not name are left out of the answer.
            images: Shown to the model after the question; reduced to ``most_pixels``, without metadata.
            cancel: Checked before every request and while waiting.

        Raises:
            EndpointError: It cannot be reached, refuses the key or takes too long.
            AnswerError: It answers in another form, twice.
            Cancelled: On request.
        """
        import httpx

        token = cancel or CancelToken()
        said = f"{prompt}\n\nAnswer with JSON only, of this schema:\n{json.dumps(schema, ensure_ascii=False)}"
        content: list[dict[str, Any]] = [{"type": "text", "text": said}]
        content += [{"type": "image_url", "image_url": {"url": self._data_url(image)}} for image in images]
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": content if images else said},
        ]
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        direct = _loopback(
            urlsplit(self.base_url).hostname or ""
        )  # a proxy has no business on the way to oneself
        with httpx.Client(headers=headers, timeout=self.timeout, trust_env=not direct) as client:
            wrong = ""
            for _ in range(2):
                text = self._complete(client, messages, schema, token)
                try:
                    return fitted(_json(text), schema)
                except ValueError as error:
                    wrong = self._without_key(str(error))
                messages += [
                    {"role": "assistant", "content": text[:2000]},
                    {"role": "user", "content": f"That cannot be used: {wrong}. Answer with the JSON only."},
                ]
        raise AnswerError(
            f"the model {self.model!r} at {self.host} does not answer in the form that was asked for: {wrong}; "
            "try again, or another model"
        )

    def _complete(
        self,
        client: httpx.Client,
        messages: Sequence[Mapping[str, Any]],
        schema: Mapping[str, Any],
        token: CancelToken,
    ) -> str:
        """The text of one answer."""
        bare: dict[str, Any] = {"model": self.model, "messages": list(messages)}
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema)}}
        status, body = self._post(client, bare | {"temperature": 0, "response_format": form}, token)
        if status in (400, 422):  # it may know no schema or no temperature
            status, body = self._post(client, bare, token)
        if status in _REFUSED:
            raise EndpointError(f"{self.host} refuses the key (status {status}); look at {API_KEY}")
        if status != 200:
            raise EndpointError(
                f"{self.host} answers with status {status}{self._reason(body)}; look at {BASE_URL} and {MODEL}"
            )
        try:
            answer = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError):
            answer = None
        if not isinstance(answer, str):
            raise EndpointError(
                f"{self.host} does not speak the OpenAI protocol: no choices[0].message.content; {BASE_URL} usually "
                "ends with /v1"
            )
        return answer

    def _post(self, client: httpx.Client, body: Mapping[str, Any], token: CancelToken) -> tuple[int, bytes]:
        """Status and content, after as many tries as allowed."""
        import httpx

        wait, trouble = self.pause, ""
        for left in range(self.retries, -1, -1):
            token.check()
            asked = 0.0
            try:
                status, content, asked = self._once(client, body)
                if status not in _AGAIN or not left:
                    return status, content
            except httpx.TimeoutException:
                trouble = f"did not answer within {self.timeout:g} seconds"
            except httpx.HTTPError as error:
                trouble = f"cannot be reached ({type(error).__name__})"
            if left:
                _sleep(min(_LONGEST_WAIT, max(wait, asked)), token)
                wait *= 2
        raise EndpointError(
            f"{self.host} {trouble}, asked {self.retries + 1} times; see that it runs and look at {BASE_URL}"
        )

    def _once(self, client: httpx.Client, body: Mapping[str, Any]) -> tuple[int, bytes, float]:
        """Status, content and the seconds that the endpoint asks to wait; the time limit holds for the whole answer."""
        import httpx

        end = time.monotonic() + self.timeout
        with client.stream("POST", self.base_url.rstrip("/") + "/chat/completions", json=body) as answer:
            found = bytearray()
            for part in answer.iter_bytes():
                found += part
                if len(found) > self.most_bytes:
                    raise EndpointError(
                        f"{self.host} answers with more than {self.most_bytes:,} bytes; it was stopped"
                    )
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the whole answer took too long")
            later = answer.headers.get("retry-after", "")
            return answer.status_code, bytes(found), float(later) if later.isdecimal() else 0.0

    def _reason(self, body: bytes) -> str:
        """What the endpoint says about an error, one line, without the key."""
        try:
            said = json.loads(body)["error"]
            text = said["message"] if isinstance(said, dict) else said
        except (ValueError, LookupError, TypeError, RecursionError):
            return ""
        line = " ".join(str(text).split())
        return f" ({self._without_key(line)[:200]})"

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "…") if self.key else text

    def _data_url(self, image: PixelData) -> str:
        small = to_pil(image).copy()
        small.thumbnail((self.most_pixels, self.most_pixels))
        return "data:image/png;base64," + base64.b64encode(encode_png(small)).decode()


def _json(text: str) -> Any:
    fenced = _FENCE.match(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        start = " ".join(text.split())[:60]
        raise ValueError(f"it is not JSON and begins with {start!r}") from None


def fitted(value: Any, schema: Mapping[str, Any], where: str = "the answer") -> Any:
    """A value, without what its schema does not name.

    Raises:
        ValueError: It does not fit; the message says where.
    """
    kind = str(schema.get("type", ""))
    if kind and (
        not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind in ("integer", "number"))
    ):
        raise ValueError(f"{where} should be of type {kind}, not {type(value).__name__}")
    if "enum" in schema and value not in schema["enum"]:
        raise ValueError(f"{where} should be one of {list(schema['enum'])[:8]}")
    if isinstance(value, (str, list)):
        unit, low, high = (
            ("entries", "minItems", "maxItems")
            if isinstance(value, list)
            else ("letters", "minLength", "maxLength")
        )
        if not schema.get(low, 0) <= len(value) <= schema.get(high, len(value)):
            bounds = (
                f"{schema.get(low, 0):,} to {schema[high]:,}"
                if high in schema
                else f"{schema[low]:,} or more"
            )
            raise ValueError(f"{where} has {len(value):,} {unit}; {bounds} were asked for")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        finite = value == value and abs(value) != float("inf")
        if not finite or not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            raise ValueError(f"{where} is {value}, which is out of bounds")
    if isinstance(value, list) and "items" in schema:
        return [fitted(one, schema["items"], f"{where}[{i}]") for i, one in enumerate(value)]
    if isinstance(value, dict) and "properties" in schema:
        for name in schema.get("required", ()):
            if name not in value:
                raise ValueError(f"{where} lacks {name!r}")
        known = schema["properties"]
        return {name: fitted(value[name], known[name], f"{where}.{name}") for name in known if name in value}
    return value


def _sleep(seconds: float, token: CancelToken) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        token.check()
        time.sleep(min(0.2, left))


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _near(host: str) -> bool:
    """Whether an address is this machine or in a private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"
