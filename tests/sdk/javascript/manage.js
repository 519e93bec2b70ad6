// What clients do to instances: terminate, suspend, query, purge, rewind, restart, start later.
"use strict";

const { HistoryEventType, OrchestrationStatus, PurgeInstanceCriteria, terminateOptions } = require("@microsoft/durabletask-js");
const { status } = require("@grpc/grpc-js");
const { calls, count, plusOne } = require("./basics");
const { activity, check, expect, fails, newId, orchestrator, scenario, timedOut, until, withCode } = require("./harness");

orchestrator("waiting", async function* (ctx) {
  return yield ctx.waitForExternalEvent("end");
});

orchestrator("waitingParent", async function* (ctx, childId) {
  return yield ctx.callSubOrchestrator("waiting", null, { instanceId: childId });
});

orchestrator("plusOneOf", async function* (ctx, n) {
  return yield ctx.callActivity(plusOne, n);
});

async function ended(env, id) {
  await env.client.raiseOrchestrationEvent(id, "end", "end");
  return env.output(id);
}

async function started(env, name, input, options) {
  const id = await env.start(name, input, options);
  await env.becomes(id, "RUNNING");
  return id;
}

scenario("terminate", async (env) => {
  const id = await started(env, "waiting");
  await env.client.terminateOrchestration(id, { why: "test" });
  expect((await env.end(id, "TERMINATED")).serializedOutput, '{"why":"test"}', "output");
  await env.client.terminateOrchestration(id); // a second time changes nothing
  expect(await env.status(id), "TERMINATED", "status");
});

scenario("terminate_recursively", async (env) => {
  for (const recursive of [true, false]) {
    const childId = newId("child");
    const id = await env.start("waitingParent", childId);
    await env.becomes(childId, "RUNNING");
    await env.client.terminateOrchestration(id, terminateOptions({ recursive }));
    await env.end(id, "TERMINATED");
    if (recursive) await env.end(childId, "TERMINATED");
    else expect(await ended(env, childId), "end", "output of a child that was left alone");
  }
});

scenario("suspend_and_resume", async (env) => {
  const id = await started(env, "waiting");
  await env.client.suspendOrchestration(id);
  await env.becomes(id, "SUSPENDED");
  await env.client.raiseOrchestrationEvent(id, "end", 7);
  await env.stays(id, "SUSPENDED", 0.3);
  await env.client.resumeOrchestration(id);
  expect(await env.output(id), 7, "output");
});

scenario("terminate_while_suspended", async (env) => {
  const id = await started(env, "waiting");
  await env.client.suspendOrchestration(id);
  await env.becomes(id, "SUSPENDED");
  await env.client.terminateOrchestration(id);
  await env.end(id, "TERMINATED");
});

scenario("waits", async (env) => {
  const id = await env.start("waiting");
  const state = await env.client.waitForOrchestrationStart(id, false, 10);
  expect(state.runtimeStatus, OrchestrationStatus.RUNNING, "status after the wait for the start");
  await fails(() => env.client.waitForOrchestrationCompletion(id, false, 0.2), timedOut, "a short wait");
  expect(await env.state(newId("unknown")), undefined, "state of an unknown instance");
  await ended(env, id);
  const bare = await env.client.getOrchestrationState(id, false);
  check(!bare.serializedOutput && bare.name === "waiting", "state without payloads");
  check(bare.createdAt <= bare.lastUpdatedAt, "times");
});

