//! Literals, arithmetic, comparisons and casts.

use super::Session;

#[test]
fn types_of_literals_and_arithmetic() {
    Session::new("UTC").check_types(&[
        ("1", "INT"),
        ("3000000000", "BIGINT"),
        ("-2147483648", "INT"),
        ("1.50", "DECIMAL(3, 2)"),
        ("0.05", "DECIMAL(3, 2)"),
        ("00.5", "DECIMAL(3, 1)"),
        (".5", "DECIMAL(1, 1)"),
        ("-1.5", "DECIMAL(2, 1)"),
        ("1e0", "DOUBLE"),
        ("'abc'", "STRING"),
        ("CAST(1 AS INT) + CAST(1 AS FLOAT)", "FLOAT"),
        ("CAST(1 AS BIGINT) * CAST(1 AS FLOAT)", "FLOAT"),
        ("CAST(1 AS DECIMAL(10,2)) + CAST(1 AS FLOAT)", "DOUBLE"),
        ("CAST(1 AS TINYINT) + CAST(1 AS TINYINT)", "TINYINT"),
        ("1 + CAST(1 AS DECIMAL(10,2))", "DECIMAL(13, 2)"),
        ("CAST(1 AS BIGINT) / CAST(3 AS DECIMAL(10,2))", "DECIMAL(32, 11)"),
        ("5 / 2", "INT"),
        ("CAST(5 AS BIGINT) % 3", "INT"),
        ("5 % CAST(3 AS BIGINT)", "BIGINT"),
        ("CAST(5.5 AS DECIMAL(5,2)) % 3", "DECIMAL(5, 2)"),
        ("CAST(1 AS FLOAT) / 2", "FLOAT"),
        ("CAST(1 AS SMALLINT) / CAST(1 AS BIGINT)", "BIGINT"),
        ("CASE WHEN TRUE THEN 1 ELSE 2.5 END", "DECIMAL(11, 1)"),
        ("IF(TRUE, 1, CAST(2 AS BIGINT))", "BIGINT"),
        ("(CASE WHEN TRUE THEN 1 ELSE 2.5 END) + 1.25", "DECIMAL(13, 2)"),
        ("TIMESTAMP '2020-01-01 00:00:00.123'", "TIMESTAMP(3)"),
        ("TIMESTAMP '2020-01-01 00:00:00.1234'", "TIMESTAMP(6)"),
        ("CAST(1 AS DECIMAL)", "DECIMAL(10, 0)"),
        ("CAST(NULL AS TIMESTAMP)", "TIMESTAMP(6)"),
        ("CAST(NULL AS TIMESTAMP(3))", "TIMESTAMP(3)"),
        ("CAST(NULL AS TIMESTAMP_LTZ(3))", "TIMESTAMP_LTZ(3)"),
        ("CAST(NULL AS STRING)", "STRING"),
        ("CAST(NULL AS BYTES)", "BYTES"),
        ("CAST(NULL AS ARRAY<INT>)", "ARRAY<INT>"),
    ]);
}

