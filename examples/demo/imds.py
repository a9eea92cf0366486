"""A stand-in for EC2's instance metadata: IMDSv2 with tokens, and notices on demand.

In a program: `with MetadataServer() as metadata: ... metadata.announce_spot(120)`. As a process of its own:
`python -m examples.demo.imds --port 1338 --spot-after 30 --lead 120`, with AWS_EC2_METADATA_SERVICE_ENDPOINT set to the
address that it prints.

Unlike the real service it keeps a log of its answers (`MetadataServer.requests`), and misbehaves when told to.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

TOKEN = "/latest/api/token"
SPOT_ACTION = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"


@dataclass
class Misbehaviour:
    """What goes wrong, while it is set.

    Attributes:
        token_hangs: the token request is accepted and never answered, as with a hop limit that is too small.
        no_tokens: the token request is answered 403, as where metadata is switched off or a proxy knows IMDSv1 only.
        hangs_up: every connection is closed after its answer, without saying so in the answer.
        status: answer everything with this, 503 for one; 0 to answer properly.
        status_of: the same for single paths.
        longest_token_life: seconds, whatever the client asks for.
    """

    token_hangs: bool = False
    no_tokens: bool = False
    hangs_up: bool = False
    status: int = 0
    status_of: Mapping[str, int] = field(default_factory=dict)
    longest_token_life: int = 21_600


class MetadataServer:
    """Serves metadata on a real socket until it is closed.

    Attributes:
        endpoint: for AWS_EC2_METADATA_SERVICE_ENDPOINT.
        misbehaviour: set its fields at any time.
        requests: (method, path, status) of every answer so far.
        connections: how many have been opened so far.
        asked_for_token: set once a token has been asked for, answered or not.
    """

    def __init__(self, port: int = 0, *, host: str = "127.0.0.1", clock: Callable[[], float] = time.time) -> None:
        self.misbehaviour = Misbehaviour()
        self.requests: list[tuple[str, str, int]] = []
        self.connections = 0
        self.asked_for_token = threading.Event()
        self._clock = clock
        self._tokens: dict[str, float] = {}
        self._documents: dict[str, str] = {}
        self._let_go = threading.Event()
        served = self

        class Handler(_Handler):
            server_of_metadata = served

        self._server = _Server((host, port), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.endpoint = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def announce_spot(self, seconds: float = 120, action: str = "terminate") -> None:
        """Announce that the instance goes away in so many seconds (negative: it should have gone already)."""
        self.announce_text(SPOT_ACTION, json.dumps({"action": action, "time": self._time(seconds)}))

    def announce_rebalance(self) -> None:
        """Announce that an interruption has become likely."""
        self.announce_text(REBALANCE, json.dumps({"noticeTime": self._time(0)}))

    def announce_text(self, path: str, text: str) -> None:
        """Answer this text at this path, whatever it is."""
        self._documents[path] = text

    def withdraw(self) -> None:
        """Answer 404 again."""
        self._documents.clear()

    def forget_tokens(self) -> None:
        """Answer 401 to every token that was given out."""
        self._tokens.clear()

    def count(self, method: str, path: str, status: int) -> int:
        """Say how many requests were answered so."""
        return self.requests.count((method, path, status))

    def let_go(self) -> None:
        """Answer the token requests that hang, and let none hang from now on."""
        self._let_go.set()

    def close(self) -> None:
        """Stop serving; requests that hang are let go."""
        self.let_go()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, method: str, path: str, token: str, life: str) -> tuple[int, str, dict[str, str]]:
        """Return status, body and headers for a request."""
        wrong = self.misbehaviour
        status = wrong.status or wrong.status_of.get(path, 0)
        if status:
            return status, "", {}
        if method == "PUT" and path == TOKEN:
            self.asked_for_token.set()
            if wrong.token_hangs:
                self._let_go.wait()
            return (403, "", {}) if wrong.no_tokens else self._give_token(life)
        if method != "GET":
            return 405, "", {}
        if self._tokens.get(token, 0.0) <= time.monotonic():
            return 401, "", {}
        document = self._documents.get(path)
        return (404, "", {}) if document is None else (200, document, {"Content-Type": "application/json"})

    def _give_token(self, life: str) -> tuple[int, str, dict[str, str]]:
        if not life.isdigit() or not 1 <= int(life) <= 21_600:
            return 400, "", {}
        seconds = min(int(life), self.misbehaviour.longest_token_life)
        token = secrets.token_urlsafe(40)
        self._tokens[token] = time.monotonic() + seconds
        return 200, token, {"X-aws-ec2-metadata-token-ttl-seconds": str(seconds)}

    def _time(self, seconds: float) -> str:
        return datetime.fromtimestamp(self._clock() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up: giving up on metadata that hangs is what they should do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as the real service keeps them
    server_version = "EC2ws"
    disable_nagle_algorithm = True
    server_of_metadata: MetadataServer

    def setup(self) -> None:
        super().setup()
        self.server_of_metadata.connections += 1

    def do_GET(self) -> None:
        self._respond()

    def do_PUT(self) -> None:
        self._respond()

    def _respond(self) -> None:
        metadata = self.server_of_metadata
        status, body, headers = metadata.answer(
            self.command,
            self.path,
            self.headers.get("X-aws-ec2-metadata-token", ""),
            self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", ""),
        )
        metadata.requests.append((self.command, self.path, status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())
        if metadata.misbehaviour.hangs_up:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is the base class's
        """Say nothing: `requests` has it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument(
        "--spot-after", type=float, metavar="SECONDS", help="announce a spot interruption so long from now"
    )
    parser.add_argument(
        "--rebalance-after", type=float, metavar="SECONDS", help="recommend a rebalance so long from now"
    )
    parser.add_argument(
        "--lead", type=float, default=120, metavar="SECONDS", help="from the notice to the interruption"
    )
    parser.add_argument("--action", default="terminate", choices=["terminate", "stop", "hibernate"])
    arguments = parser.parse_args()
    with MetadataServer(arguments.port, host=arguments.host) as metadata:
        print(metadata.endpoint, flush=True)
        plan = [
            (after, announce)
            for after, announce in (
                (arguments.rebalance_after, metadata.announce_rebalance),
                (arguments.spot_after, lambda: metadata.announce_spot(arguments.lead, arguments.action)),
            )
            if after is not None
        ]
        timers = [threading.Timer(after, announce) for after, announce in plan]
        for timer in timers:
            timer.daemon = True
            timer.start()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
