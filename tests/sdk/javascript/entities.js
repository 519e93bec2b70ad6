// Entities: signals, calls, state, locks, what they start themselves.
"use strict";

const { EntityInstanceId, TaskEntity } = require("@microsoft/durabletask-js");
const { check, entity, expect, newId, orchestrator, scenario, until } = require("./harness");

class Counter extends TaskEntity {
  initializeState() {
    return { value: 0 };
  }

  add(n) {
    this.state.value += n;
    return this.state.value;
  }

  get() {
    return this.state.value;
  }

  fail() {
    this.state.value = -1000;
    throw new RangeError("the entity fails");
  }

  relay(key) {
    this.context.signalEntity(counter(key), "add", 5);
    return this.context.scheduleNewOrchestration("entityReader", this.context.id.key, { instanceId: `${key}-started` });
  }

  later(n) {
    this.context.signalEntity(this.context.id, "add", n, { signalTime: new Date(Date.now() + 1000) });
  }
}

class Account extends TaskEntity {
  initializeState() {
    return { balance: 0 };
  }

  deposit(amount) {
    this.state.balance += amount;
    return this.state.balance;
  }

  withdraw(amount) {
    if (amount > this.state.balance) throw new Error("not enough");
    this.state.balance -= amount;
    return this.state.balance;
  }

  balance() {
    return this.state.balance;
  }
}

entity("counter", () => new Counter());
entity("account", () => new Account());

const counter = (key) => new EntityInstanceId("counter", key ?? newId("counter"));
const account = (key) => new EntityInstanceId("account", key);
const valueOf = async (env, id) => (await env.client.getEntity(id))?.state?.value;
const becomes = (env, id, want) => until(async () => (await valueOf(env, id)) === want, `${id} becomes ${want}`);

scenario("entity_signals", async (env) => {
  const id = counter();
  expect(await env.client.getEntity(id), undefined, "entity before the first signal");
  for (let i = 1; i <= 10; i++) await env.client.signalEntity(id, "add", i);
  await becomes(env, id, 55);
  const found = await env.client.getEntity(id, false);
  check(!found.includesState, "the state was not asked for");
  check(Math.abs(found.lastModifiedTime - Date.now()) < 60_000, `last modified ${found.lastModifiedTime}`);
});

orchestrator("entityReader", async function* (ctx, key) {
  return yield ctx.entities.callEntity(counter(key), "get");
});

orchestrator("entityCaller", async function* (ctx, key) {
  const got = [];
  for (const n of [1, 2, 3]) got.push(yield ctx.entities.callEntity(counter(key), "add", n));
  ctx.entities.signalEntity(counter(key), "add", 10);
  got.push(yield ctx.entities.callEntity(counter(key), "get"));
  return got;
});

scenario("entity_calls", async (env) => {
  expect(await env.run("entityCaller", newId("counter")), [1, 3, 6, 16], "output");
});

orchestrator("entityFailure", async function* (ctx, key) {
  yield ctx.entities.callEntity(counter(key), "add", 1);
  try {
    yield ctx.entities.callEntity(counter(key), "fail");
  } catch (e) {
    return [`${e.message} ${e.failureDetails?.errorMessage ?? ""}`, yield ctx.entities.callEntity(counter(key), "get")];
  }
});

scenario("entity_failures", async (env) => {
  const [message, value] = await env.run("entityFailure", newId("counter"));
  check(message.includes("the entity fails"), `message: ${message}`);
  expect(value, 1, "state after a failed operation");
});

scenario("entity_actions", async (env) => {
  const [source, target] = [counter(), counter()];
  await env.client.signalEntity(source, "add", 3);
  await env.client.signalEntity(source, "relay", target.key);
  await becomes(env, target, 5);
  await until(() => env.state(`${target.key}-started`), "the orchestration that an entity starts");
  expect(await env.output(`${target.key}-started`), 3, "its output");
});

scenario("entity_scheduled_signals", async (env) => {
  const [byClient, byEntity] = [counter(), counter()];
  await env.client.signalEntity(byClient, "add", 1, { signalTime: new Date(Date.now() + 1000) });
  await env.client.signalEntity(byEntity, "later", 2);
  check(!(await valueOf(env, byClient)), "the signal came too early");
  await becomes(env, byClient, 1);
  await becomes(env, byEntity, 2);
});

