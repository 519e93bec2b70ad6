"""External events: before and after the wait, between orchestrations, against time."""

from datetime import timedelta

from durabletask import task

from harness import check, expect, new_id, orchestrator, scenario, seconds, until


@orchestrator
def approval(ctx, n):
    got = []
    for _ in range(n):
        got.append((yield ctx.wait_for_external_event("approval")))
    return got


@scenario
def event_after_the_wait(env):
    instance = env.start(approval, input=2)
    env.await_status(instance, "RUNNING")
    env.client.raise_orchestration_event(instance, "approval", data={"by": "Ada"})
    env.client.raise_orchestration_event(instance, "APPROVAL")  # names know no case
    expect(env.await_end(instance).get_output(), [{"by": "Ada"}, None], "output")


@orchestrator
def late_waiter(ctx, _):
    yield ctx.wait_for_external_event("go")
    first = yield ctx.wait_for_external_event("early")
    second = yield ctx.wait_for_external_event("early")
    return [first, second]


@scenario
def event_before_the_wait(env):
    instance = env.start(late_waiter)
    for data in (1, 2):
        env.client.raise_orchestration_event(instance, "early", data=data)
    env.client.raise_orchestration_event(instance, "go")
    expect(env.await_end(instance).get_output(), [1, 2], "output")


@scenario
def many_events_in_order(env):
    instance = env.start(approval, input=100)
    for i in range(100):
        env.client.raise_orchestration_event(instance, "approval", data=i)
    expect(env.await_end(instance).get_output(), list(range(100)), "output")


@orchestrator
def impatient(ctx, timeout):
    event = ctx.wait_for_external_event("never")
    timer = ctx.create_timer(seconds(timeout))
    winner = yield task.when_any([event, timer])
    if winner == timer:
        return "timeout"
    timer.cancel()
    return event.get_result()


@scenario
def event_against_a_timer(env):
    expect(env.run(impatient, input=0.2), "timeout", "output")
    instance = env.start(impatient, input=3600)
    env.client.raise_orchestration_event(instance, "never", data="came")
    expect(env.await_end(instance).get_output(), "came", "output")


@orchestrator
def sender(ctx, target):
    ctx.send_event(target, "approval", data=[ctx.instance_id])
    ctx.send_event("an instance that nobody started", "approval")
    yield ctx.create_timer(timedelta(0))
    return "sent"


@scenario
def event_between_orchestrations(env):
    receiver = env.start(approval, input=1)
    source = env.start(sender, input=receiver)
    expect(env.await_end(source).get_output(), "sent", "output of the sender")
    expect(env.await_end(receiver).get_output(), [[source]], "output of the receiver")


@scenario
def event_to_the_unknown_and_to_the_done(env):
    import grpc

    try:
        env.client.raise_orchestration_event(new_id("unknown"), "approval")
        raise AssertionError("an event to an unknown instance was taken")
    except grpc.RpcError as e:
        expect(e.code(), grpc.StatusCode.NOT_FOUND, "code")
    instance = env.start(approval, input=0)
    env.await_end(instance)
    env.client.raise_orchestration_event(instance, "approval")
    until(lambda: env.status(instance) == "COMPLETED", "the instance stays completed")
    check(env.client.get_orchestration_state(instance).get_output() == [], "the output changed")
