"""Entities: signals, calls, state, locks, what they start themselves, schedules."""

from datetime import timedelta

from durabletask import client, entities, scheduled
from durabletask.entities import EntityInstanceId

from harness import alone, check, entity, expect, new_id, now, orchestrator, raises, scenario, seconds, until


@entity
def counter_entity(ctx, input):
    state = ctx.get_state(int, 0)
    if ctx.operation == "add":
        ctx.set_state(state + input)
        return state + input
    if ctx.operation == "get":
        return state
    if ctx.operation == "delete":
        ctx.set_state(None)
        return None
    if ctx.operation == "fail":
        ctx.set_state(-1000)
        raise ValueError("the entity fails")
    if ctx.operation == "relay":
        ctx.signal_entity(EntityInstanceId("counter_entity", input), "add", 5)
        return ctx.schedule_new_orchestration("entity_reader", input=ctx.entity_id.key, instance_id=input + "-started")
    if ctx.operation == "later":
        ctx.signal_entity(ctx.entity_id, "add", input, signal_time=now() + seconds(1))
        return None
    raise ValueError(f"no operation {ctx.operation}")


class Account(entities.DurableEntity):
    def deposit(self, amount):
        self.set_state(self.get_state(int, 0) + amount)
        return self.get_state(int)

    def withdraw(self, amount):
        balance = self.get_state(int, 0)
        if amount > balance:
            raise ValueError("not enough")
        self.set_state(balance - amount)
        return balance - amount

    def balance(self):
        return self.get_state(int, 0)


entity(Account)


def counter(key=None):
    return EntityInstanceId("counter_entity", key or new_id("counter"))


def state_of(env, e):
    found = env.client.get_entity(e)
    return found.get_typed_state(int) if found else None


def owner_of(env, e):
    # get_locked_by takes the owner for an entity, and fails with an orchestration's id.
    return env.client.get_entity(e)._locked_by


@scenario
def entity_signals(env):
    e = counter()
    expect(env.client.get_entity(e), None, "state before the first signal")
    for i in range(1, 11):
        env.client.signal_entity(e, "add", input=i)
    until(lambda: state_of(env, e) == 55, "the sum of the signals")
    found = env.client.get_entity(e, include_state=False)
    check(not found.includes_state, "the state was not asked for")
    check(abs((now() - found.last_modified).total_seconds()) < 60, f"last modified {found.last_modified}")


@orchestrator
def entity_reader(ctx, key):
    return (yield ctx.call_entity(counter(key), "get"))


@orchestrator
def entity_caller(ctx, key):
    got = []
    for n in (1, 2, 3):
        got.append((yield ctx.call_entity(counter(key), "add", n)))
    ctx.signal_entity(counter(key), "add", 10)
    got.append((yield ctx.call_entity(counter(key), "get")))
    return got


@scenario
def entity_calls(env):
    expect(env.run(entity_caller, input=new_id("counter")), [1, 3, 6, 16], "output")


@orchestrator
def entity_failure(ctx, key):
    yield ctx.call_entity(counter(key), "add", 1)
    try:
        yield ctx.call_entity(counter(key), "fail")
    except Exception as e:
        return [str(e), (yield ctx.call_entity(counter(key), "get"))]


@scenario
def entity_failures(env):
    message, state = env.run(entity_failure, input=new_id("counter"))
    check("the entity fails" in message, f"message {message}")
    expect(state, 1, "state after a failed operation")


@scenario
def entity_actions(env):
    source, target = counter(), counter()
    env.client.signal_entity(source, "add", input=3)
    env.client.signal_entity(source, "relay", input=target.key)
    until(lambda: state_of(env, target) == 5, "the signal from an entity")
    until(lambda: env.status(target.key + "-started"), "the orchestration that an entity starts")
    expect(env.await_end(target.key + "-started").get_output(), 3, "its output")


@scenario
def entity_scheduled_signals(env):
    by_client, by_entity = counter(), counter()
    env.client.signal_entity(by_client, "add", input=1, signal_time=now() + seconds(1))
    env.client.signal_entity(by_entity, "later", input=2)
    check(not state_of(env, by_client), "the signal came too early")
    until(lambda: state_of(env, by_client) == 1, "the signal that waits")
    until(lambda: state_of(env, by_entity) == 2, "the signal of an entity to itself")


