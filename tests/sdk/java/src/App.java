import java.util.List;
import java.util.Locale;
import java.util.Map;

/**
 * Drives the features of the Java SDK against a server, or is one of its workers.
 *
 * <pre>
 * App scenarios ADDRESS [NAME...]   prints a line for each scenario; exit code 1 if one failed
 * App worker ADDRESS [HUB]          works until it is killed
 * </pre>
 */
final class App {
    private App() {}

    public static void main(String[] args) throws Exception {
        Basics.register();
        Events.register();
        Manage.register();
        Payloads.register();
        Faults.register();
        if (args[0].equals("worker")) {
            new Env(args[1], args.length > 2 ? args[2] : "").fullWorker();
            System.out.println("working");
            Thread.currentThread().join();
        }
        Env env = new Env(args[1], "");
        List<String> names = List.of(args).subList(2, args.length);
        boolean good = true;
        try (Env.Worker worker = env.fullWorker()) {
            good &= runAll(env, names, Workflows.SHARED);
        }
        good &= runAll(env, names, Workflows.ALONE);
        System.exit(good ? 0 : 1); // a thread of the SDK may outlive its worker
    }

    private static boolean runAll(Env env, List<String> names, Map<String, Workflows.Scenario> scenarios) {
        boolean good = true;
        for (Map.Entry<String, Workflows.Scenario> s : scenarios.entrySet()) {
            if (names.isEmpty() || names.contains(s.getKey())) {
                good &= runOne(env, s.getKey(), s.getValue());
            }
        }
        return good;
    }

    private static boolean runOne(Env env, String name, Workflows.Scenario f) {
        long began = System.nanoTime();
        String result = "ok";
        String details = "";
        try {
            f.run(env);
        } catch (Exception | AssertionError e) {
            e.printStackTrace();
            result = "FAILED";
            details = e.toString().replaceAll("\\s+", " ");
        }
        double took = (System.nanoTime() - began) / 1e9;
        System.out.println(String.format(Locale.ROOT, "%s %s %.2fs %s", name, result, took, details));
        return result.equals("ok");
    }
}
