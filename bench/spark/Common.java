import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.StringTokenizer;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaPairRDD;
import org.apache.spark.api.java.JavaRDD;
import org.apache.spark.api.java.JavaSparkContext;
import scala.Tuple2;

/** What the jobs share. */
final class Common {
    private Common() {}

    /** A context by the settings that spark-submit was given. */
    static JavaSparkContext context() {
        return new JavaSparkContext(new SparkConf());
    }

    /** The words of a line, cut where they are asked for. */
    static Iterator<String> words(String line) {
        StringTokenizer tokens = new StringTokenizer(line);
        return new Iterator<>() {
            @Override
            public boolean hasNext() {
                return tokens.hasMoreTokens();
            }

            @Override
            public String next() {
                return tokens.nextToken();
            }
        };
    }

    /** Lines KEY, tab, NUMBER. */
    static JavaPairRDD<Long, Long> pairs(JavaRDD<String> lines) {
        return lines.mapToPair(line -> {
            int tab = line.indexOf('\t');
            return new Tuple2<>(Long.parseLong(line, 0, tab, 10), Long.parseLong(line, tab + 1, line.length(), 10));
        });
    }

    /** Numbers with blanks between them. */
    static double[] numbers(String line) {
        StringTokenizer tokens = new StringTokenizer(line);
        double[] numbers = new double[tokens.countTokens()];
        for (int i = 0; i < numbers.length; i++) {
            numbers[i] = Double.parseDouble(tokens.nextToken());
        }
        return numbers;
    }

    /** Adds to the first what the second has. */
    static double[] add(double[] sum, double[] other) {
        for (int i = 0; i < sum.length; i++) {
            sum[i] += other[i];
        }
        return sum;
    }

    /** 0, 1, up to what is below a number. */
    static List<Integer> numbersBelow(int end) {
        Integer[] numbers = new Integer[end];
        Arrays.setAll(numbers, i -> i);
        return Arrays.asList(numbers);
    }
}
