"""Watch the checkpoint directory and sync it when it is settled."""
