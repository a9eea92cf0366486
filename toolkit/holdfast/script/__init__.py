"""The functions for training scripts. They import the standard library, `names` and `fsync`."""
