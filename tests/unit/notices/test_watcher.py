"""Notices over a real socket: examples.demo.imds serves the metadata."""

from __future__ import annotations

import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.demo.imds import REBALANCE, SPOT_ACTION, TOKEN, MetadataServer
from tests.logs import Logged

from holdfast.errors import ConfigError
from holdfast.notices.imds import (
    MetadataClient,
    MetadataFaultError,
    MetadataRefusedError,
    MetadataUnreachableError,
    Notice,
    TokenHangsError,
    parse_action,
)
from holdfast.notices.watcher import HostNoticeError, NoticeWatcher, read_host_notice

NOW = 1_790_000_000.0
TIMEOUT = 30.0
"""Seconds after which a wait for another thread is a failure."""


class Ticks:
    """A monotonic clock that moves when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[MetadataServer]:
    with MetadataServer(clock=lambda: NOW) as metadata:
        yield metadata


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def client(server: MetadataServer, ticks: Ticks) -> Iterator[MetadataClient]:
    connected = MetadataClient(server.endpoint, timeout=TIMEOUT, clock=lambda: NOW, ticks=ticks)
    yield connected
    connected.close()


class Listener:
    """The notices of a watcher, and what it logs."""

    def __init__(self, logged: Logged) -> None:
        self.notices: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._logged = logged

    @property
    def warnings(self) -> list[str]:
        return self._logged()

    def watch(
        self,
        client: MetadataClient | None,
        *,
        host_file: Path | None = None,
        ticks: Ticks | None = None,
        expect_metadata: bool = False,
    ) -> NoticeWatcher:
        return NoticeWatcher(
            client,
            host_file=host_file,
            on_notice=self.notices.put,
            expect_metadata=expect_metadata,
            interval=0.01,
            clock=lambda: NOW,
            ticks=ticks or Ticks(),
        )


@pytest.fixture
def listener(logged: Logged) -> Listener:
    return Listener(logged)


def closed_endpoint() -> str:
    """Return an address without a server: its port has just been closed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"


# The client


def test_without_an_announcement_there_is_no_notice(client: MetadataClient) -> None:
    assert client.spot_action() is None
    assert client.rebalance() is None


def test_a_spot_interruption_has_the_deadline_that_ec2_names(server: MetadataServer, client: MetadataClient) -> None:
    server.announce_spot(120)
    notice = client.spot_action()
    assert notice is not None
    assert (notice.kind, notice.action, notice.deadline) == ("spot", "terminate", NOW + 120)
    assert "in 120 s" in notice.detail


def test_a_rebalance_recommendation_has_no_deadline(server: MetadataServer, client: MetadataClient) -> None:
    server.announce_rebalance()
    notice = client.rebalance()
    assert notice is not None
    assert (notice.kind, notice.deadline) == ("rebalance", None)


def test_one_token_serves_many_requests_over_one_connection(server: MetadataServer, client: MetadataClient) -> None:
    for _ in range(3):
        client.spot_action()
        client.rebalance()
    assert server.count("PUT", TOKEN, 200) == 1
    assert server.connections == 1


def test_the_token_is_renewed_before_it_ends(server: MetadataServer, client: MetadataClient, ticks: Ticks) -> None:
    server.misbehaviour.longest_token_life = 100
    client.spot_action()
    ticks.now = 89
    client.spot_action()
    assert server.count("PUT", TOKEN, 200) == 1
    ticks.now = 91
    client.spot_action()
    assert server.count("PUT", TOKEN, 200) == 2
    assert server.count("GET", SPOT_ACTION, 401) == 0


def test_a_token_that_expired_early_is_replaced_and_the_request_repeated(
    server: MetadataServer, client: MetadataClient
) -> None:
    client.spot_action()
    server.forget_tokens()
    server.announce_spot(120)
    assert client.spot_action() is not None
    assert server.count("GET", SPOT_ACTION, 401) == 1


def test_tokens_that_are_never_accepted_are_a_refusal_and_no_endless_loop(
    server: MetadataServer, client: MetadataClient
) -> None:
    server.misbehaviour.longest_token_life = 0
    with pytest.raises(MetadataRefusedError, match="answered 401"):
        client.spot_action()
    assert server.count("GET", SPOT_ACTION, 401) == 2


def test_a_token_request_that_hangs_names_the_hop_limit_and_the_way_around_it(server: MetadataServer) -> None:
    server.misbehaviour.token_hangs = True
    client = MetadataClient(server.endpoint, timeout=0.05)
    with pytest.raises(TokenHangsError, match="http-put-response-hop-limit 2") as caught:
        client.spot_action()
    assert "HOLDFAST_HOST_NOTICE_FILE" in str(caught.value)


