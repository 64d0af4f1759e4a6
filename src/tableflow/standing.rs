//! Where tables are, as they say it themselves: nothing has to run for it, and Kafka is not asked.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::connectors::iceberg::{self, TableFacts};
use crate::error::Result;

/// A table and the topic that it follows.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// The topic.
    pub topic: String,
    /// The table.
    pub table: String,
    /// How far each partition is read.
    pub positions: BTreeMap<String, Value>,
    /// Rows that were read of the topic.
    pub read_rows: u64,
    /// Number of the last commit.
    pub epoch: u64,
    /// Number of the process that writes.
    pub generation: u64,
    /// Whether somebody has taken it back to a state before the last commit.
    pub is_rolled_back: bool,
    /// What it is made of.
    #[serde(flatten)]
    pub facts: TableFacts,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TableFacts { rows, data_files, delete_files, bytes, snapshots, last_commit_ms, .. } = &self.facts;
        let shown = |n: &Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
        write!(
            f,
            "{} → {}: {} rows read, {} there, {} data files and {} delete files of {} bytes, {snapshots} snapshots, epoch {}",
            self.topic,
            self.table,
            self.read_rows,
            shown(rows),
            shown(data_files),
            shown(delete_files),
            shown(bytes),
            self.epoch
        )?;
        if let Some(at) = last_commit_ms.and_then(chrono::DateTime::from_timestamp_millis) {
            write!(f, ", last commit {}", at.format("%Y-%m-%dT%H:%M:%SZ"))?;
        }
        if self.is_rolled_back { f.write_str(", rolled back") } else { Ok(()) }
    }
}

/// The tables of a namespace that keep how far a topic was read.
///
/// # Errors
/// Of the catalog.
pub async fn standing(catalog: &BTreeMap<String, String>, namespace: &str) -> Result<Vec<Standing>> {
    let found = iceberg::kept_tables("tableflow", catalog, &std::env::current_dir()?, namespace).await?;
    let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).map(str::to_owned);
    Ok(found
        .into_iter()
        .map(|(table, kept, facts)| Standing {
            topic: kept
                .now
                .values()
                .find_map(|v| text(v, "topic"))
                .or(facts.topic.clone())
                .unwrap_or_default(),
            table: format!("{namespace}.{table}"),
            read_rows: kept.now.values().filter_map(|v| v.get("rows").and_then(Value::as_u64)).sum(),
            positions: kept.now,
            epoch: kept.epoch,
            generation: kept.generation,
            is_rolled_back: kept.is_rolled_back,
            facts,
        })
        .collect())
}
