// Payloads near the limit of a message, and a history beyond it.
"use strict";

const { activity, expect, orchestrator, scenario, until } = require("./harness");

const MEGABYTE = 1 << 20;

const echo = activity("echo", (_, text) => text);

orchestrator("echoing", async function* (ctx, text) {
  return yield ctx.callActivity(echo, text);
});

scenario("large_payloads", async (env) => {
  expect((await env.run("echoing", "x".repeat(MEGABYTE))).length, MEGABYTE, "length of the output");
});

const blowUp = activity("blowUp", (_, n) => "y".repeat(n));

orchestrator("growing", async function* (ctx, n) {
  let total = 0;
  for (let i = 0; i < n; i++) total += (yield ctx.callActivity(blowUp, MEGABYTE)).length;
  return total;
});

scenario("history_beyond_a_message", async (env) => {
  const id = await env.start("growing", 8);
  const grown = async () => (await env.client.getOrchestrationHistory(id)).some((e) => e.result?.startsWith?.("yyyy", 1));
  await until(grown, "the history grows");
  await env.stays(id, "RUNNING", 1);
  expect(await env.run("echoing", "others go on"), "others go on", "output of another instance");
  await env.client.terminateOrchestration(id);
  await env.end(id, "TERMINATED");
});
