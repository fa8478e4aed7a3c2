import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import org.apache.spark.api.java.JavaSparkContext;
import scala.Tuple2;

/** examples/medians: IN TOP. */
public final class Medians {
    public static void main(String[] args) {
        try (JavaSparkContext sc = Common.context()) {
            List<long[]> most = Common.pairs(sc.textFile(args[0]))
                    .groupByKey()
                    .map(Medians::median)
                    .top(Integer.parseInt(args[1]), new BySize());
            for (long[] group : most) {
                System.out.println(group[0] + "\t" + group[1] + "\t" + group[2]);
            }
        }
    }

    /** The key, how many numbers it has, and the one in their middle. */
    private static long[] median(Tuple2<Long, Iterable<Long>> group) {
        long[] numbers = new long[16];
        int count = 0;
        for (long number : group._2()) {
            if (count == numbers.length) {
                numbers = Arrays.copyOf(numbers, count * 2);
            }
            numbers[count++] = number;
        }
        Arrays.sort(numbers, 0, count);
        return new long[] {group._1(), count, numbers[(count - 1) / 2]};
    }

    private static final class BySize implements Comparator<long[]>, java.io.Serializable {
        @Override
        public int compare(long[] a, long[] b) {
            return a[1] != b[1] ? Long.compare(a[1], b[1]) : Long.compare(b[0], a[0]);
        }
    }
}
