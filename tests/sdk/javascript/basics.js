// Activities, children, retries, timers, status, continue-as-new.
"use strict";

const { RetryPolicy, whenAll, whenAny } = require("@microsoft/durabletask-js");
const { activity, check, expect, newId, orchestrator, scenario, until } = require("./harness");

const calls = {}; // how often an activity ran, by its key
const count = (key) => (calls[key] = (calls[key] ?? 0) + 1);

const plusOne = activity("plusOne", (_, n) => n + 1);

const failUntil = activity("failUntil", async (_, [key, good]) => {
  const n = count(key);
  if (n < good) throw new TypeError(`attempt ${n} fails`);
  return n;
});

orchestrator("sequence", async function* (ctx, n) {
  for (let i = 0; i < 3; i++) n = yield ctx.callActivity(plusOne, n);
  return n;
});

scenario("sequence_of_activities", async (env) => expect(await env.run("sequence", 1), 4, "output"));

orchestrator("same", async (_, input) => input);

scenario("payload_types", async (env) => {
  const values = [null, 0, false, "", "text", "\u00fc\u4e16\u{1f600} \" \\ \n\t", [1, "two", null], { a: { b: [1.5] } }];
  for (const value of values) expect(await env.run("same", value), value, "output");
  await env.run("same", undefined);
});

orchestrator("fanOut", async function* (ctx, n) {
  const results = yield whenAll(Array.from({ length: n }, (_, i) => ctx.callActivity(plusOne, i)));
  return results.reduce((a, b) => a + b);
});

scenario("fan_out_of_1000", async (env) => expect(await env.run("fanOut", 1000), 500500, "output"));

orchestrator("race", async function* (ctx) {
  const fast = ctx.callActivity(plusOne, 1);
  return (yield whenAny([fast, ctx.createTimer(3600)])) === fast;
});

scenario("first_of_two", async (env) => expect(await env.run("race"), true, "output"));

orchestrator("child", async function* (ctx, n) {
  return [yield ctx.callActivity(plusOne, n), ctx.instanceId, ctx.parent?.instanceId];
});

orchestrator("parent", async function* (ctx, id) {
  const byDefault = yield ctx.callSubOrchestrator("child", 1);
  const named = yield ctx.callSubOrchestrator("child", 2, { instanceId: id });
  const many = yield whenAll(Array.from({ length: 10 }, (_, i) => ctx.callSubOrchestrator("child", i)));
  return [byDefault, named, many.map((m) => m[0])];
});

scenario("sub_orchestrations", async (env) => {
  const [id, childId] = [newId("parent"), newId("child")];
  const [byDefault, named, many] = await env.run("parent", childId, { instanceId: id });
  check(/^[0-9a-f]{32}:[0-9a-f]{4}$/.test(byDefault[1]), `default id of a child: ${byDefault[1]}`);
  expect([byDefault[0], byDefault[2]], [2, id], "first child");
  expect(named, [3, childId, id], "second child");
  expect(many, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], "children side by side");
  expect((await env.output(childId))[0], 3, "child by its id");
});

const policy = (more) =>
  new RetryPolicy({
    maxNumberOfAttempts: 4, firstRetryIntervalInMilliseconds: 50, backoffCoefficient: 2,
    maxRetryIntervalInMilliseconds: 200, ...more,
  });

orchestrator("retried", async function* (ctx, good) {
  return yield ctx.callActivity(failUntil, [ctx.instanceId, good], { retry: policy() });
});

orchestrator("retriedByHandler", async function* (ctx) {
  const retry = async (attempt) => attempt.lastAttemptNumber < 3;
  return yield ctx.callActivity(failUntil, [ctx.instanceId, 3], { retry });
});

orchestrator("notRetried", async function* (ctx) {
  const retry = policy({ handleFailure: (failure) => failure.errorType !== "TypeError" });
  return yield ctx.callActivity(failUntil, [ctx.instanceId, 3], { retry });
});

