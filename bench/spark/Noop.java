import java.util.Locale;
import org.apache.spark.api.java.JavaRDD;
import org.apache.spark.api.java.JavaSparkContext;

/** examples/noop: TASKS ROUNDS, after one round that isn't counted. */
public final class Noop {
    public static void main(String[] args) {
        int tasks = Integer.parseInt(args[0]);
        int rounds = Integer.parseInt(args[1]);
        try (JavaSparkContext sc = Common.context()) {
            JavaRDD<Integer> all = sc.parallelize(Common.numbersBelow(tasks), tasks);
            all.foreachPartition(none -> {});
            long start = System.nanoTime();
            for (int i = 0; i < rounds; i++) {
                all.foreachPartition(none -> {});
            }
            double seconds = (System.nanoTime() - start) / 1e9;
            long done = (long) tasks * rounds;
            System.out.printf(Locale.ROOT, "%d tasks in %.3f s: %.0f tasks/s%n", done, seconds, done / seconds);
        }
    }
}
