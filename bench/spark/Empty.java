/** examples/empty. */
public final class Empty {
    public static void main(String[] args) {
        Common.context().close();
    }
}