def test_metadata_that_gives_no_tokens_is_a_refusal(server: MetadataServer, client: MetadataClient) -> None:
    server.misbehaviour.no_tokens = True
    with pytest.raises(MetadataRefusedError, match="answered 403"):
        client.spot_action()


def test_a_server_error_is_a_fault_that_may_pass(server: MetadataServer, client: MetadataClient) -> None:
    server.misbehaviour.status = 503
    with pytest.raises(MetadataFaultError, match="answered 503"):
        client.spot_action()
    server.misbehaviour.status = 0
    assert client.spot_action() is None


def test_an_address_without_a_server_is_unreachable() -> None:
    with pytest.raises(MetadataUnreachableError, match="AWS_EC2_METADATA_DISABLED"):
        MetadataClient(closed_endpoint()).spot_action()


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    with pytest.raises(MetadataUnreachableError):
        MetadataClient("http://metadata.invalid").spot_action()


def test_a_kept_connection_that_the_server_closed_is_opened_again(
    server: MetadataServer, client: MetadataClient
) -> None:
    server.misbehaviour.hangs_up = True
    server.announce_spot(120)
    for _ in range(3):
        assert client.spot_action() is not None
    assert server.connections > 1


def test_an_answer_that_is_no_http_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer_nonsense() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=answer_nonsense)
        thread.start()
        with pytest.raises(MetadataFaultError):
            MetadataClient(f"http://127.0.0.1:{listening.getsockname()[1]}").spot_action()
        thread.join()


@pytest.mark.parametrize(
    "endpoint", ["169.254.169.254", "https://169.254.169.254", "http://", "http://host:none", "http://[fd00:ec2::254"]
)
def test_an_endpoint_that_is_no_address_is_a_configuration_error(endpoint: str) -> None:
    with pytest.raises(ConfigError, match="AWS_EC2_METADATA_SERVICE_ENDPOINT"):
        MetadataClient(endpoint)


def test_a_proxy_is_never_asked(
    server: MetadataServer, client: MetadataClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", closed_endpoint())
    monkeypatch.setenv("http_proxy", closed_endpoint())
    server.announce_spot(120)
    assert client.spot_action() is not None


# Content of notices


def test_a_time_that_has_passed_leaves_the_deadline_unknown(server: MetadataServer, client: MetadataClient) -> None:
    server.announce_spot(-300)
    notice = client.spot_action()
    assert notice is not None
    assert (notice.action, notice.deadline) == ("terminate", None)
    assert "passed 300 s ago" in notice.detail


def test_hibernation_gives_no_two_minutes(server: MetadataServer, client: MetadataClient) -> None:
    server.announce_spot(120, action="hibernate")
    notice = client.spot_action()
    assert notice is not None
    assert (notice.action, notice.deadline) == ("hibernate", None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[1]",
        "[" * 60_000,
        '{"action": "stop"}',
        '{"action": "stop", "time": "soon"}',
        '{"action": "stop", "time": 1790000120}',
    ],
    ids=["empty", "cut", "null", "list", "deep", "no time", "no date", "number"],
)
def test_a_malformed_body_is_a_notice_all_the_same(server: MetadataServer, client: MetadataClient, text: str) -> None:
    server.announce_text(SPOT_ACTION, text)
    notice = client.spot_action()
    assert notice is not None
    assert notice.kind == "spot"
    assert notice.deadline is None
    assert "no time that can be read" in notice.detail
    assert notice.action == ("stop" if "stop" in text else "")


def test_a_body_without_end_is_cut_and_the_connection_stays_usable(
    server: MetadataServer, client: MetadataClient
) -> None:
    server.announce_text(SPOT_ACTION, "x" * 1_000_000)
    notice = client.spot_action()
    assert notice is not None
    assert len(notice.detail) < 500
    assert client.rebalance() is None


def test_a_time_without_a_zone_is_utc() -> None:
    with_zone = parse_action("host", b'{"time": "2026-11-21T08:00:00Z"}', NOW)
    without = parse_action("host", b'{"time": "2026-11-21T08:00:00"}', NOW)
    assert with_zone.deadline == without.deadline == 1_795_248_000.0


def test_a_line_break_in_a_notice_does_not_break_the_log() -> None:
    assert "\n" not in parse_action("host", b"going\n  down\n\nnow", NOW).detail


# The host's file


def test_without_the_host_file_there_is_no_notice(tmp_path: Path) -> None:
    assert read_host_notice(tmp_path / "notice") is None
    assert read_host_notice(tmp_path / "absent" / "notice") is None