@scenario
def entity_query_and_cleaning(env):
    prefix = new_id("many")
    made = [counter(f"{prefix}-{i}") for i in range(12)]
    for e in made:
        env.client.signal_entity(e, "add", input=1)
    for e in made:
        until(lambda e=e: state_of(env, e) == 1, "the signal")
    start = f"@counter_entity@{prefix}"

    def ask(**options):
        return env.client.get_all_entities(client.EntityQuery(instance_id_starts_with=start, **options))

    expect(len({str(e.id) for e in ask()}), 12, "all")
    expect(sorted(str(e.id) for e in ask(page_size=5)), sorted(str(e) for e in made), "all in pages of 5")
    expect(ask(last_modified_to=now() - timedelta(hours=1)), [], "modified long ago")
    expect(len(ask(last_modified_from=now() - timedelta(hours=1))), 12, "modified just now")
    for e in made:
        env.client.signal_entity(e, "delete")
    until(lambda: not ask(), "the deletions")
    cleaned = env.client.clean_entity_storage()
    check(cleaned.empty_entities_removed >= 0 and cleaned.orphaned_locks_released == 0, f"cleaned {cleaned}")
    expect(ask(include_transient=True), [], "entities after the cleaning")
    expect(env.client.get_all_orchestration_states(client.OrchestrationQuery(instance_id_prefix=start)), [],
           "entities among the orchestrations")


@orchestrator
def transfer(ctx, input):
    source, target = (EntityInstanceId("Account", key) for key in input[:2])
    with (yield ctx.lock_entities([source, target])):
        balance = yield ctx.call_entity(source, "balance")
        if balance < input[2]:
            return False
        yield ctx.call_entity(source, "withdraw", input[2])
        yield ctx.create_timer(timedelta(milliseconds=1))
        yield ctx.call_entity(target, "deposit", input[2])
    return True


@orchestrator
def opening(ctx, input):
    for key in input:
        yield ctx.call_entity(EntityInstanceId("Account", key), "deposit", 100)


@scenario
def entity_locks(env):
    keys = [new_id("account") for _ in range(3)]
    env.run(opening, input=keys)
    # In a circle and in both directions: without an order of the locks this ends in a deadlock.
    moves = [[keys[i % 3], keys[(i + 1 + i % 2) % 3], 1 + i % 60] for i in range(30)]
    started = [env.start(transfer, input=m) for m in moves]
    done = [env.await_end(i).get_output() for i in started]
    found = [env.client.get_entity(EntityInstanceId("Account", key)) for key in keys]
    expect(sum(f.get_typed_state(int) for f in found), 300, "money")
    check(any(done), "no transfer succeeded")
    until(lambda: not any(owner_of(env, f.id) for f in found), "the locks are released")


@orchestrator
def holder(ctx, key):
    with (yield ctx.lock_entities([counter(key)])):
        ctx.set_custom_status("locked")
        yield ctx.wait_for_external_event("release")


@scenario
def entity_lock_of_the_terminated(env):
    e = counter()
    env.client.signal_entity(e, "add", input=1)  # an entity without a state is not there, even if it is locked
    until(lambda: state_of(env, e) == 1, "the signal")
    instance = env.start(holder, input=e.key)
    until(lambda: env.client.get_orchestration_state(instance).get_custom_status() == "locked", "the lock")
    expect(owner_of(env, e), instance, "owner of the lock")
    env.client.signal_entity(e, "add", input=1)
    reader = env.start(entity_reader, input=e.key)
    raises(TimeoutError, lambda: env.client.wait_for_orchestration_completion(reader, timeout=0.3))
    env.client.terminate_orchestration(instance)
    expect(env.await_end(reader).get_output(), 2, "what another reads when the owner is gone")


runs = []


@orchestrator
def scheduled_job(ctx, input):
    runs.append(input)
    return input


@alone
def scheduled_tasks(env):
    w = env.new_worker([scheduled_job])
    w.configure_scheduled_tasks()
    with w:
        w.start()
        schedules = scheduled.ScheduledTaskClient(env.client)
        key = new_id("schedule")
        one = schedules.create_schedule(scheduled.ScheduleCreationOptions(
            schedule_id=key, orchestration_name="scheduled_job", interval=seconds(1), orchestration_input="job",
            start_immediately_if_late=True,
        ))
        until(lambda: len(runs) >= 2, "two runs")
        expect(set(runs), {"job"}, "inputs")
        one.pause()
        expect(one.describe().status, scheduled.ScheduleStatus.PAUSED, "status")
        check(key in [s.schedule_id for s in schedules.list_schedules()], "the schedule is not listed")
        one.resume()
        before = len(runs)
        until(lambda: len(runs) > before, "a run after the pause")
        one.delete()
        expect(schedules.get_schedule(key), None, "the schedule after its deletion")
