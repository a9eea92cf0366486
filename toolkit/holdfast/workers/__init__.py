"""The threads that move bytes: how many, how fast, with which priority."""
