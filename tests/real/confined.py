"""Runs a program under a container's seccomp profile, without a container: confined.py PROFILE PROGRAM ARGUMENT...
By libseccomp, which the container runtimes use, too. Needs Debian's python3-seccomp.
"""

import json
import os
import platform
import sys

import seccomp

OPERATORS = {"SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ, "SCMP_CMP_EQ": seccomp.EQ, "SCMP_CMP_NE": seccomp.NE}


def main():
    with open(sys.argv[1]) as file:
        profile = json.load(file)
    here = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[platform.machine()]
    assert here in [row["architecture"] for row in profile["archMap"]]
    rules = seccomp.SyscallFilter(seccomp.ERRNO(profile["defaultErrnoRet"]))
    for row in profile["syscalls"]:
        action = seccomp.ALLOW if row["action"] == "SCMP_ACT_ALLOW" else seccomp.ERRNO(row["errnoRet"])
        for name in row["names"]:
            try:
                rules.add_rule(action, name, *[argument(given) for given in row.get("args", [])])
            except (ValueError, RuntimeError):
                pass  # no call of this machine, or newer than the library
    rules.load()
    os.execvp(sys.argv[2], sys.argv[2:])


def argument(given):
    operator = OPERATORS[given["op"]]
    if operator == seccomp.MASKED_EQ:
        return seccomp.Arg(given["index"], operator, given["value"], given["valueTwo"])
    return seccomp.Arg(given["index"], operator, given["value"])


main()
