import static java.util.stream.Collectors.toList;

import com.microsoft.durabletask.CompositeTaskFailedException;
import com.microsoft.durabletask.FailureDetails;
import com.microsoft.durabletask.OrchestrationRuntimeStatus;
import com.microsoft.durabletask.RetryPolicy;
import com.microsoft.durabletask.Task;
import com.microsoft.durabletask.TaskFailedException;
import com.microsoft.durabletask.TaskOptions;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;

/** Activities, children, retries, timers, status, continue-as-new. */
final class Basics {
    private Basics() {}

    private static TaskOptions retry() {
        return new TaskOptions(new RetryPolicy(4, Duration.ofMillis(50))
                .setBackoffCoefficient(2).setMaxRetryInterval(Duration.ofMillis(200)));
    }

    static void register() {
        Workflows.activity("plusOne", ctx -> ctx.getInput(Integer.class) + 1);
        Workflows.activity("failUntil", ctx -> {
            String[] input = ctx.getInput(String[].class); // a key, and the first attempt that succeeds
            int n = Workflows.count(input[0]);
            if (n < Integer.parseInt(input[1])) {
                throw new IllegalStateException("attempt " + n + " fails");
            }
            return n;
        });
        sequences();
        children();
        retries();
        failures();
        time();
        generations();
    }

    private static void sequences() {
        Workflows.orchestrator("sequence", ctx -> {
            int n = ctx.getInput(Integer.class);
            for (int i = 0; i < 3; i++) {
                n = ctx.callActivity("plusOne", n, Integer.class).await();
            }
            ctx.complete(n);
        });
        Workflows.scenario("sequence_of_activities", env ->
                Env.expect(env.run("sequence", 1, Integer.class), 4, "output"));

        Workflows.orchestrator("same", ctx -> ctx.complete(ctx.getInput(Object.class)));
        Workflows.scenario("payload_types", env -> {
            Object[] values = {
                null, 0, false, "", "text", "\u00fc\u4e16\ud83d\ude00 \" \\ \n\t", Arrays.asList(1, "two", null), Map.of("a", List.of(1.5)),
            };
            for (Object value : values) {
                Env.expect(env.run("same", value, Object.class), value, "output");
            }
        });

        Workflows.orchestrator("fanOut", ctx -> {
            List<Task<Integer>> tasks = IntStream.range(0, ctx.getInput(Integer.class))
                    .mapToObj(i -> ctx.callActivity("plusOne", i, Integer.class)).collect(toList());
            ctx.complete(ctx.allOf(tasks).await().stream().mapToInt(i -> i).sum());
        });
        Workflows.scenario("fan_out_of_1000", env ->
                Env.expect(env.run("fanOut", 1000, Integer.class), 500500, "output"));

        Workflows.orchestrator("race", ctx -> {
            Task<Integer> fast = ctx.callActivity("plusOne", 1, Integer.class);
            Task<?> winner = ctx.anyOf(fast, ctx.createTimer(Duration.ofHours(1))).await();
            ctx.complete(winner == fast);
        });
        Workflows.scenario("first_of_two", env -> Env.expect(env.run("race", null, Boolean.class), true, "output"));

        Workflows.orchestrator("uuids", ctx -> {
            String first = ctx.newUUID().toString();
            String second = ctx.newUUID().toString();
            ctx.callActivity("plusOne", 1, Integer.class).await();
            ctx.complete(List.of(first, second, ctx.newUUID().toString()));
        });
        Workflows.scenario("replay_safe_uuids", env ->
                Env.expect(Set.of(env.run("uuids", null, String[].class)).size(), 3, "different ids"));
    }

