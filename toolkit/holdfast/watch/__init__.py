"""The thread that sees changes and syncs when the directory is quiet."""
