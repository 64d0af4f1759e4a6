//! UPDATE, DELETE, INSERT OVERWRITE and time travel over Iceberg tables, against rows in memory.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;

async fn run(session: &mut Session, sql: &str) {
    match session.execute_sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")) {
        StatementResult::Insert(job) => {
            job.wait().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        }
        StatementResult::Done { .. } => {}
        _ => panic!("{sql} has rows"),
    }
}

/// A session over the lake of a folder.
async fn over(folder: &TempDir) -> Session {
    let mut session = session("batch");
    let path = folder.path().display();
    run(
        &mut session,
        &format!(
            "CREATE CATALOG lake WITH ('type' = 'iceberg', 'catalog-type' = 'sql', 'warehouse' = '{path}')"
        ),
    )
    .await;
    run(&mut session, "USE CATALOG lake").await;
    session
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Rows of `(id, part, n)`, as the table has them.
type Rows = Vec<(u64, u64, Option<i64>)>;

fn shown(rows: &Rows) -> Vec<String> {
    let mut lines: Vec<String> = rows
        .iter()
        .map(|(id, part, n)| match n {
            Some(n) => format!("{id} p{part} {n}"),
            None => format!("{id} p{part}"),
        })
        .collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_rows_are_those_of_rows_in_memory() {
    for seed in 1..=6_u64 {
        let folder = TempDir::new().unwrap();
        let mut session = over(&folder).await;
        let parallelism = ["1", "2", "4"][seed as usize % 3];
        session.set("parallelism.default", parallelism).unwrap();
        let partitions = if seed % 2 == 0 { " PARTITIONED BY (part)" } else { "" };
        run(&mut session, &format!("CREATE TABLE t (id BIGINT, part STRING, n BIGINT){partitions}")).await;
        let (mut rows, mut dice, mut next) = (Rows::new(), Dice(seed * 7919), 0);
        for step in 0..24 {
            let (a, b) = (dice.roll(20), dice.roll(3));
            let kind = if step == 0 { 0 } else { dice.roll(8) };
            match kind {
                0 | 1 => {
                    let count = 1 + dice.roll(40);
                    let new: Rows = (next..next + count)
                        .map(|id| {
                            let n = dice.roll(20);
                            (id, dice.roll(3), (n > 1).then_some(n as i64))
                        })
                        .collect();
                    next += count;
                    run(&mut session, &format!("INSERT INTO t {}", values(&new))).await;
                    rows.extend(new);
                }
                2 => {
                    run(&mut session, &format!("DELETE FROM t WHERE n < {a}")).await;
                    rows.retain(|r| r.2.is_none_or(|n| n >= a as i64));
                }
                3 => {
                    run(&mut session, &format!("DELETE FROM t WHERE part = 'p{b}' AND MOD(id, 3) = 1")).await;
                    rows.retain(|r| !(r.1 == b && r.0 % 3 == 1));
                }
                4 => {
                    run(&mut session, &format!("UPDATE t SET n = n + id WHERE n > {a} OR part = 'p{b}'"))
                        .await;
                    for r in &mut rows {
                        if r.2.is_some_and(|n| n > a as i64) || r.1 == b {
                            r.2 = r.2.map(|n| n + r.0 as i64);
                        }
                    }
                }
                5 => {
                    let sql = format!(
                        "UPDATE t AS x SET part = 'p{b}', n = CAST(NULL AS BIGINT) WHERE MOD(x.id, 5) = {}",
                        a % 5
                    );
                    run(&mut session, &sql).await;
                    for r in &mut rows {
                        if r.0 % 5 == a % 5 {
                            (r.1, r.2) = (b, None);
                        }
                    }
                }
                6 => {
                    let new: Rows = vec![(next, b, Some(1)), (next + 1, b, None)];
                    next += 2;
                    run(&mut session, &format!("INSERT OVERWRITE t {}", values(&new))).await;
                    rows.retain(|r| !partitions.is_empty() && r.1 != b);
                    rows.extend(new);
                }
                _ => {
                    let sql = format!("DELETE FROM t WHERE id = (SELECT MAX(id) FROM t WHERE n <> {a})");
                    run(&mut session, &sql).await;
                    let last = rows.iter().filter(|r| r.2.is_some_and(|n| n != a as i64)).map(|r| r.0).max();
                    rows.retain(|r| Some(r.0) != last);
                }
            }
            let got = lines(&mut session, "SELECT id, part, n FROM t").await;
            assert_eq!(got, shown(&rows), "seed {seed}, step {step}, kind {kind}");
        }
        run(&mut session, "TRUNCATE TABLE t").await;
        assert!(lines(&mut session, "SELECT * FROM t").await.is_empty());
    }
}

fn values(rows: &Rows) -> String {
    let row = |(id, part, n): &(u64, u64, Option<i64>)| {
        let n = n.map_or("CAST(NULL AS BIGINT)".to_owned(), |n| n.to_string());
        format!("({id}, 'p{part}', {n})")
    };
    format!("VALUES {}", rows.iter().map(row).collect::<Vec<_>>().join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_read_as_it_was() {
    let folder = TempDir::new().unwrap();
    let mut session = over(&folder).await;
    session.set("table.local-time-zone", "Asia/Tokyo").unwrap();
    run(&mut session, "CREATE TABLE t (n INT)").await;
    let mut states = BTreeMap::new();
    for sql in [
        "INSERT INTO t VALUES (1), (2), (3)",
        "UPDATE t SET n = n * 10 WHERE n > 1",
        "DELETE FROM t WHERE n = 20",
        "INSERT OVERWRITE t VALUES (7)",
    ] {
        run(&mut session, sql).await;
        // Local to the session, as the literal is.
        let at = lines(&mut session, "SELECT CAST(MAX(committed_at) AS STRING) FROM `t$snapshots`").await;
        states.insert(at.concat().replace('+', " "), lines(&mut session, "SELECT n FROM t").await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(states.len(), 4, "{states:?}");
    for (at, rows) in &states {
        let sql = format!("SELECT n FROM t FOR SYSTEM_TIME AS OF TIMESTAMP '{at}'");
        assert_eq!(&lines(&mut session, &sql).await, rows, "{sql}");
        let joined =
            format!("SELECT a.n FROM t FOR SYSTEM_TIME AS OF TIMESTAMP '{at}' AS a JOIN t AS b ON a.n = b.n");
        let both: Vec<String> = rows.iter().filter(|r| *r == "7").cloned().collect();
        assert_eq!(lines(&mut session, &joined).await, both, "{joined}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_append_stays_and_what_they_change_is_not_overwritten() {
    let folder = TempDir::new().unwrap();
    let (mut one, mut other) = (over(&folder).await, over(&folder).await);
    run(&mut one, "CREATE TABLE t (n INT)").await;
    run(&mut one, "INSERT INTO t VALUES (1), (2), (3)").await;
    // Planned over the first snapshot.
    let late = one_statement("UPDATE t SET n = n + 100 WHERE n < 3").unwrap();
    let Statement::RowChange(change) = &late.statement else { panic!("an UPDATE") };
    let (prepared, planned) = one.prepare_row_change(change).unwrap();
    run(&mut other, "INSERT INTO t VALUES (0), (50)").await;
    prepared.execution.run_inserts(vec![planned]).await.unwrap().wait().await.unwrap();
    assert_eq!(lines(&mut one, "SELECT n FROM t").await, ["0", "101", "102", "3", "50"]);
    let (prepared, planned) = one.prepare_row_change(change).unwrap();
    run(&mut other, "DELETE FROM t WHERE n = 3").await;
    let e = prepared.execution.run_inserts(vec![planned]).await.unwrap().wait().await.unwrap_err();
    assert!(e.to_string().contains("changed or taken away by somebody else"), "{e}");
    assert_eq!(lines(&mut one, "SELECT n FROM t").await, ["0", "101", "102", "50"]);
}
