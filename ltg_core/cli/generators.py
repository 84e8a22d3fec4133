"""The part of ``use`` that is about generators: what is loaded onto one, what it needs, fetching one by name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ltg_core.errors import InputError

if TYPE_CHECKING:
    from ltg_core.cli.console import Console
    from ltg_core.generators.base import Generator
    from ltg_core.generators.hub import Offer
    from ltg_core.generators.options import GeneratorOptions


def add_generator_flags(parser: argparse.ArgumentParser) -> None:
    """``--generator`` and what goes with it."""
    from ltg_core.generators.options import DTYPES, OFFLOADS

    group = parser.add_argument_group("generator")
    group.add_argument(
        "--generator",
        metavar="DIR",
        help="directory in diffusers' layout, which stays where it is; or owner/name of one fetched before",
    )
    group.add_argument(
        "--lora",
        metavar="FILE[@X]",
        action="append",
        default=[],
        help="LoRA weights, strength X; may be repeated",
    )
    group.add_argument(
        "--inversion", metavar="FILE", action="append", default=[], help="textual inversion; may be repeated"
    )
    group.add_argument(
        "--image-adapter", metavar="DIR[@X]", default="", help="IP-Adapter: its weights and 'image_encoder'"
    )
    group.add_argument(
        "--tiny",
        metavar="PATH",
        default="",
        help="tiny decoder for guidance: AutoencoderTiny or TAESD's own weights",
    )
    group.add_argument("--dtype", default="", choices=("", *DTYPES), help="precision of the networks")
    group.add_argument("--offload", default="none", choices=OFFLOADS, help="what waits in main memory")
    group.add_argument("--slicing", action="store_true", help="decode one image after another")
    group.add_argument(
        "--chunk",
        type=_rows,
        default=0,
        metavar="N",
        help="images in one call of a network, or 'best' to measure which number is quickest here",
    )
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the networks: loading takes up to minutes, generating is quicker (mostly on a GPU)",
    )
    group.add_argument(
        "--download",
        action="store_true",
        help="ask the model hub for owner/name: says commit, size and licence; with that --revision it fetches it",
    )
    group.add_argument("--revision", metavar="COMMIT", help="the commit to fetch, 40 hex digits")


def generator_options(args: argparse.Namespace) -> GeneratorOptions:
    """The options that were given."""
    from ltg_core.generators.options import GeneratorOptions

    return GeneratorOptions(
        lora=tuple(args.lora),
        inversion=tuple(args.inversion),
        image_adapter=args.image_adapter,
        tiny=args.tiny,
        dtype=args.dtype,
        offload=args.offload,
        slicing=args.slicing,
        chunk=args.chunk,
        compile=args.compile,
    )


def _rows(text: str) -> int:
    """A number of images, or the one that is measured."""
    from ltg_core.generators.options import BEST

    return BEST if text == "best" else int(text)


def described(generator: Generator) -> tuple[dict[str, Any], str]:
    """What a generator is, how it is asked, and what it needs."""
    from ltg_core.generators.memory import needs

    memory = needs(generator)
    facts = {
        "name": generator.name,
        "hash": generator.hash,
        "size": generator.image_size,
        "asked_in": generator.language,
        "classes": len(generator.classes),
        "guided_by": generator.codec.tiny,
        "suggested": dict(generator.suggested),
        "options": generator.options.to_dict(),
        "samplers": list(generator.samplers),
        "compiled": generator.compiled,
        "memory_bytes": memory.of(generator.chunk),
    }
    asked = {
        "text": "asked by text",
        "classes": "asked by class, by name or number",
        "nothing": "unconditional: only search and climb lead it to a class",
    }
    needed = ", ".join(f"{name} {value:g}" for name, value in generator.suggested.items())
    lines = [
        f"Generator {generator.name} ({generator.hash}): {generator.image_size} × {generator.image_size} pixels, "
        f"{asked[generator.language]}. Guidance decodes with: {generator.codec.tiny}.",
        f"Memory: {memory.text(generator.chunk)}.",
        f"Samplers that fit: {', '.join(generator.samplers)}.",
    ]
    if generator.options.chunk:
        lines.append(f"Images in one call: {generator.chunk}.")
    if generator.compiled:
        lines.append(f"Its networks were {generator.compiled}.")
    if needed:
        lines.append(f"It was made for {needed}; 'generate' uses that where you give nothing else.")
    return facts, "\n".join(lines)


def offered(args: argparse.Namespace) -> tuple[Offer, str]:
    """What the hub has under a name, and, unless its commit was given, what to say about it instead of fetching it.

    Raises:
        InputError: No name of a model.
    """
    from ltg_core.generators.hub import is_name, look

    name = args.generator or ""
    if not is_name(name):
        raise InputError("--download needs --generator owner/name, the name of a model on the hub")
    offer = look(name, revision=args.revision)
    if args.revision == offer.commit:
        return offer, ""
    again = f"use --generator {name} --download --revision {offer.commit}"
    return offer, f"{offer.text()}\nNothing was fetched yet. Where you agree to the licence: {again}"


def fetch(args: argparse.Namespace, offer: Offer, console: Console) -> None:
    """Fetch it, and go on with its folder."""
    from ltg_core.generators import hub

    args.generator = str(hub.fetch(offer, on_progress=console.progress, cancel=console.cancel))
