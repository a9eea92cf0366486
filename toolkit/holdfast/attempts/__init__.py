"""Attempts: claim a number, fence earlier attempts, and join the attempt of other hosts."""
