import static org.apache.spark.sql.functions.col;
import static org.apache.spark.sql.functions.concat_ws;
import static org.apache.spark.sql.functions.explode;
import static org.apache.spark.sql.functions.split;

import org.apache.spark.sql.SparkSession;

/** examples/wordcount by Spark SQL: IN OUT. */
public final class WordCountSql {
    public static void main(String[] args) throws Exception {
        try (SparkSession spark = SparkSession.builder().getOrCreate()) {
            spark.read()
                    .text(args[0])
                    .select(explode(split(col("value"), "[ \t]+")).as("word"))
                    .where("word != ''")
                    .groupBy("word")
                    .count()
                    .select(concat_ws("\t", col("word"), col("count")))
                    .write()
                    .text(args[1]);
        }
    }
}
