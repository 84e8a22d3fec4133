"""Frozen latent diffusion models behind one contract: (z, step, condition) -> estimate of the clean latent."""
