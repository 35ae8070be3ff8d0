"""The recipes of tuning/profile on a gateway under load: each leaves a picture in which the gateway's own code is named.
Takes the program and a directory for the pictures; wants root and perf. Standard library only.
"""

import pathlib
import re
import subprocess
import sys
import threading
import urllib.request
import xml.etree.ElementTree

from house import Process, check, free_port, run, verdict

RECIPES = pathlib.Path("tuning/profile")
SECONDS = 1
TRIES = 5  # on a busy machine a second may have no sample of the gateway's
# Found in the names of the picture: the thread, and what the recipe is for.
SHOWS = {
    "cpu": ("ringway-data-", "ringway::"),
    "allocations": ("ringway-data-", "ringway::exchange::"),
    "io": ("ringway-data-", "io_uring "),
    "off-cpu": ("ringway-data-", "[waits]"),
}


def names(picture):
    """Each box with its number."""
    root = xml.etree.ElementTree.parse(picture).getroot()
    assert root.tag.endswith("}svg"), root.tag
    return [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]


def load(url, stopped):
    number = 0
    while not stopped.is_set():
        number += 1
        body = b'{"model": "demo", "messages": [{"role": "user", "content": "%d"}]}' % number
        with urllib.request.urlopen(urllib.request.Request(url + "/v1/chat/completions", body, {"content-type": "application/json"})) as answer:
            answer.read()


def each_recipe_leaves_a_picture():
    for recipe, wanted in SHOWS.items():
        out = pictures / f"{recipe}.svg"
        for _ in range(TRIES):
            out.unlink(missing_ok=True)
            command = [RECIPES / recipe, "--pid", str(gateway.child.pid), "--seconds", str(SECONDS), "--out", out]
            done = subprocess.run(command, capture_output=True, text=True)
            seen = names(out) if done.returncode == 0 else []
            if all(any(word in name for name in seen) for word in wanted):
                break
        check(f"{recipe}: status", done.returncode == 0, done.stderr)
        for word in wanted:
            check(f"{recipe}: the picture has {word}", any(word in name for name in seen), seen[:40])
        check(f"{recipe}: every box has a number", seen and all(re.search(r": \d+ \w+, [\d.]+ %$", name) for name in seen), seen[:5])
    left = subprocess.run(["perf", "probe", "--list"], capture_output=True, text=True)
    check("no probe is left behind", "ringway_profile_" not in left.stdout, left.stdout)


def what_is_wrong_is_said():
    for recipe in SHOWS:
        done = subprocess.run([RECIPES / recipe, "--help"], capture_output=True, text=True)
        check(f"{recipe} --help", done.returncode == 0 and f"tuning/profile/{recipe} " in done.stdout, done)
        done = subprocess.run([RECIPES / recipe, "--pid", "999999999"], capture_output=True, text=True)
        check(f"{recipe} of no process", done.returncode == 1 and "there is no process" in done.stderr, done)
        done = subprocess.run([RECIPES / recipe, "--minutes", "1"], capture_output=True, text=True)
        check(f"{recipe} with an unknown option", done.returncode == 2 and "See --help" in done.stderr, done)


pictures = pathlib.Path(sys.argv[2])
pictures.mkdir(parents=True, exist_ok=True)
port = free_port()
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
gateway = Process([sys.argv[1], "demo", "--listen", f"127.0.0.1:{port}", "--cores", "1"], port, "/healthz", **quiet)
stopped = threading.Event()
client = threading.Thread(target=load, args=[f"http://127.0.0.1:{port}", stopped], daemon=True)
client.start()
run([each_recipe_leaves_a_picture, what_is_wrong_is_said], sys.argv[3:])
stopped.set()
client.join()
verdict()
