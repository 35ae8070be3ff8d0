"""`loadtest/objectives` for a moment: each row is measured, and what can be counted is right. How fast anything is, is not judged
here. Standard library only.

    objectives.py RINGWAY LOADTEST
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import house
from house import check

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# All but the benchmarks, which would have to be built.
ROWS = ["hit", "miss", "throughput", "connect", "hit-rate", "cpu", "memory", "connections", "errors"]


def objectives(*more):
    command = [ROOT / "loadtest/objectives", "--gateway", *sys.argv[1:2], "--loadtest", *sys.argv[2:3], *more]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300)


def every_row_is_measured():
    with tempfile.TemporaryDirectory(prefix="ringway-objectives-") as folder:
        run = objectives("--only", ",".join(ROWS), "--seconds", "1", "--rate", "200", "--connections", "300", "--report", folder)
        check("it ends well", run.returncode == 0, run.stderr[-2000:])
        rows = {row["name"]: row for row in json.loads((pathlib.Path(folder) / "objectives.json").read_text())}
        check("the report has every row, in order", list(rows) == ROWS, list(rows))
        check("no request failed", rows["errors"]["holds"], rows["errors"])
        check("all connections are open and answered", rows["connections"]["measured"] == "300 open and answered", rows["connections"])
        check("the table is what the report has", run.stdout == (pathlib.Path(folder) / "objectives.md").read_text(), run.stdout)


def what_cannot_be_done_is_said():
    run = objectives("--only", "speed")
    check("an unknown row is refused with those there are", run.returncode == 2 and "hit-rate" in run.stderr, run.stderr)
    run = objectives("--gateway", "/nowhere")
    check("a missing program is named with its remedy", run.returncode == 1 and "cargo build --release" in run.stderr, run.stderr)


house.run([every_row_is_measured, what_cannot_be_done_is_said])
house.verdict()
