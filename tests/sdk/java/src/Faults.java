import com.microsoft.durabletask.OrchestrationRuntimeStatus;
import com.microsoft.durabletask.Task;
import io.grpc.Status;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;

/** Guarded servers, and workers and servers that die or come late. */
final class Faults {
    private Faults() {}

    /** A worker with every workflow in a process of its own, which is killed in the end. */
    private static final class Process implements AutoCloseable {
        private final java.lang.Process process;

        Process(Env env) throws Exception {
            String java = Path.of(System.getProperty("java.home"), "bin", "java").toString();
            process = new ProcessBuilder(
                            java, "-cp", System.getProperty("java.class.path"), "App", "worker", env.address, env.hub)
                    .redirectError(ProcessBuilder.Redirect.INHERIT).start();
            String line = new BufferedReader(new InputStreamReader(process.getInputStream())).readLine();
            Env.expect(line, "working", "first line of the worker");
        }

        @Override
        public void close() throws InterruptedException {
            process.destroyForcibly().waitFor();
        }
    }

    static void register() {
        // Hangs where nobody has come before, so that the worker can be killed in it.
        Workflows.activity("dieAtFirst", ctx -> {
            try {
                if (new File(ctx.getInput(String.class)).createNewFile()) {
                    new CountDownLatch(1).await();
                }
            } catch (IOException | InterruptedException e) {
                throw new IllegalStateException(e);
            }
            return "survived";
        });
        Workflows.orchestrator("deadly", ctx -> {
            int before = ctx.callActivity("plusOne", 1, Integer.class).await();
            ctx.complete(before + ctx.callActivity("dieAtFirst", ctx.getInput(String.class), String.class).await());
        });
        Workflows.orchestrator("longChain", ctx -> {
            int total = 0;
            for (int i = 0; i < ctx.getInput(Integer.class); i++) {
                total += ctx.callActivity("plusOne", i, Integer.class).await();
            }
            ctx.createTimer(Duration.ZERO).await();
            ctx.complete(total);
        });
        Workflows.orchestrator("waitsAndCalls", ctx -> {
            Task<String> event = ctx.waitForExternalEvent("later", String.class);
            Task<Integer> call = ctx.callActivity("plusOne", 1, Integer.class);
            ctx.complete(event.await() + call.await());
        });
        Workflows.alone("worker_that_comes_late", env -> {
            String id = env.start("same", "kept");
            env.stays(id, OrchestrationRuntimeStatus.PENDING, Duration.ofMillis(500));
            try (Env.Worker worker = env.new Worker(Map.of("same", Workflows.ORCHESTRATORS.get("same")), Map.of())) {
                Env.expect(env.output(id, String.class), "kept", "output");
            }
        });
        Workflows.alone("tls_and_token", unused -> {
            String address = System.getenv("SDK_GUARDED");
            Env.fails(Status.Code.UNAUTHENTICATED, () -> new Env(address, "", "wrong").start("longChain", 3));
            Env env = new Env(address, "", System.getenv("SDK_TOKEN"));
            try (Env.Worker worker = env.fullWorker()) {
                Env.expect(env.run("longChain", 3, Integer.class), 6, "output");
            }
        });
        Workflows.alone("worker_killed_in_an_activity", Faults::workerKilled);
        Workflows.alone("server_killed_in_a_run", Faults::serverKilled);
        Workflows.alone("task_hub", env -> {
            String id = env.start("same", 1);
            env.client.createTaskHub(false);
            Env.expect(env.status(id), OrchestrationRuntimeStatus.PENDING, "status after the hub was there already");
            env.client.deleteTaskHub();
            env.client.createTaskHub(true);
            Env.expect(env.status(id), null, "status in a new hub");
            try (Env.Worker worker = env.fullWorker()) {
                Env.expect(env.run("sequence", 1, Integer.class), 4, "output in a new hub");
            }
        });
    }

    private static void workerKilled(Env env) throws Exception {
        Path path = Path.of(System.getenv("SDK_SCRATCH"), Env.newId("java"));
        String id;
        try (Process worker = new Process(env)) {
            id = env.start("deadly", path.toString());
            Env.until(() -> Files.exists(path), "the activity begins");
        }
        Env.expect(env.status(id), OrchestrationRuntimeStatus.RUNNING, "status without a worker");
        try (Process worker = new Process(env)) {
            Env.expect(env.output(id, String.class), "2survived", "output");
        }
    }

    private static void serverKilled(Env env) throws Exception {
        try (Process worker = new Process(env)) {
            List<String> chains = new ArrayList<>();
            List<String> waiting = new ArrayList<>();
            for (int i = 0; i < 25; i++) {
                chains.add(env.start("longChain", 20));
            }
            for (int i = 0; i < 5; i++) {
                waiting.add(env.start("waitsAndCalls", null));
            }
            Env.until(() -> env.status(chains.get(0)) != OrchestrationRuntimeStatus.PENDING, "the chains run");
            env.ask("restart-server");
            for (String id : waiting) {
                env.client.raiseEvent(id, "later", "came");
            }
            for (String id : chains) {
                Env.expect(env.output(id, Integer.class), 210, "output of a chain");
            }
            for (String id : waiting) {
                Env.expect(env.output(id, String.class), "came2", "output of one that waits");
            }
        }
    }
}
