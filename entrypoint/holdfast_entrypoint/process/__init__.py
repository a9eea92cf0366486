"""The script's processes, signals and notices, and the one loop that acts on them."""