scenario("query", async (env) => {
  const prefix = newId("query");
  const began = new Date();
  const done = Array.from({ length: 25 }, (_, i) => `${prefix}-${String(i).padStart(2, "0")}`);
  const waiting = Array.from({ length: 5 }, (_, i) => `${prefix}-waits-${i}`);
  for (const [i, instanceId] of done.entries()) await env.start("plusOneOf", i, { instanceId, tags: { n: `${i}` } });
  for (const instanceId of waiting) await env.start("waiting", null, { instanceId });
  for (const id of done) await env.end(id);

  const ask = async (filter) => {
    const found = [];
    for await (const s of env.client.getAllInstances({ instanceIdPrefix: prefix, ...filter })) found.push(s);
    return found;
  };
  const ids = (found) => found.map((s) => s.instanceId).sort();
  expect(ids(await ask()), [...done, ...waiting].sort(), "all");
  expect(ids(await ask({ pageSize: 4 })), [...done, ...waiting].sort(), "all in pages of 4");
  const completed = await ask({ statuses: [OrchestrationStatus.COMPLETED], fetchInputsAndOutputs: true, pageSize: 7 });
  expect(ids(completed), done, "completed");
  check(completed.every((s) => Number(s.serializedOutput) === Number(s.tags.n) + 1), "outputs and tags");
  expect((await ask({ statuses: [OrchestrationStatus.RUNNING, OrchestrationStatus.PENDING] })).length, 5, "running");
  const minuteAgo = new Date(began.getTime() - 60_000);
  expect((await ask({ createdFrom: minuteAgo })).length, 30, "created after the start");
  expect(await ask({ createdTo: minuteAgo }), [], "created before the start");
  check((await ask()).every((s) => !s.serializedInput), "inputs that nobody asked for");
  for await (const page of env.client.getAllInstances({ instanceIdPrefix: prefix }).asPages(undefined, 10)) {
    check(page.values.length <= 10, "a page is too long");
  }

  const seen = [];
  for (let lastInstanceKey; ;) {
    const page = await env.client.listInstanceIds({
      runtimeStatus: [OrchestrationStatus.COMPLETED], completedTimeFrom: minuteAgo, pageSize: 10, lastInstanceKey,
    });
    check(page.values.length <= 10, "a page of ids is too long");
    seen.push(...page.values.filter((id) => id.startsWith(prefix)));
    if (!page.hasMoreResults) break;
    lastInstanceKey = page.continuationToken;
  }
  expect(seen.sort(), done, "listed ids");
  for (const id of waiting) await ended(env, id);
});

scenario("purge", async (env) => {
  const deleted = async (id, options) => (await env.client.purgeOrchestration(id, options)).deletedInstanceCount;
  const id = await env.start("plusOneOf", 1);
  await env.end(id);
  expect(await deleted(id), 1, "purge of one");
  expect(await env.state(id), undefined, "state after the purge");
  expect(await deleted(id), 0, "purge of the purged");
  const running = await started(env, "waiting");
  expect(await deleted(running), 0, "purge of a running one");
  const childId = newId("child");
  const parentId = await env.start("waitingParent", childId);
  await env.becomes(childId, "RUNNING");
  await ended(env, childId);
  await env.end(parentId);
  expect(await deleted(parentId, { recursive: true }), 2, "purge of a tree");
  expect(await env.state(childId), undefined, "state of the child");
  await ended(env, running);
});

scenario("purge_by_filter", async (env) => {
  const criteria = new PurgeInstanceCriteria();
  criteria.setCreatedTimeFrom(new Date(Date.now() - 1000)); // the clocks of client and server may differ a little
  for (let i = 0; i < 5; i++) await env.run("plusOneOf", 1);
  const failed = await env.start("rewindable", newId("never-mended"));
  await env.end(failed, "FAILED");
  criteria.setCreatedTimeTo(new Date(Date.now() + 60_000));
  criteria.setRuntimeStatusList([OrchestrationStatus.COMPLETED]);
  const { deletedInstanceCount } = await env.client.purgeOrchestration(criteria);
  check(deletedInstanceCount >= 5, `purged ${deletedInstanceCount}`);
  expect(await env.status(failed), "FAILED", "status of one that does not match");
});

const mended = new Set();

const mendable = activity("mendable", async (_, key) => {
  if (!mended.has(key)) throw new Error(`${key} is broken`);
  return count(key);
});

const fine = activity("fine", (_, key) => {
  count(`${key}-fine`);
});

orchestrator("rewindable", async function* (ctx, key) {
  const first = yield ctx.callActivity(plusOne, 1);
  yield ctx.callActivity(fine, key);
  return [first, yield ctx.callActivity(mendable, key)];
});

orchestrator("rewindableParent", async function* (ctx, key) {
  return yield ctx.callSubOrchestrator("rewindable", key, { instanceId: `${key}-child` });
});

scenario("rewind", async (env) => {
  const key = newId("rewind");
  const id = await env.start("rewindable", key);
  await env.end(id, "FAILED");
  mended.add(key);
  await env.client.rewindInstance(id, "mended");
  expect(await env.output(id), [2, 1], "output");
  expect(calls[`${key}-fine`], 1, "calls of what had succeeded");
  const again = () => env.client.rewindInstance(id, "again");
  await fails(again, (e) => withCode(status.FAILED_PRECONDITION)(e), "rewind of a completed one");
  const unknown = () => env.client.rewindInstance(newId("unknown"), "none");
  await fails(unknown, (e) => /was not found/.test(e.message), "rewind of an unknown one");
});

