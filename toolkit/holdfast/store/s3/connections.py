"""Connections to an S3 server: pools, proxies, trust and timeouts."""

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
from holdfast.store.s3.http11 import BrokenError, Incoming
from holdfast.store.s3.settings import S3Settings
from holdfast.store.s3.tls import BulkContext

_KEPT = 64
"""Idle connections kept to a host; more may be in use at a time."""
_FRESH = 60.0
"""Seconds after which an idle connection is not reused. Some firewalls drop idle connections without a reset: the first
requests of a last flush would each wait for the read timeout."""


@dataclass(slots=True, kw_only=True)
class Connection:
    """A connection that is ready for a request.

    Attributes:
        origin: scheme, host and port.
        http: as urllib3 made it: over TCP, TLS, or through a proxy's tunnel.
        incoming: its received bytes.
        read_timeout: seconds; None before it is set.
        used: when it last served a request, by the monotonic clock.
    """

    origin: str
    http: HTTPConnection
    incoming: Incoming
    read_timeout: float | None = None
    used: float = 0.0

    def set_read_timeout(self, seconds: float) -> None:
        """Set the timeout in the kernel: one of Python's own costs a poll before every call."""
        if seconds == self.read_timeout:
            return
        sock: socket.socket | SSLTransport = self.http.sock
        while isinstance(sock, SSLTransport):
            sock = sock.socket
        sock.settimeout(None)
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self.read_timeout = seconds

    def close(self) -> None:
        """Close the connection."""
        self.http.close()


class Connections:
    """The connections that a store uses, made by urllib3. Safe to use from several threads.

    Args:
        read_timeout: returns the seconds that the server may take for one block of a body.
    """

    def __init__(self, settings: S3Settings, read_timeout: Callable[[], float]) -> None:
        self._settings = settings
        self._read_timeout = read_timeout
        self._lock = threading.Lock()
        self._pools: dict[str, HTTPConnectionPool] = {}
        self._idle: dict[str, list[Connection]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def take(self, origin: str) -> Connection:
        """Return a connection to an origin (scheme, host and port): the usable one that was used last, or a new one.

        Raises:
            ConfigError: the file with the trusted certificates cannot be used.
            HTTPError, BrokenError: the server, or the proxy, cannot be reached.
        """
        while (connection := self._take_idle(origin)) is not None:
            if time.monotonic() - connection.used < _FRESH and connection.http.is_connected:
                break
            connection.close()  # the server closed it, or sent bytes without a request
        else:
            connection = self._connect(origin)
        connection.set_read_timeout(self._read_timeout())
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for another request."""
        connection.used = time.monotonic()
        with self._lock:
            idle = self._idle.setdefault(connection.origin, [])
            if len(idle) < _KEPT:
                idle.append(connection)
                return
        connection.close()

    def _take_idle(self, origin: str) -> Connection | None:
        with self._lock:
            idle = self._idle.get(origin)
            return idle.pop() if idle else None

    def _connect(self, origin: str) -> Connection:
        with self._lock:
            if origin not in self._pools:
                self._pools[origin] = self._pool(origin)
            pool = self._pools[origin]
        # urlopen() of the pool would take most of the time of a small request: only its connections are used. For them
        # urllib3 2 has private methods alone: _new_conn (also of a proxy) and _prepare_proxy (CONNECT, TLS in TLS).
        connection = cast("HTTPConnection", pool._new_conn())
        connection.timeout = self._settings.connect_seconds
        try:
            if pool.proxy is not None and origin.startswith("https:"):
                pool._prepare_proxy(connection)
            else:
                connection.connect()
        except Exception as error:
            connection.close()
            if isinstance(error, ssl.SSLError):
                raise urllib3.exceptions.SSLError(error) from error
            if pool.proxy is not None:
                raise urllib3.exceptions.ProxyError("the proxy cannot be used", error) from error
            if isinstance(error, OSError):
                raise BrokenError("connecting failed") from error
            raise
        return Connection(origin=origin, http=connection, incoming=Incoming(cast("socket.socket", connection.sock)))

    def _pool(self, origin: str) -> HTTPConnectionPool:
        proxy = self._settings.proxy_for(origin)
        options: dict[str, Any] = {}
        if origin.startswith("https:"):
            options["ssl_context"] = _trust(self._settings.ca_bundle)
        manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        return manager.connection_from_url(origin)


def _close_all(idle: dict[str, list[Connection]]) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()


def _trust(bundle: str | None) -> ssl.SSLContext:
    """Return the trusted certificates: those of the file, else the system's, else those in botocore."""
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
