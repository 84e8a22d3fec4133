"""Frozen classifiers: architectures, weight files, preprocessing and the object that answers."""
