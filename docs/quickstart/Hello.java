import com.microsoft.durabletask.*;
import java.time.Duration;

class Hello {
    record Activity(String getName, TaskActivity create) implements TaskActivityFactory {}

    record Orchestrator(String getName, TaskOrchestration create) implements TaskOrchestrationFactory {}

    public static void main(String[] args) throws Exception {
        int port = args.length > 0 ? Integer.parseInt(args[0]) : 4001; // of this machine
        new DurableTaskGrpcWorkerBuilder().port(port)
                .addActivity(new Activity("greet", ctx -> "Hello, " + ctx.getInput(String.class)))
                .addOrchestration(new Orchestrator("hello", ctx ->
                        ctx.complete(ctx.callActivity("greet", ctx.getInput(String.class), String.class).await())))
                .build().start();
        DurableTaskClient client = new DurableTaskGrpcClientBuilder().port(port).build();
        String id = client.scheduleNewOrchestrationInstance("hello", "Ada");
        System.out.println(client.waitForInstanceCompletion(id, Duration.ofMinutes(1), true).readOutputAs(String.class));
        System.exit(0);
    }
}
