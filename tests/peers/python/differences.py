#!/usr/bin/env python3
"""The emulator's conformance checks against servers that others wrote, compared with what is known to differ.

    differences.py LIST

LIST   a line a check that fails there, by its name, then why; blank lines and lines with # say nothing. A check that
       needs the emulator's inside or a clock that can be moved on belongs there too.

The servers are where AWS_ENDPOINT_URL_KINESIS, _DYNAMODB and _S3 say. Exits 1 if a check fails that is not in the list,
or one of the list does not.
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


def known(path):
    with open(path, encoding="utf-8") as file:
        lines = (line.strip() for line in file)
        return dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))


def run():
    environment = dict(os.environ, RUST_BACKTRACE="0")
    for name in MODULES:
        environment[f"STANDPIPE_CHECK_{name.upper()}"] = os.environ[f"AWS_ENDPOINT_URL_{name.upper()}"]
        del environment[f"AWS_ENDPOINT_URL_{name.upper()}"]
    skipped = [argument for module in OURS for argument in ("--skip", f"{module}::")]
    command = ["cargo", "test", "--quiet", "--workspace", "--locked", "--test", "conformance", "--no-fail-fast", "--",
               "--format=pretty", "--test-threads=1", *skipped]
    if os.environ.get("STANDPIPE_CONFORMANCE"):
        command = [os.environ["STANDPIPE_CONFORMANCE"], *command[command.index("--") + 1:]]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout


def main():
    listed, output = known(sys.argv[1]), run()
    results = dict(LINE.findall(output))
    why = {name: " ".join(text.split())[:300] for name, text in WHY.findall(output)}
    counts = collections.Counter()
    for name, result in results.items():
        counts[name.split("::")[0].split("_")[0], result] += 1
    for module in MODULES:
        print(f"{module:10} {counts[module, 'ok']} checks as the emulator, {counts[module, 'FAILED']} not")
    wrong = []
    for name, result in sorted(results.items()):
        if result != "ok" and name in listed:
            print(f"differs as known  {name}: {listed[name]}")
        elif result != "ok":
            wrong.append(f"differs  {name}: {why.get(name, 'no word why')}")
        elif name in listed:
            wrong.append(f"no longer differs  {name}: take it out of {sys.argv[1]}")
    wrong += [f"there is no check {name}" for name in listed if name not in results]
    if sum(counts[module, "ok"] for module in MODULES) < 40:
        wrong.append("fewer than 40 checks passed: that is no comparison")
        print(output[-2000:])
    for text in wrong:
        print(f"WRONG: {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
