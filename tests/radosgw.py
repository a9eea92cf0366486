"""Ceph's radosgw on loopback: a second S3 server, of another origin than the first, for the contract tests.

`python -m tests.radosgw [pytest arguments]` starts one monitor, one manager, one OSD that keeps everything in memory,
and the gateway; runs tests/contract (or what the arguments say) against it; and stops what it started. The packages on
Debian and Ubuntu are ceph-mon, ceph-mgr, ceph-osd and radosgw.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mgr", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
KEYS = {"AWS_ACCESS_KEY_ID": "contract", "AWS_SECRET_ACCESS_KEY": "contract-secret"}
START_SECONDS = 120.0
STOP_SECONDS = 10.0

CONFIGURATION = """
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{mon_port}]
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv4 = true
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
mon allow pool size one = true
mon max pg per osd = 1000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
# The OSD waits for its place in the data centre, which `osd crush add` gives it below.
osd class update on start = false
osd crush update on start = false
osd objectstore = memstore
memstore device bytes = 4294967296
run dir = {place}
admin socket = {place}/$name.$pid.asok
log file = {place}/$name.log
keyring = {place}/keyring
mon data = {place}/mon
mgr data = {place}/mgr
osd data = {place}/osd
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
"""


class Cluster:
    """The processes of one cluster, in a directory of their own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.configuration = place / "ceph.conf"
        self._output = (place / "output").open("wb")
        self._daemons: list[subprocess.Popen[bytes]] = []

    def call(self, *command: str) -> None:
        """Run a command to its end."""
        subprocess.run(command, cwd=self.place, stdout=self._output, stderr=self._output, check=True, timeout=60)

    def call_until_well(self, *command: str) -> None:
        """Run a command until it ends well: a monitor that is still finding its feet refuses it now and then."""
        give_up = time.monotonic() + START_SECONDS
        while True:
            self.refuse_if_ended()
            try:
                self.call(*command)
            except subprocess.CalledProcessError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.2)
            else:
                return

    def start(self, *command: str) -> None:
        """Start a daemon, as a child of this process."""
        arguments = [command[0], "-f", "-c", str(self.configuration), *command[1:]]
        self._daemons.append(subprocess.Popen(arguments, cwd=self.place, stdout=self._output, stderr=self._output))

    def refuse_if_ended(self) -> None:
        """Raise when one of the daemons has ended."""
        for daemon in self._daemons:
            if daemon.poll() is not None:
                raise RuntimeError(f"{daemon.args!r} has ended with {daemon.returncode}")

    def stop(self) -> None:
        """End the daemons, the last one first."""
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._output.close()


@contextlib.contextmanager
def serve_radosgw() -> Iterator[str]:
    """Serve S3 inside the `with`, and give the endpoint; the keys are `KEYS`.

    Raises:
        RuntimeError: it did not come up; the message has the end of what the programs said.
    """
    with tempfile.TemporaryDirectory(prefix="holdfast-radosgw-") as directory:
        place = Path(directory)
        cluster = Cluster(place)
        try:
            try:
                endpoint = _start(cluster, free_port(), free_port())
            except (RuntimeError, subprocess.SubprocessError) as error:
                said = (place / "output").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"radosgw did not come up: {error}\n{said}") from error
            yield endpoint
        finally:
            cluster.stop()


def _start(cluster: Cluster, mon_port: int, port: int) -> str:
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    place = cluster.place
    cluster.configuration.write_text(CONFIGURATION.format(fsid=fsid, mon_port=mon_port, port=port, place=place))
    at = ("-c", str(cluster.configuration))
    for name in ("mon", "mgr", "osd"):
        (place / name).mkdir()
    cluster.call("ceph-authtool", "--create-keyring", "keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    cluster.call("monmaptool", "--create", "--addv", "a", f"[v1:127.0.0.1:{mon_port}]", "--fsid", fsid, "monmap")
    cluster.call("ceph-mon", *at, "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
    cluster.start("ceph-mon", "-i", "a")
    cluster.call_until_well("ceph", *at, "osd", "new", osd, "0")
    cluster.start("ceph-mgr", "-i", "x")
    cluster.call("ceph-osd", *at, "-i", "0", "--mkfs", "--osd-uuid", osd)
    cluster.call_until_well("ceph", *at, "osd", "crush", "add", "osd.0", "1", "root=default")
    cluster.start("ceph-osd", "-i", "0")
    access, secret = KEYS.values()
    user = ("--uid=contract", "--display-name=contract", f"--access-key={access}", f"--secret={secret}")
    cluster.call("radosgw-admin", *at, "user", "create", *user)
    cluster.start("radosgw", "-n", "client.rgw")
    endpoint = f"http://127.0.0.1:{port}"
    _wait_for(endpoint, cluster)
    return endpoint


def _wait_for(endpoint: str, cluster: Cluster) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up:
        cluster.refuse_if_ended()
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"{endpoint} does not answer")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def main(arguments: Sequence[str]) -> int:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        print(f"{', '.join(missing)} not found: install ceph-mon, ceph-mgr, ceph-osd and radosgw", file=sys.stderr)
        return 69
    print(
        subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True).stdout.strip(), flush=True
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the daemons are stopped then, too
    with serve_radosgw() as endpoint:
        environ = {**os.environ, **KEYS, "HOLDFAST_TEST_S3_ENDPOINT": endpoint, "HOLDFAST_TEST_S3_SERVER": "radosgw"}
        command = [sys.executable, "-m", "pytest", *(arguments or ["tests/contract", "-k", "s3"])]
        return subprocess.run(command, env=environ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
