"""Samples on disk: reading images and data sets, and the workspace that keeps them."""
