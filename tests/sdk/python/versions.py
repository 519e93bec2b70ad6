"""Several workers: versions, work item filters, a worker that comes late."""

from durabletask import worker

from harness import alone, expect, new_id, raises

from durabletask.worker import VersionFailureStrategy as Failure
from durabletask.worker import VersioningOptions, VersionMatchStrategy


def versioned(ctx, _):
    return ctx.version or ""


def versioned_parent(ctx, _):
    default = yield ctx.call_sub_orchestrator("versioned")
    chosen = yield ctx.call_sub_orchestrator("versioned", version="7.0")
    return [ctx.version, default, chosen]


def migrating(ctx, n):
    if n == 0:
        ctx.continue_as_new(1, new_version="2.0")
        return None
    return ctx.version


def worker_of(env, version, match, failure, default=None):
    w = env.new_worker([versioned, versioned_parent, migrating])
    w.use_versioning(VersioningOptions(
        version=version, default_version=default, match_strategy=match, failure_strategy=failure))
    return w


@alone
def versions(env):
    with worker_of(env, "2.0", VersionMatchStrategy.NONE, Failure.FAIL, default="5.0") as w:
        w.start()
        expect(env.run(versioned, version="1.2"), "1.2", "version")
        expect(env.run(versioned), "", "no version")
        expect(env.run(versioned_parent, version="3.0"), ["3.0", "5.0", "7.0"], "versions of children")
        expect(env.run(migrating, input=0, version="1.0"), "2.0", "version after continue-as-new")
        with env.new_client(default_version="4.0") as c:
            instance = c.schedule_new_orchestration(versioned, instance_id=new_id("default"))
            expect(env.await_end(instance).get_output(), "4.0", "default version of the client")


@alone
def version_matching(env):
    with worker_of(env, "2.0", VersionMatchStrategy.STRICT, Failure.FAIL) as w:
        w.start()
        expect(env.run(versioned, version="2.0"), "2.0", "the same version")
        failure = env.await_end(env.start(versioned, version="1.0"), "FAILED").failure_details
        expect(failure.error_type, "VersionMismatch", "error type")
    with worker_of(env, "2.0", VersionMatchStrategy.CURRENT_OR_OLDER, Failure.FAIL) as w:
        w.start()
        expect(env.run(versioned, version="1.9"), "1.9", "an older version")
        env.await_end(env.start(versioned, version="2.1"), "FAILED")


@alone
def version_rejected_by_one_worker(env):
    with worker_of(env, "1.0", VersionMatchStrategy.STRICT, Failure.REJECT) as old:
        old.start()
        instance = env.start(versioned, version="2.0")
        raises(TimeoutError, lambda: env.client.wait_for_orchestration_completion(instance, timeout=1))
        with worker_of(env, "2.0", VersionMatchStrategy.STRICT, Failure.REJECT) as new:
            new.start()
            expect(env.await_end(instance).get_output(), "2.0", "output by the worker that takes it")


def left(_ctx, _):
    return "left"


def right(ctx, _):
    return (yield ctx.call_activity("right_hand", input=1))


def right_hand(_, n):
    return ["right", n]


@alone
def work_item_filters(env):
    first, second = env.new_worker([left]), env.new_worker([right], [right_hand])
    first.use_work_item_filters()
    second.use_work_item_filters()
    with first:
        first.start()
        for_right = env.start("right")
        expect([env.run("left") for _ in range(5)], ["left"] * 5, "outputs of the first worker")
        raises(TimeoutError, lambda: env.client.wait_for_orchestration_completion(for_right, timeout=0.5))
        expect(env.status(for_right), "PENDING", "status of what no worker takes")
        with second:
            second.start()
            expect(env.await_end(for_right).get_output(), ["right", 1], "output of the second worker")
            expect([env.run("right") for _ in range(5)], [["right", 1]] * 5, "outputs with both")


@alone
def filter_by_version(env):
    w = env.new_worker([versioned])
    w.use_work_item_filters(worker.WorkItemFilters(
        orchestrations=[worker.OrchestrationWorkItemFilter("versioned", ["2.0"])]))
    with w:
        w.start()
        other = env.start(versioned, version="1.0")
        expect(env.run(versioned, version="2.0"), "2.0", "output")
        raises(TimeoutError, lambda: env.client.wait_for_orchestration_completion(other, timeout=0.5))
        env.client.terminate_orchestration(other)


@alone
def worker_that_comes_late(env):
    instance = env.start(left)
    raises(TimeoutError, lambda: env.client.wait_for_orchestration_completion(instance, timeout=0.5))
    with env.new_worker([left]) as w:
        w.start()
        expect(env.await_end(instance).get_output(), "left", "output")
