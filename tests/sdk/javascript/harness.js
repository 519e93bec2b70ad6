// What the scenarios share: the registry of workflows, the runner, and waiting.
"use strict";

const crypto = require("node:crypto");
const path = require("node:path");
const readline = require("node:readline");
const { isDeepStrictEqual } = require("node:util");
const { TaskHubGrpcClient, TaskHubGrpcWorker, OrchestrationStatus } = require("@microsoft/durabletask-js");
const grpc = require("@grpc/grpc-js");

const scenarios = [];
const registry = { orchestrators: {}, activities: {}, entities: {} };
const PATIENCE = 60; // seconds that a scenario waits for what must happen

/** Registers a scenario that runs beside a worker with every workflow. */
const scenario = (name, f) => scenarios.push({ name, f, beside: true });
/** Registers a scenario that runs with no worker but those that it starts. */
const alone = (name, f) => scenarios.push({ name, f, beside: false });

const named = (kind) => (name, f) => {
  registry[kind][name] = f;
  return name;
};
const orchestrator = named("orchestrators");
const activity = named("activities");
const entity = named("entities");

function check(ok, what) {
  if (!ok) throw new Error(what);
}

function expect(got, want, what) {
  check(isDeepStrictEqual(got, want), `${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}

/** Awaits f, which must fail with something that good accepts. */
async function fails(f, good, what) {
  try {
    await f();
  } catch (e) {
    check(good(e), `${what} fails with ${e.name} ${e.code}: ${e.message}`);
    return e;
  }
  throw new Error(`${what} does not fail`);
}

const withCode = (code) => (e) => e.code === code || e.cause?.code === code;
const timedOut = (e) => /timed? ?out/i.test(`${e.name} ${e.message}`);

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Asks f until it answers something true, and returns that. */
async function until(f, what) {
  for (const end = Date.now() + PATIENCE * 1000; ; await sleep(20)) {
    const answer = await f();
    if (answer) return answer;
    check(Date.now() < end, `waited ${PATIENCE} s in vain: ${what}`);
  }
}

const newId = (prefix) => `${prefix}-${crypto.randomUUID().slice(0, 13)}`;

const quiet = { error: console.error, warn: console.error, info() {}, debug() {} };

/** A client, and the means to start workers of the server. */
class Env {
  constructor(address, hub, token) {
    this.hub = hub;
    this.connection = { hostAddress: address, logger: quiet, useTLS: Boolean(token) };
    this.connection.metadataGenerator = async () => {
      const metadata = new grpc.Metadata();
      if (hub) metadata.set("taskhub", hub);
      if (token) metadata.set("authorization", `Bearer ${token}`);
      return metadata;
    };
    this.address = address;
    this.client = this.newClient();
    this.lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  }

  newClient(options) {
    return new TaskHubGrpcClient({ ...this.connection, ...options });
  }

  /** A worker that is not started. */
  newWorker({ orchestrators = {}, activities = {}, entities = {} }, options) {
    const worker = new TaskHubGrpcWorker({ ...this.connection, ...options });
    for (const [name, f] of Object.entries(orchestrators)) worker.addNamedOrchestrator(name, f);
    for (const [name, f] of Object.entries(activities)) worker.addNamedActivity(name, f);
    for (const [name, f] of Object.entries(entities)) worker.addNamedEntity(name, f);
    return worker;
  }

  newFullWorker() {
    return this.newWorker(registry);
  }

  /** Runs f while the worker works. */
  async during(worker, f) {
    await worker.start();
    try {
      return await f();
    } finally {
      await worker.stop();
    }
  }

  start(name, input, options) {
    return this.client.scheduleNewOrchestration(name, input, { instanceId: newId(name), ...options });
  }

  state(id) {
    return this.client.getOrchestrationState(id);
  }

  async status(id) {
    const state = await this.state(id);
    return state && OrchestrationStatus[state.runtimeStatus];
  }

  async end(id, status = "COMPLETED") {
    const state = await this.client.waitForOrchestrationCompletion(id, true, PATIENCE);
    check(state, `${id} is not there`);
    const got = OrchestrationStatus[state.runtimeStatus];
    check(got === status, `${id} is ${got}, want ${status}: ${state.failureDetails?.message}`);
    return state;
  }

  async output(id) {
    const { serializedOutput } = await this.end(id);
    return serializedOutput === undefined || serializedOutput === "" ? undefined : JSON.parse(serializedOutput);
  }

  /** Runs an orchestration to its end and returns its output. */
  async run(name, input, options) {
    return this.output(await this.start(name, input, options));
  }

  async becomes(id, status) {
    await until(async () => (await this.status(id)) === status, `${id} becomes ${status}`);
  }

  /** Expects that an instance does not end for some seconds. */
  async stays(id, status, seconds) {
    await fails(() => this.client.waitForOrchestrationCompletion(id, false, seconds), timedOut, `wait for ${id}`);
    expect(await this.status(id), status, "status");
  }

  /** Has the program that runs this one do something, such as to restart the server. */
  async ask(request) {
    console.log(`request ${request}`);
    expect((await this.lines.next()).value, "done", `answer to ${request}`);
  }
}

async function runOne(env, { name, f }) {
  const began = Date.now();
  const took = () => `${((Date.now() - began) / 1000).toFixed(2)}s`;
  try {
    await f(env);
    console.log(name, "ok", took());
    return true;
  } catch (e) {
    console.error(e);
    console.log(name, "FAILED", took(), `${e}`.replace(/\s+/g, " "));
    return false;
  }
}

/** Runs the scenarios and prints a line for each; returns whether all went well. */
async function runAll(env, names) {
  const wanted = scenarios.filter((s) => names.length === 0 || names.includes(s.name));
  const shared = wanted.filter((s) => s.beside);
  let good = true;
  if (shared.length > 0) {
    await env.during(env.newFullWorker(), async () => {
      for (const s of shared) good = (await runOne(env, s)) && good;
    });
  }
  for (const s of wanted.filter((s) => !s.beside)) good = (await runOne(env, s)) && good;
  return good;
}

let scratched = 0;
/** The path of a file that is not there yet. */
const scratchFile = () => path.join(process.env.SDK_SCRATCH, `javascript-${process.pid}-${scratched++}`);

module.exports = {
  Env, activity, alone, check, entity, expect, fails, newId, orchestrator, runAll, scenario, scratchFile, sleep,
  timedOut, until, withCode,
};
