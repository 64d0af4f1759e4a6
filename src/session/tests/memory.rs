//! Batch joins, ranks and distinct values that outgrow the memory.

use super::*;
use crate::edges::PROCESS_MEMORY;

/// Of two columns; `k` takes every value below `rows` once, in no order.
fn shuffled(rows: i64) -> RecordBatch {
    let keys = Int64Array::from_iter_values((0..rows).map(|n| n * 736_877 % rows));
    let values = Int64Array::from_iter_values(0..rows);
    batch(vec![("k", Arc::new(keys)), ("v", Arc::new(values))])
}

async fn joining(memory: &str, rows: i64) -> Session {
    let mut session = session("batch");
    session.execute_sql(&format!("SET '{PROCESS_MEMORY}' = '{memory}'")).await.unwrap();
    for name in ["a", "b"] {
        session.register_table(name, in_memory(&shuffled(rows))).await.unwrap();
    }
    session
}

async fn answer(session: &mut Session, sql: &str) -> Result<(String, Vec<String>)> {
    let query = session.query(sql).await.unwrap();
    let notices = query.job.metrics().notices.clone();
    let rows: Vec<_> = query.collect().await?.into_iter().map(|b| b.rows).collect();
    Ok((pretty_format_batches(&rows).unwrap().to_string(), notices.take()))
}

#[tokio::test(flavor = "multi_thread")]
async fn sides_that_do_not_fit_are_joined_by_sorting() {
    const ROWS: i64 = 1_000_000;
    let mut small = joining("64 MB", ROWS).await;
    let mut large = joining("8 GB", ROWS).await;
    let of = |join: &str| {
        format!(
            "SELECT COUNT(*), SUM(a.k + b.v), COUNT(b.k) FROM a {join} JOIN b ON a.k = b.k + 1 AND a.v <> b.v"
        )
    };
    for join in ["INNER", "LEFT", "RIGHT", "FULL"] {
        let (expected, told) = answer(&mut large, &of(join)).await.unwrap();
        assert_eq!(told, [""; 0], "there is room");
        let (rows, told) = answer(&mut small, &of(join)).await.unwrap();
        assert_eq!(rows, expected, "{join}");
        assert!(told[0].contains("joined by sorting"), "{told:?}");
    }
    let sql = "SELECT COUNT(*), SUM(v) FROM a WHERE k IN (SELECT k FROM b WHERE v > 10)";
    assert_eq!(answer(&mut small, sql).await.unwrap().0, answer(&mut large, sql).await.unwrap().0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_joined_by_sorting_says_what_helps() {
    let mut session = joining("64 MB", 1_000_000).await;
    let e = answer(&mut session, "SELECT COUNT(*) FROM a JOIN b ON a.k < b.k").await.unwrap_err();
    assert!(e.message().contains("Resources exhausted"), "{e}");
    assert!(e.hint_text().unwrap().contains("--memory"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn first_rows_and_distinct_values_that_do_not_fit_rest_on_disk() {
    const ROWS: i64 = 1_000_000;
    let mut small = joining("64 MB", ROWS).await;
    let mut large = joining("8 GB", ROWS).await;
    for (node, sql) in [
        (
            "RankExec",
            "SELECT COUNT(*), SUM(k), SUM(v), SUM(rn) FROM (
               SELECT k, v, ROW_NUMBER() OVER (PARTITION BY MOD(k, 400000) ORDER BY v DESC) AS rn FROM a) WHERE rn <= 2",
        ),
        ("RankExec", "SELECT SUM(k), SUM(v) FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v) AS rn FROM a) WHERE rn = 1"),
        (
            "GroupAggregateExec",
            "SELECT COUNT(*), SUM(n), SUM(s), MAX(m) FROM (
               SELECT MOD(k, 1000) AS g, COUNT(DISTINCT v) AS n, SUM(DISTINCT MOD(v, 10)) FILTER (WHERE v > 5) AS s, MAX(v) AS m
               FROM a GROUP BY MOD(k, 1000))",
        ),
    ] {
        let StatementResult::Rows(_, plan) = small.execute_sql(&format!("EXPLAIN {sql}")).await.unwrap() else {
            panic!("EXPLAIN gives rows");
        };
        let plan = pretty_format_batches(&plan).unwrap().to_string();
        assert!(plan.contains(node), "{plan}");
        assert_eq!(answer(&mut small, sql).await.unwrap().0, answer(&mut large, sql).await.unwrap().0, "{sql}");
    }
}

/// Zeros of both signs are one key, and their bits are not.
#[tokio::test(flavor = "multi_thread")]
async fn floats_are_one_key_at_any_parallelism() {
    for parallelism in ["1", "3", "4"] {
        let mut session = joining("8 GB", 1000).await;
        session.execute_sql(&format!("SET 'parallelism.default' = '{parallelism}'")).await.unwrap();
        let keys = "(SELECT CASE WHEN MOD(k, 2) = 0 THEN CAST(0 AS DOUBLE) ELSE -CAST(0 AS DOUBLE) END AS d, k, v FROM a)";
        let sql = format!(
            "SELECT COUNT(*) FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY d ORDER BY k) AS rn FROM {keys}) WHERE rn <= 1"
        );
        let ranked = answer(&mut session, &sql).await.unwrap().0;
        let sql = sql.replace("rn <= 1", "rn <= 200000 AND rn < 2");
        assert_eq!(ranked, answer(&mut session, &sql).await.unwrap().0, "parallelism {parallelism}");
        let sql = format!("SELECT COUNT(DISTINCT k) AS n, COUNT(DISTINCT v) AS m FROM {keys} GROUP BY d");
        let all = lines(&mut session, &sql).await;
        assert!(all == ["1000 1000"] || all == ["500 500", "500 500"], "parallelism {parallelism}: {all:?}");
    }
}
