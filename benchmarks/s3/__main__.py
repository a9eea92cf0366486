"""Serve until stdin ends: `python -m benchmarks.s3`. The first line on stdout is the address."""

from __future__ import annotations

import argparse
import resource
import socket
import ssl
import sys
import tempfile
import threading
from pathlib import Path

from benchmarks.s3.buckets import Buckets
from benchmarks.s3.connection import Connection
from benchmarks.s3.contents import Space
from benchmarks.s3.counters import Counters


def accept(listener: socket.socket, context: ssl.SSLContext | None, buckets: Buckets, counters: Counters) -> None:
    """Take connections for ever, each into a thread of its own."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, context, buckets, counters), daemon=True).start()


def _serve(connection: socket.socket, context: ssl.SSLContext | None, buckets: Buckets, counters: Counters) -> None:
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        Connection(connection, buckets, counters).serve()
    except (OSError, ValueError):
        pass  # the client has gone, or does not speak HTTP
    finally:
        connection.close()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.s3", description=__doc__)
    parser.add_argument("--folder", default="/dev/shm", help="where contents above 1 MiB lie, in files without names")
    parser.add_argument("--most-gib", type=float, default=6, help="refuse what would be more: 507")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--certificate", help="PEM file with certificate and key: speak TLS")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a file for each part
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)
    with tempfile.TemporaryDirectory(prefix="bench-s3-", dir=options.folder) as folder:
        listener = socket.create_server(("127.0.0.1", options.port), backlog=512)
        served = (listener, context, Buckets(Path(folder), Space(int(options.most_gib * (1 << 30)))), Counters())
        threading.Thread(target=accept, args=served, daemon=True).start()
        port = listener.getsockname()[1]
        print(f"http{'s' if context else ''}://127.0.0.1:{port}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
