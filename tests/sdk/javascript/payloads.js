// Payloads near the limit of a message, and a history beyond it.
"use strict";

const { activity, expect, orchestrator, scenario } = require("./harness");

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

// The SDK accepts messages of any size, and the server knows it.
scenario("history_beyond_a_message", async (env) => {
  expect(await env.run("growing", 8), 8 * MEGABYTE, "the sum of what the activities returned");
});
