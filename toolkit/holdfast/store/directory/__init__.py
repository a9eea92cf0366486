"""A store in a directory: EFS, NFS, FSx, or a disk."""
