"""Guarded servers, and workers and servers that die. The workers that die are processes of their own."""

import os
import signal
import subprocess
import sys
from datetime import timedelta

import grpc
from durabletask import task

from basics import plus_one
from harness import Env, activity, alone, expect, orchestrator, raises, scratch_file, until


@activity
def die_at_first(_, path):
    """Hangs where nobody has come before, so that the worker can be killed in it."""
    if not os.path.exists(path):
        with open(path, "w") as f:
            f.write("begun")
        signal.pause()
    return "survived"


@orchestrator
def deadly(ctx, path):
    before = yield ctx.call_activity(plus_one, input=1)
    return [before, (yield ctx.call_activity(die_at_first, input=path))]


@orchestrator
def long_chain(ctx, n):
    total = 0
    for i in range(n):
        total += yield ctx.call_activity(plus_one, input=i)
    yield ctx.create_timer(timedelta(0))
    return total


@orchestrator
def waits_and_calls(ctx, _):
    event = ctx.wait_for_external_event("later")
    return (yield task.when_all([event, ctx.call_activity(plus_one, input=1)]))


class Process:
    """A worker with every workflow, in a process of its own."""

    def __init__(self, env):
        command = [sys.executable, sys.argv[0], "worker", env.address]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        expect(self.process.stdout.readline().strip(), "working", "first line of the worker")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@alone
def tls_and_token(_):
    address = os.environ["SDK_GUARDED"]
    e = raises(grpc.RpcError, lambda: Env(address, token="wrong").start(long_chain))
    expect(e.code(), grpc.StatusCode.UNAUTHENTICATED, "code for a wrong token")
    env = Env(address, token=os.environ["SDK_TOKEN"])
    with env.new_full_worker() as w:
        w.start()
        expect(env.run(long_chain, input=3), 6, "output")


@alone
def worker_killed_in_an_activity(env):
    path = scratch_file()
    with Process(env):
        instance = env.start(deadly, input=path)
        until(lambda: os.path.exists(path), "the activity begins")
    expect(env.status(instance), "RUNNING", "status without a worker")
    with Process(env):
        expect(env.await_end(instance).get_output(), [2, "survived"], "output")


@alone
def server_killed_in_a_run(env):
    with Process(env):
        chains = [env.start(long_chain, input=40) for _ in range(25)]
        waiting = [env.start(waits_and_calls) for _ in range(5)]
        until(lambda: any(env.status(i) == "RUNNING" for i in chains), "the chains run")
        env.ask("restart-server")
        for instance in waiting:
            env.client.raise_orchestration_event(instance, "later", data="came")
        for instance in chains:
            expect(env.await_end(instance).get_output(), sum(range(1, 41)), "output of a chain")
        for instance in waiting:
            expect(env.await_end(instance).get_output(), ["came", 2], "output of one that waits")
