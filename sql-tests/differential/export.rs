//! Cases as `.slt` files over tables of JSON lines, for the oracle: `sql-tests/oracle/oracle.py --update` has real Flink
//! answer them, `tidelake test` compares.
//!
//! Only what Flink has: tables whose rows stay, no functions of users. Each table is one file; its rows are as far out
//! of order as they may be.

use std::fmt::Write;
use std::io::Result;
use std::path::Path;

use super::run::Case;
use super::tables::{DISORDER, Row, Table, Ty, Value, WATERMARK, date, time};

/// Writes a case, if Flink has what it is made of.
pub(super) fn write(case: &Case, seed: u64, folder: &Path) -> Result<()> {
    let sql = case.query.sql();
    let all = [case.prelude.join(" "), sql.clone()].join(" ");
    if all.contains("udf_") || case.tables.iter().any(|t| !t.is_append_only()) {
        return Ok(());
    }
    let data = folder.join("data").join(seed.to_string());
    std::fs::create_dir_all(&data)?;
    let batch = case.query.batch_sql();
    let mut text = format!("# Seed {seed}: {}\n\n", case.constructs().join(", "));
    let mut ok = |statement: &str| text.push_str(&format!("statement ok\n{statement}\n\n"));
    ok(&format!("SET 'table.local-time-zone' = '{}'", case.settings.zone));
    for table in &case.tables {
        let path = data.join(format!("{}.json", table.name));
        std::fs::write(&path, lines(table))?;
        ok(&ddl(table, &table.name, table.keyed, &path));
        if table.has_versions() {
            ok(&ddl(table, &table.versions(), true, &path));
        }
    }
    for statement in &case.prelude {
        ok(statement);
    }
    let kinds = "T".repeat(case.query.types.len());
    if batch == sql {
        text.push_str(&format!("query {kinds} rowsort\n{sql}\n----\n"));
    } else {
        // Flink answers the join in streaming alone, tidelake's batch the query that stands for it.
        text.push_str(&format!("onlyif streaming\nquery {kinds} rowsort\n{sql}\n----\n\n"));
        text.push_str(&format!("onlyif batch\nquery {kinds} rowsort\n{batch}\n----\n"));
    }
    std::fs::write(folder.join(format!("case_{seed}.slt")), text)
}

fn ddl(table: &Table, name: &str, keyed: bool, path: &Path) -> String {
    let mut columns: Vec<String> = Vec::new();
    for (i, (ty, nullable)) in table.columns.iter().enumerate() {
        columns.push(format!("c{i} {}{}", ty.sql(), if *nullable { "" } else { " NOT NULL" }));
    }
    if table.timed {
        columns.push(format!("WATERMARK FOR {0} AS {0} - {WATERMARK}", table.time()));
    }
    if keyed {
        columns.push("PRIMARY KEY (c0) NOT ENFORCED".to_owned());
    }
    format!(
        "CREATE TABLE {name} ({}) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json')",
        columns.join(", "),
        path.display()
    )
}

fn lines(table: &Table) -> String {
    let mut rows: Vec<(usize, Row)> = table.net().into_iter().enumerate().collect();
    // Each row up to the disorder behind its time: what comes out of order, but not late.
    rows.sort_by_key(|(i, row)| match row.last() {
        Some(Value::Time(ms)) if table.timed => ms + (*i as i64 * 7_919) % DISORDER,
        _ => 0,
    });
    let mut text = String::new();
    for (_, row) in rows {
        let fields: Vec<String> = row
            .iter()
            .zip(&table.columns)
            .enumerate()
            .map(|(i, (value, (ty, _)))| format!("\"c{i}\": {}", json(value, *ty)))
            .collect();
        writeln!(text, "{{{}}}", fields.join(", ")).expect("memory");
    }
    text
}

fn json(value: &Value, ty: Ty) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Str(s) => format!("\"{s}\""),
        Value::Date(d) => format!("\"{}\"", date(*d)),
        Value::Time(ms) if ty == Ty::Instant => format!("\"{}Z\"", time(*ms)),
        Value::Time(ms) => format!("\"{}\"", time(*ms)),
        Value::Arr(items) => {
            let items: Vec<String> =
                items.iter().map(|i| i.map_or("null".to_owned(), |i| i.to_string())).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Dec(v) if ty == Ty::Dec => format!("{:.2}", *v as f64 / 100.0),
        other => other.to_string(),
    }
}
