"""The entrypoint: what happens in one life of a container, in which order."""
