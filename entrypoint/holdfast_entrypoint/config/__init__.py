"""Configuration, the platform, the command to run, and the variables for the script."""
