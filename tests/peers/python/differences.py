#!/usr/bin/env python3
"""The emulator's conformance checks against servers that others wrote, compared with what is known to differ.

    differences.py LIST

LIST   a line a check that fails there, by its name, then why; blank lines and lines with # say nothing. A name with `?`
       before it may fail (the reason says on what that hangs); one with `-` is not run at all (it would take minutes).

A check that needs the emulator's inside, an option of it or a clock that can be moved on says so as it fails, and is
counted apart. The servers are where AWS_ENDPOINT_URL_KINESIS, _DYNAMODB and _S3 say. Exits 1 if another check fails that
is not in the list, or one of the list does not.
"""

import collections
import os
import re
import subprocess
import sys

MODULES = ("kinesis", "dynamodb", "s3")
# Checks of the emulator's own ways, whatever they call.
OURS = ("faults", "restart", "tcp", "subject", "support")
LINE = re.compile(r"^test (\S+) \.\.\. (\w+)$", re.MULTILINE)
WHY = re.compile(r"^---- (\S+) stdout ----\n(.*?)(?=^---- |\Z|^failures:$)", re.MULTILINE | re.DOTALL)


OURS_ALONE = re.compile("ours alone: |time is not frozen")


def known(path):
    with open(path, encoding="utf-8") as file:
        lines = (line.strip() for line in file)
        return dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))


def run(left_out):
    environment = dict(os.environ, RUST_BACKTRACE="0")
    for name in MODULES:
        environment[f"STANDPIPE_CHECK_{name.upper()}"] = os.environ[f"AWS_ENDPOINT_URL_{name.upper()}"]
        del environment[f"AWS_ENDPOINT_URL_{name.upper()}"]
    skipped = [f"{module}::" for module in OURS] + left_out
    skipped = [argument for name in skipped for argument in ("--skip", name)]
    command = ["cargo", "test", "--quiet", "--workspace", "--locked", "--test", "conformance", "--no-fail-fast", "--",
               "--format=pretty", "--test-threads=1", *skipped]
    if os.environ.get("STANDPIPE_CONFORMANCE"):
        command = [os.environ["STANDPIPE_CONFORMANCE"], *command[command.index("--") + 1:]]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout


def main():
    listed = known(sys.argv[1])
    left_out = [name[1:] for name in listed if name.startswith("-")]
    perhaps = {name[1:] for name in listed if name.startswith("?")}
    expected = {name for name in listed if name[0] not in "-?"}
    output = run(left_out)
    results = dict(LINE.findall(output))
    why = {name: " ".join(text.split())[:300] for name, text in WHY.findall(output)}
    ours = {name for name, text in why.items() if OURS_ALONE.search(text)}
    counts, wrong = collections.Counter(), []
    for name, result in sorted(results.items()):
        kind = "ours alone" if name in ours else "as the emulator" if result == "ok" else "otherwise"
        counts[name.split("::")[0].split("_")[0], kind] += 1
        if kind == "otherwise" and name in expected | perhaps:
            print(f"differs as known  {name}: {listed.get(name) or listed['?' + name]}")
        elif kind == "otherwise":
            wrong.append(f"differs  {name}: {why.get(name, 'no word why')}")
        elif name in expected:
            wrong.append(f"no longer differs  {name}: take it out of {sys.argv[1]}")
    for module in MODULES:
        kinds = [f"{counts[module, kind]} {kind}" for kind in ("as the emulator", "otherwise", "ours alone")]
        print(f"{module:10} {', '.join(kinds)}")
    wrong += [f"there is no check {name}" for name in expected | perhaps if name not in results]
    if sum(counts[module, "as the emulator"] for module in MODULES) < 40:
        wrong.append("fewer than 40 checks passed: that is no comparison")
        print(output[-2000:])
    for text in wrong:
        print(f"WRONG: {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
