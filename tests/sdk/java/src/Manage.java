import static java.util.stream.Collectors.toCollection;

import com.microsoft.durabletask.NewOrchestrationInstanceOptions;
import com.microsoft.durabletask.OrchestrationMetadata;
import com.microsoft.durabletask.OrchestrationRuntimeStatus;
import com.microsoft.durabletask.OrchestrationStatusQuery;
import com.microsoft.durabletask.OrchestrationStatusQueryResult;
import com.microsoft.durabletask.PurgeInstanceCriteria;
import io.grpc.Status;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeoutException;
import java.util.function.UnaryOperator;

/** What clients do to instances: terminate, suspend, query, purge, rewind, restart, start later. */
final class Manage {
    private static final Set<String> MENDED = ConcurrentHashMap.newKeySet();

    private Manage() {}

    private static String ended(Env env, String id) throws Exception {
        env.client.raiseEvent(id, "end", "end");
        return env.output(id, String.class);
    }

    static void register() {
        Workflows.orchestrator("waiting", ctx -> ctx.complete(ctx.waitForExternalEvent("end", String.class).await()));
        Workflows.orchestrator("waitingParent", ctx ->
                ctx.complete(ctx.callSubOrchestrator("waiting", null, ctx.getInput(String.class), String.class).await()));
        Workflows.orchestrator("plusOneOf", ctx ->
                ctx.complete(ctx.callActivity("plusOne", ctx.getInput(Integer.class), Integer.class).await()));
        stops();
        Workflows.scenario("waits", Manage::waits);
        Workflows.scenario("query", Manage::query);
        Workflows.scenario("purge", Manage::purge);
        Workflows.scenario("purge_by_filter", Manage::purgeByFilter);
        rewinds();
        Workflows.scenario("restart", Manage::restart);
        Workflows.scenario("scheduled_start", Manage::scheduledStart);
        Workflows.scenario("reuse_of_an_id", Manage::reuse);
        Workflows.scenario("bad_input", env -> {
            Env.fails(IllegalArgumentException.class, () -> env.client.scheduleNewOrchestrationInstance("", null, Env.newId("nameless")));
            Env.fails(Status.Code.INVALID_ARGUMENT, () -> env.client.scheduleNewOrchestrationInstance("waiting", null, "x".repeat(5000)));
        });
    }

    private static void stops() {
        Workflows.scenario("terminate", env -> {
            String id = env.started("waiting", null);
            env.client.terminate(id, Map.of("why", "test"));
            OrchestrationMetadata state = env.end(id, OrchestrationRuntimeStatus.TERMINATED);
            Env.expect(state.readOutputAs(Object.class), Map.of("why", "test"), "output");
            env.client.terminate(id, null); // a second time changes nothing
            Env.expect(env.status(id), OrchestrationRuntimeStatus.TERMINATED, "status");
        });
        Workflows.scenario("terminate_recursively", env -> {
            String childId = Env.newId("child");
            String id = env.start("waitingParent", childId);
            env.becomes(childId, OrchestrationRuntimeStatus.RUNNING);
            env.client.terminate(id, null); // the SDK's client leaves children alone
            env.end(id, OrchestrationRuntimeStatus.TERMINATED);
            Env.expect(ended(env, childId), "end", "output of a child that was left alone");
            String otherChild = Env.newId("child");
            String other = env.start("waitingParent", otherChild);
            env.becomes(otherChild, OrchestrationRuntimeStatus.RUNNING);
            env.ask("terminate-tree " + other);
            env.end(other, OrchestrationRuntimeStatus.TERMINATED);
            env.end(otherChild, OrchestrationRuntimeStatus.TERMINATED);
        });
        Workflows.scenario("suspend_and_resume", env -> {
            String id = env.started("waiting", null);
            env.client.suspendInstance(id, "a rest");
            env.becomes(id, OrchestrationRuntimeStatus.SUSPENDED);
            env.client.raiseEvent(id, "end", "7");
            env.stays(id, OrchestrationRuntimeStatus.SUSPENDED, Duration.ofMillis(300));
            env.client.resumeInstance(id, "rested");
            Env.expect(env.output(id, String.class), "7", "output");
        });
        Workflows.scenario("terminate_while_suspended", env -> {
            String id = env.started("waiting", null);
            env.client.suspendInstance(id);
            env.becomes(id, OrchestrationRuntimeStatus.SUSPENDED);
            env.client.terminate(id, null);
            env.end(id, OrchestrationRuntimeStatus.TERMINATED);
        });
    }

