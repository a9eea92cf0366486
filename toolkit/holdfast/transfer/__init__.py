"""Whole files and objects, in parts: up, down, and copied inside a store."""
