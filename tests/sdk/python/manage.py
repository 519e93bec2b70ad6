"""What clients do to instances: terminate, suspend, query, purge, rewind, restart, start later."""

from datetime import timedelta

import grpc
from durabletask import client, history
from durabletask.internal import orchestrator_service_pb2 as pb

from basics import calls, count, plus_one
from harness import activity, check, expect, new_id, now, orchestrator, raises, scenario, seconds, until

Status = client.OrchestrationStatus


@orchestrator
def waiting(ctx, _):
    return (yield ctx.wait_for_external_event("end"))


@orchestrator
def waiting_parent(ctx, child_id):
    return (yield ctx.call_sub_orchestrator(waiting, instance_id=child_id))


def ended(env, instance):
    env.client.raise_orchestration_event(instance, "end", data="end")
    return env.await_end(instance).get_output()


@scenario
def terminate(env):
    instance = env.start(waiting)
    env.await_status(instance, "RUNNING")
    env.client.terminate_orchestration(instance, output={"why": "test"})
    expect(env.await_end(instance, "TERMINATED").get_output(), {"why": "test"}, "output")
    env.client.terminate_orchestration(instance)  # a second time changes nothing
    expect(env.status(instance), "TERMINATED", "status")


@scenario
def terminate_recursively(env):
    for recursive in (True, False):
        child = new_id("child")
        parent = env.start(waiting_parent, input=child)
        env.await_status(child, "RUNNING")
        env.client.terminate_orchestration(parent, recursive=recursive)
        env.await_end(parent, "TERMINATED")
        if recursive:
            env.await_end(child, "TERMINATED")
        else:
            expect(ended(env, child), "end", "output of a child that was left alone")


@scenario
def suspend_and_resume(env):
    instance = env.start(waiting)
    env.await_status(instance, "RUNNING")
    env.client.suspend_orchestration(instance, reason="a rest")
    env.await_status(instance, "SUSPENDED")
    env.client.raise_orchestration_event(instance, "end", data=7)
    raises(TimeoutError, lambda: env.client.wait_for_orchestration_completion(instance, timeout=0.3))
    expect(env.status(instance), "SUSPENDED", "status")
    env.client.resume_orchestration(instance)
    expect(env.await_end(instance).get_output(), 7, "output")


@scenario
def terminate_while_suspended(env):
    instance = env.start(waiting)
    env.await_status(instance, "RUNNING")
    env.client.suspend_orchestration(instance)
    env.await_status(instance, "SUSPENDED")
    env.client.terminate_orchestration(instance)
    env.await_end(instance, "TERMINATED")


@scenario
def waits(env):
    instance = env.start(waiting)
    state = env.client.wait_for_orchestration_start(instance, timeout=10)
    expect(state.runtime_status, Status.RUNNING, "status after the wait for the start")
    raises(TimeoutError, lambda: env.client.wait_for_orchestration_completion(instance, timeout=0.2))
    expect(env.client.get_orchestration_state(new_id("unknown")), None, "state of an unknown instance")
    ended(env, instance)
    state = env.client.get_orchestration_state(instance, fetch_payloads=False)
    expect((state.serialized_output, state.name), (None, "waiting"), "state without payloads")
    check(state.created_at <= state.last_updated_at, "times")


@scenario
def query(env):
    prefix = new_id("query")
    began = now()
    for i in range(25):
        env.start(plus_one_of, input=i, instance_id=f"{prefix}-{i:02}")
    for i in range(5):
        env.start(waiting, instance_id=f"{prefix}-waits-{i}")
    for i in range(25):
        env.await_end(f"{prefix}-{i:02}")

    def ask(**options):
        q = client.OrchestrationQuery(instance_id_prefix=prefix, **options)
        return env.client.get_all_orchestration_states(q)

    expect(len({s.instance_id for s in ask()}), 30, "all")
    expect(len(ask(max_instance_count=4)), 30, "all in pages of 4")
    done = ask(runtime_status=[Status.COMPLETED], fetch_inputs_and_outputs=True, max_instance_count=7)
    expect(sorted(s.get_output() for s in done), list(range(1, 26)), "outputs of the completed")
    expect(len(ask(runtime_status=[Status.RUNNING, Status.PENDING])), 5, "running")
    expect(len(ask(created_time_from=began - seconds(60))), 30, "created after the start")
    expect(ask(created_time_to=began - seconds(60)), [], "created before the start")
    expect({s.serialized_input for s in ask()}, {None}, "inputs that nobody asked for")

    seen, token = [], None
    while True:
        page = env.client.list_instance_ids([Status.COMPLETED], began, page_size=10, continuation_token=token)
        check(len(page.items) <= 10, "a page is too long")
        seen += [i for i in page.items if i.startswith(prefix)]
        token = page.continuation_token
        if not token:
            break
    expect(sorted(seen), [f"{prefix}-{i:02}" for i in range(25)], "listed ids")
    for i in range(5):
        ended(env, f"{prefix}-waits-{i}")


