import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.count;
import static org.apache.spark.sql.functions.lit;
import static org.apache.spark.sql.functions.sum;

import java.util.Locale;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;

/** examples/flights by Spark SQL: DIR. */
public final class Flights {
    public static void main(String[] args) throws Exception {
        try (SparkSession spark = SparkSession.builder().getOrCreate()) {
            Dataset<Row> airlines = table(spark, args[0] + "/airlines.csv.gz");
            Row[] carriers = (Row[]) table(spark, args[0] + "/flights.csv.gz")
                    .select(col("carrier"), col("arr_delay").cast("double").as("delay"))
                    .groupBy("carrier")
                    .agg(count(lit(1)).as("flights"), count("delay").as("arrived"), sum("delay").as("delay"))
                    .join(airlines, "carrier")
                    .orderBy("carrier")
                    .select("carrier", "flights", "arrived", "delay", "name")
                    .collect();
            for (Row c : carriers) {
                double mean = c.getDouble(3) / c.getLong(2);
                System.out.printf(
                        Locale.ROOT, "%s\t%d\t%d\t%.4f\t%s%n",
                        c.getString(0), c.getLong(1), c.getLong(2), mean, c.getString(4));
            }
        }
    }

    private static Dataset<Row> table(SparkSession spark, String path) {
        return spark.read().option("header", true).option("nullValue", "NA").csv(path);
    }
}
