"""A log that takes nothing: a full disk, one that is emptied again, and a pipe that nobody reads, for the access log and for
messages. Requests go on, scrapes every 100 ms are answered, what is lost is counted, and SIGTERM ends the process in time. Standard library only.

    stuck.py RINGWAY [SCENARIO...]
"""

import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import house
from house import ask, check

PROGRAM = sys.argv[1]
SECONDS = 8
# A drain of nothing, the last messages, and a debug build on a busy machine.
END_SECONDS = 15
LOST = "ringway_log_dropped_lines_total"


class Stuck(house.Process):
    """A gateway whose requests name no model: what is refused is logged as well, and needs no backend."""

    def __init__(self, access, **options):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="ringway-"))
        house.directories.append(directory)
        port, self.admin = house.free_port(), house.free_port()
        (directory / "ringway.toml").write_text(
            f'[server]\nlisten = ["127.0.0.1:{port}"]\n[admin]\nlisten = "127.0.0.1:{self.admin}"\n[log]\naccess = "{access}"\n'
            '[cores]\ndata = 2\n[cache]\nmemory = "64MiB"\n'
            '[[backend]]\nname = "b"\nurl = "http://127.0.0.1:9"\nhealth_interval = "0s"\nconnections_min = 0\n'
            '[[model]]\nname = "m"\nbackends = ["b"]\n'
        )
        super().__init__([PROGRAM, "serve", "--config", str(directory / "ringway.toml")], port, "/healthz", **options)

    def metric(self, name):
        _, _, text = ask(self.admin, "GET", "/metrics")
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))


def under_load(gateway):
    """Requests and scrapes go on; then it ends."""
    over, faults, counts = threading.Event(), [], [0] * 4

    def requests(number):
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
        # Long, so that the bounds are met soon.
        path = "/v1/" + "x" * 900
        while not over.is_set():
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 400:
                    faults.append(answer.status)
            except (OSError, http.client.HTTPException) as fault:
                faults.append(repr(fault))
                connection.close()
            counts[number] += 1

    threads = [threading.Thread(target=requests, args=(number,), daemon=True) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    scrapes, slowest, deadline = 0, 0, time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        began = time.monotonic()
        status, _, text = ask(gateway.admin, "GET", "/metrics", timeout=5)
        slowest = max(slowest, time.monotonic() - began)
        scrapes += 1
        if status != 200 or LOST not in text:
            faults.append((status, "a scrape"))
        time.sleep(0.1)
    lost = gateway.metric(LOST)
    began = time.monotonic()
    over.set()
    for thread in threads:
        thread.join(20)
    gateway.child.send_signal(signal.SIGTERM)
    try:
        code = gateway.child.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    print(f"{sum(counts)} requests, {scrapes} scrapes, the slowest {slowest * 1000:.0f} ms; {lost:.0f} lines lost; ended in {time.monotonic() - began:.1f} s")
    check("requests and scrapes are answered", not faults and min(counts) > 100, (faults[:3], counts))
    check("it ends well and in time", code == 0, code)
    return lost


def a_full_disk():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ringway-"))
    house.directories.append(folder)
    said = open(folder / "said", "w")
    lost = under_load(Stuck("/dev/full", stderr=said))
    check("what is lost is counted", lost > 0, lost)
    text = (folder / "said").read_text()
    check("it is said once", text.count("lines are lost") == 1, text[-500:])


def a_disk_that_fills_up_and_is_emptied():
    """A disk of our own, so that it can fill up."""
    if os.geteuid() != 0:
        return print("left out: a file system is mounted by root alone")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ringway-"))
    house.directories.append(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder], check=True)
    try:
        (folder / "filler").write_bytes(b"." * (240 << 10))
        gateway = Stuck(folder / "access.log")
        # One was asked by whoever waited for the start.
        path, sent = "/v1/" + "x" * 900, 1

        def send(count):
            nonlocal sent
            for _ in range(count):
                if (status := ask(gateway.port, "GET", path)[0]) != 400:
                    check("it is answered", False, status)
                sent += 1

        deadline = time.monotonic() + 60
        while gateway.metric(LOST) == 0 and time.monotonic() < deadline:
            send(20)
        (folder / "filler").unlink()
        send(100)

        def lines():
            """How many lines are in the file, and how many are not whole."""
            whole, torn = 0, 0
            for line in (folder / "access.log").read_text().splitlines():
                try:
                    whole += "path" in json.loads(line)
                except ValueError:
                    torn += 1
            return whole, torn

        while lines()[0] + gateway.metric(LOST) != sent and time.monotonic() < deadline:
            time.sleep(0.1)
        (whole, torn), lost = lines(), gateway.metric(LOST)
        check("every line is in the file or counted", whole + lost == sent and lost > 0, (whole, lost, sent))
        check("one at most is torn, and it ends as a line", torn <= 1 < whole, (torn, whole))
        gateway.kill(signal.SIGTERM)
        check("it ends well", gateway.child.wait(END_SECONDS) == 0)
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


def nobody_reads_standard_output():
    reader, writer = os.pipe()
    lost = under_load(Stuck("stdout", stdout=writer))
    check("what is lost is counted", lost > 0, lost)
    os.close(reader)


def nobody_reads_standard_error():
    reader, writer = os.pipe()
    # Full from the beginning: not even the first message goes through.
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    under_load(Stuck("off", stderr=writer))
    os.close(reader)


house.run([a_full_disk, a_disk_that_fills_up_and_is_emptied, nobody_reads_standard_output, nobody_reads_standard_error], sys.argv[2:])
house.verdict()