@orchestrator
def plus_one_of(ctx, n):
    return (yield ctx.call_activity(plus_one, input=n))


@scenario
def purge(env):
    instance = env.start(plus_one_of, input=1)
    env.await_end(instance)
    result = env.client.purge_orchestration(instance)
    expect((result.deleted_instance_count, result.is_complete), (1, True), "purge of one")
    expect(env.status(instance), None, "status after the purge")
    expect(env.client.purge_orchestration(instance).deleted_instance_count, 0, "purge of the purged")
    running = env.start(waiting)
    env.await_status(running, "RUNNING")
    expect(env.client.purge_orchestration(running).deleted_instance_count, 0, "purge of a running one")
    child = new_id("child")
    parent = env.start(waiting_parent, input=child)
    env.await_status(child, "RUNNING")
    ended(env, child)
    env.await_end(parent)
    expect(env.client.purge_orchestration(parent, recursive=True).deleted_instance_count, 2, "purge of a tree")
    expect(env.status(child), None, "status of the child")
    ended(env, running)


@scenario
def purge_by_filter(env):
    began = now()
    for instance in [env.start(plus_one_of, input=1) for _ in range(5)]:
        env.await_end(instance)
    failed = env.start(rewindable, input="never-mended")
    env.await_end(failed, "FAILED")
    # The clocks of client and server may differ a little.
    result = env.client.purge_orchestrations_by(began - seconds(1), now() + seconds(60), [Status.COMPLETED])
    check(result.deleted_instance_count >= 5 and result.is_complete, f"purge: {result}")
    expect(env.status(failed), "FAILED", "status of one that does not match")


mended = set()


@activity
def mendable(_, key):
    n = count(key)
    if key not in mended:
        raise ValueError(f"{key} is broken")
    return n


@orchestrator
def rewindable(ctx, key):
    first = yield ctx.call_activity(plus_one, input=1)
    yield ctx.call_activity(fine, input=key)
    return [first, (yield ctx.call_activity(mendable, input=key))]


@activity
def fine(_, key):
    count(key + "-fine")


@orchestrator
def rewindable_parent(ctx, key):
    return (yield ctx.call_sub_orchestrator(rewindable, input=key, instance_id=key + "-child"))


@scenario
def rewind(env):
    key = new_id("rewind")
    instance = env.start(rewindable, input=key)
    env.await_end(instance, "FAILED")
    mended.add(key)
    env.client.rewind_orchestration(instance, reason="mended")
    expect(env.await_end(instance).get_output(), [2, 2], "output")
    expect(calls[key + "-fine"], 1, "calls of what had succeeded")
    e = raises(grpc.RpcError, lambda: env.client.rewind_orchestration(instance))
    expect(e.code(), grpc.StatusCode.FAILED_PRECONDITION, "rewind of a completed one")
    e = raises(grpc.RpcError, lambda: env.client.rewind_orchestration(new_id("unknown")))
    expect(e.code(), grpc.StatusCode.NOT_FOUND, "rewind of an unknown one")


@scenario
def rewind_of_a_tree(env):
    key = new_id("rewind")
    instance = env.start(rewindable_parent, input=key)
    env.await_end(instance, "FAILED")
    mended.add(key)
    env.client.rewind_orchestration(instance)
    expect(env.await_end(instance).get_output(), [2, 2], "output")
    expect(env.await_end(key + "-child").get_output(), [2, 2], "output of the child")
    expect(calls[key + "-fine"], 1, "calls of what had succeeded")


