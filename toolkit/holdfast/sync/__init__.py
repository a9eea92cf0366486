"""From the checkpoint directory to the store: changed files, commits, the last flush."""