    private static void children() {
        Workflows.orchestrator("child", ctx -> {
            int n = ctx.callActivity("plusOne", ctx.getInput(Integer.class), Integer.class).await();
            ctx.complete(List.of("" + n, ctx.getInstanceId()));
        });
        Workflows.orchestrator("parent", ctx -> {
            String[] byDefault = ctx.callSubOrchestrator("child", 1, String[].class).await();
            String[] named = ctx.callSubOrchestrator("child", 2, ctx.getInput(String.class), String[].class).await();
            List<Task<String[]>> many = IntStream.range(0, 10)
                    .mapToObj(i -> ctx.callSubOrchestrator("child", i, String[].class)).collect(toList());
            String all = ctx.allOf(many).await().stream().map(m -> m[0]).collect(java.util.stream.Collectors.joining(","));
            ctx.complete(List.of(byDefault[0], byDefault[1], named[0], named[1], all));
        });
        Workflows.scenario("sub_orchestrations", env -> {
            String id = Env.newId("child");
            String[] got = env.run("parent", id, String[].class);
            Env.expect(got[0] + got[2] + got[3], "23" + id, "children");
            Env.check(!got[1].isEmpty() && !got[1].equals(id), "default id of a child: " + got[1]);
            Env.expect(got[4], "1,2,3,4,5,6,7,8,9,10", "children side by side");
            Env.expect(env.output(id, String[].class)[0], "3", "child by its id");
        });
    }

    private static void retries() {
        Workflows.orchestrator("retried", ctx -> {
            String[] input = {ctx.getInstanceId(), ctx.getInput(String.class)};
            ctx.complete(ctx.callActivity("failUntil", input, retry(), Integer.class).await());
        });
        Workflows.orchestrator("retriedByHandler", ctx -> {
            TaskOptions options = new TaskOptions(attempt -> attempt.getLastAttemptNumber() < 3);
            String[] input = {ctx.getInstanceId(), ctx.getInput(String.class)};
            ctx.complete(ctx.callActivity("failUntil", input, options, Integer.class).await());
        });
        Workflows.scenario("retries", env -> {
            String id = env.start("retried", "3");
            Env.expect(env.output(id, Integer.class), 3, "attempts");
            Env.expect(Workflows.CALLS.get(id), 3, "calls");
            id = env.start("retried", "99");
            FailureDetails failure = env.end(id, OrchestrationRuntimeStatus.FAILED).getFailureDetails();
            Env.check(failure.getErrorMessage().contains("attempt 4 fails"), "failure: " + failure.getErrorMessage());
            Env.expect(Workflows.CALLS.get(id), 4, "calls");
            Env.expect(env.run("retriedByHandler", "3", Integer.class), 3, "attempts by a handler");
        });

        Workflows.orchestrator("failingChild", ctx -> {
            int n = Workflows.count(ctx.getInput(String.class));
            if (n < 2) {
                throw new IllegalStateException("the child fails");
            }
            ctx.complete(n);
        });
        Workflows.orchestrator("retriedChild", ctx ->
                ctx.complete(ctx.callSubOrchestrator("failingChild", ctx.getInstanceId(), null, retry(), Integer.class).await()));
        Workflows.scenario("retry_of_sub_orchestration", env ->
                Env.expect(env.run("retriedChild", null, Integer.class), 2, "attempts"));
    }

    private static void failures() {
        Workflows.orchestrator("handled", ctx -> {
            try {
                ctx.callActivity("failUntil", new String[] {ctx.getInstanceId(), "99"}, Integer.class).await();
            } catch (TaskFailedException e) {
                FailureDetails d = e.getErrorDetails();
                ctx.complete(List.of(d.getErrorType(), d.getErrorMessage(), d.getStackTrace().isEmpty()));
            }
        });
        Workflows.orchestrator("oneOfManyFails", ctx -> {
            Task<Integer> good = ctx.callActivity("plusOne", 1, Integer.class);
            Task<Integer> bad = ctx.callActivity("failUntil", new String[] {ctx.getInstanceId(), "99"}, Integer.class);
            try {
                ctx.allOf(good, bad).await();
            } catch (CompositeTaskFailedException e) {
                ctx.complete(e.getExceptions().size());
            }
        });
        Workflows.orchestrator("unregistered", ctx -> ctx.callActivity("nobodyHasThis").await());
        Workflows.scenario("failures", env -> {
            Object[] got = env.run("handled", null, Object[].class);
            Env.expect(got[0], IllegalStateException.class.getName(), "error type");
            Env.check(got[1].toString().contains("attempt 1 fails"), "message: " + got[1]);
            Env.expect(got[2], false, "empty stack trace");
            Env.expect(env.run("oneOfManyFails", null, Integer.class), 1, "failures of two");
            FailureDetails failure = env.end(env.start("unregistered", null), OrchestrationRuntimeStatus.FAILED).getFailureDetails();
            Env.check(failure.getErrorMessage().contains("nobodyHasThis"), "failure: " + failure.getErrorMessage());
            env.end(env.start("noSuchOrchestrator", null), OrchestrationRuntimeStatus.FAILED);
        });
    }

