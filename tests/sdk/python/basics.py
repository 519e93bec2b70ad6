"""Activities, children, retries, timers, status, continue-as-new."""

from datetime import timedelta

from durabletask import task

from harness import activity, check, expect, orchestrator, scenario, seconds

calls = {}  # how often an activity ran, by its key


def count(key):
    calls[key] = calls.get(key, 0) + 1
    return calls[key]


@activity
def plus_one(_, n):
    return n + 1


@activity
def fail_until(_, input):
    """Fails until it was called input[1] times with the key input[0]."""
    key, good = input
    n = count(key)
    if n < good:
        raise ValueError(f"attempt {n} fails")
    return n


@orchestrator
def sequence(ctx, n):
    for _ in range(3):
        n = yield ctx.call_activity(plus_one, input=n)
    return n


@scenario
def sequence_of_activities(env):
    expect(env.run(sequence, input=1), 4, "output")


@orchestrator
def empty(_, input):
    return input


@scenario
def payload_types(env):
    for value in (None, 0, False, "", "text", "\u00fc\u4e16\U0001f600 \" \\ \n\t", [1, "two", None], {"a": {"b": [1.5]}}):
        expect(env.run(empty, input=value), value, "output")


@orchestrator
def fan_out(ctx, n):
    results = yield task.when_all([ctx.call_activity(plus_one, input=i) for i in range(n)])
    return sum(results)


@scenario
def fan_out_of_1000(env):
    expect(env.run(fan_out, input=1000), 500500, "output")


@orchestrator
def race(ctx, _):
    fast = ctx.call_activity(plus_one, input=1)
    slow = ctx.create_timer(timedelta(hours=1))
    winner = yield task.when_any([fast, slow])
    return winner == fast


@scenario
def first_of_two(env):
    expect(env.run(race), True, "output")


@orchestrator
def child(ctx, n):
    result = yield ctx.call_activity(plus_one, input=n)
    return [result, ctx.instance_id, ctx.parent_instance_id]


@orchestrator
def parent(ctx, name):
    by_default = yield ctx.call_sub_orchestrator(child, input=1)
    named = yield ctx.call_sub_orchestrator(child, input=2, instance_id=name)
    many = yield task.when_all([ctx.call_sub_orchestrator(child, input=i) for i in range(10)])
    return [by_default, named, [m[0] for m in many]]


@scenario
def sub_orchestrations(env):
    instance = env.start(parent, input="a-child-of-python", instance_id="a-parent-of-python")
    by_default, named, many = env.await_end(instance).get_output()
    expect(by_default[0], 2, "first child")
    check(by_default[1] != named[1], "the children have one id")
    expect(by_default[2], instance, "parent of the first child")
    expect(named, [3, "a-child-of-python", instance], "second child")
    expect(many, list(range(1, 11)), "children side by side")
    expect(env.await_end("a-child-of-python").get_output()[0], 3, "child by its id")


POLICY = task.RetryPolicy(
    first_retry_interval=seconds(0.05), max_number_of_attempts=4, backoff_coefficient=2, max_retry_interval=seconds(0.2)
)


@orchestrator
def retried(ctx, good):
    return (yield ctx.call_activity(fail_until, input=[ctx.instance_id, good], retry_policy=POLICY))


@scenario
def retries(env):
    instance = env.start(retried, input=3)
    expect(env.await_end(instance).get_output(), 3, "attempts")
    expect(calls[instance], 3, "calls")
    instance = env.start(retried, input=99)
    failure = env.await_end(instance, "FAILED").failure_details
    check("attempt 4 fails" in failure.message, f"failure {failure}")
    expect(calls[instance], 4, "calls")


@orchestrator
def failing_child(ctx, key):
    n = count(key)
    if n < 2:
        raise ValueError("the child fails")
    return n


@orchestrator
def retried_child(ctx, _):
    return (yield ctx.call_sub_orchestrator(failing_child, input=ctx.instance_id, retry_policy=POLICY))


@scenario
def retry_of_sub_orchestration(env):
    expect(env.run(retried_child), 2, "attempts")


@orchestrator
def handled(ctx, _):
    try:
        yield ctx.call_activity(fail_until, input=[ctx.instance_id, 99])
    except task.TaskFailedError as e:
        return [e.details.error_type, e.details.message, bool(e.details.stack_trace)]


@orchestrator
def unregistered(ctx, _):
    yield ctx.call_activity("nobody_has_this")


@scenario
def failures(env):
    kind, message, stack = env.run(handled)
    check(kind.endswith("ValueError"), f"error type {kind}")
    check("attempt 1 fails" in message, f"message {message}")
    check(stack, "no stack trace")
    failure = env.await_end(env.start(unregistered), "FAILED").failure_details
    check("nobody_has_this" in failure.message, f"failure {failure}")
    failure = env.await_end(env.start("no_such_orchestrator"), "FAILED").failure_details
    check("no_such_orchestrator" in failure.message, f"failure {failure}")


@orchestrator
def delayed(ctx, delay):
    began = ctx.current_utc_datetime
    yield ctx.create_timer(seconds(delay))
    return (ctx.current_utc_datetime - began).total_seconds()


@scenario
def timers(env):
    took = env.run(delayed, input=1)
    check(1 <= took < 5, f"a timer of 1 s took {took} s")
    check(env.run(delayed, input=-5) < 5, "a timer in the past did not fire")


@orchestrator
def counter(ctx, n):
    n = yield ctx.call_activity(plus_one, input=n)
    if n < 10:
        ctx.continue_as_new(n)
        return None
    return n


@scenario
def continue_as_new(env):
    expect(env.run(counter, input=0), 10, "output")


@orchestrator
def gather(ctx, got):
    event = yield ctx.wait_for_external_event("item")
    got = got + [event]
    if len(got) < 20:
        ctx.continue_as_new(got, save_events=True)
        return None
    return got


@scenario
def continue_as_new_with_events(env):
    instance = env.start(gather, input=[])
    for i in range(20):
        env.client.raise_orchestration_event(instance, "item", data=i)
    expect(env.await_end(instance).get_output(), list(range(20)), "output")


@orchestrator
def status_setter(ctx, _):
    ctx.set_custom_status({"step": 1})
    yield ctx.wait_for_external_event("on")
    ctx.set_custom_status("second")
    yield ctx.wait_for_external_event("on")
    return "done"


@scenario
def custom_status(env):
    from harness import until
    instance = env.start(status_setter)

    def status():
        return env.client.get_orchestration_state(instance).get_custom_status()

    until(lambda: status() == {"step": 1}, "the first status")
    env.client.raise_orchestration_event(instance, "on")
    until(lambda: status() == "second", "the second status")
    env.client.raise_orchestration_event(instance, "on")
    expect(env.await_end(instance).get_custom_status(), "second", "status at the end")


@orchestrator
def uuids(ctx, _):
    before = [ctx.new_uuid(), ctx.new_uuid()]
    yield ctx.call_activity(plus_one, input=1)
    return before + [ctx.new_uuid()]


@scenario
def replay_safe_uuids(env):
    got = env.run(uuids)
    expect(len(set(got)), 3, "different ids")
