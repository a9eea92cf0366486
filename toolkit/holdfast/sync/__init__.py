"""Sync: from the checkpoint directory to the store, in passes and in the last flush."""
