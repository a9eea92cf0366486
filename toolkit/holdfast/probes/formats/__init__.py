"""Formats: a module for each, or for a few alike.

`check(view)` of a format of one file returns a finding. It raises CutError where the file ends before its format says,
and UnclearError where the file is not of the format, contradicts itself, or is too large to decide.
`check(listing)` of a checkpoint of several files returns path → why it proves that the checkpoint is incomplete.
"""