@scenario
def restart(env):
    instance = env.start(plus_one_of, input=4, tags={"a": "b"})
    first = env.await_end(instance)
    expect(env.client.restart_orchestration(instance), instance, "id")
    until(lambda: env.client.get_orchestration_state(instance).created_at > first.created_at, "a new run")
    expect(env.await_end(instance).get_output(), 5, "output of the restart")
    other = env.client.restart_orchestration(instance, restart_with_new_instance_id=True)
    check(other != instance, "the id is not new")
    expect(env.await_end(other).get_output(), 5, "output under a new id")
    running = env.start(waiting)
    env.await_status(running, "RUNNING")
    e = raises(grpc.RpcError, lambda: env.client.restart_orchestration(running))
    expect(e.code(), grpc.StatusCode.FAILED_PRECONDITION, "restart of a running one")
    e = raises(grpc.RpcError, lambda: env.client.restart_orchestration(new_id("unknown")))
    expect(e.code(), grpc.StatusCode.NOT_FOUND, "restart of an unknown one")
    ended(env, running)


@orchestrator
def storied(ctx, _):
    yield ctx.call_activity(plus_one, input=1)
    yield ctx.create_timer(timedelta(milliseconds=10))
    yield ctx.call_sub_orchestrator(plus_one_of, input=2)
    return "told"


@scenario
def history_of_an_instance(env):
    instance = env.start(storied)
    env.await_end(instance)
    events = env.client.get_orchestration_history(instance)
    started = (history.OrchestratorStartedEvent,)
    want = [
        *started, history.ExecutionStartedEvent, history.TaskScheduledEvent,
        *started, history.TaskCompletedEvent, history.TimerCreatedEvent,
        *started, history.TimerFiredEvent, history.SubOrchestrationInstanceCreatedEvent,
        *started, history.SubOrchestrationInstanceCompletedEvent, history.ExecutionCompletedEvent,
    ]
    expect([type(e).__name__ for e in events], [w.__name__ for w in want], "events")
    e = raises(grpc.RpcError, lambda: env.client.get_orchestration_history(new_id("unknown")))
    expect(e.code(), grpc.StatusCode.NOT_FOUND, "history of an unknown one")


@scenario
def scheduled_start(env):
    instance = env.start(plus_one_of, input=1, start_at=now() + seconds(1.5))
    expect(env.status(instance), "PENDING", "status before the time")
    state = env.await_end(instance)
    expect(state.get_output(), 2, "output")
    check((state.last_updated_at - state.created_at).total_seconds() >= 1, "it ran too early")
    early = env.start(waiting, start_at=now() + seconds(1))
    env.client.raise_orchestration_event(early, "end", data="kept")
    expect(env.await_end(early).get_output(), "kept", "output with an event before the start")
    never = env.start(waiting, start_at=now() + timedelta(days=400))
    env.client.terminate_orchestration(never)
    env.await_end(never, "TERMINATED")


@scenario
def reuse_of_an_id(env):
    instance = env.start(waiting)
    env.await_status(instance, "RUNNING")
    e = raises(grpc.RpcError, lambda: env.start(waiting, instance_id=instance))
    expect(e.code(), grpc.StatusCode.ALREADY_EXISTS, "start of a running one")
    ended(env, instance)
    env.start(plus_one_of, input=1, instance_id=instance)
    expect(env.await_end(instance).get_output(), 2, "output after the reuse")

    policy = pb.OrchestrationIdReusePolicy(replaceableStatus=[pb.ORCHESTRATION_STATUS_FAILED])
    e = raises(grpc.RpcError, lambda: env.start(waiting, instance_id=instance, reuse_id_policy=policy))
    expect(e.code(), grpc.StatusCode.ALREADY_EXISTS, "a status that the policy does not name")
    statuses = [pb.ORCHESTRATION_STATUS_RUNNING, pb.ORCHESTRATION_STATUS_TERMINATED, pb.ORCHESTRATION_STATUS_COMPLETED]
    policy = pb.OrchestrationIdReusePolicy(replaceableStatus=statuses)
    env.start(waiting, instance_id=instance, reuse_id_policy=policy)
    env.await_status(instance, "RUNNING")
    env.start(plus_one_of, input=2, instance_id=instance, reuse_id_policy=policy)
    expect(env.await_end(instance).get_output(), 3, "output of what replaced a running one")


@scenario
def bad_input(env):
    for make in (
        lambda: env.client.schedule_new_orchestration("", instance_id=new_id("nameless")),
        lambda: env.start(waiting, instance_id="x" * 5000),
    ):
        e = raises(grpc.RpcError, make)
        expect(e.code(), grpc.StatusCode.INVALID_ARGUMENT, "code")
