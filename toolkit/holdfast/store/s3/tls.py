"""TLS in large pieces, where Python's own TLS sockets take two system calls for each record of 16 KiB."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from urllib3.util.ssltransport import SSLTransport

_RECEIVED = 1 << 18
_SENT = 1 << 18  # smaller ones make more system calls, larger ones leave the processor's cache


class BulkTransport(SSLTransport):
    """TLS over a connected socket, as urllib3 has it for TLS within TLS, but whole boxes of records at a time.

    Costs 0.75 CPU-seconds per GiB received; Python's TLS socket costs 1.2 (docs/decisions/own-s3-transport.md).
    """

    def __init__(self, connected: socket.socket, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._box = memoryview(bytearray(_RECEIVED))
        super().__init__(connected, context, server_hostname)

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        """As `socket.recv_into`: waits for the first byte, and gives all that has come, as far as there is room."""
        view = memoryview(buffer)[:nbytes]
        got = 0
        while got < len(view):
            try:
                length = self.sslobj.read(len(view) - got, view[got:])
            except ssl.SSLWantReadError:
                self._send_pending()
                if got:
                    break
                self._receive()
            except ssl.SSLEOFError:
                break
            else:
                if not length:
                    break
                got += int(length)
        return got

    def sendall(self, data: bytes | memoryview, flags: int = 0) -> None:
        """As `socket.sendall`."""
        view = memoryview(data)
        for start in range(0, len(view), _SENT):
            self.sslobj.write(view[start : start + _SENT])
            self._send_pending()

    def _receive(self) -> None:
        length = self.socket.recv_into(self._box)
        if length:
            self.incoming.write(self._box[:length])
        else:
            self.incoming.write_eof()

    def _send_pending(self) -> None:
        if self.outgoing.pending:
            self.socket.sendall(self.outgoing.read())


class BulkContext(ssl.SSLContext):
    """A context whose connections are `BulkTransport`s; everything else, trust above all, is as with any other."""

    def wrap_socket(self, sock: socket.socket, *_: Any, server_hostname: Any = None, **__: Any) -> Any:
        """Make a TLS connection of a connected socket, as a client."""
        return BulkTransport(sock, self, server_hostname)
