//! Which words are keywords, and which may not be names.

use datafusion::sql::sqlparser::keywords::Keyword;

/// The keyword if Flink's query grammar has it; `NoKeyword` otherwise, so that keywords of other dialects are names.
pub(crate) fn filter(keyword: Keyword) -> Keyword {
    use Keyword as K;
    match keyword {
        K::ABSENT
        | K::ALL
        | K::AND
        | K::ANY
        | K::ARRAY
        | K::AS
        | K::ASC
        | K::ASYMMETRIC
        | K::AT
        | K::BETWEEN
        | K::BOTH
        | K::BY
        | K::CASE
        | K::CAST
        | K::CEIL
        | K::CENTURY
        | K::CROSS
        | K::CUBE
        | K::CURRENT
        | K::CURRENT_DATE
        | K::CURRENT_TIME
        | K::CURRENT_TIMESTAMP
        | K::DATE
        | K::DAY
        | K::DAYS
        | K::DECADE
        | K::DELETE
        | K::DESC
        | K::DISTINCT
        | K::DOW
        | K::DOY
        | K::ELSE
        | K::END
        | K::EPOCH
        | K::ESCAPE
        | K::EXCEPT
        | K::EXISTS
        | K::EXTRACT
        | K::FALSE
        | K::FETCH
        | K::FILTER
        | K::FIRST
        | K::FLOOR
        | K::FOLLOWING
        | K::FOR
        | K::FROM
        | K::FULL
        | K::GROUP
        | K::GROUPING
        | K::GROUPS
        | K::HAVING
        | K::HOUR
        | K::HOURS
        | K::IGNORE
        | K::IN
        | K::INNER
        | K::INSERT
        | K::INTERSECT
        | K::INTERVAL
        | K::INTO
        | K::IS
        | K::ISODOW
        | K::ISOYEAR
        | K::JOIN
        | K::LAST
        | K::LATERAL
        | K::LEADING
        | K::LEFT
        | K::LIKE
        | K::LIMIT
        | K::LOCALTIME
        | K::LOCALTIMESTAMP
        | K::MATCH_RECOGNIZE
        | K::MERGE
        | K::MICROSECOND
        | K::MICROSECONDS
        | K::MILLENNIUM
        | K::MILLISECOND
        | K::MILLISECONDS
        | K::MINUTE
        | K::MINUTES
        | K::MONTH
        | K::MONTHS
        | K::NANOSECOND
        | K::NANOSECONDS
        | K::NATURAL
        | K::NEXT
        | K::NOT
        | K::NULL
        | K::NULLS
        | K::OF
        | K::OFFSET
        | K::ON
        | K::ONLY
        | K::OR
        | K::ORDER
        | K::ORDINALITY
        | K::OUTER
        | K::OVER
        | K::OVERLAPS
        | K::OVERLAY
        | K::PARTITION
        | K::PERCENT
        | K::PLACING
        | K::POSITION
        | K::PRECEDING
        | K::QUALIFY
        | K::QUARTER
        | K::RANGE
        | K::RECURSIVE
        | K::RESPECT
        | K::RETURNING
        | K::RIGHT
        | K::ROLLUP
        | K::ROW
        | K::ROWS
        | K::SECOND
        | K::SECONDS
        | K::SELECT
        | K::SET
        | K::SETS
        | K::SIMILAR
        | K::SOME
        | K::SUBSTRING
        | K::SYMMETRIC
        | K::SYSTEM_TIME
        | K::TABLE
        | K::TABLESAMPLE
        | K::THEN
        | K::TIES
        | K::TIME
        | K::TIMESTAMP
        | K::TO
        | K::TRAILING
        | K::TRIM
        | K::TRUE
        | K::TRY_CAST
        | K::UNBOUNDED
        | K::UNION
        | K::UNKNOWN
        | K::UNNEST
        | K::UPDATE
        | K::USING
        | K::VALUE
        | K::VALUES
        | K::WEEK
        | K::WEEKS
        | K::WHEN
        | K::WHERE
        | K::WINDOW
        | K::WITH
        | K::WITHIN
        | K::WITHOUT
        | K::YEAR
        | K::YEARS
        | K::ZONE => keyword,
        _ => K::NoKeyword,
    }
}

