"""Training a small text-to-image latent diffusion model on a folder of labelled or captioned images."""
