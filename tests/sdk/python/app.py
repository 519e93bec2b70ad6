"""Drives the features of the Python SDK against a server, or is one of its workers.

    app.py scenarios ADDRESS [NAME...]   prints a line for each scenario; exit code 1 if one failed
    app.py worker ADDRESS [HUB]          works until it is killed
"""

import argparse
import os
import sys
import threading

import harness

# Each of these registers its scenarios.
import basics  # noqa: F401
import events  # noqa: F401
import manage  # noqa: F401
import entities  # noqa: F401
import versions  # noqa: F401
import payloads  # noqa: F401
import faults  # noqa: F401


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["scenarios", "worker"])
    parser.add_argument("address")
    parser.add_argument("names", nargs="*", help="of scenarios, or of the worker's task hub")
    args = parser.parse_args()
    if args.mode == "worker":
        harness.Env(args.address, *args.names).new_full_worker().start()
        print("working", flush=True)
        threading.Event().wait()
    good = harness.run_all(harness.Env(args.address), set(args.names))
    sys.stdout.flush()
    os._exit(0 if good else 1)  # a thread of the SDK may outlive its worker


if __name__ == "__main__":
    main()