/// Words that Flink takes as names only between backticks, sorted.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "ABS", "ALL", "ALLOCATE", "ALLOW", "ALTER", "AND", "ANY", "ARE", "ARRAY", "ARRAY_MAX_CARDINALITY", "AS",
    "ASENSITIVE", "ASYMMETRIC", "AT", "ATOMIC", "AUTHORIZATION", "AVG", "BEGIN", "BEGIN_FRAME",
    "BEGIN_PARTITION", "BETWEEN", "BIGINT", "BINARY", "BIT", "BITMAP", "BLOB", "BOOLEAN", "BOTH", "BUCKETS",
    "BY", "BYTES", "CALL", "CALLED", "CARDINALITY", "CASCADED", "CASE", "CAST", "CATALOGS", "CEIL",
    "CEILING", "CHAR", "CHARACTER", "CHARACTER_LENGTH", "CHAR_LENGTH", "CHECK", "CLASSIFIER", "CLOB",
    "CLOSE", "COALESCE", "COLLATE", "COLLECT", "COLUMN", "COMMENT", "COMMIT", "CONDITION", "CONNECT",
    "CONNECTIONS", "CONSTRAINT", "CONTAINS", "CONTINUOUS", "CONVERT", "CORR", "CORRESPONDING", "COUNT",
    "COVAR_POP", "COVAR_SAMP", "CREATE", "CROSS", "CUBE", "CUME_DIST", "CURRENT", "CURRENT_CATALOG",
    "CURRENT_DATE", "CURRENT_DEFAULT_TRANSFORM_GROUP", "CURRENT_PATH", "CURRENT_ROLE", "CURRENT_ROW",
    "CURRENT_SCHEMA", "CURRENT_TIME", "CURRENT_TIMESTAMP", "CURRENT_TRANSFORM_GROUP_FOR_TYPE",
    "CURRENT_USER", "CURSOR", "CYCLE", "DATABASES", "DATE", "DATETIME", "DATE_TRUNC", "DAY", "DEALLOCATE",
    "DEC", "DECIMAL", "DECLARE", "DEFAULT", "DEFINE", "DELETE", "DENSE_RANK", "DEREF", "DESCRIBE",
    "DETERMINISTIC", "DISALLOW", "DISCONNECT", "DISTINCT", "DISTRIBUTED", "DISTRIBUTION", "DOUBLE", "DROP",
    "DYNAMIC", "EACH", "ELEMENT", "ELSE", "EMPTY", "END", "END_FRAME", "END_PARTITION", "EQUALS", "ESCAPE",
    "EVERY", "EXCEPT", "EXEC", "EXECUTE", "EXISTS", "EXP", "EXPLAIN", "EXTEND", "EXTENDED", "EXTERNAL",
    "EXTRACT", "FALSE", "FETCH", "FILTER", "FIRST_VALUE", "FLOAT", "FLOOR", "FOR", "FOREIGN", "FRAME_ROW",
    "FREE", "FRESHNESS", "FROM", "FULL", "FUNCTION", "FUNCTIONS", "FUSION", "GET", "GLOBAL", "GRANT",
    "GROUP", "GROUPING", "GROUPS", "GROUP_CONCAT", "HASH", "HAVING", "HOLD", "HOUR", "IDENTITY", "ILIKE",
    "IMPORT", "IN", "INCLUDE", "INDICATOR", "INNER", "INOUT", "INSENSITIVE", "INSERT", "INT", "INTEGER",
    "INTERSECT", "INTERSECTION", "INTERVAL", "INTO", "IS", "JOIN", "JSON_ARRAY", "JSON_ARRAYAGG",
    "JSON_EXISTS", "JSON_OBJECT", "JSON_OBJECTAGG", "JSON_QUERY", "JSON_VALUE", "LAG", "LANGUAGE", "LARGE",
    "LAST_VALUE", "LATERAL", "LEAD", "LEADING", "LEFT", "LIKE", "LIKE_REGEX", "LIMIT", "LN", "LOCAL",
    "LOCALTIME", "LOCALTIMESTAMP", "LOWER", "MATCH", "MATCHES", "MATCH_NUMBER", "MATCH_RECOGNIZE",
    "MATERIALIZED", "MAX", "MEASURES", "MEMBER", "MERGE", "METHOD", "MIN", "MINUS", "MINUTE", "MOD",
    "MODELS", "MODIFIES", "MODIFY", "MODULE", "MODULES", "MONTH", "MULTISET", "NATIONAL", "NATURAL",
    "NCHAR", "NCLOB", "NEW", "NEXT", "NO", "NONE", "NORMALIZE", "NOT", "NTH_VALUE", "NTILE", "NULL",
    "NULLIF", "NUMERIC", "OCCURRENCES_REGEX", "OCTET_LENGTH", "OF", "OFFSET", "OLD", "OMIT", "ON", "ONE",
    "ONLY", "OPEN", "OR", "ORDER", "OUT", "OUTER", "OVER", "OVERLAPS", "OVERLAY", "PARAMETER", "PARTITION",
    "PATTERN", "PER", "PERCENT", "PERCENTILE_CONT", "PERCENTILE_DISC", "PERCENT_RANK", "PERIOD", "PERMUTE",
    "PIVOT", "PORTION", "POSITION", "POSITION_REGEX", "POWER", "PRECEDES", "PRECISION", "PREPARE", "PREV",
    "PRIMARY", "PROCEDURE", "PROCEDURES", "QUALIFY", "RANGE", "RANK", "RAW", "READS", "REAL", "RECURSIVE",
    "REF", "REFERENCES", "REFERENCING", "REFRESH", "REFRESH_MODE", "REGR_AVGX", "REGR_AVGY", "REGR_COUNT",
    "REGR_INTERCEPT", "REGR_R2", "REGR_SLOPE", "REGR_SXX", "REGR_SXY", "REGR_SYY", "RELEASE", "RENAME",
    "RESET", "RESULT", "RESUME", "RETURN", "RETURNS", "REVOKE", "RIGHT", "RLIKE", "ROLLBACK", "ROLLUP",
    "ROW", "ROWS", "ROW_NUMBER", "RUNNING", "SAFE_CAST", "SAVEPOINT", "SCALA", "SCOPE", "SCROLL", "SEARCH",
    "SECOND", "SELECT", "SENSITIVE", "SEPARATOR", "SESSION_USER", "SET", "SHOW", "SIMILAR", "SKIP",
    "SMALLINT", "SOME", "SPECIFIC", "SPECIFICTYPE", "SQL", "SQLEXCEPTION", "SQLSTATE", "SQLWARNING", "SQRT",
    "START", "STATEMENT", "STATIC", "STDDEV_POP", "STDDEV_SAMP", "STREAM", "STRING", "STRING_AGG",
    "STRUCTURED", "SUBMULTISET", "SUBSET", "SUBSTRING", "SUBSTRING_REGEX", "SUCCEEDS", "SUM", "SUSPEND",
    "SYMMETRIC", "SYSTEM", "SYSTEM_TIME", "SYSTEM_USER", "TABLE", "TABLES", "TABLESAMPLE", "THEN", "TIME",
    "TIMESTAMP", "TIMESTAMP_LTZ", "TIMEZONE_HOUR", "TIMEZONE_MINUTE", "TINYINT", "TO", "TRAILING",
    "TRANSLATE", "TRANSLATE_REGEX", "TRANSLATION", "TREAT", "TRIGGER", "TRIM", "TRIM_ARRAY", "TRUE",
    "TRUNCATE", "TRY_CAST", "UESCAPE", "UNION", "UNIQUE", "UNKNOWN", "UNNEST", "UNPIVOT", "UPDATE", "UPPER",
    "UPSERT", "USE", "USER", "USING", "VALUE", "VALUES", "VALUE_OF", "VARBINARY", "VARCHAR", "VARIANT",
    "VARYING", "VAR_POP", "VAR_SAMP", "VERSIONING", "VIEWS", "WATERMARK", "WATERMARKS", "WEEKS", "WHEN",
    "WHENEVER", "WHERE", "WIDTH_BUCKET", "WINDOW", "WITH", "WITHIN", "WITHOUT", "YEAR",
];