scenario("retries", async (env) => {
  let id = await env.start("retried", 3);
  expect([await env.output(id), calls[id]], [3, 3], "attempts and calls");
  id = await env.start("retried", 99);
  const { failureDetails } = await env.end(id, "FAILED");
  check(failureDetails.message.includes("attempt 4 fails"), `failure: ${failureDetails.message}`);
  expect(calls[id], 4, "calls");
  expect(await env.run("retriedByHandler"), 3, "attempts by a handler");
  id = await env.start("notRetried");
  await env.end(id, "FAILED");
  expect(calls[id], 1, "calls of what shall not be retried");
});

orchestrator("failingChild", async (_, key) => {
  if (count(key) < 2) throw new Error("the child fails");
  return calls[key];
});

orchestrator("retriedChild", async function* (ctx) {
  return yield ctx.callSubOrchestrator("failingChild", ctx.instanceId, { retry: policy() });
});

scenario("retry_of_sub_orchestration", async (env) => expect(await env.run("retriedChild"), 2, "attempts"));

orchestrator("handled", async function* (ctx) {
  try {
    yield ctx.callActivity(failUntil, [ctx.instanceId, 99]);
  } catch (e) {
    return [e.details.errorType, e.details.message, Boolean(e.details.stackTrace)];
  }
});

orchestrator("unregistered", async function* (ctx) {
  yield ctx.callActivity("nobodyHasThis");
});

scenario("failures", async (env) => {
  const [type, message, stack] = await env.run("handled");
  expect([type, stack], ["TypeError", true], "error type and stack");
  check(message.includes("attempt 1 fails"), `message: ${message}`);
  for (const [name, holds] of [["unregistered", "nobodyHasThis"], ["noSuchOrchestrator", "noSuchOrchestrator"]]) {
    const { failureDetails } = await env.end(await env.start(name), "FAILED");
    check(failureDetails.message.includes(holds), `failure: ${failureDetails.message}`);
  }
});

orchestrator("delayed", async function* (ctx, ms) {
  const began = ctx.currentUtcDateTime.getTime();
  yield ctx.createTimer(new Date(began + ms));
  return ctx.currentUtcDateTime.getTime() - began;
});

scenario("timers", async (env) => {
  const took = await env.run("delayed", 1000);
  check(took >= 1000 && took < 5000, `a timer of 1 s took ${took} ms`);
  check((await env.run("delayed", -5000)) < 5000, "a timer in the past did not fire");
});

orchestrator("counter", async function* (ctx, n) {
  n = yield ctx.callActivity(plusOne, n);
  if (n < 10) return ctx.continueAsNew(n, false);
  return n;
});

scenario("continue_as_new", async (env) => expect(await env.run("counter", 0), 10, "output"));

orchestrator("gather", async function* (ctx, got) {
  got.push(yield ctx.waitForExternalEvent("item"));
  if (got.length < 20) return ctx.continueAsNew(got, true);
  return got;
});

scenario("continue_as_new_with_events", async (env) => {
  const id = await env.start("gather", []);
  const want = Array.from({ length: 20 }, (_, i) => i);
  for (const i of want) await env.client.raiseOrchestrationEvent(id, "item", i);
  expect(await env.output(id), want, "output");
});

orchestrator("statusSetter", async function* (ctx) {
  ctx.setCustomStatus({ step: 1 });
  yield ctx.waitForExternalEvent("on");
  ctx.setCustomStatus("second");
  yield ctx.waitForExternalEvent("on");
  return "done";
});

scenario("custom_status", async (env) => {
  const id = await env.start("statusSetter");
  const becomes = (want) =>
    until(async () => (await env.state(id)).serializedCustomStatus === JSON.stringify(want), `status ${want}`);
  await becomes({ step: 1 });
  await env.client.raiseOrchestrationEvent(id, "on");
  await becomes("second");
  await env.client.raiseOrchestrationEvent(id, "on");
  expect((await env.end(id)).serializedCustomStatus, '"second"', "status at the end");
});

orchestrator("guids", async function* (ctx) {
  const before = [ctx.newGuid(), ctx.newGuid()];
  yield ctx.callActivity(plusOne, 1);
  return [...before, ctx.newGuid()];
});

scenario("replay_safe_uuids", async (env) => expect(new Set(await env.run("guids")).size, 3, "different ids"));

module.exports = { calls, count, plusOne };
