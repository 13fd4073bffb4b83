"""Hosts of their own: network namespaces with one cable each to this one, which can be pulled out."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from tests.support import relay

#: Numbers of hosts that tests may have.
_FIRST, _MOST = 10, 200


def impossible() -> str:
    """Return why there can be no namespaces here, empty where there can."""
    if os.geteuid() != 0:
        return "network namespaces take root"
    if shutil.which("ip") is None:
        return "there is no ip command here (Debian: apt-get install iproute2)"
    tried = Host(_FIRST + _MOST + os.getpid() % 20)
    try:
        tried.plug()
    except subprocess.CalledProcessError as error:
        return f"this system gives no network namespaces with a cable: {str(error.stderr).strip()}"
    finally:
        tried.unplug()
    return ""


class Host:
    """A namespace with a cable to ours.

    Args:
        number: unique on this machine; its network is 10.199.<number>.0/30, with us at .1.
    """

    def __init__(self, number: int):
        self.name = f"hal9t{number}"
        self.here = f"10.199.{number}.1"
        self._cable = f"hal9c{number}"

    @property
    def prefix(self) -> Sequence[str]:
        """What a command begins with to be run there."""
        return ("ip", "netns", "exec", self.name)

    def plug(self) -> None:
        """Make it, and its cable."""
        _ip("netns", "add", self.name)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("address", "add", f"{self.here}/30", "dev", self._cable)
        _ip("link", "set", self._cable, "up")
        _ip("-n", self.name, "address", "add", f"{self.here[:-1]}2/30", "dev", "eth0")
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "link", "set", "eth0", "up")

    def cut(self) -> None:
        """Pull its cable out: nothing that is sent arrives, and nobody is told."""
        _ip("link", "set", self._cable, "down")

    def mend(self) -> None:
        """Put its cable back."""
        _ip("link", "set", self._cable, "up")

    def unplug(self) -> None:
        """Take it away."""
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "del", self.name)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._cable)


@contextlib.contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """Have hosts for the length of a block."""
    first = _FIRST + secrets.randbelow(_MOST - count)
    made = [Host(first + number) for number in range(count)]
    try:
        for host in made:
            host.plug()
        yield made
    finally:
        for host in made:
            host.unplug()


def reachable(host: Host, port: int) -> contextlib.AbstractContextManager[int]:
    """Let a host reach a port of our loopback, and give the port that it has on the cable."""
    return relay.listening(host.here, lambda client: relay.between(client, port))


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
