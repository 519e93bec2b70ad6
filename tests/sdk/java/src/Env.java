import com.microsoft.durabletask.DurableTaskClient;
import com.microsoft.durabletask.DurableTaskGrpcClientBuilder;
import com.microsoft.durabletask.DurableTaskGrpcWorker;
import com.microsoft.durabletask.DurableTaskGrpcWorkerBuilder;
import com.microsoft.durabletask.NewOrchestrationInstanceOptions;
import com.microsoft.durabletask.OrchestrationMetadata;
import com.microsoft.durabletask.OrchestrationRuntimeStatus;
import com.microsoft.durabletask.TaskActivity;
import com.microsoft.durabletask.TaskActivityFactory;
import com.microsoft.durabletask.TaskOrchestration;
import com.microsoft.durabletask.TaskOrchestrationFactory;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.MetadataUtils;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.TimeoutException;

/** A client, the means to start workers of the server, and waiting. */
final class Env {
    static final Duration PATIENCE = Duration.ofSeconds(60); // how long a scenario waits for what must happen

    final String address;
    final String hub;
    final DurableTaskClient client;
    private final BufferedReader answers = new BufferedReader(new InputStreamReader(System.in));

    private final Metadata headers = new Metadata();
    private final boolean guarded;

    Env(String address, String hub) {
        this(address, hub, "");
    }

    /** A token goes with TLS. */
    Env(String address, String hub, String token) {
        this.address = address;
        this.hub = hub;
        guarded = !token.isEmpty();
        if (!hub.isEmpty()) {
            headers.put(Metadata.Key.of("taskhub", Metadata.ASCII_STRING_MARSHALLER), hub);
        }
        if (guarded) {
            headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
        }
        client = new DurableTaskGrpcClientBuilder().grpcChannel(inHub(dial())).build();
    }

    private ManagedChannel dial() {
        if (!guarded) {
            return NettyChannelBuilder.forTarget(address).usePlaintext().build();
        }
        try {
            File roots = new File(System.getenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"));
            return Grpc.newChannelBuilder(address, TlsChannelCredentials.newBuilder().trustManager(roots).build()).build();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private Channel inHub(ManagedChannel channel) {
        return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
    }

    /** A worker that works until it is closed. */
    final class Worker implements AutoCloseable {
        private final ManagedChannel channel;
        private final DurableTaskGrpcWorker worker;

        Worker(Map<String, TaskOrchestration> orchestrators, Map<String, TaskActivity> activities) {
            this(dial(), orchestrators, activities);
        }

        Worker(ManagedChannel channel, Map<String, TaskOrchestration> orchestrators, Map<String, TaskActivity> activities) {
            this.channel = channel;
            DurableTaskGrpcWorkerBuilder builder = new DurableTaskGrpcWorkerBuilder().grpcChannel(inHub(channel));
            orchestrators.forEach((name, f) -> builder.addOrchestration(new TaskOrchestrationFactory() {
                public String getName() {
                    return name;
                }

                public TaskOrchestration create() {
                    return f;
                }
            }));
            activities.forEach((name, f) -> builder.addActivity(new TaskActivityFactory() {
                public String getName() {
                    return name;
                }

                public TaskActivity create() {
                    return f;
                }
            }));
            worker = builder.build();
            worker.start();
        }

        @Override
        public void close() {
            worker.close();
            channel.shutdownNow(); // the SDK leaves a channel that it was given open
        }
    }

    /** A worker that accepts messages of so many bytes, and says so. */
    Worker fullWorkerThatAccepts(int bytes) {
        Metadata more = new Metadata();
        more.put(Metadata.Key.of("perdure-worker-message", Metadata.ASCII_STRING_MARSHALLER), String.valueOf(bytes));
        ManagedChannel channel = NettyChannelBuilder.forTarget(address).usePlaintext()
                .maxInboundMessageSize(bytes).intercept(MetadataUtils.newAttachHeadersInterceptor(more)).build();
        return new Worker(channel, Workflows.ORCHESTRATORS, Workflows.ACTIVITIES);
    }

    Worker fullWorker() {
        return new Worker(Workflows.ORCHESTRATORS, Workflows.ACTIVITIES);
    }

    static String newId(String prefix) {
        return prefix + "-" + UUID.randomUUID().toString().substring(0, 13);
    }

    String start(String name, Object input) {
        return client.scheduleNewOrchestrationInstance(name, input, newId(name));
    }

    String startWith(String name, NewOrchestrationInstanceOptions options) {
        return client.scheduleNewOrchestrationInstance(name, options.setInstanceId(newId(name)));
    }

    String started(String name, Object input) throws Exception {
        String id = start(name, input);
        becomes(id, OrchestrationRuntimeStatus.RUNNING);
        return id;
    }

    OrchestrationMetadata state(String id) {
        return client.getInstanceMetadata(id, true);
    }

    /** The status of an instance, or null where it is not there. */
    OrchestrationRuntimeStatus status(String id) {
        OrchestrationMetadata state = client.getInstanceMetadata(id, false);
        return state != null && state.isInstanceFound() ? state.getRuntimeStatus() : null;
    }

    OrchestrationMetadata end(String id, OrchestrationRuntimeStatus want) throws Exception {
        OrchestrationMetadata state = client.waitForInstanceCompletion(id, PATIENCE, true);
        check(state.getRuntimeStatus() == want, id + " is " + state + ", want " + want);
        return state;
    }

    OrchestrationMetadata end(String id) throws Exception {
        return end(id, OrchestrationRuntimeStatus.COMPLETED);
    }

    <T> T output(String id, Class<T> type) throws Exception {
        return end(id).readOutputAs(type);
    }

    /** Runs an orchestration to its end and returns its output. */
    <T> T run(String name, Object input, Class<T> type) throws Exception {
        return output(start(name, input), type);
    }

    void becomes(String id, OrchestrationRuntimeStatus want) throws Exception {
        until(() -> status(id) == want, id + " becomes " + want);
    }

    /** Expects that an instance does not end for a while. */
    void stays(String id, OrchestrationRuntimeStatus want, Duration time) {
        fails(TimeoutException.class, () -> client.waitForInstanceCompletion(id, time, false));
        expect(status(id), want, "status");
    }

    /** Has the program that runs this one do something, such as to restart the server. */
    void ask(String request) throws Exception {
        System.out.println("request " + request);
        expect(answers.readLine(), "done", "answer to " + request);
    }

    static void check(boolean ok, String what) {
        if (!ok) {
            throw new AssertionError(what);
        }
    }

    static void expect(Object got, Object want, String what) {
        check(Objects.deepEquals(got, want), what + ": got " + got + ", want " + want);
    }

    static void until(Callable<Boolean> condition, String what) throws Exception {
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (!condition.call()) {
            check(System.nanoTime() < end, "waited " + PATIENCE.toSeconds() + " s in vain: " + what);
            Thread.sleep(20);
        }
    }

    static <E extends Exception> E fails(Class<E> type, Callable<?> f) {
        try {
            f.call();
        } catch (Exception e) {
            check(type.isInstance(e), "got the exception " + e + ", want " + type);
            return type.cast(e);
        }
        throw new AssertionError("no " + type + " was thrown");
    }

    /** Expects that f ends with a gRPC status. */
    static void fails(Status.Code want, Callable<?> f) {
        expect(fails(StatusRuntimeException.class, f).getStatus().getCode(), want, "code");
    }
}