/// Whether Flink refuses `word` as a name unless it is quoted.
pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED.binary_search(&word.to_ascii_uppercase().as_str()).is_ok()
}

/// Whether a name may begin with `c`.
pub(crate) fn is_identifier_start(c: char) -> bool {
    c.is_alphabetic() || c == '_' || c == '$'
}

/// Whether a name may go on with `c`.
pub(crate) fn is_identifier_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// A name as it is written in SQL: always between backticks, as Flink prints names.
pub fn quote_ident(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The one of `names` that was probably meant by `name`, which is none of them: other case, or a slip or two.
pub fn nearest_name<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let start = |name: &str| name.to_lowercase().chars().take(64).collect::<String>();
    let key = start(name);
    let limit = slips(&key);
    names
        .filter(|n| *n != name)
        .map(|n| (strsim::osa_distance(&key, &start(n)), n))
        .filter(|(d, _)| *d <= limit)
        .min_by_key(|(d, _)| *d)
        .map(|(_, n)| n)
}

/// "did you mean …?", or what there is: `label` and the names.
pub fn suggestion(name: &str, names: &[&str], label: &str) -> String {
    const SHOWN: usize = 20;
    if let Some(near) = nearest_name(name, names.iter().copied()) {
        return format!("did you mean {}?", quote_ident(near));
    }
    let listed = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{label} {listed} and {more} more"),
        _ => format!("{label} {listed}"),
    }
}

/// The one of `candidates` that `word` was probably meant to be.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word: String = word.to_uppercase().chars().take(40).collect();
    let limit = slips(&word);
    candidates
        .iter()
        .map(|c| (strsim::osa_distance(&word, c), *c))
        .filter(|(d, _)| *d <= limit && *d > 0)
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// How many slips a word can have and still be known: swapped neighbours are one.
fn slips(word: &str) -> usize {
    match word.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    }
}
