//! Queries as programs write them: thousands of terms in a row, hundreds of views on each other. They ran for minutes, or
//! overflowed the stack, where the plan of a row of n was as deep as n.
//!
//! Answers are those of the formulas beside them.

use std::time::{Duration, Instant};

use super::*;
use crate::error::Location;

const TERMS: i64 = 5000;

/// Far more than it takes, in a build without optimization beside others, and far less than the square of the length.
const LIMIT: Duration = Duration::from_secs(30);

async fn session_with_numbers(mode: &str, rows: i64) -> Session {
    let session = session(mode);
    let numbers = Arc::new(Int64Array::from_iter_values(0..rows));
    let texts = Arc::new(StringArray::from_iter_values((0..rows).map(|n| format!("t{n}"))));
    let table = in_memory(&batch(vec![("a", numbers), ("s", texts)]));
    session.register_table("t", table).await.unwrap();
    session
}

/// `part(0) op part(1) op …`.
fn row(op: &str, n: i64, part: impl Fn(i64) -> String) -> String {
    (0..n).map(part).collect::<Vec<_>>().join(op)
}

/// The last line of a query's only column: its result, where it is updated.
async fn result(session: &mut Session, sql: &str) -> String {
    let started = Instant::now();
    let batches = session.query(sql).await.unwrap_or_else(|e| panic!("{e}")).collect().await.unwrap();
    assert!(started.elapsed() < LIMIT, "{:?} for {}…", started.elapsed(), sql.get(..60).unwrap_or(sql));
    let last = batches.last().unwrap().rows.clone();
    let text = pretty_format_batches(&[last.slice(last.num_rows() - 1, 1)]).unwrap().to_string();
    text.lines().nth(3).unwrap().trim_matches(['|', ' ']).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_of_thousands_of_terms() {
    for mode in MODES {
        let mut session = session_with_numbers(mode, 2 * TERMS).await;
        for (condition, count) in [
            (row(" OR ", TERMS, |n| format!("a = {n}")), TERMS),
            (row(" OR ", TERMS, |n| format!("(a = {} AND s <> '{n}')", 2 * n)), TERMS),
            (row(" AND ", TERMS, |n| format!("a <> {n}")), TERMS),
            (row(" AND ", TERMS, |n| format!("a + {n} >= {}", n + 1)), 2 * TERMS - 1),
            (row(" AND ", TERMS, |n| format!("(a <> {n} OR s = 't{n}')")), 2 * TERMS),
            (format!("a IN ({})", row(", ", TERMS, |n| n.to_string())), TERMS),
            (format!("NOT ({})", row(" OR ", TERMS, |n| format!("a = {n}"))), TERMS),
        ] {
            let sql = format!("SELECT COUNT(*) FROM t WHERE {condition}");
            assert_eq!(result(&mut session, &sql).await, count.to_string(), "{mode}: {:.60}", condition);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_thousands_of_terms() {
    for mode in MODES {
        let mut session = session_with_numbers(mode, 3).await;
        let last = |expr: &str| format!("SELECT {expr} FROM t WHERE a = 2");
        let sum: i64 = (0..TERMS).sum();
        for (expr, expected) in [
            (row(" + ", TERMS, |_| "a".to_owned()), (2 * TERMS).to_string()),
            (row(" + ", 4 * TERMS, |_| "a".to_owned()), (8 * TERMS).to_string()),
            (format!("a + {}", row(" + ", TERMS, |n| n.to_string())), (2 + sum).to_string()),
            (format!("a - {}", row(" - ", TERMS, |n| n.to_string())), (2 - sum).to_string()),
            (format!("0.5 + {}", row(" + ", TERMS, |_| "1.25".to_owned())), format!("{}.50", TERMS / 4 * 5)),
            (format!("CHAR_LENGTH({})", row(" || ", TERMS, |_| "s".to_owned())), (2 * TERMS).to_string()),
            (
                format!("CASE {} END", row(" ", TERMS, |n| format!("WHEN a = {} THEN 'c{n}'", TERMS - n))),
                format!("c{}", TERMS - 2),
            ),
            (
                format!("CASE a {} ELSE -1 END", row(" ", TERMS, |n| format!("WHEN {n} THEN {}", n + 7))),
                "9".to_owned(),
            ),
        ] {
            assert_eq!(result(&mut session, &last(&expr)).await, expected, "{mode}: {expr:.60}");
        }
        // Sums are keys and arguments too.
        let sum = row(" + ", 200, |_| "a".to_owned());
        let sql = format!(
            "SELECT SUM(s) FROM (SELECT {sum} AS k, SUM({sum}) AS s FROM t GROUP BY {sum} HAVING {sum} > 0)"
        );
        assert_eq!(result(&mut session, &sql).await, "600", "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unions_of_thousands_of_queries() {
    for mode in MODES {
        let mut session = session_with_numbers(mode, 3).await;
        for (op, count) in [(" UNION ALL ", 3000), (" UNION ", 1000)] {
            let union = row(op, 3000, |n| format!("SELECT {}", n % 1000));
            assert_eq!(
                result(&mut session, &format!("SELECT COUNT(*) FROM ({union})")).await,
                count.to_string(),
                "{mode}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_views_stand_on_each_other() {
    for mode in MODES {
        let mut session = session_with_numbers(mode, 10).await;
        session.execute_sql("CREATE VIEW v0 AS SELECT a, s FROM t ORDER BY a").await.unwrap();
        let started = Instant::now();
        for n in 1..300 {
            let rows = if n % 50 == 0 { format!("WHERE a > {}", n / 50) } else { String::new() };
            let sql = format!("CREATE VIEW v{n} AS SELECT a, s FROM v{} {rows}", n - 1);
            session.execute_sql(&sql).await.unwrap();
        }
        assert!(started.elapsed() < 2 * LIMIT, "{:?}", started.elapsed());
        assert_eq!(result(&mut session, "SELECT COUNT(*) FROM v299").await, "4", "{mode}");
        let sql = "SELECT COUNT(*) FROM t WHERE a = (SELECT MAX(a) FROM v299)";
        assert_eq!(result(&mut session, sql).await, "1", "{mode}");
        session.execute_sql("CREATE VIEW w (x) AS SELECT COUNT(*) FROM v299").await.unwrap();
        assert_eq!(
            result(&mut session, "SELECT COUNT(*) FROM t WHERE a > (SELECT x FROM w)").await,
            "5",
            "{mode}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_refers_to_itself_is_refused() {
    let mut session = session("batch");
    for sql in [
        "CREATE TABLE a (x INT) WITH ('connector' = 'datagen', 'number-of-rows' = '1')",
        "CREATE VIEW b AS SELECT * FROM a",
        "CREATE VIEW c AS SELECT * FROM b",
        "CREATE TEMPORARY VIEW a AS SELECT * FROM c",
    ] {
        session.execute_sql(sql).await.unwrap();
    }
    let e = failure(&mut session, "SELECT * FROM b").await;
    assert!(e.contains("view default_catalog.default_database.b refers to itself"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nests_as_deep_as_it_may_is_run() {
    let nested = |before: &str, inner: &str, after: &str, n: usize| {
        format!("{}{inner}{}", before.repeat(n), after.repeat(n))
    };
    let cases: String = (10..208).map(|n| format!("CASE WHEN a = {n} THEN 'x' ELSE ")).collect();
    for mode in MODES {
        let mut session = session_with_numbers(mode, 3).await;
        for (expr, expected) in [
            (nested("(1 + ", "a", ")", 199), "201"),
            (nested("UPPER(", "s", ")", 199), "T2"),
            (nested("NOT ", "a = 1", "", 198), "false"),
            (nested("- ", "a", "", 198), "2"),
            (nested("COALESCE(CAST(NULL AS BIGINT), ", "a", ")", 199), "2"),
            (format!("{cases} s {}", "END ".repeat(198)), "t2"),
            (nested("", "a = 2", " = TRUE", 900), "true"),
            (nested("", "a", " IS NULL", 900), "false"),
            (nested("(SELECT MAX(a) FROM t WHERE a <= ", "2", ")", 20), "2"),
        ] {
            let sql = format!("SELECT {expr} FROM t WHERE a = 2");
            assert_eq!(result(&mut session, &sql).await, expected, "{mode}: {expr:.40}");
            session.execute_sql(&format!("EXPLAIN {sql}")).await.unwrap();
        }
        let sql = format!("SELECT MAX(a) FROM {}", nested("(SELECT * FROM ", "t", ")", 198));
        assert_eq!(result(&mut session, &sql).await, "2", "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_long_query_has_its_place_soon() {
    for mode in MODES {
        let mut session = session_with_numbers(mode, 3).await;
        let condition = |n| format!("a = {n}{}", if n == 3210 { "\n OR s + 1 = 2" } else { "" });
        for sql in [
            format!("SELECT a FROM t WHERE {}", row(" OR ", TERMS, condition)),
            format!(
                "SELECT a FROM t WHERE a IN ({})",
                row(", ", TERMS, |n| if n == 3210 { "\n    s + 1".to_owned() } else { n.to_string() })
            ),
            format!(
                "SELECT {} FROM t",
                row(" + ", TERMS, |n| if n == 3210 { "\n    (s + 1)".to_owned() } else { "a".to_owned() })
            ),
        ] {
            let started = Instant::now();
            let Err(e) = session.query(&sql).await else { panic!("{sql:.60} is planned") };
            assert!(started.elapsed() < LIMIT, "{mode}: {:?} for {sql:.60}", started.elapsed());
            assert_eq!(e.location().map(|at| at.line), Some(2), "{mode}: {e}");
            assert!(e.message().contains("cannot apply '+'"), "{mode}: {e}");
        }
        let Err(e) = session.query(&format!("SELECT {}a FROM t", "(".repeat(10_000))).await else { panic!() };
        assert_eq!(e.location(), Some(Location { line: 1, column: 208 }), "{e}");
    }
}

/// Eight times the length may cost eight times the time and some more, not the square of it.
#[tokio::test(flavor = "multi_thread")]
async fn planning_grows_with_the_length_and_not_with_its_square() {
    async fn best(session: &mut Session, sql: &str) -> Duration {
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let started = Instant::now();
            session.query(sql).await.unwrap_or_else(|e| panic!("{e}"));
            best = best.min(started.elapsed());
        }
        best
    }
    for mode in MODES {
        let mut session = session_with_numbers(mode, 3).await;
        let conditions: [fn(i64) -> String; 4] = [
            |n| row(" OR ", n, |i| format!("a = {i}")),
            |n| row(" AND ", n, |i| format!("a <> {i}")),
            |n| row(" AND ", n, |i| format!("(a <> {i} OR s = 't{i}')")),
            |n| format!("0 < {}", row(" + ", n, |_| "a".to_owned())),
        ];
        for condition in conditions {
            let query = |n| format!("SELECT a FROM t WHERE {}", condition(n));
            let short = best(&mut session, &query(1_000)).await;
            let long = best(&mut session, &query(8_000)).await;
            let text = condition(2);
            // A square would be 64; caches and the noise of other work may double what 8 is.
            assert!(long < short * 24, "{mode}, {text}…: {short:?}, eight times as long {long:?}");
        }
    }
}