#[test]
fn arithmetic() {
    Session::new("UTC").check(&[
        ("5/2", "2"),
        ("-5/2", "-2"),
        ("5%2", "1"),
        ("MOD(-26, 5)", "-1"),
        ("1.0/8.0", "0.125000"),
        ("2.0/3.0", "0.666667"),
        ("-2/3.0", "-0.666667"),
        ("2.0/(-3)", "-0.666666666667"),
        ("-7.9/2", "-3.950000000000"),
        ("1.0/400", "0.002500000000"),
        ("1.0/CAST(100 AS TINYINT)", "0.010000"),
        ("1.0/CAST(10000 AS SMALLINT)", "0.0001000"),
        ("2147483647 + 1", "-2147483648"),
        ("CAST(127 AS TINYINT) + CAST(1 AS TINYINT)", "-128"),
        ("1/0", "ERROR division by zero"),
        ("1.5/0", "ERROR division by zero"),
        ("1 % 0", "ERROR division by zero"),
        ("1e0/0", "Infinity"),
        ("CAST(NULL AS INT)/0", "NULL"),
        ("CAST(99999999999999999999999999999999999999 AS DECIMAL(38,0)) + 1", "ERROR out of range"),
        ("CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0)) + 1", "NULL"),
        ("CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0)) * 10", "NULL"),
        ("1.5 * 2.25", "3.375"),
        ("1.5 + 1", "2.5"),
        ("2 + 3 * 4", "14"),
        ("'a' || 'b'", "ab"),
        ("'a' || CAST(NULL AS STRING)", "NULL"),
        ("'a' + 1", "ERROR cannot apply '+'"),
        ("1 = '1'", "ERROR cannot apply '='"),
        ("1 IN ('1')", "TRUE"),
        ("TRUE = 1", "ERROR cannot apply '='"),
        ("DATE '2020-01-01' = '2020-01-01'", "TRUE"),
        ("TIMESTAMP '2020-01-01 00:00:00' > '2019-12-31 23:59:59'", "TRUE"),
        ("12 BETWEEN NULL AND 10", "FALSE"),
        ("1 IS DISTINCT FROM NULL", "TRUE"),
        ("CASE 2 WHEN 1 THEN 1 WHEN 2 THEN 2 ELSE 3 END", "2"),
        ("(CASE WHEN FALSE THEN 1 ELSE 2.5 END) + 1.25", "3.75"),
        ("NULLIF(1, 1)", "NULL"),
        ("IF(NULL, 1, 2)", "2"),
        (
            "no_such_function(1, 'a')",
            "ERROR No match found for function signature NO_SUCH_FUNCTION(<INT>, <STRING>)",
        ),
        ("DATEDIFF('a')", "ERROR TIMESTAMPDIFF"),
    ]);
}

#[test]
fn like_patterns() {
    Session::new("UTC").check(&[
        (r"'TE_ST' LIKE '%E\_S%'", "FALSE"),
        ("'TE_ST' LIKE '%E#_S%' ESCAPE '#'", "TRUE"),
        ("'TE-ST' LIKE '%E&-S%' ESCAPE '&'", "ERROR invalid escape"),
        (r"'a\b' LIKE 'a\b'", "TRUE"),
        ("'abc' LIKE 'a' || '%'", "TRUE"),
        ("'abc' NOT LIKE 'a%'", "FALSE"),
        ("'ab1' SIMILAR TO '[[:ALPHA:]]+[0-9]'", "TRUE"),
        ("'ab1' NOT SIMILAR TO 'ab_'", "FALSE"),
        ("'abc' SIMILAR TO 'ab'", "FALSE"),
    ]);
}

