import com.microsoft.durabletask.TaskActivity;
import com.microsoft.durabletask.TaskOrchestration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** The registry of workflows and scenarios; each file of scenarios adds its own. */
final class Workflows {
    interface Scenario {
        void run(Env env) throws Exception;
    }

    static final Map<String, TaskOrchestration> ORCHESTRATORS = new LinkedHashMap<>();
    static final Map<String, TaskActivity> ACTIVITIES = new LinkedHashMap<>();
    /** Scenarios that run beside a worker with every workflow. */
    static final Map<String, Scenario> SHARED = new LinkedHashMap<>();
    /** Scenarios that run with no worker but those that they start. */
    static final Map<String, Scenario> ALONE = new LinkedHashMap<>();
    /** How often an activity ran, by its key. */
    static final Map<String, Integer> CALLS = new ConcurrentHashMap<>();

    private Workflows() {}

    static void orchestrator(String name, TaskOrchestration f) {
        ORCHESTRATORS.put(name, f);
    }

    static void activity(String name, TaskActivity f) {
        ACTIVITIES.put(name, f);
    }

    static void scenario(String name, Scenario f) {
        SHARED.put(name, f);
    }

    static void alone(String name, Scenario f) {
        ALONE.put(name, f);
    }

    static int count(String key) {
        return CALLS.merge(key, 1, Integer::sum);
    }
}