scenario("entity_query_and_cleaning", async (env) => {
  const prefix = newId("many");
  const made = Array.from({ length: 12 }, (_, i) => counter(`${prefix}-${i}`));
  for (const id of made) await env.client.signalEntity(id, "add", 1);
  for (const id of made) await becomes(env, id, 1);
  const instanceIdStartsWith = `@counter@${prefix}`;
  const ask = async (query) => {
    const found = [];
    for await (const e of env.client.getEntities({ instanceIdStartsWith, ...query })) found.push(e.id.toString());
    return found.sort();
  };
  const all = made.map(String).sort();
  expect(await ask(), all, "all");
  expect(await ask({ pageSize: 5 }), all, "all in pages of 5");
  const hourAgo = new Date(Date.now() - 3_600_000);
  expect(await ask({ lastModifiedTo: hourAgo }), [], "modified long ago");
  expect(await ask({ lastModifiedFrom: hourAgo }), all, "modified just now");
  for (const id of made) await env.client.signalEntity(id, "delete");
  await until(async () => (await ask()).length === 0, "the deletions");
  const cleaned = await env.client.cleanEntityStorage();
  expect(cleaned.orphanedLocksReleased, 0, "orphaned locks");
  expect(await ask({ includeTransient: true }), [], "entities after the cleaning");
  for await (const s of env.client.getAllInstances({ instanceIdPrefix: instanceIdStartsWith })) {
    throw new Error(`the entity ${s.instanceId} is among the orchestrations`);
  }
});

orchestrator("transfer", async function* (ctx, [from, to, amount]) {
  const lock = yield ctx.entities.lockEntities(account(from), account(to));
  try {
    if ((yield ctx.entities.callEntity(account(from), "balance")) < amount) return false;
    yield ctx.entities.callEntity(account(from), "withdraw", amount);
    yield ctx.createTimer(0.001);
    yield ctx.entities.callEntity(account(to), "deposit", amount);
    return true;
  } finally {
    lock.release();
  }
});

orchestrator("opening", async function* (ctx, keys) {
  for (const key of keys) yield ctx.entities.callEntity(account(key), "deposit", 100);
});

scenario("entity_locks", async (env) => {
  const keys = [newId("account"), newId("account"), newId("account")];
  await env.run("opening", keys);
  // In a circle and in both directions: without an order of the locks this ends in a deadlock.
  const started = [];
  for (let i = 0; i < 30; i++) {
    started.push(await env.start("transfer", [keys[i % 3], keys[(i + 1 + (i % 2)) % 3], 1 + (i % 60)]));
  }
  const done = [];
  for (const id of started) done.push(await env.output(id));
  check(done.some(Boolean), "no transfer succeeded");
  const found = () => Promise.all(keys.map((key) => env.client.getEntity(account(key))));
  expect((await found()).reduce((sum, e) => sum + e.state.balance, 0), 300, "money");
  await until(async () => !(await found()).some((e) => e.lockedBy), "the locks are released");
});

orchestrator("holder", async function* (ctx, key) {
  yield ctx.entities.lockEntities(counter(key));
  ctx.setCustomStatus("locked");
  yield ctx.waitForExternalEvent("release");
});

scenario("entity_lock_of_the_terminated", async (env) => {
  const id = counter();
  await env.client.signalEntity(id, "add", 1); // an entity without a state is not there, even if it is locked
  await becomes(env, id, 1);
  const holder = await env.start("holder", id.key);
  await until(async () => (await env.state(holder)).serializedCustomStatus === '"locked"', "the lock");
  expect((await env.client.getEntity(id)).lockedBy, holder, "owner of the lock");
  await env.client.signalEntity(id, "add", 1);
  const reader = await env.start("entityReader", id.key);
  await env.stays(reader, "RUNNING", 0.3);
  await env.client.terminateOrchestration(holder);
  expect(await env.output(reader), 2, "what another reads when the owner is gone");
});
