import org.apache.spark.api.java.JavaSparkContext;
import scala.Tuple2;

/** examples/sort: IN OUT. */
public final class Sort {
    public static void main(String[] args) {
        try (JavaSparkContext sc = Common.context()) {
            sc.textFile(args[0])
                    .mapToPair(line -> new Tuple2<>(line.substring(0, 10), line))
                    .sortByKey()
                    .values()
                    .saveAsTextFile(args[1]);
        }
    }
}
