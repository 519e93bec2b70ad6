const { TaskHubGrpcClient, TaskHubGrpcWorker, NoOpLogger } = require("@microsoft/durabletask-js");

const connection = { hostAddress: process.argv[2] ?? "localhost:4001", logger: new NoOpLogger() };

const greet = (_, name) => `Hello, ${name}`;

const hello = async function* hello(ctx, name) {
  return yield ctx.callActivity(greet, name);
};

(async () => {
  const worker = new TaskHubGrpcWorker(connection);
  worker.addActivity(greet);
  worker.addOrchestrator(hello);
  await worker.start();
  const client = new TaskHubGrpcClient(connection);
  const id = await client.scheduleNewOrchestration(hello, "Ada");
  console.log(JSON.parse((await client.waitForOrchestrationCompletion(id)).serializedOutput));
  await worker.stop();
})();
