//! Functions of users that expressions call.

/// Name and statement.
const FUNCTIONS: [(&str, &str); 6] = [
    (
        "udf_more",
        "CREATE FUNCTION udf_more(a INT) RETURNS INT LANGUAGE SQL AS $$ CASE WHEN a > 2 THEN a - 1 ELSE a + 1 END $$",
    ),
    (
        "udf_least",
        "CREATE FUNCTION udf_least(a INT, b INT) RETURNS INT LANGUAGE SQL AS $$ CASE WHEN a < b OR b IS NULL THEN a ELSE b END $$",
    ),
    (
        "udf_length",
        "CREATE FUNCTION udf_length(s STRING, n INT) RETURNS BIGINT LANGUAGE SQL AS $$ CAST(CHAR_LENGTH(s) AS BIGINT) * n + COALESCE(n, 7) $$",
    ),
    (
        "udf_text",
        "CREATE FUNCTION udf_text(s STRING) RETURNS STRING LANGUAGE SQL AS $$ COALESCE(UPPER(s), 'ø') || s $$",
    ),
    (
        "udf_strict",
        "CREATE FUNCTION udf_strict(s STRING, n INT) RETURNS STRING RETURNS NULL ON NULL INPUT LANGUAGE SQL AS $$ COALESCE(s, 'none') || CAST(n AS STRING) $$",
    ),
    (
        "udf_known",
        "CREATE FUNCTION udf_known(a INT) RETURNS BOOLEAN LANGUAGE SQL AS $$ a IS NOT NULL AND a <> 1 $$",
    ),
];

/// The statements that create what a text calls.
pub(super) fn used(text: &str) -> Vec<&'static str> {
    FUNCTIONS.iter().filter(|(name, _)| text.contains(name)).map(|(_, statement)| *statement).collect()
}
