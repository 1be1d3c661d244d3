import java.io.StringReader;
import java.io.StringWriter;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import org.postgresql.PGConnection;
import org.postgresql.PGProperty;

/**
 * What a Java service, and a tool such as Metabase, does with pgjdbc. Prints one JSON document.
 * usage: PostgresClient URL [masked]
 */
class PostgresClient {
    /** Takes a lock that others see, so that they know when it has begun and can be cancelled. */
    private static final String ASLEEP = "select pg_advisory_xact_lock(77), pg_sleep(30)";

    private final String url;
    private final Map<String, Object> report = new LinkedHashMap<>();

    PostgresClient(String url) {
        this.url = url;
    }

    public static void main(String[] args) throws Exception {
        PostgresClient client = new PostgresClient(args[0]);
        if (args.length == 1) client.run();
        else client.readMasked();
        System.out.println(json(client.report));
        System.exit(0);
    }

    private void readMasked() throws SQLException {
        try (Connection connection = connect(Map.of())) {
            report.put("masked", masked(connection));
        }
    }

    private void run() throws Exception {
        try (Connection connection = connect(Map.of("prepareThreshold", "1"))) {
            report.put("masked", masked(connection));
            report.put("kinds", kinds(connection));
            report.put("keys", generatedKeys(connection));
            report.put("copies", copies(connection));
            report.put("cancels", cancels(connection));
            report.put("calls", calls(connection));
            report.put("catalogue", catalogue(connection.getMetaData()));
        }
        try (Connection connection = connect(Map.of("autosave", "always", "defaultRowFetchSize", "10"))) {
            report.put("fetched", fetched(connection));
            report.put("saved", saved(connection));
        }
        try (Connection connection = connect(Map.of("reWriteBatchedInserts", "true"))) {
            report.put("batch", batch(connection));
        }
        try (Connection connection = connect(Map.of("preferQueryMode", "simple"))) {
            report.put("simple", List.of(masked(connection), kinds(connection), calls(connection)));
        }
        try (Connection connection = connect(Map.of("preferQueryMode", "extendedCacheEverything", "binaryTransfer", "false"))) {
            report.put("text", List.of(masked(connection), kinds(connection)));
        }
        report.put("parallel", parallel());
    }

    private Connection connect(Map<String, String> more) throws SQLException {
        Properties properties = new Properties();
        properties.putAll(more);
        properties.setProperty(PGProperty.APPLICATION_NAME.getName(), "jdbc-client");
        return DriverManager.getConnection(url, properties);
    }

