"""What is decided before anything happens."""
