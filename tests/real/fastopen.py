"""Clients that come back send their requests with the SYN: `server.fast_open`. In a network of its own, where the host's settings may be set.

    unshare --net fastopen.py RINGWAY

Standard library only.
"""

import pathlib
import socket
import subprocess
import sys

import house
from house import check

PERMITTED = pathlib.Path("/proc/sys/net/ipv4/tcp_fastopen")


def passive():
    """How many connections have come with data in their SYN."""
    names, values = [line.split() for line in pathlib.Path("/proc/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")]
    return int(dict(zip(names, values))["TCPFastOpenPassive"])


def ask(port):
    with socket.socket() as client:
        client.sendto(b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", socket.MSG_FASTOPEN, ("127.0.0.1", port))
        client.settimeout(20)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), answer


def gateway(fast_open):
    backends = [{"name": "b", "url": "http://127.0.0.1:9", "connections_min": 0, "health_interval": "0s"}]
    return house.Gateway(sys.argv[1], backends, [{"name": "m", "backends": ["b"]}], cores=2, server=f"fast_open = {fast_open}")


def first_bytes_come_with_the_syn_where_that_is_configured():
    PERMITTED.write_text("3")
    for fast_open in ("true", "false"):
        node, before = gateway(fast_open), passive()
        # The first one gets a cookie for the others.
        for _ in range(8):
            ask(node.port)
        found = passive() - before
        check(f"fast_open = {fast_open}: {found} of 8", found >= 6 if fast_open == "true" else found == 0)
        check("it has nothing to warn of", "fast_open" not in node.words(), node.words())
        node.stop()


def a_host_that_does_not_permit_it_is_named():
    PERMITTED.write_text("1")
    node, before = gateway("true"), passive()
    for _ in range(4):
        ask(node.port)
    check("requests are answered as ever", passive() == before)
    check("why is told", "net.ipv4.tcp_fastopen" in node.words(), node.words())
    node.stop()


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
house.run([first_bytes_come_with_the_syn_where_that_is_configured, a_host_that_does_not_permit_it_is_named], [])
house.verdict()