    private static void time() {
        Workflows.orchestrator("delayed", ctx -> {
            Instant began = ctx.getCurrentInstant();
            ctx.createTimer(began.plusMillis(ctx.getInput(Integer.class)).atZone(ZoneOffset.UTC)).await();
            ctx.complete(Duration.between(began, ctx.getCurrentInstant()).toMillis());
        });
        Workflows.scenario("timers", env -> {
            long took = env.run("delayed", 1000, Long.class);
            Env.check(took >= 1000 && took < 5000, "a timer of 1 s took " + took + " ms");
            Env.check(env.run("delayed", -5000, Long.class) < 5000, "a timer in the past did not fire");
        });

        Workflows.orchestrator("statusSetter", ctx -> {
            ctx.setCustomStatus(Map.of("step", 1));
            ctx.waitForExternalEvent("on").await();
            ctx.setCustomStatus("second");
            ctx.waitForExternalEvent("on").await();
            ctx.clearCustomStatus();
            ctx.waitForExternalEvent("on").await();
            ctx.complete("done");
        });
        Workflows.scenario("custom_status", env -> {
            String id = env.start("statusSetter", null);
            Env.until(() -> Map.of("step", 1).equals(env.state(id).readCustomStatusAs(Object.class)), "the first status");
            env.client.raiseEvent(id, "on");
            Env.until(() -> "second".equals(env.state(id).readCustomStatusAs(Object.class)), "the second status");
            env.client.raiseEvent(id, "on");
            Env.until(() -> !env.state(id).isCustomStatusFetched(), "no status");
            env.client.raiseEvent(id, "on");
            Env.expect(env.output(id, String.class), "done", "output");
        });
    }

    private static void generations() {
        Workflows.orchestrator("counter", ctx -> {
            int n = ctx.callActivity("plusOne", ctx.getInput(Integer.class), Integer.class).await();
            if (n < 10) {
                ctx.continueAsNew(n);
            } else {
                ctx.complete(n);
            }
        });
        Workflows.scenario("continue_as_new", env -> Env.expect(env.run("counter", 0, Integer.class), 10, "output"));

        // The SDK's 1.5.0 also carries over the events of the last turn that were consumed,
        // and in any order. So the last turn of the first generation has none.
        Workflows.orchestrator("gather", ctx -> {
            int n = ctx.getInput(Integer.class);
            if (n == 0) {
                ctx.waitForExternalEvent("ready").await();
                ctx.callActivity("plusOne", 0, Integer.class).await();
                ctx.continueAsNew(20, true);
                return;
            }
            List<Integer> got = new ArrayList<>();
            for (int i = 0; i < n; i++) {
                got.add(ctx.waitForExternalEvent("item", Integer.class).await());
            }
            Collections.sort(got);
            ctx.complete(got);
        });
        Workflows.scenario("continue_as_new_with_events", env -> {
            String id = env.start("gather", 0);
            Integer[] want = new Integer[20];
            for (int i = 0; i < want.length; i++) {
                want[i] = i;
                env.client.raiseEvent(id, "item", i);
            }
            env.client.raiseEvent(id, "ready");
            Env.expect(env.output(id, Integer[].class), want, "output");
        });
    }
}
