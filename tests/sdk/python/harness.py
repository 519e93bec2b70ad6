"""What the scenarios share: the registry of workflows, the runner, and waiting."""

import itertools
import logging
import os
import sys
import time
import traceback
import uuid
from datetime import datetime, timedelta, timezone

from durabletask import client, worker

SCENARIOS = []
ORCHESTRATORS = []
ACTIVITIES = []
ENTITIES = []
LOGGER = logging.getLogger("app")  # the SDK's own logs each work item
PATIENCE = 60  # seconds that a scenario waits for what must happen


def scenario(f):
    """Registers f, which runs beside a worker that has every workflow."""
    SCENARIOS.append((f, True))
    return f


def alone(f):
    """Registers f, which runs with no worker but those that it starts."""
    SCENARIOS.append((f, False))
    return f


def orchestrator(f):
    ORCHESTRATORS.append(f)
    return f


def activity(f):
    ACTIVITIES.append(f)
    return f


def entity(f):
    ENTITIES.append(f)
    return f


def expect(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, want {want!r}")


def check(ok, what):
    if not ok:
        raise AssertionError(what)


def raises(kind, f, *holds):
    """Calls f, which must raise kind with one of holds in its text."""
    try:
        f()
    except kind as e:
        if holds and not any(h.lower() in str(e).lower() for h in holds):
            raise AssertionError(f"the error {e!s} holds none of {holds}") from e
        return e
    raise AssertionError(f"no {kind} was raised")


def until(f, what, patience=PATIENCE):
    """Asks f until it answers something true, and returns that."""
    end = time.monotonic() + patience
    while True:
        if answer := f():
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience} s in vain: {what}")
        time.sleep(0.02)


def now():
    return datetime.now(timezone.utc)


def seconds(n):
    return timedelta(seconds=n)


def new_id(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


class Env:
    """A client, and the means to start workers of the server."""

    def __init__(self, address, hub="", token=""):
        self.address = address
        self.connection = {"host_address": address, "logger": LOGGER}
        if hub:
            self.connection["metadata"] = [("taskhub", hub)]
        if token:
            self.connection.update(metadata=[("authorization", "Bearer " + token)], secure_channel=True)
        self.client = self.new_client()

    def new_client(self, **options):
        return client.TaskHubGrpcClient(**self.connection, **options)

    def new_worker(self, orchestrators=(), activities=(), entities=(), **options):
        """A worker that is not started."""
        w = worker.TaskHubGrpcWorker(**(self.connection | options))
        for f in orchestrators:
            w.add_orchestrator(f)
        for f in activities:
            w.add_activity(f)
        for f in entities:
            w.add_entity(f)
        return w

    def new_full_worker(self):
        return self.new_worker(ORCHESTRATORS, ACTIVITIES, ENTITIES)

    def start(self, orchestrator, **options):
        options.setdefault("instance_id", new_id(getattr(orchestrator, "__name__", orchestrator)))
        return self.client.schedule_new_orchestration(orchestrator, **options)

    def status(self, instance):
        state = self.client.get_orchestration_state(instance)
        return state.runtime_status.name if state else None

    def await_end(self, instance, status="COMPLETED"):
        state = self.client.wait_for_orchestration_completion(instance, timeout=PATIENCE)
        check(state is not None, f"{instance} is not there")
        if state.runtime_status.name != status:
            raise AssertionError(f"{instance} is {state.runtime_status.name}, want {status}: {state.failure_details}")
        return state

    def run(self, orchestrator, **options):
        """Runs an orchestration to its end and returns its output."""
        return self.await_end(self.start(orchestrator, **options)).get_output()

    def await_status(self, instance, status):
        until(lambda: self.status(instance) == status, f"{instance} becomes {status}")

    def ask(self, request):
        """Has the program that runs this one do something, such as to restart the server."""
        print(f"request {request}", flush=True)
        answer = sys.stdin.readline().strip()
        expect(answer, "done", f"answer to {request}")


def run_all(env, names):
    """Runs the scenarios and prints a line for each; returns whether all went well."""
    wanted = [s for s in SCENARIOS if not names or s[0].__name__ in names]
    good = True
    shared = [f for f, beside in wanted if beside]
    with env.new_full_worker() as w:
        if shared:
            w.start()
        for f in shared:
            good &= run_one(env, f)
    for f in (f for f, beside in wanted if not beside):
        good &= run_one(env, f)
    return good


def run_one(env, f):
    began = time.monotonic()
    try:
        details = f(env) or ""
        result = "ok"
    except Exception as e:  # a scenario may fail in any way, and the others shall run
        traceback.print_exc()
        result, details = "FAILED", " ".join(f"{type(e).__name__}: {e}".split())
    print(f.__name__, result, f"{time.monotonic() - began:.2f}s", details, flush=True)
    return result == "ok"


_numbers = itertools.count()


def scratch_file():
    """The path of a file that is not there yet."""
    return os.path.join(os.environ["SDK_SCRATCH"], f"python-{os.getpid()}-{next(_numbers)}")
