import com.microsoft.durabletask.OrchestrationRuntimeStatus;
import com.microsoft.durabletask.TaskCanceledException;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/** External events: before and after the wait, between orchestrations, against time. */
final class Events {
    private Events() {}

    static void register() {
        Workflows.orchestrator("approval", ctx -> {
            List<Object> got = new ArrayList<>();
            for (int i = ctx.getInput(Integer.class); i > 0; i--) {
                got.add(ctx.waitForExternalEvent("approval", Object.class).await());
            }
            ctx.complete(got);
        });
        Workflows.scenario("event_after_the_wait", env -> {
            String id = env.started("approval", 2);
            env.client.raiseEvent(id, "approval", "Ada");
            env.client.raiseEvent(id, "approval");
            Env.expect(env.output(id, Object[].class), new Object[] {"Ada", null}, "output");
        });
        Workflows.scenario("many_events_in_order", env -> {
            String id = env.start("approval", 100);
            Object[] want = new Object[100];
            for (int i = 0; i < want.length; i++) {
                want[i] = i;
                env.client.raiseEvent(id, "approval", i);
            }
            Env.expect(env.output(id, Object[].class), want, "output");
        });

        Workflows.orchestrator("lateWaiter", ctx -> {
            ctx.waitForExternalEvent("go").await();
            int first = ctx.waitForExternalEvent("early", Integer.class).await();
            ctx.complete(10 * first + ctx.waitForExternalEvent("early", Integer.class).await());
        });
        Workflows.scenario("event_before_the_wait", env -> {
            String id = env.start("lateWaiter", null);
            env.client.raiseEvent(id, "early", 1);
            env.client.raiseEvent(id, "early", 2);
            env.client.raiseEvent(id, "go");
            Env.expect(env.output(id, Integer.class), 12, "output");
        });

        Workflows.orchestrator("impatient", ctx -> {
            try {
                Duration timeout = Duration.ofMillis(ctx.getInput(Integer.class));
                ctx.complete(ctx.waitForExternalEvent("never", timeout, String.class).await());
            } catch (TaskCanceledException e) {
                ctx.complete("timeout");
            }
        });
        Workflows.scenario("event_against_a_timer", env -> {
            Env.expect(env.run("impatient", 200, String.class), "timeout", "output");
            String id = env.start("impatient", 3_600_000);
            env.client.raiseEvent(id, "never", "came");
            Env.expect(env.output(id, String.class), "came", "output");
        });

        Workflows.orchestrator("sender", ctx -> {
            ctx.sendEvent(ctx.getInput(String.class), "approval", ctx.getInstanceId());
            ctx.sendEvent("an instance that nobody started", "approval");
            ctx.createTimer(Duration.ZERO).await();
            ctx.complete("sent");
        });
        Workflows.scenario("event_between_orchestrations", env -> {
            String receiver = env.start("approval", 1);
            String source = env.start("sender", receiver);
            Env.expect(env.output(source, String.class), "sent", "output of the sender");
            Env.expect(env.output(receiver, Object[].class), new Object[] {source}, "output of the receiver");
        });

        Workflows.scenario("event_to_the_unknown_and_to_the_done", env -> {
            Env.fails(Status.Code.NOT_FOUND, () -> {
                env.client.raiseEvent(Env.newId("unknown"), "approval");
                return null;
            });
            String id = env.start("approval", 0);
            env.end(id);
            env.client.raiseEvent(id, "approval");
            Env.expect(env.status(id), OrchestrationRuntimeStatus.COMPLETED, "status");
        });
    }
}