@pytest.mark.parametrize("content", [b"", b"maintenance at noon", b"\xff\xfe"])
def test_the_host_file_is_a_notice_by_being_there(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notice"
    path.write_bytes(content)
    notice = read_host_notice(path)
    assert notice is not None
    assert (notice.kind, notice.deadline) == ("host", None)


def test_the_host_file_may_name_action_and_time(tmp_path: Path) -> None:
    path = tmp_path / "notice"
    path.write_text('{"action": "terminate", "time": "2026-11-21T08:00:00Z"}')
    notice = read_host_notice(path, clock=lambda: NOW)
    assert notice is not None
    assert (notice.action, notice.deadline) == ("terminate", 1_795_248_000.0)


def test_a_directory_in_place_of_the_host_file_is_no_notice_but_a_warning(tmp_path: Path, listener: Listener) -> None:
    with pytest.raises(HostNoticeError, match="mount the directory"):
        read_host_notice(tmp_path)
    watcher = listener.watch(None, host_file=tmp_path)
    assert watcher.poll() == watcher.poll() == []
    assert len(listener.warnings) == 1


def test_a_host_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "notice"
    path.symlink_to(path)
    with pytest.raises(HostNoticeError, match="symbolic links"):
        read_host_notice(path)


# The watcher


def test_rebalance_and_spot_in_one_poll_are_both_reported_and_once_each(
    server: MetadataServer, client: MetadataClient, listener: Listener
) -> None:
    watcher = listener.watch(client)
    assert watcher.poll() == []
    server.announce_rebalance()
    server.announce_spot(120)
    assert [notice.kind for notice in watcher.poll()] == ["spot", "rebalance"]
    assert watcher.poll() == []


def test_a_notice_whose_time_moves_with_every_answer_is_reported_once(
    server: MetadataServer, client: MetadataClient, listener: Listener
) -> None:
    watcher = listener.watch(client)
    server.announce_spot(120)
    assert len(watcher.poll()) == 1
    server.announce_spot(121)
    assert watcher.poll() == []


def test_a_notice_that_was_withdrawn_and_comes_again_is_reported_again(
    server: MetadataServer, client: MetadataClient, listener: Listener
) -> None:
    watcher = listener.watch(client)
    server.announce_rebalance()
    assert len(watcher.poll()) == 1
    server.withdraw()
    assert watcher.poll() == []
    server.announce_rebalance()
    assert len(watcher.poll()) == 1


def test_a_notice_is_kept_when_the_request_after_it_fails(
    server: MetadataServer, client: MetadataClient, listener: Listener
) -> None:
    server.announce_spot(120)
    server.misbehaviour.status_of = {REBALANCE: 503}
    assert [notice.kind for notice in listener.watch(client).poll()] == ["spot"]


def test_a_host_file_written_in_two_steps_is_reported_again_when_it_says_more(
    tmp_path: Path, listener: Listener
) -> None:
    path = tmp_path / "notice"
    watcher = listener.watch(None, host_file=path)
    path.touch()
    assert [notice.deadline for notice in watcher.poll()] == [None]
    path.write_text('{"action": "terminate", "time": "2026-11-21T08:00:00Z"}')
    assert [notice.action for notice in watcher.poll()] == ["terminate"]


def test_without_a_server_the_next_tries_are_after_30_and_60_seconds(
    server: MetadataServer, ticks: Ticks, listener: Listener, tmp_path: Path
) -> None:
    endpoint = server.endpoint
    port = int(endpoint.rpartition(":")[2])
    server.close()
    client = MetadataClient(endpoint, TIMEOUT, ticks=ticks)
    watcher = listener.watch(client, ticks=ticks, host_file=tmp_path / "notice")
    assert watcher.poll() == []
    with MetadataServer(port) as revived:
        ticks.now = 29
        assert watcher.poll() == []
        assert revived.requests == []
        (tmp_path / "notice").touch()  # the host's file is polled all the time
        assert [notice.kind for notice in watcher.poll()] == ["host"]
    ticks.now = 31
    assert watcher.poll() == []
    with MetadataServer(port) as revived:
        revived.announce_spot(120)
        ticks.now = 90
        assert watcher.poll() == []
        ticks.now = 92
        assert [notice.kind for notice in watcher.poll()] == ["spot"]
    client.close()
    assert listener.warnings == []  # a laptop has no metadata


def test_absence_is_logged_once_where_metadata_is_expected(ticks: Ticks, listener: Listener) -> None:
    watcher = listener.watch(MetadataClient(closed_endpoint()), ticks=ticks, expect_metadata=True)
    for ticks.now in (0, 31, 92):
        assert watcher.poll() == []
    assert len(listener.warnings) == 1


def test_a_hanging_token_is_logged_once_and_tried_again_each_minute(
    server: MetadataServer, ticks: Ticks, listener: Listener
) -> None:
    server.misbehaviour.token_hangs = True
    client = MetadataClient(server.endpoint, timeout=0.3, ticks=ticks)
    watcher = listener.watch(client, ticks=ticks)
    server.announce_spot(120)
    for ticks.now in (0, 59, 61):
        assert watcher.poll() == []
    assert server.connections <= 2
    assert [warning for warning in listener.warnings if "hop-limit 2" in warning] == listener.warnings
    assert len(listener.warnings) == 1
    server.misbehaviour.token_hangs = False
    ticks.now = 122
    assert [notice.kind for notice in watcher.poll()] == ["spot"]
    client.close()


def test_metadata_that_has_answered_before_is_asked_again_at_the_next_poll(
    server: MetadataServer, client: MetadataClient, listener: Listener
) -> None:
    watcher = listener.watch(client)
    assert watcher.poll() == []
    server.forget_tokens()
    server.misbehaviour.no_tokens = True
    assert watcher.poll() == []
    assert len(listener.warnings) == 1
    server.misbehaviour.no_tokens = False
    server.announce_spot(120)
    assert [notice.kind for notice in watcher.poll()] == ["spot"]


def test_a_fault_is_logged_once_and_the_next_poll_asks_again(
    server: MetadataServer, client: MetadataClient, listener: Listener
) -> None:
    watcher = listener.watch(client)
    server.misbehaviour.status = 500
    assert watcher.poll() == watcher.poll() == []
    assert len(listener.warnings) == 1
    server.misbehaviour.status = 0
    server.announce_spot(120)
    assert len(watcher.poll()) == 1


# The thread


def test_the_thread_reports_a_notice_and_goes_on_watching(
    server: MetadataServer, client: MetadataClient, listener: Listener
) -> None:
    watcher = listener.watch(client)
    watcher.start()
    server.announce_rebalance()
    assert listener.notices.get(timeout=TIMEOUT).kind == "rebalance"
    server.announce_spot(120)
    assert listener.notices.get(timeout=TIMEOUT).kind == "spot"
    watcher.stop()
    wait_for_the_end()
    assert listener.notices.empty()


def test_stop_ends_the_thread_in_the_middle_of_its_pause(client: MetadataClient, listener: Listener) -> None:
    watcher = NoticeWatcher(client, host_file=None, on_notice=listener.notices.put, interval=3600)
    watcher.start()
    watcher.stop()
    wait_for_the_end()


def test_stop_does_not_wait_for_an_answer_and_nothing_is_reported_after_it(
    server: MetadataServer, listener: Listener
) -> None:
    server.misbehaviour.token_hangs = True
    watcher = listener.watch(MetadataClient(server.endpoint, timeout=TIMEOUT))
    watcher.start()
    assert server.asked_for_token.wait(TIMEOUT)
    in_flight = watching_threads()
    watcher.stop()
    # There is no answer yet, and stop has returned.
    assert watching_threads() == in_flight
    assert in_flight[0].daemon
    server.announce_spot(120)
    server.let_go()
    wait_for_the_end()
    assert listener.notices.empty()
    assert listener.warnings == []


def test_stop_before_start_and_a_watch_with_nothing_to_watch_are_fine(listener: Listener) -> None:
    watcher = listener.watch(None)
    watcher.stop()
    watcher.start()
    assert watching_threads() == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_watch_that_fails_logs_it(tmp_path: Path, listener: Listener) -> None:
    def fail(_: Notice) -> None:
        raise RuntimeError("no memory")

    (tmp_path / "notice").touch()
    watcher = NoticeWatcher(None, host_file=tmp_path / "notice", on_notice=fail, interval=0.01)
    watcher.start()
    wait_for_the_end()
    assert len(listener.warnings) == 1
    assert "no memory" in listener.warnings[0]


def watching_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "holdfast-notices"]


def wait_for_the_end() -> None:
    for thread in watching_threads():
        thread.join(TIMEOUT)
    assert watching_threads() == []


# The metadata server as a process


def test_the_metadata_server_is_a_process_that_announces_on_time() -> None:
    command = [sys.executable, "-m", "examples.demo.imds", "--spot-after", "0", "--rebalance-after", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        client = MetadataClient(process.stdout.readline().strip(), timeout=TIMEOUT)
        while (notice := client.spot_action()) is None:
            pass
        assert notice.action == "terminate"
        assert notice.deadline is not None
        while client.rebalance() is None:
            pass
        client.close()
        process.terminate()
