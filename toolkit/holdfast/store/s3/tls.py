"""TLS in large blocks: Python's own TLS sockets take two system calls for each record of 16 KiB."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from urllib3.util.ssltransport import SSLTransport

_RECEIVED = 1 << 18
_SENT = 1 << 18  # smaller ones make more system calls, larger ones leave the processor's cache


class BulkTransport(SSLTransport):
    """TLS over a connected socket, as urllib3 does TLS in TLS, but many records at a time.

    Costs 0.75 CPU-seconds per GiB received; Python's TLS socket costs 1.2 (docs/decisions/own-s3-transport.md).
    """

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._buffer = memoryview(bytearray(_RECEIVED))
        super().__init__(connected, context, server_hostname)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """As `socket.recv_into`: waits for the first byte, and returns all received bytes that fit."""
        view = memoryview(buffer)[:nbytes]
        received = 0
        while received < len(view):
            try:
                length = self.sslobj.read(len(view) - received, view[received:])
            except ssl.SSLWantReadError:
                self._send_pending()
                if received:
                    break
                self._receive()
            except ssl.SSLEOFError:
                break
            else:
                if not length:
                    break
                received += int(length)
        return received

    def sendall(self, data: bytes | memoryview, flags: int = 0) -> None:
        """As `socket.sendall`."""
        view = memoryview(data)
        for start in range(0, len(view), _SENT):
            self.sslobj.write(view[start : start + _SENT])
            self._send_pending()

    def _receive(self) -> None:
        length = self.socket.recv_into(self._buffer)
        if length:
            self.incoming.write(self._buffer[:length])
        else:
            self.incoming.write_eof()

    def _send_pending(self) -> None:
        if self.outgoing.pending:
            self.socket.sendall(self.outgoing.read())


class BulkContext(ssl.SSLContext):
    """A context whose connections are `BulkTransport`s; everything else, above all trust, is unchanged."""

    def wrap_socket(self, sock: socket.socket, *_: Any, server_hostname: Any = None, **__: Any) -> Any:
        """Start TLS on a connected socket, as a client."""
        return BulkTransport(sock, self, server_hostname)
