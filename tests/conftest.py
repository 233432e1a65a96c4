"""Every test runs offline, and the same way each time."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports a Hugging Face library
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("CARREL_LIBRARY", None)

settings.register_profile("dev", max_examples=25, deadline=None)
settings.register_profile(
    "ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


class NetworkBlockedError(RuntimeError):
    """A test reached for the network. Carrel sends and fetches nothing unless asked."""


def _is_local(host: object) -> bool:
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def _block(name: str) -> None:
    allowed = getattr(socket.socket, name)

    def guarded(self: socket.socket, *arguments: Any) -> Any:
        address = arguments[-1]  # connect(address), sendto(data, [flags,] address)
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            raise NetworkBlockedError(f"blocked: {name} to {address[0]}:{address[1]}")
        return allowed(self, *arguments)

    setattr(socket.socket, name, guarded)


def pytest_configure(config: pytest.Config) -> None:
    """Block all sockets but loopback and local ones, in this process and in xdist's workers."""
    for name in ("connect", "connect_ex", "sendto"):
        _block(name)
    resolve = socket.getaddrinfo

    def guarded(host: Any, *arguments: Any, **options: Any) -> Any:
        if not _is_local(host):
            raise NetworkBlockedError(f"blocked: looking up {host!r}")
        return resolve(host, *arguments, **options)

    socket.getaddrinfo = guarded
