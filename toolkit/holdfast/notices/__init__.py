"""Notices that this machine will go away: instance metadata, and a file from the host."""
