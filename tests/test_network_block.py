"""The block on the network is itself tested: without it, "works offline" would be a guess."""

from __future__ import annotations

import socket
import urllib.request

import pytest


def test_a_connection_outside_is_refused() -> None:
    with socket.socket() as outside, pytest.raises(RuntimeError, match="blocked"):
        outside.connect(("192.0.2.1", 80))


def test_a_name_is_not_looked_up() -> None:
    with pytest.raises(RuntimeError, match="blocked"):
        urllib.request.urlopen("http://example.org/", timeout=1)


def test_a_datagram_outside_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside, pytest.raises(RuntimeError, match="blocked"):
        outside.sendto(b"x", ("192.0.2.1", 53))


def test_loopback_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(b"x")
        accepted, _ = server.accept()
        with accepted:
            assert accepted.recv(1) == b"x"
