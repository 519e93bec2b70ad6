"""Payloads near the limit of a message, and payloads in a store beside the server."""

import hashlib
import os

from durabletask import GrpcChannelOptions
from durabletask.payload import LargePayloadStorageOptions, PayloadStore

from harness import activity, alone, check, expect, orchestrator, raises, scenario, scratch_file, until

MEGABYTE = 1 << 20


@activity
def echo(_, text):
    return text


@orchestrator
def echoing(ctx, text):
    return (yield ctx.call_activity(echo, input=text))


@scenario
def large_payloads(env):
    text = "x" * MEGABYTE  # a worker's stream takes 4 MiB in all
    expect(len(env.run(echoing, input=text)), MEGABYTE, "length of the output")


@orchestrator
def growing(ctx, n):
    total = 0
    for _ in range(n):
        total += len((yield ctx.call_activity(blow_up, input=MEGABYTE)))
    return total


@activity
def blow_up(_, n):
    return "y" * n


@scenario
def history_beyond_a_message(env):
    instance = env.start(growing, input=8)
    until(lambda: "y" * 1000 in str(env.client.get_orchestration_history(instance)[-3:]), "the history grows")
    raises(TimeoutError, lambda: env.client.wait_for_orchestration_completion(instance, timeout=1))
    expect(env.run(echoing, input="others go on"), "others go on", "output of another instance")
    env.client.terminate_orchestration(instance)
    env.await_end(instance, "TERMINATED")


@scenario
def worker_that_accepts_more(env):
    """The instance stalls with the workers that are there, and goes on with one that says it accepts more."""
    instance = env.start(growing, input=8)
    until(lambda: "y" * 1000 in str(env.client.get_orchestration_history(instance)[-3:]), "the history grows")
    raises(TimeoutError, lambda: env.client.wait_for_orchestration_completion(instance, timeout=1))
    more = 64 << 20
    with env.new_worker([growing], [blow_up], metadata=[("perdure-worker-message", str(more))],
                        channel_options=GrpcChannelOptions(max_receive_message_length=more)) as w:
        w.start()
        expect(env.await_end(instance).get_output(), 8 * MEGABYTE, "the sum of what the activities returned")


class FileStore(PayloadStore):
    """Keeps payloads in files."""

    def __init__(self, directory):
        os.mkdir(directory)
        self.directory = directory

    @property
    def options(self):
        return LargePayloadStorageOptions(threshold_bytes=1000)

    def upload(self, data, *, instance_id=None):
        name = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.directory, name), "wb") as f:
            f.write(data)
        return "file:" + name

    async def upload_async(self, data, *, instance_id=None):
        return self.upload(data)

    def download(self, token):
        with open(os.path.join(self.directory, token.removeprefix("file:")), "rb") as f:
            return f.read()

    async def download_async(self, token):
        return self.download(token)

    def is_known_token(self, value):
        return value.startswith("file:")


@alone
def payload_store(env):
    store = FileStore(scratch_file())
    text = "z" * (6 * MEGABYTE)
    with env.new_worker([echoing], [echo], payload_store=store) as w, env.new_client(payload_store=store) as c:
        w.start()
        instance = c.schedule_new_orchestration(echoing, input=text)
        state = c.wait_for_orchestration_completion(instance)
        expect(len(state.get_output()), len(text), "length of the output")
        check(len(env.client.get_orchestration_state(instance).serialized_output) < 200, "the server has the payload")
