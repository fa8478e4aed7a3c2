import java.util.List;
import java.util.Locale;
import java.util.StringJoiner;
import org.apache.spark.api.java.JavaRDD;
import org.apache.spark.api.java.JavaSparkContext;
import scala.Tuple2;

/** examples/kmeans: POINTS K ITERATIONS. */
public final class KMeans {
    public static void main(String[] args) {
        int k = Integer.parseInt(args[1]);
        int iterations = Integer.parseInt(args[2]);
        try (JavaSparkContext sc = Common.context()) {
            JavaRDD<double[]> points = sc.textFile(args[0]).map(Common::numbers).cache();
            double[][] centers = points.take(k).toArray(new double[0][]);
            for (int i = 0; i < iterations; i++) {
                double[][] known = centers.clone();
                List<Tuple2<Integer, Tuple2<double[], Long>>> clusters = points
                        .mapToPair(point -> new Tuple2<>(nearest(known, point), point))
                        .combineByKey(
                                point -> new Tuple2<>(point.clone(), 1L),
                                (sum, point) -> new Tuple2<>(Common.add(sum._1(), point), sum._2() + 1),
                                (a, b) -> new Tuple2<>(Common.add(a._1(), b._1()), a._2() + b._2()))
                        .collect();
                for (Tuple2<Integer, Tuple2<double[], Long>> cluster : clusters) {
                    double[] center = cluster._2()._1();
                    for (int d = 0; d < center.length; d++) {
                        center[d] /= cluster._2()._2();
                    }
                    centers[cluster._1()] = center;
                }
            }
            for (double[] center : centers) {
                StringJoiner line = new StringJoiner(" ");
                for (double x : center) {
                    line.add(String.format(Locale.ROOT, "%.4f", x));
                }
                System.out.println(line);
            }
        }
    }

    private static int nearest(double[][] centers, double[] point) {
        int best = 0;
        double least = Double.POSITIVE_INFINITY;
        for (int i = 0; i < centers.length; i++) {
            double distance = 0;
            for (int d = 0; d < point.length; d++) {
                double apart = centers[i][d] - point[d];
                distance += apart * apart;
            }
            if (distance < least) {
                least = distance;
                best = i;
            }
        }
        return best;
    }
}