#[test]
fn casts() {
    Session::new("UTC").check(&[
        ("TRY_CAST('123456' AS DECIMAL(3,0))", "NULL"),
        ("CAST('123456' AS DECIMAL(3,0))", "ERROR '123456'"),
        ("CAST(123456 AS DECIMAL(3,0))", "NULL"),
        ("CAST(1.5e0 AS DECIMAL(3,0))", "2"),
        ("CAST(2.5 AS DECIMAL(3,0))", "3"),
        ("CAST(-2.5 AS INT)", "-2"),
        ("CAST('1.9' AS INT)", "1"),
        ("CAST(' 42 ' AS BIGINT)", "42"),
        ("TRY_CAST('1e3' AS INT)", "NULL"),
        ("CAST('abc' AS INT)", "ERROR 'abc'"),
        ("CAST('1e3' AS DOUBLE)", "1000.0"),
        ("CAST(1e10 AS STRING)", "1.0E10"),
        ("CAST(1.0e-5 AS STRING)", "1.0E-5"),
        ("CAST(0.001e0 AS STRING)", "0.001"),
        ("CAST(1e7 AS STRING)", "1.0E7"),
        ("CAST(9999999e0 AS STRING)", "9999999.0"),
        ("CAST(123456789.125e0 AS STRING)", "1.23456789125E8"),
        ("CAST(CAST(0.1 AS FLOAT) AS STRING)", "0.1"),
        ("CAST(CAST('NaN' AS DOUBLE) AS INT)", "0"),
        ("CAST(1e30 AS BIGINT)", "9223372036854775807"),
        ("CAST(1e30 AS SMALLINT)", "-1"),
        ("CAST(1e5 AS SMALLINT)", "-31072"),
        ("CAST(40000 AS SMALLINT)", "-25536"),
        ("TRY_CAST('yes' AS BOOLEAN)", "TRUE"),
        ("TRY_CAST('1' AS BOOLEAN)", "TRUE"),
        ("TRY_CAST('on' AS BOOLEAN)", "NULL"),
        ("CAST(TRUE AS STRING)", "TRUE"),
        ("CAST(TRUE AS INT)", "1"),
        ("CAST(2 AS BOOLEAN)", "TRUE"),
        ("CAST(CAST(1 AS DECIMAL(10,2)) AS STRING)", "1.00"),
        ("TRY_CAST('' AS INT)", "NULL"),
        ("TRY_CAST('128' AS TINYINT)", "NULL"),
        ("CAST(X'616263' AS STRING)", "abc"),
        ("CAST('abc' AS CHAR(5)) || '.'", "abc  ."),
        ("CAST('abcdef' AS VARCHAR(3))", "abc"),
        ("TRY_CAST('1999-9-10' AS DATE)", "1999-09-10"),
        ("TRY_CAST('1999-9-10 1:2:3.4' AS TIMESTAMP(3))", "1999-09-10 01:02:03.400"),
        ("CAST('1999-9-10' AS TIMESTAMP)", "1999-09-10 00:00:00.000000"),
        ("TRY_CAST('1:2' AS TIME)", "01:02:00"),
        ("TIME '19:01:02.123'", "19:01:02.123"),
        ("TRY_CAST('2020-02-30' AS DATE)", "NULL"),
        ("TRY_CAST('2020-01-01T01:02:03' AS TIMESTAMP(3))", "NULL"),
        ("CAST(TIMESTAMP '2020-01-01 01:02:03.987654' AS TIMESTAMP(3))", "2020-01-01 01:02:03.987"),
        ("CAST(TIMESTAMP '1960-01-01 01:02:03.987654' AS TIMESTAMP(3))", "1960-01-01 01:02:03.987"),
        ("CAST(DATE '2020-01-01' AS TIMESTAMP)", "2020-01-01 00:00:00.000000"),
        ("TRY_CAST('2020' AS DATE)", "2020-01-01"),
        ("TRY_CAST('2020-01-01 10' AS TIMESTAMP(3))", "NULL"),
        ("TRY_CAST('  2020-01-01 ' AS DATE)", "2020-01-01"),
        ("TRY_CAST('2020-01-01 10:00:00' AS DATE)", "2020-01-01"),
        ("CAST(1 AS TIMESTAMP(3))", "ERROR cannot cast INT to TIMESTAMP(3)"),
        ("CAST(INTERVAL '1' DAY AS STRING)", "+1 00:00:00.000"),
        ("INTERVAL '2-10' YEAR TO MONTH", "+2-10"),
        ("INTERVAL '10 00:12' DAY TO MINUTE", "+10 00:12:00.000"),
        ("CAST(ARRAY[1,NULL] AS STRING)", "[1, NULL]"),
    ]);
    Session::new("Asia/Tokyo").check(&[
        ("CAST(TIMESTAMP '2020-01-01 09:00:00' AS TIMESTAMP_LTZ(3))", "2020-01-01 09:00:00.000"),
        (
            "CAST(CAST(TIMESTAMP '2020-01-01 09:00:00' AS TIMESTAMP_LTZ(3)) AS TIMESTAMP(3))",
            "2020-01-01 09:00:00.000",
        ),
        (
            "CAST(TIMESTAMP '2020-01-01 09:00:00' AS TIMESTAMP_LTZ(3)) = TIMESTAMP '2020-01-01 09:00:00'",
            "TRUE",
        ),
        ("CURRENT_TIMESTAMP", "2024-05-06 16:08:09.123"),
        ("LOCALTIMESTAMP", "2024-05-06 16:08:09.123"),
        ("CURRENT_DATE", "2024-05-06"),
        ("CURRENT_TIME", "16:08:09"),
    ]);
}

