import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.substring;

import org.apache.spark.sql.SparkSession;

/** examples/sort by Spark SQL: IN OUT. */
public final class SortSql {
    public static void main(String[] args) throws Exception {
        try (SparkSession spark = SparkSession.builder().getOrCreate()) {
            spark.read().text(args[0]).orderBy(substring(col("value"), 1, 10)).write().text(args[1]);
        }
    }
}
