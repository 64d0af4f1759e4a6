import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.reflect.Array;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.ResultKind;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.catalog.Column;
import org.apache.flink.table.types.logical.ArrayType;
import org.apache.flink.table.types.logical.IntType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.MapType;
import org.apache.flink.table.types.logical.MultisetType;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/**
 * Runs SQL files statement by statement on an Apache Flink in this process and writes every row with its kind.
 *
 * <pre>
 *   FlinkSql batch|stream DIR FILE.sql…   ─►   DIR/FILE.batch.out, or DIR/FILE.stream.out
 *
 *   {"columns": [{"name": …, "type": …}, …]}     per query
 *   {"op": "+I", "row": […]}                     per row
 *   {"error": …, "statement": …}                 per statement that failed; the file goes on behind it
 * </pre>
 *
 * The session is in UTC and jobs have a parallelism of 1, so that the order of changes means something.
 */
public class FlinkSql {
    private static final DateTimeFormatter SECONDS = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss");

    private final PrintStream out;
    private final TableEnvironment tables;

    private FlinkSql(PrintStream out, boolean batch) {
        this.out = out;
        Configuration configuration = new Configuration();
        configuration.setString("parallelism.default", "1");
        EnvironmentSettings.Builder settings = EnvironmentSettings.newInstance().withConfiguration(configuration);
        tables = TableEnvironment.create((batch ? settings.inBatchMode() : settings.inStreamingMode()).build());
        tables.getConfig().set("table.local-time-zone", "UTC");
        tables.getConfig().set("table.dml-sync", "true");
    }

    public static void main(String[] args) throws IOException {
        String mode = args[0];
        Path folder = Files.createDirectories(Path.of(args[1]));
        for (String file : List.of(args).subList(2, args.length)) {
            String name = Path.of(file).getFileName().toString().replaceAll("\\.sql$", "");
            Path result = folder.resolve(name + "." + mode + ".out");
            try (PrintStream out = new PrintStream(
                    new BufferedOutputStream(Files.newOutputStream(result)), false, StandardCharsets.UTF_8)) {
                FlinkSql session = new FlinkSql(out, mode.equals("batch"));
                for (String statement : statements(Files.readString(Path.of(file)))) {
                    session.execute(statement);
                }
            }
        }
        // Threads of Flink's would keep the process alive.
        System.exit(0);
    }

    private void execute(String statement) {
        String upper = statement.toUpperCase(Locale.ROOT);
        try {
            if (upper.startsWith("SET ")) {
                String[] pair = statement.substring(4).split("=", 2);
                tables.getConfig().set(unquoted(pair[0]), unquoted(pair[1]));
                return;
            }
            TableResult result = tables.executeSql(statement);
            boolean inserts = upper.startsWith("INSERT") || upper.startsWith("EXECUTE");
            if (!inserts && result.getResultKind() == ResultKind.SUCCESS_WITH_CONTENT) {
                rows(result);
            }
        } catch (Throwable e) {
            Throwable cause = e;
            while (cause.getCause() != null && cause.getCause() != cause) {
                cause = cause.getCause();
            }
            StringBuilder line = new StringBuilder("{\"error\":");
            text(line, cause.getClass().getSimpleName() + ": " + cause.getMessage());
            text(line.append(",\"statement\":"), statement);
            out.println(line.append('}'));
        }
    }

    private void rows(TableResult result) throws Exception {
        List<LogicalType> types = new ArrayList<>();
        StringBuilder head = new StringBuilder("{\"columns\":[");
        for (Column column : result.getResolvedSchema().getColumns()) {
            LogicalType type = column.getDataType().getLogicalType();
            text(head.append(types.isEmpty() ? "" : ",").append("{\"name\":"), column.getName());
            text(head.append(",\"type\":"), type.asSummaryString());
            head.append('}');
            types.add(type);
        }
        out.println(head.append("]}"));
        try (CloseableIterator<Row> rows = result.collect()) {
            while (rows.hasNext()) {
                Row row = rows.next();
                StringBuilder line = new StringBuilder("{\"op\":\"").append(row.getKind().shortString());
                line.append("\",\"row\":[");
                for (int i = 0; i < types.size(); i++) {
                    value(line.append(i > 0 ? "," : ""), row.getField(i), types.get(i));
                }
                out.println(line.append("]}"));
            }
        }
    }

    // ---- values as JSON ----

