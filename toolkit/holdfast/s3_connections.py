"""Connections to an S3 server: pools, proxies, trust and time limits."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from holdfast.errors import ConfigError
from holdfast.s3_settings import S3Settings

_KEPT = 64
"""Idle connections kept to a host; more may be in use at a time."""


class Connections:
    """The connection pools that a store uses, one for each host. Safe to use from several threads.

    Args:
        settings: how to reach S3.
        patience: says how many seconds the server may take for one piece of a body.
    """

    def __init__(self, settings: S3Settings, patience: Callable[[], float]) -> None:
        self._settings = settings
        self._patience = patience
        self._lock = threading.Lock()
        self._pools: dict[str, HTTPConnectionPool] = {}

    def pool(self, origin: str) -> HTTPConnectionPool:
        """Return the pool for an origin (scheme, host and port).

        Raises:
            ConfigError: the file with the trusted certificates cannot be used.
        """
        with self._lock:
            if origin not in self._pools:
                self._pools[origin] = self._open(origin)
            return self._pools[origin]

    def is_forwarded(self, origin: str) -> bool:
        """Whether a proxy reads the requests for this origin (no TLS, so no tunnel) and wants their whole URL."""
        return origin.startswith("http:") and self._settings.proxy_for(origin) is not None

    def _open(self, origin: str) -> HTTPConnectionPool:
        proxy = self._settings.proxy_for(origin)
        options: dict[str, Any] = {"maxsize": _KEPT}
        if origin.startswith("https:"):
            options["ssl_context"] = _trust(self._settings.ca_bundle)
        manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
        manager.pool_classes_by_scheme = _pool_classes(self._patience)
        return manager.connection_from_url(origin)


def _pool_classes(patience: Callable[[], float]) -> dict[str, type[HTTPConnectionPool]]:
    """Return pools whose connections give the sending of a body the long time limit.

    urllib3 leaves the limit for connecting on the socket until it waits for the answer, also where nothing is to be
    connected any more, and Python counts it for a whole `sendall`: a slow line would break every upload.
    """

    class PatientConnection(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(patience())

        def request(self, *args: Any, **options: Any) -> None:
            if self.sock is not None:
                self.timeout = patience()
            super().request(*args, **options)

    class PatientTLSConnection(HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            self.sock.settimeout(patience())

        def request(self, *args: Any, **options: Any) -> None:
            if self.sock is not None:
                self.timeout = patience()
            super().request(*args, **options)

    class PatientPool(HTTPConnectionPool):
        ConnectionCls = PatientConnection

    class PatientTLSPool(HTTPSConnectionPool):
        ConnectionCls = PatientTLSConnection

    return {"http": PatientPool, "https": PatientTLSPool}


def _trust(bundle: str | None) -> ssl.SSLContext:
    """Return the certificates to trust: those of the file, else the system's, else those that botocore brings along."""
    paths = ssl.get_default_verify_paths()
    directory = Path(paths.capath or "/nonexistent")
    if bundle is None and not paths.cafile and not (directory.is_dir() and any(directory.iterdir())):
        spec = find_spec("botocore")
        bundle = str(Path(spec.origin).with_name("cacert.pem")) if spec and spec.origin else None
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise ConfigError(f"AWS_CA_BUNDLE or SSL_CERT_FILE names {bundle!r}, which cannot be used: {error}") from error
