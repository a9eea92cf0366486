"""One module for each file format that can prove that a file is cut."""
