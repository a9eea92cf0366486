"""PID 1 of a container, and the command `holdfast`."""
