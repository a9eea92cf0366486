"""From the store to the checkpoint directory."""
