import org.apache.spark.api.java.JavaSparkContext;
import scala.Tuple2;

/** examples/wordcount: IN OUT. */
public final class WordCount {
    public static void main(String[] args) {
        try (JavaSparkContext sc = Common.context()) {
            sc.textFile(args[0])
                    .flatMap(Common::words)
                    .mapToPair(word -> new Tuple2<>(word, 1L))
                    .reduceByKey(Long::sum)
                    .map(count -> count._1() + "\t" + count._2())
                    .saveAsTextFile(args[1]);
        }
    }
}
