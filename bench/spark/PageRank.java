import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.apache.spark.api.java.JavaPairRDD;
import org.apache.spark.api.java.JavaSparkContext;
import scala.Tuple2;

/** examples/pagerank: EDGES ITERATIONS TOP. */
public final class PageRank {
    public static void main(String[] args) {
        int iterations = Integer.parseInt(args[1]);
        int top = Integer.parseInt(args[2]);
        try (JavaSparkContext sc = Common.context()) {
            JavaPairRDD<String, Iterable<String>> links = sc.textFile(args[0])
                    .mapToPair(line -> {
                        int tab = line.indexOf('\t');
                        return new Tuple2<>(line.substring(0, tab), line.substring(tab + 1));
                    })
                    .distinct()
                    .groupByKey()
                    .cache();
            JavaPairRDD<String, Double> ranks = links.mapValues(none -> 1.0);
            for (int i = 0; i < iterations; i++) {
                ranks = links.join(ranks)
                        .values()
                        .flatMapToPair(link -> {
                            List<Tuple2<String, Double>> shares = new ArrayList<>();
                            int targets = 0;
                            for (String none : link._1()) {
                                targets++;
                            }
                            for (String target : link._1()) {
                                shares.add(new Tuple2<>(target, link._2() / targets));
                            }
                            return shares.iterator();
                        })
                        .reduceByKey(Double::sum)
                        .mapValues(sum -> 0.15 + 0.85 * sum);
            }
            List<Tuple2<String, Double>> best = new ArrayList<>(ranks.collect());
            best.sort((a, b) -> {
                int byRank = Double.compare(b._2(), a._2());
                return byRank != 0 ? byRank : a._1().compareTo(b._1());
            });
            for (Tuple2<String, Double> rank : best.subList(0, Math.min(top, best.size()))) {
                System.out.printf(Locale.ROOT, "%s\t%.3f%n", rank._1(), rank._2());
            }
        }
    }
}
