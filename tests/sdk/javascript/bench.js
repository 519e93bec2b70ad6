// The JavaScript worker of `go run ./bench -grpc -worker js`: it prints the id of each
// instance whose orchestrator reaches its end.
"use strict";

const { NoOpLogger, TaskHubGrpcWorker, whenAll } = require("@microsoft/durabletask-js");

const worker = new TaskHubGrpcWorker({ hostAddress: process.argv[2], logger: new NoOpLogger() });
const over = (id) => process.stdout.write(`${id}\n`);

worker.addNamedActivity("act", () => "Hello, world!");

worker.addNamedOrchestrator("seq", async function* (ctx, n) {
  for (let i = 0; i < n; i++) yield ctx.callActivity("act");
  over(ctx.instanceId);
  return "ok";
});

worker.addNamedOrchestrator("fan", async function* (ctx, n) {
  yield whenAll(Array.from({ length: n }, () => ctx.callActivity("act")));
  over(ctx.instanceId);
  return "ok";
});

worker.start().then(
  () => over("working"),
  (e) => {
    console.error(e);
    process.exit(1);
  },
);
