//! What is there after all kills, counted by readers that are not tidelake.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::row;
use super::services::{Broker, Record};

fn field(record: &Record, name: &str) -> i64 {
    let value: Value = serde_json::from_str(record.1.as_ref().unwrap()).unwrap();
    value[name].as_i64().unwrap()
}

/// Checks that exactly these ids are there, each once.
fn once(what: &str, ids: impl Iterator<Item = i64>, expected: impl Iterator<Item = i64>) -> usize {
    let mut seen: HashMap<i64, u32> = HashMap::new();
    ids.for_each(|id| *seen.entry(id).or_default() += 1);
    let twice = seen.values().filter(|n| **n > 1).count();
    let (mut lost, mut all) = (Vec::new(), 0);
    for id in expected {
        all += 1;
        if !seen.contains_key(&id) {
            lost.push(id);
        }
    }
    let strange = seen.len() + lost.len() - all;
    assert!(
        lost.is_empty() && twice == 0 && strange == 0,
        "{what}: {} lost ({:?} …), {twice} twice, {strange} that nobody wrote, of {all}",
        lost.len(),
        lost.iter().take(5).collect::<Vec<_>>()
    );
    all
}

/// Rows of an Iceberg table by PyIceberg and DuckDB: of the query the numbers of each row.
fn lake(tools: &str, catalog: &str, table: &str, sql: &str) -> Vec<Vec<i64>> {
    let reader = Path::new(tools).join("read-iceberg");
    let out = Command::new(reader).args(["--rest", catalog, table, sql]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    let rows = text.lines().filter_map(|l| l.strip_prefix('(')?.strip_suffix(')'));
    let numbers = |row: &str| {
        row.split(',').filter(|n| !n.trim().is_empty()).map(|n| n.trim().parse().unwrap()).collect()
    };
    rows.map(numbers).collect()
}

/// Checks everything; says what there was.
pub(crate) fn all(broker: &Broker, catalog: &str, tools: &str, run: &str, rows: i64, step: i64) -> String {
    let topic = |name: &str| broker.read(&format!("{run}-{name}"));
    let copied = topic("copy");
    once("copy", copied.iter().map(|r| field(r, "id")), 0..rows);
    assert!(
        copied
            .iter()
            .all(|r| (field(r, "k"), field(r, "v")) == (row(field(r, "id")).0, row(field(r, "id")).1))
    );
    once("again", topic("again").iter().map(|r| field(r, "id")), 0..rows);
    let clicked = (0..rows).filter(|id| row(*id).2);
    let joined = once("joined", topic("joined").iter().map(|r| field(r, "id")), clicked);

    let mut sums: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let mut windows: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for id in 0..rows {
        let (k, v, _) = row(id);
        let second = id * step / 1000;
        for sum in [sums.entry(k).or_default(), windows.entry((second, k)).or_default()] {
            *sum = (sum.0 + 1, sum.1 + v);
        }
    }
    let mut last: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for record in topic("sums") {
        last.insert(field(&record, "k"), (field(&record, "n"), field(&record, "s")));
    }
    assert_eq!(last, sums, "sums");

    let ids = lake(tools, catalog, &format!("{run}.copies"), "select id, k, v from t");
    once("Iceberg copies", ids.iter().map(|r| r[0]), 0..rows);
    assert!(ids.iter().all(|r| (r[1], r[2]) == (row(r[0]).0, row(r[0]).1)));
    let sql = "select epoch_ms(w) // 1000, k, n, s from t";
    let found = lake(tools, catalog, &format!("{run}.windows"), sql);
    let mut by_window: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for r in &found {
        assert_eq!(by_window.insert((r[0], r[1]), (r[2], r[3])), None, "window {r:?} comes twice");
    }
    for (window, sum) in &by_window {
        assert_eq!(windows.get(window), Some(sum), "window {window:?}");
    }
    // The watermark is a second behind, and the partitions are a few rows apart.
    let closed = (rows * step - 1_100) / 1000;
    let missing: Vec<_> = windows.keys().filter(|w| w.0 < closed && !by_window.contains_key(*w)).collect();
    assert!(missing.is_empty(), "windows lost: {missing:?}");
    format!(
        "0 lost, 0 twice ({} copied, {joined} joined, {} sums, {} windows)",
        copied.len(),
        last.len(),
        found.len()
    )
}
