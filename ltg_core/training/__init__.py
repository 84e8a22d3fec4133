"""Training a copy of a classifier: losses, samplers, the loop. Nothing here touches a classifier that is in use."""
