import java.util.Locale;
import org.apache.spark.api.java.JavaSparkContext;

/** examples/pi: SAMPLES PARTITIONS. */
public final class Pi {
    public static void main(String[] args) {
        long samples = Long.parseLong(args[0]);
        int partitions = Integer.parseInt(args[1]);
        try (JavaSparkContext sc = Common.context()) {
            long hits = sc.parallelize(Common.numbersBelow(partitions), partitions)
                    .map(task -> hits(task, samples / partitions + (task < samples % partitions ? 1 : 0)))
                    .reduce(Long::sum);
            System.out.printf(Locale.ROOT, "Pi is roughly %.6f%n", 4.0 * hits / samples);
        }
    }

    private static long hits(int task, long darts) {
        Random random = new Random(task);
        long hits = 0;
        for (long i = 0; i < darts; i++) {
            double x = random.uniform() * 2.0 - 1.0;
            double y = random.uniform() * 2.0 - 1.0;
            if (x * x + y * y <= 1.0) {
                hits++;
            }
        }
        return hits;
    }

    /** xorshift64*, as examples/pi has it. */
    private static final class Random {
        private long state;

        Random(long seed) {
            state = (seed + 1) * 0x9E37_79B9_7F4A_7C15L | 1;
        }

        double uniform() {
            state ^= state >>> 12;
            state ^= state << 25;
            state ^= state >>> 27;
            return (state * 0x2545_F491_4F6C_DD1DL >>> 11) * 0x1.0p-53;
        }
    }
}
