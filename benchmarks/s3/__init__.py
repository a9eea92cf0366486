"""An S3 server for measurements: loopback only, no authentication, a few tenths of a CPU-second per GiB.

It measures clients and judges none: checksums are kept and given back, not checked, and every bucket exists. That what
holdfast sends is right is shown on real servers, by `tests/contract`.
"""
