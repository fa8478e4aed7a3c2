import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

/** examples/join by Spark SQL: LEFT RIGHT. */
public final class JoinSql {
    public static void main(String[] args) throws Exception {
        try (SparkSession spark = SparkSession.builder().getOrCreate()) {
            Dataset<Row> left = pairs(spark, args[0], "key LONG, a LONG");
            Dataset<Row> right = pairs(spark, args[1], "key LONG, b LONG");
            Row sums = left.join(right, "key").selectExpr("count(*)", "sum(a * b)").head();
            System.out.println(sums.getLong(0) + "\t" + sums.getLong(1));
        }
    }

    private static Dataset<Row> pairs(SparkSession spark, String path, String schema) {
        return spark.read().schema(schema).option("sep", "\t").csv(path);
    }
}
