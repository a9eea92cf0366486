"""Libraries that a user would move files with, each in a few lines as its documentation shows it.

Every module has `upload` and `download`, both of a whole directory. It imports what only the environment of the
benchmark has; which of them are there, `python -m benchmarks.libraries NAME` finds out.
"""
