// Several workers: versions, work item filters, a worker that comes late.
"use strict";

const { VersionFailureStrategy, VersionMatchStrategy } = require("@microsoft/durabletask-js");
const { alone, expect, newId } = require("./harness");

const versioned = async (ctx) => ctx.version ?? "";

async function* versionedParent(ctx) {
  const byDefault = yield ctx.callSubOrchestrator("versioned");
  const chosen = yield ctx.callSubOrchestrator("versioned", null, { version: "7.0" });
  return [ctx.version, byDefault, chosen];
}

const orchestrators = { versioned, versionedParent };
const { None, Strict, CurrentOrOlder } = VersionMatchStrategy;
const { Reject, Fail } = VersionFailureStrategy;

const workerOf = (env, version, matchStrategy, failureStrategy, defaultVersion) =>
  env.newWorker({ orchestrators }, { versioning: { version, matchStrategy, failureStrategy, defaultVersion } });

alone("versions", async (env) => {
  await env.during(workerOf(env, "2.0", None, Fail, "5.0"), async () => {
    expect(await env.run("versioned", null, { version: "1.2" }), "1.2", "version");
    expect(await env.run("versioned"), "", "no version");
    // The SDK's 0.4.0 ignores a worker's defaultVersion.
    expect(await env.run("versionedParent", null, { version: "3.0" }), ["3.0", "", "7.0"], "versions of children");
    const client = env.newClient({ defaultVersion: "4.0" });
    const id = await client.scheduleNewOrchestration("versioned", null, newId("default"));
    expect(await env.output(id), "4.0", "default version of the client");
  });
});

alone("version_matching", async (env) => {
  await env.during(workerOf(env, "2.0", Strict, Fail), async () => {
    expect(await env.run("versioned", null, { version: "2.0" }), "2.0", "the same version");
    const { failureDetails } = await env.end(await env.start("versioned", null, { version: "1.0" }), "FAILED");
    expect(failureDetails.errorType, "VersionMismatch", "error type");
  });
  await env.during(workerOf(env, "2.0", CurrentOrOlder, Fail), async () => {
    expect(await env.run("versioned", null, { version: "1.9" }), "1.9", "an older version");
    await env.end(await env.start("versioned", null, { version: "2.1" }), "FAILED");
  });
});

alone("version_rejected_by_one_worker", async (env) => {
  await env.during(workerOf(env, "1.0", Strict, Reject), async () => {
    const id = await env.start("versioned", null, { version: "2.0" });
    await env.stays(id, "PENDING", 1);
    await env.during(workerOf(env, "2.0", Strict, Reject), async () => {
      expect(await env.output(id), "2.0", "output by the worker that takes it");
    });
  });
});

const left = async () => "left";

async function* right(ctx) {
  return yield ctx.callActivity("rightHand", 1);
}

const rightHand = (_, n) => ["right", n];

alone("work_item_filters", async (env) => {
  const options = { workItemFilters: "auto" };
  await env.during(env.newWorker({ orchestrators: { left } }, options), async () => {
    const forRight = await env.start("right");
    for (let i = 0; i < 5; i++) expect(await env.run("left"), "left", "output of the first worker");
    await env.stays(forRight, "PENDING", 0.5);
    const second = env.newWorker({ orchestrators: { right }, activities: { rightHand } }, options);
    await env.during(second, async () => {
      expect(await env.output(forRight), ["right", 1], "output of the second worker");
      for (let i = 0; i < 5; i++) expect(await env.run("right"), ["right", 1], "output with both");
    });
  });
});

alone("filter_by_version", async (env) => {
  const workItemFilters = { orchestrations: [{ name: "versioned", versions: ["2.0"] }] };
  await env.during(env.newWorker({ orchestrators: { versioned } }, { workItemFilters }), async () => {
    const other = await env.start("versioned", null, { version: "1.0" });
    expect(await env.run("versioned", null, { version: "2.0" }), "2.0", "output");
    await env.stays(other, "PENDING", 0.5);
    await env.client.terminateOrchestration(other);
  });
});

alone("worker_that_comes_late", async (env) => {
  const id = await env.start("left");
  await env.stays(id, "PENDING", 0.5);
  await env.during(env.newWorker({ orchestrators: { left } }), async () => {
    expect(await env.output(id), "left", "output");
  });
});
