"""PID 1's work: the script's processes, signals, and the one loop that decides."""
