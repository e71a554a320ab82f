"""What a run is told by the shell that started it: the servers, the programs, and a folder for its files."""

import os
import sys
import threading
import time


class Settings:
    def __init__(self):
        def told(name):
            return os.environ["PEERS_" + name]
        self.kinesis, self.dynamodb, self.s3, self.bucket = told("KINESIS"), told("DYNAMODB"), told("S3"), told("BUCKET")
        self.kcl, self.kcl2, self.kcl3 = told("KCL"), told("KCL2"), told("KCL3")
        self.standpipe, self.work = told("STANDPIPE"), told("WORK")


BEGIN = time.monotonic()


def say(who, text):
    print(f"{time.monotonic() - BEGIN:7.1f} s  {who:<14} {text}", flush=True)


def together(jobs):
    """Runs named functions beside each other; their faults, as a list of lines."""
    faults = []

    def one(name, job):
        try:
            faults.extend(f"{name}: {fault}" for fault in job())
        except Exception as error:
            faults.append(f"{name}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=one, args=pair) for pair in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return faults


def end(faults):
    """Prints what is wrong and ends the program with 0 or 1."""
    for fault in faults:
        print(f"FAULT  {fault}", flush=True)
    print("all well" if not faults else f"{len(faults)} faults", flush=True)
    sys.exit(1 if faults else 0)
