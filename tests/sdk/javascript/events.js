// External events: before and after the wait, between orchestrations, against time.
"use strict";

const { whenAny } = require("@microsoft/durabletask-js");
const { status } = require("@grpc/grpc-js");
const { expect, fails, newId, orchestrator, scenario, withCode } = require("./harness");

orchestrator("approval", async function* (ctx, n) {
  const got = [];
  for (let i = 0; i < n; i++) got.push(yield ctx.waitForExternalEvent("approval"));
  return got;
});

scenario("event_after_the_wait", async (env) => {
  const id = await env.start("approval", 2);
  await env.becomes(id, "RUNNING");
  await env.client.raiseOrchestrationEvent(id, "approval", { by: "Ada" });
  await env.client.raiseOrchestrationEvent(id, "APPROVAL"); // names know no case
  expect(await env.output(id), [{ by: "Ada" }, null], "output");
});

orchestrator("lateWaiter", async function* (ctx) {
  yield ctx.waitForExternalEvent("go");
  return [yield ctx.waitForExternalEvent("early"), yield ctx.waitForExternalEvent("early")];
});

scenario("event_before_the_wait", async (env) => {
  const id = await env.start("lateWaiter");
  for (const data of [1, 2]) await env.client.raiseOrchestrationEvent(id, "early", data);
  await env.client.raiseOrchestrationEvent(id, "go");
  expect(await env.output(id), [1, 2], "output");
});

scenario("many_events_in_order", async (env) => {
  const want = Array.from({ length: 100 }, (_, i) => i);
  const id = await env.start("approval", want.length);
  for (const i of want) await env.client.raiseOrchestrationEvent(id, "approval", i);
  expect(await env.output(id), want, "output");
});

orchestrator("impatient", async function* (ctx, seconds) {
  const event = ctx.waitForExternalEvent("never");
  const timer = ctx.createTimer(seconds);
  if ((yield whenAny([event, timer])) === timer) return "timeout";
  timer.cancel();
  return event.getResult();
});

scenario("event_against_a_timer", async (env) => {
  expect(await env.run("impatient", 0.2), "timeout", "output");
  const id = await env.start("impatient", 3600);
  await env.client.raiseOrchestrationEvent(id, "never", "came");
  expect(await env.output(id), "came", "output");
});

orchestrator("sender", async function* (ctx, target) {
  ctx.sendEvent(target, "approval", [ctx.instanceId]);
  ctx.sendEvent("an instance that nobody started", "approval");
  yield ctx.createTimer(0);
  return "sent";
});

scenario("event_between_orchestrations", async (env) => {
  const receiver = await env.start("approval", 1);
  const source = await env.start("sender", receiver);
  expect(await env.output(source), "sent", "output of the sender");
  expect(await env.output(receiver), [[source]], "output of the receiver");
});

scenario("event_to_the_unknown_and_to_the_done", async (env) => {
  const unknown = () => env.client.raiseOrchestrationEvent(newId("unknown"), "approval");
  await fails(unknown, withCode(status.NOT_FOUND), "an event to an unknown instance");
  const id = await env.start("approval", 0);
  await env.end(id);
  await env.client.raiseOrchestrationEvent(id, "approval");
  expect(await env.output(id), [], "output");
});