    private static void waits(Env env) throws Exception {
        String id = env.start("waiting", null);
        OrchestrationMetadata state = env.client.waitForInstanceStart(id, Duration.ofSeconds(10));
        Env.expect(state.getRuntimeStatus(), OrchestrationRuntimeStatus.RUNNING, "status after the wait for the start");
        Env.fails(TimeoutException.class, () -> env.client.waitForInstanceCompletion(id, Duration.ofMillis(200), false));
        Env.expect(env.status(Env.newId("unknown")), null, "status of an unknown instance");
        ended(env, id);
        OrchestrationMetadata bare = env.client.getInstanceMetadata(id, false);
        Env.expect(bare.getName(), "waiting", "name");
        Env.check(!bare.getCreatedAt().isAfter(bare.getLastUpdatedAt()), "times");
    }

    private static void query(Env env) throws Exception {
        String prefix = Env.newId("query");
        Instant minuteAgo = Instant.now().minusSeconds(60);
        Set<String> done = new TreeSet<>();
        Set<String> all = new TreeSet<>();
        for (int i = 0; i < 25; i++) {
            done.add(env.client.scheduleNewOrchestrationInstance("plusOneOf", i, prefix + "-" + i));
        }
        all.addAll(done);
        for (int i = 0; i < 5; i++) {
            all.add(env.client.scheduleNewOrchestrationInstance("waiting", null, prefix + "-waits-" + i));
        }
        for (String id : done) {
            env.end(id);
        }
        Env.expect(ids(ask(env, prefix, q -> q)), all, "all");
        Env.expect(ids(ask(env, prefix, q -> q.setMaxInstanceCount(4))), all, "all in pages of 4");
        List<OrchestrationMetadata> completed = ask(env, prefix, q -> q.setMaxInstanceCount(7).setFetchInputsAndOutputs(true)
                .setRuntimeStatusList(List.of(OrchestrationRuntimeStatus.COMPLETED)));
        Env.expect(ids(completed), done, "completed");
        Env.expect(completed.stream().mapToInt(s -> s.readOutputAs(Integer.class)).sum(), 325, "sum of the outputs");
        Env.expect(ids(ask(env, prefix, q -> q.setCreatedTimeFrom(minuteAgo))), all, "created after the start");
        Env.expect(ids(ask(env, prefix, q -> q.setCreatedTimeTo(minuteAgo))), Set.of(), "created before the start");
        all.removeAll(done);
        for (String id : all) {
            ended(env, id);
        }
    }

    private static Set<String> ids(List<OrchestrationMetadata> found) {
        return found.stream().map(OrchestrationMetadata::getInstanceId).collect(toCollection(TreeSet::new));
    }

    private static List<OrchestrationMetadata> ask(Env env, String prefix, UnaryOperator<OrchestrationStatusQuery> more) {
        List<OrchestrationMetadata> found = new ArrayList<>();
        OrchestrationStatusQuery query = more.apply(new OrchestrationStatusQuery().setInstanceIdPrefix(prefix));
        while (true) {
            OrchestrationStatusQueryResult page = env.client.queryInstances(query);
            Env.check(page.getOrchestrationState().size() <= query.getMaxInstanceCount(), "a page is too long");
            found.addAll(page.getOrchestrationState());
            String token = page.getContinuationToken();
            if (token == null || token.isEmpty()) { // the SDK's 1.5.0 makes "" of no token
                Env.expect(ids(found).size(), found.size(), "different ids");
                return found;
            }
            query.setContinuationToken(token);
        }
    }

    private static void purge(Env env) throws Exception {
        String id = env.start("plusOneOf", 1);
        env.end(id);
        Env.expect(env.client.purgeInstance(id).getDeletedInstanceCount(), 1, "purge of one");
        Env.expect(env.status(id), null, "status after the purge");
        Env.expect(env.client.purgeInstance(id).getDeletedInstanceCount(), 0, "purge of the purged");
        String running = env.started("waiting", null);
        Env.expect(env.client.purgeInstance(running).getDeletedInstanceCount(), 0, "purge of a running one");
        ended(env, running);
    }