    /** ROW, MAP and MULTISET are objects, BYTES base64, times text. */
    private static void value(StringBuilder out, Object value, LogicalType type) {
        if (value == null) {
            out.append("null");
            return;
        }
        switch (type.getTypeRoot()) {
            case TINYINT: case SMALLINT: case INTEGER: case BIGINT: case BOOLEAN:
                out.append(value);
                return;
            case FLOAT: case DOUBLE:
                if (Double.isFinite(((Number) value).doubleValue())) {
                    out.append(value);
                } else {
                    text(out, value.toString());
                }
                return;
            case DECIMAL:
                out.append(((BigDecimal) value).toPlainString());
                return;
            case ARRAY: {
                LogicalType item = ((ArrayType) type).getElementType();
                out.append('[');
                int length = value instanceof List ? ((List<?>) value).size() : Array.getLength(value);
                for (int i = 0; i < length; i++) {
                    Object x = value instanceof List ? ((List<?>) value).get(i) : Array.get(value, i);
                    value(out.append(i > 0 ? "," : ""), x, item);
                }
                out.append(']');
                return;
            }
            case MAP:
                map(out, (Map<?, ?>) value, ((MapType) type).getKeyType(), ((MapType) type).getValueType());
                return;
            case MULTISET:
                map(out, (Map<?, ?>) value, ((MultisetType) type).getElementType(), new IntType());
                return;
            case ROW: {
                List<String> names = ((RowType) type).getFieldNames();
                out.append('{');
                for (int i = 0; i < names.size(); i++) {
                    text(out.append(i > 0 ? "," : ""), names.get(i));
                    value(out.append(':'), ((Row) value).getField(i), type.getChildren().get(i));
                }
                out.append('}');
                return;
            }
            case BINARY: case VARBINARY:
                text(out, Base64.getEncoder().encodeToString((byte[]) value));
                return;
            default:
                text(out, scalar(value));
        }
    }

    private static String scalar(Object value) {
        if (value instanceof LocalDateTime) {
            return timestamp((LocalDateTime) value);
        }
        if (value instanceof Instant) {
            return timestamp(LocalDateTime.ofInstant((Instant) value, ZoneOffset.UTC));
        }
        if (value instanceof LocalTime && ((LocalTime) value).getNano() == 0) {
            return DateTimeFormatter.ISO_LOCAL_TIME.format((LocalTime) value);
        }
        return value.toString();
    }

    private static String timestamp(LocalDateTime value) {
        String fraction = String.format("%09d", value.getNano());
        return SECONDS.format(value) + "." + fraction.replaceAll("0{1,6}$", "");
    }

    private static void map(StringBuilder out, Map<?, ?> map, LogicalType keys, LogicalType values) {
        out.append('{');
        String comma = "";
        for (Map.Entry<?, ?> entry : map.entrySet()) {
            StringBuilder key = new StringBuilder();
            value(key, entry.getKey(), keys);
            out.append(comma);
            if (key.charAt(0) == '"') {
                out.append(key);
            } else {
                text(out, key.toString());
            }
            value(out.append(':'), entry.getValue(), values);
            comma = ",";
        }
        out.append('}');
    }

    private static void text(StringBuilder out, String text) {
        out.append('"');
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < 0x20 || Character.isSurrogate(c) || c == 0x2028 || c == 0x2029) {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }

    // ---- statements of a file ----

    private static String unquoted(String text) {
        String trimmed = text.trim();
        return trimmed.startsWith("'") ? trimmed.substring(1, trimmed.length() - 1) : trimmed;
    }

    /** Splits at semicolons outside of strings and statement sets; comments go. */
    private static List<String> statements(String script) {
        List<String> found = new ArrayList<>();
        StringBuilder statement = new StringBuilder();
        boolean quoted = false;
        for (String line : script.split("\n")) {
            for (int i = 0; i < line.length(); i++) {
                char c = line.charAt(i);
                if (!quoted && line.startsWith("--", i)) {
                    break;
                }
                quoted ^= c == '\'';
                String text = c == ';' && !quoted ? statement.toString().trim() : null;
                if (text == null || inSet(text)) {
                    statement.append(c);
                    continue;
                }
                if (!text.isEmpty()) {
                    found.add(text);
                }
                statement.setLength(0);
            }
            statement.append('\n');
        }
        if (!statement.toString().isBlank()) {
            found.add(statement.toString().trim());
        }
        return found;
    }

    private static boolean inSet(String text) {
        String upper = text.toUpperCase(Locale.ROOT);
        return upper.startsWith("EXECUTE STATEMENT SET") && !upper.endsWith("END");
    }
}
