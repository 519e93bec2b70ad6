// Guarded servers, and workers and servers that die. The workers that die are processes of their own.
"use strict";

const fs = require("node:fs");
const { once } = require("node:events");
const { spawn } = require("node:child_process");
const { status } = require("@grpc/grpc-js");
const { whenAll } = require("@microsoft/durabletask-js");
const { plusOne } = require("./basics");
const { Env, activity, alone, check, expect, fails, orchestrator, scratchFile, until, withCode } = require("./harness");

// Hangs where nobody has come before, so that the worker can be killed in it.
const dieAtFirst = activity("dieAtFirst", async (_, path) => {
  if (!fs.existsSync(path)) {
    fs.writeFileSync(path, "begun");
    await new Promise(() => {});
  }
  return "survived";
});

orchestrator("deadly", async function* (ctx, path) {
  return [yield ctx.callActivity(plusOne, 1), yield ctx.callActivity(dieAtFirst, path)];
});

orchestrator("longChain", async function* (ctx, n) {
  let total = 0;
  for (let i = 0; i < n; i++) total += yield ctx.callActivity(plusOne, i);
  yield ctx.createTimer(0);
  return total;
});

orchestrator("waitsAndCalls", async function* (ctx) {
  return yield whenAll([ctx.waitForExternalEvent("later"), ctx.callActivity(plusOne, 1)]);
});

/** Runs f beside a worker with every workflow in a process of its own, which it then kills. */
async function duringProcess(env, f) {
  const args = [process.argv[1], "worker", env.address, ...(env.hub ? [env.hub] : [])];
  const worker = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  try {
    const [line] = await once(worker.stdout, "data");
    check(`${line}`.trim() === "working", `the worker says ${line}`);
    return await f();
  } finally {
    worker.kill("SIGKILL");
    if (worker.exitCode === null && worker.signalCode === null) await once(worker, "exit");
  }
}

alone("tls_and_token", async () => {
  const { SDK_GUARDED, SDK_TOKEN } = process.env;
  const wrong = () => new Env(SDK_GUARDED, "", "wrong").start("longChain", 3);
  await fails(wrong, withCode(status.UNAUTHENTICATED), "a wrong token");
  const env = new Env(SDK_GUARDED, "", SDK_TOKEN);
  await env.during(env.newFullWorker(), async () => expect(await env.run("longChain", 3), 6, "output"));
});

alone("worker_killed_in_an_activity", async (env) => {
  const path = scratchFile();
  const id = await duringProcess(env, async () => {
    const id = await env.start("deadly", path);
    await until(() => fs.existsSync(path), "the activity begins");
    return id;
  });
  expect(await env.status(id), "RUNNING", "status without a worker");
  await duringProcess(env, async () => expect(await env.output(id), [2, "survived"], "output"));
});

alone("server_killed_in_a_run", async (env) => {
  await duringProcess(env, async () => {
    const [chains, waiting] = [[], []];
    for (let i = 0; i < 25; i++) chains.push(await env.start("longChain", 40));
    for (let i = 0; i < 5; i++) waiting.push(await env.start("waitsAndCalls"));
    await until(async () => (await env.status(chains[0])) !== "PENDING", "the chains run");
    await env.ask("restart-server");
    for (const id of waiting) await env.client.raiseOrchestrationEvent(id, "later", "came");
    for (const id of chains) expect(await env.output(id), 820, "output of a chain");
    for (const id of waiting) expect(await env.output(id), ["came", 2], "output of one that waits");
  });
});