    private static void purgeByFilter(Env env) throws Exception {
        Instant began = Instant.now().minusSeconds(1); // the clocks of client and server may differ a little
        for (int i = 0; i < 5; i++) {
            env.run("plusOneOf", i, Integer.class);
        }
        String failed = env.start("rewindable", "never-mended");
        env.end(failed, OrchestrationRuntimeStatus.FAILED);
        int deleted = env.client.purgeInstances(new PurgeInstanceCriteria()
                .setCreatedTimeFrom(began).setCreatedTimeTo(Instant.now().plusSeconds(60)).setTimeout(Duration.ofSeconds(30))
                .setRuntimeStatusList(List.of(OrchestrationRuntimeStatus.COMPLETED))).getDeletedInstanceCount();
        Env.check(deleted >= 5, "purged " + deleted);
        Env.expect(env.status(failed), OrchestrationRuntimeStatus.FAILED, "status of one that does not match");
    }

    // The SDK's client has no rewind; its worker has to run what another client rewinds.
    private static void rewinds() {
        Workflows.activity("mendable", ctx -> {
            String key = ctx.getInput(String.class);
            if (!MENDED.contains(key)) {
                throw new IllegalStateException(key + " is broken");
            }
            return Workflows.count(key);
        });
        Workflows.activity("fine", ctx -> Workflows.count(ctx.getInput(String.class) + "-fine"));
        Workflows.orchestrator("rewindable", ctx -> {
            String key = ctx.getInput(String.class);
            ctx.callActivity("fine", key, Integer.class).await();
            ctx.complete(ctx.callActivity("mendable", key, Integer.class).await());
        });
        Workflows.orchestrator("rewindableParent", ctx -> {
            String key = ctx.getInput(String.class);
            ctx.complete(ctx.callSubOrchestrator("rewindable", key, key + "-child", Integer.class).await());
        });
        for (Map.Entry<String, String> c : Map.of("rewind", "rewindable", "rewind_of_a_tree", "rewindableParent").entrySet()) {
            Workflows.scenario(c.getKey(), env -> {
                String key = Env.newId("rewind");
                String id = env.start(c.getValue(), key);
                env.end(id, OrchestrationRuntimeStatus.FAILED);
                MENDED.add(key);
                env.ask("rewind " + id);
                Env.expect(env.output(id, Integer.class), 1, "output");
                Env.expect(Workflows.CALLS.get(key + "-fine"), 1, "calls of what had succeeded");
            });
        }
    }

    private static void restart(Env env) throws Exception {
        String id = env.start("plusOneOf", 4);
        Instant created = env.end(id).getCreatedAt();
        Env.expect(env.client.restartInstance(id, false), id, "id");
        Env.until(() -> env.state(id).getCreatedAt().isAfter(created), "a new run");
        Env.expect(env.output(id, Integer.class), 5, "output of the restart");
        String other = env.client.restartInstance(id, true);
        Env.check(!other.equals(id), "the id is not new");
        Env.expect(env.output(other, Integer.class), 5, "output under a new id");
    }

    private static void scheduledStart(Env env) throws Exception {
        String id = env.startWith("plusOneOf", new NewOrchestrationInstanceOptions().setInput(1).setStartTime(Instant.now().plusMillis(1500)));
        Env.expect(env.status(id), OrchestrationRuntimeStatus.PENDING, "status before the time");
        OrchestrationMetadata state = env.end(id);
        Env.expect(state.readOutputAs(Integer.class), 2, "output");
        Env.check(Duration.between(state.getCreatedAt(), state.getLastUpdatedAt()).toMillis() >= 1000, "it ran too early");
        String early = env.startWith("waiting", new NewOrchestrationInstanceOptions().setStartTime(Instant.now().plusSeconds(1)));
        Env.expect(ended(env, early), "end", "output with an event before the start");
        String never = env.startWith("waiting", new NewOrchestrationInstanceOptions().setStartTime(Instant.now().plus(Duration.ofDays(400))));
        env.client.terminate(never, null);
        env.end(never, OrchestrationRuntimeStatus.TERMINATED);
    }

    private static void reuse(Env env) throws Exception {
        String id = env.started("waiting", null);
        Env.fails(Status.Code.ALREADY_EXISTS, () -> env.client.scheduleNewOrchestrationInstance("waiting", null, id));
        ended(env, id);
        env.client.scheduleNewOrchestrationInstance("plusOneOf", 1, id);
        Env.expect(env.output(id, Integer.class), 2, "output after the reuse");
    }
}
