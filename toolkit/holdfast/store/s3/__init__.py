"""A store in an S3 bucket, over a small transport of our own (docs/architecture.md, "The data plane")."""
