"""A store in an S3 bucket, over a small transport of our own (docs/decisions/own-s3-transport.md)."""