#[test]
fn aggregates_in_the_type_of_their_argument() {
    let s = Session::new("UTC");
    let t = "(VALUES (1,1),(1,2),(2,1),(2,2),(2,4),(3,7),(4,1),(4,4),(4,9)) AS v(k,x)";
    let sorted = |sql: &str| {
        let mut rows = s.rows(sql).unwrap();
        rows.sort();
        rows
    };
    assert_eq!(
        sorted(&format!(
            "SELECT k, VAR_POP(x), VAR_SAMP(x), STDDEV_POP(x), STDDEV(x), AVG(x), VAR_POP(CAST(x AS DECIMAL(10,2))), \
             AVG(CAST(x AS DECIMAL(10,2))), VAR_POP(CAST(x AS FLOAT)), SUM(x), SUM(CAST(x AS TINYINT)) FROM {t} GROUP BY k"
        )),
        [
            "1|0|0|0|0|1|0.250000|1.500000|0.25|3|3",
            "2|1|2|1|1|2|1.555556|2.333333|1.5555556|7|7",
            "3|0|NULL|0|NULL|7|0.000000|7.000000|0.0|7|7",
            "4|10|16|3|4|4|10.888889|4.666667|10.888889|14|14",
        ]
    );
    assert_eq!(
        sorted(&format!(
            "SELECT k, FIRST_VALUE(x), LAST_VALUE(x), LISTAGG(CAST(x AS STRING), '-') FROM {t} GROUP BY k"
        )),
        ["1|1|2|1-2", "2|1|4|1-2-4", "3|7|7|7", "4|1|9|1-4-9"]
    );
    assert_eq!(
        sorted(&format!(
            "SELECT SUM(DISTINCT x), AVG(x), COUNT(*), SUM(x) FILTER (WHERE k > 5), LISTAGG(DISTINCT CAST(x AS STRING)) FROM {t}"
        )),
        ["23|3|9|NULL|1,2,4,7,9"]
    );
    assert_eq!(s.type_of(&format!("SUM(x) FROM {t}")).unwrap(), "INT");
    assert_eq!(s.type_of(&format!("AVG(CAST(x AS DECIMAL(10,2))) FROM {t}")).unwrap(), "DECIMAL(38, 6)");
    assert_eq!(s.type_of(&format!("SUM(CAST(x AS DECIMAL(10,2))) FROM {t}")).unwrap(), "DECIMAL(38, 2)");
    assert_eq!(sorted("SELECT SUM(x) FROM (VALUES (2147483647),(1)) AS v(x)"), ["-2147483648"]);
    assert_eq!(
        sorted(
            "SELECT x, SUM(x) OVER (ORDER BY x ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM (VALUES (1),(2),(3)) AS v(x)"
        ),
        ["1|1", "2|3", "3|5"]
    );
    assert_eq!(sorted("SELECT COLLECT(x) FROM (VALUES (1),(2),(1),(NULL)) AS v(x)"), ["{1=2, 2=1}"]);
    assert_eq!(
        sorted(&format!("SELECT k, SUM(x), SUM(CAST(x AS DOUBLE)) FROM {t} WHERE k < 3 GROUP BY k")),
        ["1|3|3.0", "2|7|7.0"]
    );
    assert!(s.eval("SUM('a')").unwrap_err().to_string().contains("cannot apply SUM"));
    assert_eq!(sorted("SELECT x FROM (VALUES (1),(2),(3)) AS v(x) ORDER BY 1 LIMIT 2 OFFSET 1"), ["2", "3"]);
    assert!(s.rows("SELECT x FROM (VALUES (1)) AS v(x) GROUP BY 1").is_err());
}
