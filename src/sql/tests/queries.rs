use datafusion::sql::sqlparser::ast::{Expr, SetExpr, TableFactor};

use super::{one, refused};
use crate::error::ErrorKind::{Syntax, Unsupported};
use crate::sql::ast::{Query, Statement};
use crate::sql::{cast_type, parse_expr, parse_query};

fn query(sql: &str) -> Query {
    match one(sql) {
        Statement::Query(q) => q,
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn queries_of_flink_pass() {
    for sql in [
        "SELECT 1",
        "SELECT * FROM t",
        "SELECT DISTINCT a, b AS c FROM d.t AS x WHERE a <> 1 AND NOT b LIKE 'x!_%' ESCAPE '!'",
        "SELECT a, COUNT(*), SUM(DISTINCT b) FILTER (WHERE c > 1) FROM t GROUP BY a HAVING COUNT(*) > 1 ORDER BY 2 DESC LIMIT 3",
        "SELECT a, b, COUNT(*) FROM t GROUP BY GROUPING SETS ((a), (a, b), ())",
        "SELECT a, COUNT(*) FROM t GROUP BY CUBE (a, b)",
        "SELECT a, COUNT(*) FROM t GROUP BY ROLLUP (a, b)",
        "WITH x AS (SELECT 1 AS a), y (b) AS (SELECT a FROM x) SELECT * FROM x JOIN y ON x.a = y.b",
        "SELECT * FROM a LEFT JOIN b USING (id) RIGHT JOIN c ON a.id = c.id FULL OUTER JOIN d ON TRUE CROSS JOIN e",
        "SELECT * FROM a NATURAL JOIN b",
        "SELECT * FROM a, b WHERE a.id = b.id",
        "SELECT a FROM t UNION ALL SELECT b FROM u EXCEPT SELECT c FROM v INTERSECT SELECT 1",
        "(SELECT a FROM t) UNION (SELECT b FROM u) ORDER BY 1",
        "VALUES (1, 'a'), (2, 'b')",
        "SELECT * FROM (VALUES (1, 'a')) AS t(x, y)",
        "SELECT x FROM (SELECT a AS x FROM t) WHERE x IN (SELECT y FROM u) AND EXISTS (SELECT 1 FROM v)",
        "SELECT (SELECT MAX(a) FROM t)",
        "SELECT ROW_NUMBER() OVER (PARTITION BY a ORDER BY b DESC NULLS LAST) FROM t",
        "SELECT SUM(a) OVER w FROM t WINDOW w AS (PARTITION BY b ORDER BY c ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
        "SELECT LAG(a, 1) OVER (ORDER BY ts RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW) FROM t",
        "SELECT CASE a WHEN 1 THEN 'x' ELSE 'y' END, CASE WHEN a IS NULL THEN 1 END FROM t",
        "SELECT EXTRACT(YEAR FROM ts), FLOOR(ts TO HOUR), CEIL(x), TIMESTAMPDIFF(DAY, a, b), TIMESTAMPADD(MINUTE, 5, a) FROM t",
        "SELECT SUBSTRING(s FROM 2 FOR 3), SUBSTRING(s, 2), TRIM(BOTH ' ' FROM s), OVERLAY(s PLACING 'x' FROM 1 FOR 2), POSITION('a' IN s) FROM t",
        "SELECT DATE '2024-01-01', TIME '10:00:00', TIMESTAMP '2024-01-01 00:00:00', INTERVAL '1 10:00' DAY TO MINUTE, INTERVAL '10' MINUTES",
        "SELECT INTERVAL -'5' SECOND, ts - INTERVAL '5' SECOND(3) FROM t",
        "SELECT CURRENT_TIMESTAMP, LOCALTIME, CURRENT_DATE, NOW(), PROCTIME()",
        "SELECT ARRAY[1, 2][1], MAP['a', 1, 'b', 2]['a'], ROW(1, 'x'), (1, 2), a.b.c, arr[1].f FROM t",
        "SELECT a IS NOT DISTINCT FROM b, a BETWEEN 1 AND 2, a NOT IN (1, 2), s SIMILAR TO 'x%' FROM t",
        "SELECT LISTAGG(a, ',') WITHIN GROUP (ORDER BY b), JSON_VALUE(j, '$.a'), FIRST_VALUE(a) IGNORE NULLS OVER (ORDER BY b) FROM t",
        "SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
        "SELECT * FROM TABLE(HOP(DATA => TABLE c.d.t, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '1' MINUTE, SIZE => INTERVAL '5' MINUTE)) AS w",
        "SELECT * FROM CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '5' MINUTE, INTERVAL '10' SECOND)",
        "SELECT window_start, window_end, COUNT(*) FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTES) GROUP BY window_start, window_end",
        "SELECT a, TUMBLE_START(ts, INTERVAL '1' HOUR) FROM t GROUP BY a, TUMBLE(ts, INTERVAL '1' HOUR)",
        "SELECT * FROM t CROSS JOIN UNNEST(arr) AS u (e)",
        "SELECT * FROM t LEFT JOIN UNNEST(arr) AS u (e) ON TRUE",
        "SELECT * FROM t CROSS JOIN UNNEST(arr) WITH ORDINALITY AS u (e, n)",
        "SELECT * FROM t, LATERAL TABLE(f(a)) AS x(c)",
        "SELECT * FROM t LEFT JOIN LATERAL TABLE(f(a)) AS x(c) ON TRUE",
        "SELECT a FROM t OFFSET 3 ROWS FETCH FIRST 2 ROWS ONLY",
        "SELECT a FROM t LIMIT ALL",
        "TABLE t",
        // Keywords of other dialects are names here.
        "SELECT top, sample, format, settings, source, `value` FROM asof prewhere WHERE type = key",
        "SELECT a regexp, b div FROM t semi",
        "SELECT `select`, `a``b` FROM `weird.name`",
        "SELECT `LEFT`(s, 2), LEFT(s, 2), YEAR(ts) FROM t",
        "SELECT t.*, u.a FROM t, u",
        "SELECT CAST((SELECT a AS b FROM t) AS INT)",
        "SELECT LOG10(x), x % 2, -x, +x, 'a' || 'b', .5, 1., 1e10, 1.5E-3 FROM t",
        "SELECT user_id$x, EXPR$0 FROM t",
        "SELECT größe, 名前 FROM straße",
    ] {
        query(sql);
    }
}

#[test]
fn casts_carry_canonical_types() {
    for (written, canonical) in [
        ("int", "INT"),
        ("ROW<a INT, b ROW<c ARRAY<STRING>>>", "ROW<`a` INT, `b` ROW<`c` ARRAY<STRING>>>"),
        ("MAP<STRING, ARRAY<INT NOT NULL>>", "MAP<STRING, ARRAY<INT NOT NULL>>"),
        ("TIMESTAMP_LTZ(3)", "TIMESTAMP_LTZ(3)"),
        ("TIMESTAMP(3) WITH LOCAL TIME ZONE", "TIMESTAMP_LTZ(3)"),
        ("STRING", "STRING"),
        ("BYTES", "BYTES"),
        ("DECIMAL(10, 2)", "DECIMAL(10, 2)"),
        ("INT ARRAY", "ARRAY<INT>"),
    ] {
        for cast in ["CAST", "TRY_CAST", "try_cast"] {
            let e = parse_expr(&format!("{cast}(f(x, (y)) AS {written})")).unwrap();
            let Expr::Cast { data_type, .. } = &e.expr else { panic!("{e:?}") };
            assert_eq!(cast_type(data_type).unwrap().unwrap().to_string(), canonical);
            assert_eq!(e.text, format!("{cast}(f(x, (y)) AS {written})"));
        }
    }
    // Casts inside casts, and a type at the very end.
    let e = parse_expr("CAST(CAST(a AS ROW<x INT>) AS STRING) || CAST(b AS MAP<INT, INT>)").unwrap();
    assert!(matches!(e.expr, Expr::BinaryOp { .. }));
}

#[test]
fn table_hints_become_marks_with_an_alias() {
    let q = query(
        "SELECT * FROM a.t /*+ OPTIONS('x' = '1', 'y'='2') */ JOIN u /*+ OPTIONS('z'='3') */ AS v ON t.id = v.id",
    );
    assert_eq!(q.table_hints.len(), 2);
    assert_eq!(q.table_hints[0].get("y").map(String::as_str), Some("2"));
    let SetExpr::Select(s) = &*q.query.body else { panic!() };
    let table = |f: &TableFactor| match f {
        TableFactor::Table { name, alias, .. } => (
            name.0.last().unwrap().as_ident().unwrap().value.clone(),
            alias.as_ref().unwrap().name.value.clone(),
        ),
        other => panic!("{other:?}"),
    };
    assert_eq!(table(&s.from[0].relation), ("t\u{1}0".into(), "t".into()));
    assert_eq!(table(&s.from[0].joins[0].relation), ("u\u{1}1".into(), "v".into()));

    let q = query(
        "SELECT * FROM TABLE(TUMBLE(TABLE d.t /*+ OPTIONS('x'='1') */, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
    );
    assert_eq!(q.table_hints.len(), 1);
    assert!(format!("{:?}", q.query).contains("t\\u{1}0"));
}

#[test]
fn hints_after_select_name_tables() {
    let q = query(
        "SELECT /*+ STATE_TTL('a'='1d', 'b' = '0 s'), BROADCAST(a, `c d`) */ * FROM a JOIN b ON a.x = b.x",
    );
    let found: Vec<_> =
        q.hinted.iter().map(|h| (h.hint.as_str(), h.table.as_str(), h.state_ttl_ms)).collect();
    let expected = [
        ("STATE_TTL", "a", Some(86_400_000)),
        ("STATE_TTL", "b", Some(0)),
        ("BROADCAST", "a", None),
        ("BROADCAST", "c d", None),
    ];
    assert_eq!(found, expected);
}

#[test]
fn lookup_hints_are_read_and_checked() {
    let q = query(
        "SELECT /*+ LOOKUP('table'='d', 'retry-predicate'='lookup_miss', 'retry-strategy'='fixed_delay', 'fixed-delay'='10s', \
         'max-attempts'='3', 'async'='true', 'output-mode'='ordered', 'timeout'='1 min', 'capacity'='7', 'shuffle'='true') */ * \
         FROM a JOIN d ON a.x = d.x",
    );
    let hint = q.hinted[0].lookup.clone().unwrap();
    assert_eq!(q.hinted[0].table, "d");
    assert_eq!(hint.retry, Some((std::time::Duration::from_secs(10), 3)));
    assert_eq!((hint.is_async, hint.capacity, hint.shuffle), (Some(true), Some(7), true));
    assert_eq!(hint.timeout, Some(std::time::Duration::from_secs(60)));
    for (options, says) in [
        ("'async'='true'", "needs 'table'"),
        ("'table'='d', 'asink'='true'", "unknown option 'asink'"),
        ("'table'='d', 'async'='yes'", "true or false"),
        ("'table'='d', 'output-mode'='none'", "ordered or allow_unordered"),
        ("'table'='d', 'capacity'='0'", "above 0"),
        ("'table'='d', 'timeout'='soon'", "a duration"),
        ("'table'='d', 'retry-predicate'='lookup_miss'", "come together"),
        ("'table'='d', 'retry-predicate'='other'", "lookup_miss"),
    ] {
        let sql = format!("SELECT /*+ LOOKUP({options}) */ * FROM d");
        refused(crate::error::ErrorKind::Validation, "1:12", &sql, &[says]);
    }
}

#[test]
fn operands_of_is_distinct_from_end_at_and() {
    let q = query(
        "SELECT a IS DISTINCT FROM b, c FROM t WHERE x IS NOT DISTINCT FROM y AND a = LEFT(b, 1) OR CASE WHEN a IS DISTINCT FROM LEFT(b, 2) THEN TRUE END",
    );
    assert_eq!(
        q.query.to_string(),
        "SELECT a IS DISTINCT FROM b, c FROM t WHERE x IS NOT DISTINCT FROM y AND a = LEFT(b, 1) OR CASE WHEN a IS DISTINCT FROM LEFT(b, 2) THEN true END"
    );
}

#[test]
fn misplaced_and_foreign_hints_are_refused() {
    refused(Unsupported, "1:12", "SELECT /*+ SKEW('table'='t') */ * FROM t", &["SKEW", "STATE_TTL"]);
    refused(
        crate::error::ErrorKind::Validation,
        "1:26",
        "SELECT /*+ STATE_TTL('a'='soon') */ * FROM t",
        &["soon", "1 d"],
    );
    refused(Syntax, "1:22", "SELECT /*+ STATE_TTL(a='1d') */ * FROM t", &["single quotes"]);
    refused(Unsupported, "1:21", "SELECT * FROM t /*+ LOOKUP('a'='b') */", &["LOOKUP", "OPTIONS"]);
    refused(Syntax, "1:12", "SELECT /*+ OPTIONS('a'='b') */ a FROM t", &["table name"]);
    refused(Syntax, "1:10", "SELECT a /*+ OPTIONS('a'='b') */ FROM t", &["does not follow a table name"]);
    refused(
        Syntax,
        "1:26",
        "SELECT * FROM (SELECT 1) /*+ OPTIONS('a'='b') */",
        &["does not follow a table name"],
    );
    refused(Syntax, "1:17", "SELECT * FROM t /*+ OPTIONS('a'='b')", &["does not end"]);
    refused(Syntax, "1:29", "SELECT * FROM t /*+ OPTIONS(a='b') */", &["single quotes"]);
    refused(
        Unsupported,
        "1:39",
        "SELECT * FROM t /*+ OPTIONS('a'='b'), STATE_TTL('a'='b') */",
        &["STATE_TTL"],
    );
}

#[test]
fn what_flink_or_tidelake_has_not_is_refused_in_its_place() {
    for (at, sql, parts) in [
        ("1:17", "SELECT * FROM t TABLESAMPLE BERNOULLI (10)", &["TABLESAMPLE"][..]),
        ("1:43", "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (^ A) DEFINE A AS TRUE)", &["`^`"]),
        ("1:43", "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (PERMUTE(A, B)) DEFINE A AS TRUE)", &["PERMUTE"]),
        (
            "1:46",
            "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (A) SUBSET B = (A) DEFINE A AS TRUE)",
            &["SUBSET"],
        ),
        (
            "1:59",
            "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (A) DEFINE A AS (SELECT TRUE))",
            &["a sub-query in MATCH_RECOGNIZE"],
        ),
        ("1:1", "WITH RECURSIVE x AS (SELECT 1) SELECT * FROM x", &["WITH RECURSIVE"]),
        ("1:8", "SELECT a AT TIME ZONE 'UTC' FROM t", &["AT TIME ZONE"]),
    ] {
        refused(Unsupported, at, sql, parts);
    }
}

#[test]
fn reserved_words_as_names() {
    for (at, sql, quoted) in [
        ("1:8", "SELECT value FROM t", "`value`"),
        ("1:13", "SELECT 1 AS Count", "`Count`"),
        ("1:10", "SELECT t.user FROM result AS t", "`result`"),
        ("1:8", "SELECT sum + 1 FROM t", "`sum`"),
        ("1:15", "SELECT * FROM method", "`method`"),
    ] {
        if sql.contains("user") {
            // USER is a value of its own in SQL; the table is what is refused.
            refused(Syntax, "1:20", sql, &["RESULT is a reserved word", quoted]);
        } else {
            refused(Syntax, at, sql, &["reserved word", quoted]);
        }
    }
    query("SELECT `value`, COUNT(*), MAX(a) FROM `method` WHERE name = type AND key = data");
    query("SELECT JSON_OBJECT('a' VALUE b) FROM t");
}

#[test]
fn single_parsers() {
    assert!(parse_query("SELECT 1;").is_err());
    assert!(parse_expr("a b").is_err());
    assert!(parse_expr("").is_err());
    assert_eq!(parse_query(" SELECT 1 ").unwrap().text, "SELECT 1");
}

#[test]
fn words_of_match_recognize_count_where_their_clauses_stand() {
    for (at, sql) in [
        ("1:58", "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (A) DEFINE A AS FINAL LAST(A.v) > 0)"),
        (
            "1:83",
            "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (A) WITHIN INTERVAL '1' HOUR DEFINE A AS FINAL LAST(A.v) > 0)",
        ),
    ] {
        refused(crate::error::ErrorKind::Validation, at, sql, &["FINAL cannot stand in DEFINE"]);
    }
    let sql = "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (A) WITHIN INTERVAL '1' HOUR SUBSET B = (A) DEFINE A AS TRUE)";
    refused(Unsupported, "1:71", sql, &["SUBSET is not supported"]);
    let sql = "SELECT * FROM t MATCH_RECOGNIZE (ALL ROWS PER MATCH MEASURES FINAL LAST(A.v) AS v PATTERN (A) DEFINE A AS TRUE)";
    refused(Unsupported, "1:62", sql, &["FINAL in ALL ROWS PER MATCH"]);
    // Other words than the clauses.
    query(
        "SELECT * FROM t MATCH_RECOGNIZE (MEASURES LAST(A.v) WITHIN GROUP (ORDER BY v) AS a PATTERN (A) DEFINE A AS A.v > 1)",
    );
}
