import java.util.Locale;
import org.apache.spark.api.java.JavaRDD;
import org.apache.spark.api.java.JavaSparkContext;

/** examples/logistic: POINTS ITERATIONS. A point is its label, then its coordinates. */
public final class Logistic {
    private static final double RATE = 1.0;

    public static void main(String[] args) {
        int iterations = Integer.parseInt(args[1]);
        try (JavaSparkContext sc = Common.context()) {
            JavaRDD<double[]> points = sc.textFile(args[0]).map(Common::numbers).cache();
            double[] weights = new double[points.first().length - 1];
            for (int i = 0; i < iterations; i++) {
                double[] known = weights.clone();
                // The last number counts the points.
                double[] gradient = points.aggregate(
                        new double[weights.length + 1],
                        (sum, point) -> {
                            double error = chance(known, point) - point[0];
                            for (int d = 1; d < point.length; d++) {
                                sum[d - 1] += error * point[d];
                            }
                            sum[sum.length - 1] += 1;
                            return sum;
                        },
                        Common::add);
                for (int d = 0; d < weights.length; d++) {
                    weights[d] -= RATE * gradient[d] / gradient[weights.length];
                }
            }
            for (double weight : weights) {
                System.out.printf(Locale.ROOT, "%.6f%n", weight);
            }
        }
    }

    private static double chance(double[] weights, double[] point) {
        double margin = 0;
        for (int d = 1; d < point.length; d++) {
            margin += weights[d - 1] * point[d];
        }
        return 1 / (1 + Math.exp(-margin));
    }
}
