//! Where tables are, as they say it themselves: nothing has to run for it, and Kafka is asked only for the lag.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::Topics;
use super::statements::pattern_table;
use super::verify::at;
use crate::connectors::iceberg::{self, TableFacts};
use crate::connectors::kafka;
use crate::error::Result;
use crate::session::{Session, SessionOptions};

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
    /// Records of its topic that are not read yet, if Kafka was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
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
        if let Some(lag) = self.lag {
            write!(f, ", {lag} records behind")?;
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
            lag: None,
            facts,
        })
        .collect())
}

/// Asks Kafka at `servers`, with further `properties` of its client, how far tables are behind their topics.
///
/// # Errors
/// Of the cluster; a topic that is not there any more has no lag.
pub async fn ask_for_lag(
    servers: &str,
    properties: &BTreeMap<String, String>,
    all: &mut [Standing],
) -> Result<()> {
    let mut session = Session::new(SessionOptions::default())?;
    for table in all {
        let topics = Topics::new(&[regex::escape(&table.topic)])?;
        let sql = pattern_table(servers, properties, "topic", &topics.pattern());
        super::execute(&mut session, &sql).await?;
        let found = super::resolved(&session, "topic").await;
        super::execute(&mut session, "DROP TEMPORARY TABLE topic").await?;
        let (resolved, env) = found?;
        let ends = tokio::task::spawn_blocking(move || kafka::ends(&resolved, &env)).await??;
        let read: BTreeMap<i32, i64> = table
            .positions
            .values()
            .map(|v| at(v).map(|a| (a.partition, a.offset)))
            .collect::<Result<_>>()?;
        if !ends.is_empty() {
            let behind = |(_, partition, end): &(String, i32, i64)| {
                end.saturating_sub(read.get(partition).copied().unwrap_or(0)).max(0)
            };
            table.lag = Some(ends.iter().map(behind).sum());
        }
    }
    Ok(())
}
