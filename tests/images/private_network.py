"""A company's network on loopback: a package index behind TLS and a password, and the proxy that leads to it."""

from __future__ import annotations

import base64
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import trustme

USER, PASSWORD = "builder", "a-password-that-no-image-may-hold"


@dataclass(frozen=True, slots=True)
class PrivateNetwork:
    """Addresses and files for a build, and the requests that it made.

    Attributes:
        index: URL of the index.
        proxy: URL of the proxy.
        ca: file of the only authority that signs the index.
        netrc: file with the password of the index.
        served: names of the wheels that were downloaded with the password.
        tunnels: targets of the proxy.
    """

    index: str
    proxy: str
    ca: Path
    netrc: Path
    served: list[str] = field(default_factory=list)
    tunnels: list[str] = field(default_factory=list)


class _Index(BaseHTTPRequestHandler):
    """The simple repository interface over a folder of wheels."""

    wheels: Path
    served: list[str]

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != expected:
            self._answer(HTTPStatus.UNAUTHORIZED, b"")
            return
        kind, name = unquote(urlsplit(self.path).path).strip("/").split("/")
        if kind == "simple":
            normal = name.replace("-", "_")
            found = [path.name for path in self.wheels.iterdir() if _project(path.name) == normal]
            links = "".join(f'<a href="/wheels/{file}">{file}</a>\n' for file in found)
            self._answer(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND, f"<!DOCTYPE html>\n{links}".encode())
        else:
            self.served.append(name)
            self._answer(HTTPStatus.OK, (self.wheels / name).read_bytes())

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
        self.send_header("Content-Type", "text/html" if body.startswith(b"<!") else "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name in the base class)
        pass


class _Proxy(BaseHTTPRequestHandler):
    """A proxy for CONNECT requests only."""

    tunnels: list[str]

    def do_CONNECT(self) -> None:
        self.tunnels.append(self.path)
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            self.send_response(HTTPStatus.OK)
            self.end_headers()
            pairs = {self.connection: far, far: self.connection}
            while True:
                ready, _, _ = select.select(list(pairs), [], [])
                for end in ready:
                    data = end.recv(1 << 16)
                    if not data:
                        return
                    pairs[end].sendall(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name in the base class)
        pass


def _project(file: str) -> str:
    return file.partition("-")[0].lower().replace(".", "_")


@contextmanager
def private_network(wheels: Path, folder: Path) -> Iterator[PrivateNetwork]:
    """Serve a folder of wheels as a company would; certificate and password lie in `folder`."""
    served: list[str] = []
    tunnels: list[str] = []
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    index = ThreadingHTTPServer(("127.0.0.1", 0), type("Index", (_Index,), {"wheels": wheels, "served": served}))
    index.socket = context.wrap_socket(index.socket, server_side=True)
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (_Proxy,), {"tunnels": tunnels}))
    threads = [threading.Thread(target=server.serve_forever) for server in (index, proxy)]
    for thread in threads:
        thread.start()
    try:
        yield PrivateNetwork(
            f"https://127.0.0.1:{index.server_port}/simple/",
            f"http://127.0.0.1:{proxy.server_port}",
            folder / "ca.pem",
            folder / "netrc",
            served,
            tunnels,
        )
    finally:
        for server in (index, proxy):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
