import java.util.HashMap;
import java.util.Locale;
import org.apache.spark.api.java.JavaSparkContext;
import org.apache.spark.broadcast.Broadcast;

/** examples/lookup: ENTRIES TASKS, the map in a broadcast variable. */
public final class Lookup {
    private static final long KEYS = 1_000;
    private static final long STEP = 7_919;

    public static void main(String[] args) {
        int entries = Integer.parseInt(args[0]);
        int tasks = Integer.parseInt(args[1]);
        try (JavaSparkContext sc = Common.context()) {
            HashMap<String, Long> table = new HashMap<>(entries * 2);
            for (long i = 0; i < entries; i++) {
                table.put("key" + i, i);
            }
            long start = System.nanoTime();
            Broadcast<HashMap<String, Long>> shared = sc.broadcast(table);
            long sum = sc.parallelize(Common.numbersBelow(tasks), tasks)
                    .map(task -> {
                        HashMap<String, Long> here = shared.value();
                        long found = 0;
                        for (long i = task * KEYS; i < (task + 1) * KEYS; i++) {
                            found += here.get("key" + i * STEP % entries);
                        }
                        return found;
                    })
                    .reduce(Long::sum);
            double seconds = (System.nanoTime() - start) / 1e9;
            System.out.printf(Locale.ROOT, "sum %d of %d tasks in %.4f s%n", sum, tasks, seconds);
        }
    }
}
