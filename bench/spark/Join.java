import org.apache.spark.api.java.JavaSparkContext;

/** examples/join: LEFT RIGHT. */
public final class Join {
    public static void main(String[] args) {
        try (JavaSparkContext sc = Common.context()) {
            long[] sums = Common.pairs(sc.textFile(args[0]))
                    .join(Common.pairs(sc.textFile(args[1])))
                    .values()
                    .aggregate(
                            new long[2],
                            (sum, pair) -> {
                                sum[0] += 1;
                                sum[1] += pair._1() * pair._2();
                                return sum;
                            },
                            (a, b) -> new long[] {a[0] + b[0], a[1] + b[1]});
            System.out.println(sums[0] + "\t" + sums[1]);
        }
    }
}