    /** Often enough that the driver prepares it on the server and asks for binary values. */
    private static List<String> masked(Connection connection) throws SQLException {
        List<String> found = new ArrayList<>();
        try (PreparedStatement statement = connection.prepareStatement("select ssn from customers where id = ?")) {
            for (int n = 0; n < 7; n++) {
                statement.setInt(1, 1);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    found.add(rows.getString(1));
                }
            }
        }
        return found;
    }

    private static List<Object> kinds(Connection connection) throws SQLException {
        List<Object> found = new ArrayList<>();
        try (PreparedStatement statement = connection.prepareStatement("select * from kinds where id < ? order by id")) {
            for (int n = 0; n < 7; n++) {
                statement.setInt(1, 10);
                try (ResultSet rows = statement.executeQuery()) {
                    if (n == 0 || n == 6) found.add(all(rows));
                }
            }
        }
        return found;
    }

    private static List<Object> generatedKeys(Connection connection) throws SQLException {
        List<Object> found = new ArrayList<>();
        String sql = "insert into orders (customer, total) values (?, ?)";
        try (PreparedStatement statement = connection.prepareStatement(sql, Statement.RETURN_GENERATED_KEYS)) {
            for (int n = 0; n < 3; n++) {
                statement.setString(1, "jdbc ü " + n);
                statement.setBigDecimal(2, new java.math.BigDecimal("12.30"));
                found.add(statement.executeUpdate());
                try (ResultSet rows = statement.getGeneratedKeys()) {
                    found.add(all(rows));
                }
            }
        }
        try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
                ResultSet rows = statement.executeQuery("select id, status from orders where id = 1")) {
            rows.next();
            rows.updateString("status", "changed");
            rows.updateRow();
            found.add(rows.getString("status"));
        }
        return found;
    }

    private static List<Object> copies(Connection connection) throws Exception {
        var copy = connection.unwrap(PGConnection.class).getCopyAPI();
        StringWriter out = new StringWriter();
        long read = copy.copyOut("copy (select id, ssn from customers order by id) to stdout (format csv)", out);
        long written = copy.copyIn("copy items (order_id, label) from stdin", new StringReader("1\ta\n2\t\\N\n"));
        return List.of(read, masksOf(out.toString()), written);
    }

    private static String masksOf(String csv) {
        return csv.replaceAll("\\d{3}-", "unmasked-");
    }

    private List<Object> cancels(Connection connection) throws Exception {
        List<Object> found = new ArrayList<>();
        try (Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> stateOf(() -> {
                awaitAsleep();
                statement.cancel();
            }));
            canceller.start();
            found.add(stateOf(() -> statement.execute(ASLEEP)));
            canceller.join();
            connection.setAutoCommit(false);
            statement.execute("set local statement_timeout = 200");
            found.add(stateOf(() -> statement.execute(ASLEEP)));
            connection.rollback();
            connection.setAutoCommit(true);
            found.add(stateOf(() -> statement.execute("delete from vault")));
            found.add(stateOf(() -> statement.execute("select 1")));
        }
        return found;
    }

    private void awaitAsleep() throws Exception {
        String isAsleep = "select count(*) from pg_locks where locktype = 'advisory' and objid = 77";
        try (Connection other = connect(Map.of()); PreparedStatement statement = other.prepareStatement(isAsleep)) {
            for (;;) {
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    if (rows.getInt(1) > 0) return;
                }
                Thread.sleep(20);
            }
        }
    }

    /** The escapes of JDBC: functions of the server, and of the driver. */
    private static List<Object> calls(Connection connection) throws SQLException {
        List<Object> found = new ArrayList<>();
        try (CallableStatement call = connection.prepareCall("{? = call upper(?)}")) {
            call.registerOutParameter(1, Types.VARCHAR);
            call.setString(2, "ü");
            String state = stateOf(call::execute);
            found.add(state);
            if (state.equals("allowed")) found.add(call.getString(1));
        }
        try (CallableStatement call = connection.prepareCall("{call lower(?)}")) {
            call.setString(1, "A");
            found.add(stateOf(call::execute));
        }
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("select {fn ucase('a')}, {d '2024-02-29'}, {fn now()} is null")) {
            found.add(all(rows));
        }
        return found;
    }

    private static List<Object> fetched(Connection connection) throws SQLException {
        connection.setAutoCommit(false);
        long sum = 0;
        long bytes = 0;
        try (PreparedStatement statement = connection.prepareStatement("select id, filler from bulk order by id limit 5000");
                ResultSet rows = statement.executeQuery()) {
            while (rows.next()) {
                sum += rows.getInt(1);
                bytes += rows.getString(2).length();
            }
        }
        try (PreparedStatement one = connection.prepareStatement("select id from bulk order by id");
                ResultSet outer = one.executeQuery();
                PreparedStatement two = connection.prepareStatement("select id from orders order by id")) {
            for (int n = 0; n < 25 && outer.next(); n++) {
                try (ResultSet inner = two.executeQuery()) {
                    while (inner.next()) sum += inner.getInt(1);
                }
            }
        }
        connection.rollback();
        return List.of(sum, bytes);
    }

    /** A refused statement in a transaction, with the driver's own savepoints and with the program's. */
    private static List<Object> saved(Connection connection) throws SQLException {
        List<Object> found = new ArrayList<>();
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("insert into orders (customer, total) values ('saved', 1)");
            found.add(stateOf(() -> statement.execute("select * from vault")));
            found.add(stateOf(() -> statement.execute("insert into orders (customer, total) values ('saved', 1)")));
            Savepoint savepoint = connection.setSavepoint("mine");
            statement.executeUpdate("insert into orders (customer, total) values ('lost', 1)");
            connection.rollback(savepoint);
            connection.commit();
            connection.setAutoCommit(true);
            try (ResultSet rows = statement.executeQuery("select customer from orders where customer in ('saved', 'lost')")) {
                found.add(all(rows));
            }
        }
        return found;
    }

    private static List<Object> batch(Connection connection) throws SQLException {
        List<Object> found = new ArrayList<>();
        try (PreparedStatement statement = connection.prepareStatement("insert into items (order_id, label) values (?, ?)")) {
            for (int n = 0; n < 1000; n++) {
                statement.setInt(1, 1 + n % 50);
                statement.setString(2, "batch " + n);
                statement.addBatch();
            }
            found.add(statement.executeBatch().length);
        }
        try (Statement statement = connection.createStatement();
                ResultSet rows = statement.executeQuery("select count(*), count(distinct label) from items where label like 'batch %'")) {
            found.add(all(rows));
        }
        return found;
    }

    /** What database tools ask for when they connect. */
    private static Map<String, Object> catalogue(DatabaseMetaData meta) throws SQLException {
        Map<String, Object> found = new LinkedHashMap<>();
        String[] types = {"TABLE", "PARTITIONED TABLE", "FOREIGN TABLE"};
        found.put("tables", all(meta.getTables(null, "public", "%", types)));
        found.put("columns", all(meta.getColumns(null, "public", "orders", "%")));
        found.put("masked", meta.getColumns(null, null, "customers", "ssn").next());
        found.put("primary", all(meta.getPrimaryKeys(null, "public", "orders")));
        found.put("imported", all(meta.getImportedKeys(null, "public", "items")));
        found.put("exported", all(meta.getExportedKeys(null, "public", "orders")));
        found.put("indexes", names(meta.getIndexInfo(null, "public", "items", false, true)));
        found.put("types", count(meta.getTypeInfo()));
        found.put("functions", count(meta.getFunctions(null, "pg_catalog", "lower%")));
        found.put("procedures", count(meta.getProcedures(null, "public", "%")));
        found.put("schemas", all(meta.getSchemas(null, "public")));
        found.put("privileges", all(meta.getTablePrivileges(null, "public", "bulk")));
        found.put("best row", all(meta.getBestRowIdentifier(null, "public", "orders", DatabaseMetaData.bestRowSession, false)));
        found.put("keywords", meta.getSQLKeywords().length() > 0);
        found.put("longest name", meta.getMaxColumnNameLength());
        found.put("isolation", meta.getDefaultTransactionIsolation());
        return found;
    }

    private List<Object> parallel() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(4);
        List<Future<Object>> answers = new ArrayList<>();
        for (int n = 0; n < 8; n++) {
            int asked = n;
            answers.add(threads.submit(() -> {
                try (Connection connection = connect(Map.of());
                        PreparedStatement statement = connection.prepareStatement("select count(*) + ? from bulk")) {
                    statement.setInt(1, asked);
                    try (ResultSet rows = statement.executeQuery()) {
                        return all(rows);
                    }
                }
            }));
        }
        List<Object> found = new ArrayList<>();
        for (Future<Object> answer : answers) found.add(answer.get());
        threads.shutdown();
        return found;
    }

    private interface Step {
        void run() throws Exception;
    }

    private static String stateOf(Step step) {
        try {
            step.run();
            return "allowed";
        } catch (SQLException error) {
            return error.getSQLState();
        } catch (Exception error) {
            return error.toString();
        }
    }

    private static int count(ResultSet rows) throws SQLException {
        int count = 0;
        while (rows.next()) count++;
        return count;
    }

    /** Without the sizes that vacuuming changes. */
    private static List<Object> names(ResultSet indexes) throws SQLException {
        List<Object> found = new ArrayList<>();
        while (indexes.next()) found.add(List.of(indexes.getString("INDEX_NAME"), indexes.getString("COLUMN_NAME")));
        return found;
    }

    private static List<Object> all(ResultSet rows) throws SQLException {
        List<Object> found = new ArrayList<>();
        int columns = rows.getMetaData().getColumnCount();
        while (rows.next()) {
            List<String> row = new ArrayList<>();
            for (int n = 1; n <= columns; n++) row.add(textOf(rows, n));
            found.add(row);
        }
        return found;
    }

    /** Of a bytea in the binary format, getString tells where the array lies. */
    private static String textOf(ResultSet rows, int column) throws SQLException {
        if (rows.getMetaData().getColumnType(column) != Types.BINARY) return rows.getString(column);
        byte[] bytes = rows.getBytes(column);
        return bytes == null ? null : HexFormat.of().formatHex(bytes);
    }

    private static String json(Object value) {
        if (value instanceof Map<?, ?> map) {
            StringJoiner out = new StringJoiner(",", "{", "}");
            map.forEach((name, item) -> out.add(json(String.valueOf(name)) + ":" + json(item)));
            return out.toString();
        }
        if (value instanceof Collection<?> items) {
            StringJoiner out = new StringJoiner(",", "[", "]");
            items.forEach(item -> out.add(json(item)));
            return out.toString();
        }
        if (value == null || value instanceof Number || value instanceof Boolean) return String.valueOf(value);
        StringBuilder out = new StringBuilder("\"");
        for (char c : value.toString().toCharArray()) {
            if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }
}
