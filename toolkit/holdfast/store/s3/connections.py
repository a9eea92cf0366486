"""Connections to an S3 server: pools, proxies, trust and time limits."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.util.ssltransport import SSLTransport

from holdfast.errors import ConfigError
from holdfast.store.s3.http11 import BrokenError, Incoming, Stream
from holdfast.store.s3.settings import S3Settings
from holdfast.store.s3.tls import BulkContext

_KEPT = 64
"""Idle connections kept to a host; more may be in use at a time."""
_FRESH = 60.0
"""Seconds for which an idle connection is trusted. There are firewalls that forget one and tell nobody: the first
requests of a last flush would each wait for the longest silence."""


@dataclass(slots=True)
class Line:
    """A connection that is ready for a request.

    Attributes:
        origin: where it leads to.
        connection: as urllib3 made it: over TCP, TLS, or through a proxy's tunnel.
        incoming: what comes over it.
        silence: longest one that the kernel bears on it, in seconds; None before it was told.
        used: when it last served a request, by the monotonic clock.
    """

    origin: str
    connection: HTTPConnection
    incoming: Incoming
    silence: float | None = None
    used: float = 0.0

    @property
    def stream(self) -> Stream:
        """Its socket."""
        return cast("Stream", self.connection.sock)

    def limit_silence(self, seconds: float) -> None:
        """Let the kernel watch the time: a time limit of Python's own costs a poll before every call."""
        if seconds == self.silence:
            return
        sock: socket.socket | SSLTransport = self.connection.sock
        while isinstance(sock, SSLTransport):
            sock = sock.socket
        sock.settimeout(None)
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self.silence = seconds

    def close(self) -> None:
        """Let go of it."""
        self.connection.close()


class Connections:
    """The connections that a store uses, made by urllib3. Safe to use from several threads.

    Args:
        settings: how to reach S3.
        patience: says how many seconds the server may take for one piece of a body.
    """

    def __init__(self, settings: S3Settings, patience: Callable[[], float]) -> None:
        self._settings = settings
        self._patience = patience
        self._lock = threading.Lock()
        self._makers: dict[str, HTTPConnectionPool] = {}
        self._idle: dict[str, list[Line]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def take(self, origin: str) -> Line:
        """Return a connection to an origin (scheme, host and port): the one used last that still stands, or a new one.

        Raises:
            ConfigError: the file with the trusted certificates cannot be used.
            HTTPError, BrokenError: the server, or the proxy, cannot be reached.
        """
        while (line := self._take_idle(origin)) is not None:
            if time.monotonic() - line.used < _FRESH and line.connection.is_connected:
                break
            line.close()  # the server ended it, or sent what nobody asked for
        else:
            line = self._connect(origin)
        line.limit_silence(self._patience())
        return line

    def give_back(self, line: Line) -> None:
        """Keep a connection for another request."""
        line.used = time.monotonic()
        with self._lock:
            idle = self._idle.setdefault(line.origin, [])
            if len(idle) < _KEPT:
                idle.append(line)
                return
        line.close()

    def is_forwarded(self, origin: str) -> bool:
        """Whether a proxy reads the requests for this origin (no TLS, so no tunnel) and wants their whole URL."""
        return origin.startswith("http:") and self._settings.proxy_for(origin) is not None

    def _take_idle(self, origin: str) -> Line | None:
        with self._lock:
            idle = self._idle.get(origin)
            return idle.pop() if idle else None

    def _connect(self, origin: str) -> Line:
        with self._lock:
            if origin not in self._makers:
                self._makers[origin] = self._maker(origin)
            maker = self._makers[origin]
        # The pool's own way to ask spends most of the time of a small request; it is asked for connections only.
        connection = cast("HTTPConnection", maker._new_conn())
        connection.timeout = self._settings.connect_seconds
        tunnel = maker.proxy is not None and origin.startswith("https:")
        try:
            if tunnel:
                maker._prepare_proxy(connection)
            else:
                connection.connect()
        except Exception as error:
            connection.close()
            trouble = _trouble(error, through_proxy=maker.proxy is not None)
            if trouble is error:
                raise
            raise trouble from error
        return Line(origin, connection, Incoming(cast("Stream", connection.sock)))

    def _maker(self, origin: str) -> HTTPConnectionPool:
        proxy = self._settings.proxy_for(origin)
        options: dict[str, Any] = {}
        if origin.startswith("https:"):
            options["ssl_context"] = _trust(self._settings.ca_bundle)
        manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        return manager.connection_from_url(origin)


def _close_all(idle: dict[str, list[Line]]) -> None:
    for lines in idle.values():
        for line in lines:
            line.close()


def _trouble(error: Exception, *, through_proxy: bool) -> Exception:
    """Return what an error means that happened while a connection was made."""
    if isinstance(error, ssl.SSLError):
        return urllib3.exceptions.SSLError(error)
    if through_proxy:
        return urllib3.exceptions.ProxyError("the proxy cannot be used", error)
    return BrokenError("connecting failed") if isinstance(error, OSError) else error


def _trust(bundle: str | None) -> ssl.SSLContext:
    """Return the certificates to trust: those of the file, else the system's, else those that botocore brings along."""
    paths = ssl.get_default_verify_paths()
    directory = Path(paths.capath or "/nonexistent")
    if bundle is None and not paths.cafile and not (directory.is_dir() and any(directory.iterdir())):
        spec = find_spec("botocore")
        bundle = str(Path(spec.origin).with_name("cacert.pem")) if spec and spec.origin else None
    context = BulkContext(ssl.PROTOCOL_TLS_CLIENT)  # certificates and host names are checked
    try:
        if bundle is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(bundle)
    except OSError as error:
        raise ConfigError(f"AWS_CA_BUNDLE or SSL_CERT_FILE names {bundle!r}, which cannot be used: {error}") from error
    return context