scenario("rewind_of_a_tree", async (env) => {
  const key = newId("rewind");
  const id = await env.start("rewindableParent", key);
  await env.end(id, "FAILED");
  mended.add(key);
  await env.client.rewindInstance(id, "mended");
  expect(await env.output(id), [2, 1], "output");
  expect(await env.output(`${key}-child`), [2, 1], "output of the child");
  expect(calls[`${key}-fine`], 1, "calls of what had succeeded");
});

scenario("restart", async (env) => {
  const id = await env.start("plusOneOf", 4, { tags: { a: "b" } });
  const first = await env.end(id);
  expect(await env.client.restartOrchestration(id), id, "id");
  await until(async () => (await env.state(id)).createdAt > first.createdAt, "a new run");
  expect(await env.output(id), 5, "output of the restart");
  const other = await env.client.restartOrchestration(id, true);
  check(other !== id, "the id is not new");
  expect(await env.output(other), 5, "output under a new id");
  expect((await env.state(other)).tags, { a: "b" }, "tags under a new id");
  const running = await started(env, "waiting");
  await fails(() => env.client.restartOrchestration(running), withCode(status.FAILED_PRECONDITION), "restart of a running one");
  const unknown = () => env.client.restartOrchestration(newId("unknown"));
  await fails(unknown, (e) => withCode(status.NOT_FOUND)(e) || /not found/.test(e.message), "restart of an unknown one");
  await ended(env, running);
});

orchestrator("storied", async function* (ctx) {
  yield ctx.callActivity(plusOne, 1);
  yield ctx.createTimer(0.01);
  yield ctx.callSubOrchestrator("plusOneOf", 2);
  return "told";
});

scenario("history_of_an_instance", async (env) => {
  const id = await env.start("storied");
  await env.end(id);
  const events = await env.client.getOrchestrationHistory(id);
  const T = HistoryEventType;
  expect(events.map((e) => e.type), [
    T.OrchestratorStarted, T.ExecutionStarted, T.TaskScheduled,
    T.OrchestratorStarted, T.TaskCompleted, T.TimerCreated,
    T.OrchestratorStarted, T.TimerFired, T.SubOrchestrationInstanceCreated,
    T.OrchestratorStarted, T.SubOrchestrationInstanceCompleted, T.ExecutionCompleted,
  ], "events");
  const numbers = events.map((e) => e.eventId).filter((n) => n >= 0);
  check(numbers.every((n, i) => i === 0 || n > numbers[i - 1]), `event ids ${numbers}`);
  expect(await env.client.getOrchestrationHistory(newId("unknown")), [], "history of an unknown one");
});

scenario("scheduled_start", async (env) => {
  const id = await env.start("plusOneOf", 1, { startAt: new Date(Date.now() + 1500) });
  expect(await env.status(id), "PENDING", "status before the time");
  expect(await env.output(id), 2, "output");
  const { createdAt, lastUpdatedAt } = await env.state(id);
  check(lastUpdatedAt - createdAt >= 1000, "it ran too early");
  const early = await env.start("waiting", null, { startAt: new Date(Date.now() + 1000) });
  await env.client.raiseOrchestrationEvent(early, "end", "kept");
  expect(await env.output(early), "kept", "output with an event before the start");
  const never = await env.start("waiting", null, { startAt: new Date(Date.now() + 400 * 86_400_000) });
  await env.client.terminateOrchestration(never);
  await env.end(never, "TERMINATED");
});

scenario("reuse_of_an_id", async (env) => {
  const instanceId = await started(env, "waiting");
  const again = () => env.start("waiting", null, { instanceId });
  await fails(again, withCode(status.ALREADY_EXISTS), "start of a running one");
  await ended(env, instanceId);
  await env.start("plusOneOf", 1, { instanceId });
  expect(await env.output(instanceId), 2, "output after the reuse");
});

scenario("bad_input", async (env) => {
  await fails(() => env.start("", null), withCode(status.INVALID_ARGUMENT), "a start without a name");
  const long = () => env.start("waiting", null, { instanceId: "x".repeat(5000) });
  await fails(long, withCode(status.INVALID_ARGUMENT), "a start with a long id");
});
