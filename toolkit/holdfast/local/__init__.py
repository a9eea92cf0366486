"""The checkpoint directory on this machine: what is there, and what an earlier attempt left unsent."""
