"""From a directory to a generator, whatever its family."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from ltg_core.errors import UnsupportedError
from ltg_core.generators.base import Generator
from ltg_core.generators.options import BEST, GeneratorOptions
from ltg_core.generators.tuning import best_chunk, compile_networks


def load_generator(
    folder: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    options: GeneratorOptions | None = None,
) -> Generator:
    """Load a frozen diffusion model.

    Args:
        folder: A directory in diffusers' layout, or the name of one that was fetched from a model hub before;
            ``families.FAMILIES`` lists what is supported.
        device: Where the networks live.
        dtype: Their precision, before that of the options; float32 on a CPU and float16 on a GPU if neither says.
        options: Adapters to load onto it, decoder, precision, offloading.

    Raises:
        ModelError: A part is missing or cannot be read, or an adapter does not fit.
        InputError: A name that is not on this machine; nothing is fetched here.
        UnsupportedError: No adapter reads it.

    With ``options.compile`` this takes as long as the compiler needs; ``Generator.compiled`` says how long that was.
    """
    from ltg_core.generators.extras import apply_options
    from ltg_core.generators.families import family_of
    from ltg_core.generators.folder import Folder
    from ltg_core.generators.hub import cached, is_name

    options = options or GeneratorOptions()
    opened = Folder(
        cached(str(folder)) if is_name(str(folder)) else folder,
        device=device,
        dtype=dtype or options.torch_dtype(device),
        waiting=options.offload != "none",
    )
    generator: Generator = family_of(opened).open(opened, options.tiny)
    if generator.latent_shape[0] != generator.codec.channels:
        raise UnsupportedError(
            f"the denoiser of {generator.name!r} reads {generator.latent_shape[0]} channels, its autoencoder makes "
            f"{generator.codec.channels}: a model for inpainting or editing; give one that draws from noise alone"
        )
    if options.chunk > 0:
        generator.chunk = options.chunk
    if options.slicing:
        generator.codec.slice()
    generator.options = options
    apply_options(generator, options)
    if options.offload == "layers":
        _layer_by_layer(generator)
    if options.compile:
        generator.compiled = compile_networks(generator, measured=options.chunk == BEST)
    elif options.chunk == BEST:
        generator.chunk = best_chunk(generator)[0]
    if options.chunk == BEST:  # the number that is found is what a record must say
        generator.options = dataclasses.replace(options, chunk=generator.chunk)
    return generator


def _layer_by_layer(generator: Generator) -> None:
    """Leave the denoiser's weights in main memory; each layer's come to the device when it is its turn."""
    from accelerate import cpu_offload

    network: Any = getattr(generator, generator.denoiser_part)
    cpu_offload(network.to("cpu"), execution_device=generator.device)
