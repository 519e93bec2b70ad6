import com.microsoft.durabletask.OrchestrationRuntimeStatus;
import java.time.Duration;

/** Payloads near the limit of a message, and a history beyond it. */
final class Payloads {
    private static final int MEGABYTE = 1 << 20;

    private Payloads() {}

    static void register() {
        Workflows.activity("echo", ctx -> ctx.getInput(String.class));
        Workflows.orchestrator("echoing", ctx ->
                ctx.complete(ctx.callActivity("echo", ctx.getInput(String.class), String.class).await()));
        Workflows.scenario("large_payloads", env ->
                Env.expect(env.run("echoing", "x".repeat(MEGABYTE), String.class).length(), MEGABYTE, "length of the output"));

        Workflows.activity("blowUp", ctx -> {
            Workflows.count(ctx.getInput(String.class));
            return "y".repeat(MEGABYTE);
        });
        Workflows.orchestrator("growing", ctx -> {
            for (int i = 0; i < 8; i++) {
                ctx.callActivity("blowUp", ctx.getInstanceId(), String.class).await();
            }
            ctx.complete(null);
        });
        Workflows.scenario("history_beyond_a_message", env -> {
            String id = env.start("growing", null);
            Env.until(() -> Workflows.CALLS.getOrDefault(id, 0) >= 3, "the history grows");
            env.stays(id, OrchestrationRuntimeStatus.RUNNING, Duration.ofSeconds(1));
            Env.expect(env.run("echoing", "others go on", String.class), "others go on", "output of another instance");
            env.client.terminate(id, null);
            env.end(id, OrchestrationRuntimeStatus.TERMINATED);
        });
        Workflows.scenario("worker_that_accepts_more", env -> { // what stalls goes on with such a worker
            String id = env.start("growing", null);
            Env.until(() -> Workflows.CALLS.getOrDefault(id, 0) >= 3, "the history grows");
            env.stays(id, OrchestrationRuntimeStatus.RUNNING, Duration.ofSeconds(1));
            try (Env.Worker w = env.fullWorkerThatAccepts(64 << 20)) {
                env.end(id, OrchestrationRuntimeStatus.COMPLETED);
            }
        });
    }
}
