"""Drives the features of the Python SDK against a server, or is one of its workers.

    app.py scenarios ADDRESS [NAME...]   prints a line for each scenario; exit code 1 if one failed
    app.py worker ADDRESS                works until it is killed
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
    parser.add_argument("names", nargs="*")
    parser.add_argument("--hub", default="")
    parser.add_argument("--supervised", action="store_true", help="what is asked for on stdout is done")
    args = parser.parse_args()
    env = harness.Env(args.address, args.hub, args.supervised)
    if args.mode == "worker":
        env.new_full_worker().start()
        print("working", flush=True)
        threading.Event().wait()
    good = harness.run_all(env, set(args.names))
    sys.stdout.flush()
    os._exit(0 if good else 1)  # a thread of the SDK may outlive its worker


if __name__ == "__main__":
    main()
