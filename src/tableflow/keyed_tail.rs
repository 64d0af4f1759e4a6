//! A table by key with the tail of its topic: the newest value of every key.
//!
//! ```text
//!  table at its head ─► rows whose key has no record behind the head ──────────────┐
//!  topic from there  ─► keys, tombstones too ─► the last record of each key ─┐     ├─► UNION ALL
//!                   └─► values ────────────────────────────────────────────── ⋈ ──┘
//! ```
//!
//! Keys and values are read by two scans between the same offsets, which are known when the view is made. Of the records of a key
//! in one partition the last one counts. A key that has come to another partition, since there are more, is what the partition
//! says whose record is the later one.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{KeyFormat, Layout, Route, RowMode, TableflowConfig};
use super::infer::Column;
use super::registered::relaxed;
use super::statements::quote_text;
use super::verify::At;
use crate::catalog::TableDef;
use crate::connectors::kafka;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::sql::ast::ColumnKind;
use crate::sql::quote_ident;
use crate::types::LogicalType;

/// What is read: a table at a snapshot, and its topic from there on.
pub(super) struct Tail<'a> {
    pub config: &'a TableflowConfig,
    pub format: KeyFormat,
    pub route: &'a Route,
    pub def: &'a TableDef,
    /// The catalog of the table.
    pub lake: &'a str,
    pub head: i64,
    /// How far the topic is read for it.
    pub from: &'a [At],
    /// The columns of values.
    pub layout: Layout,
}

fn offsets<'a>(all: impl Iterator<Item = (&'a i32, &'a i64)>) -> String {
    all.map(|(partition, offset)| format!("partition:{partition},offset:{offset}"))
        .collect::<Vec<_>>()
        .join(";")
}

/// The keys of records that mean something: with bad records left out, a value that cannot be decoded leaves the row that was
/// there.
fn with_effect(skips: bool, keys: &str, records: &str, by: &[String]) -> String {
    let (keys, records) = (quote_ident(keys), quote_ident(records));
    if !skips {
        return keys;
    }
    let columns: Vec<String> = by.iter().map(|k| format!("k.{k}")).collect();
    let columns = format!(
        "{}, k._tail_value, k._partition, k._offset, k._timestamp FROM {keys} AS k",
        columns.join(", ")
    );
    format!(
        "(\n      SELECT {columns} WHERE k._tail_value IS NULL\n      UNION ALL\n      SELECT {columns} JOIN {records} AS r ON k._partition = r._partition AND k._offset = r._offset WHERE k._tail_value IS NOT NULL\n    )"
    )
}

impl Tail<'_> {
    /// Makes the tables of the tail in the current database, and gives the text of the view.
    ///
    /// # Errors
    /// Of Kafka and of the catalog.
    pub async fn view(self, session: &mut Session) -> Result<String> {
        let Tail { config, format, route, def, lake, head, from, layout } = self;
        let Route { topic, namespace, table } = route;
        let names = def.primary_key.as_ref().map(|k| k.columns.clone()).unwrap_or_default();
        let stored = |name: &str| {
            let column =
                def.columns.iter().find(|c| c.name == name && matches!(c.kind, ColumnKind::Physical));
            let ty = column.and_then(|c| c.ty.clone());
            ty.map(|ty| LogicalType::nullable(ty.root))
                .ok_or_else(|| Error::internal("a column without a type"))
        };
        let key = names
            .iter()
            .map(|name| Ok(Column { name: name.clone(), ty: stored(name)? }))
            .collect::<Result<Vec<_>>>()?;
        let (keys, records, newest) =
            (format!("{table}$keys"), format!("{table}$tail"), format!("{table}$newest"));
        super::execute(session, &config.keys_table(&keys, topic, &key, format, &BTreeMap::new())).await?;
        let (source, env) = super::resolved(session, &keys).await?;
        let asked = move || Ok::<_, Error>((kafka::beginnings(&source, &env)?, kafka::ends(&source, &env)?));
        let (lows, ends) = tokio::task::spawn_blocking(asked).await??;
        super::execute(session, &format!("DROP TEMPORARY TABLE {}", quote_ident(&keys))).await?;
        let ends: BTreeMap<i32, i64> = ends.into_iter().map(|(_, partition, end)| (partition, end)).collect();
        // A partition that the table knows nothing of is read from its beginning.
        let known = |partition: i32| from.iter().find(|a| a.partition == partition).map(|a| a.offset);
        let lows = lows.into_iter().filter(|(_, partition, _)| ends.contains_key(partition));
        let starts: BTreeMap<i32, i64> =
            lows.map(|(_, partition, low)| (partition, known(partition).unwrap_or(low))).collect();
        let mut bounds = BTreeMap::new();
        for (side, at) in [("scan.startup", &starts), ("scan.bounded", &ends)] {
            bounds.insert(format!("{side}.mode"), "specific-offsets".to_owned());
            bounds.insert(format!("{side}.specific-offsets"), offsets(at.iter()));
        }
        super::execute(session, &config.keys_table(&keys, topic, &key, format, &bounds)).await?;
        // Values need not have the columns of the key.
        let nullable = |c: Column| Column { ty: relaxed(c.ty), ..c };
        let layout = Layout { columns: layout.columns.into_iter().map(nullable).collect(), ..layout };
        let reading = TableflowConfig { mode: RowMode::Append, primary_key: Vec::new(), ..config.clone() };
        super::execute(session, &reading.source_table(&records, topic, &layout, &bounds)).await?;
        let quoted: Vec<String> = names.iter().map(|k| quote_ident(k)).collect();
        super::execute(
            session,
            &format!(
                "CREATE TEMPORARY VIEW {} AS\nSELECT {by}, _partition, _offset, _tail_value IS NOT NULL AS has_ FROM (\n  SELECT *, ROW_NUMBER() OVER (PARTITION BY {by} ORDER BY _timestamp DESC, _offset DESC, _partition DESC) AS m_ FROM (\n    SELECT *, ROW_NUMBER() OVER (PARTITION BY {by}, _partition ORDER BY _offset DESC) AS n_ FROM {}\n  ) WHERE n_ = 1\n) WHERE m_ = 1",
                quote_ident(&newest),
                with_effect(reading.skips(), &keys, &records, &quoted),
                by = quoted.join(", "),
            ),
        )
        .await?;
        let of_values: BTreeSet<String> =
            layout.columns.iter().map(|c| c.name.clone()).chain(reading.further_names()).collect();
        let (mut committed, mut come) = (Vec::new(), Vec::new());
        for column in def.columns.iter().filter(|c| matches!(c.kind, ColumnKind::Physical)) {
            let (name, ty) = (quote_ident(&column.name), stored(&column.name)?);
            committed.push(format!("s.{name}"));
            come.push(match (names.contains(&column.name), of_values.contains(&column.name)) {
                (true, _) => format!("CAST(k.{name} AS {ty}) AS {name}"),
                (false, true) => format!("CAST(r.{name} AS {ty}) AS {name}"),
                (false, false) => format!("CAST(NULL AS {ty}) AS {name}"),
            });
        }
        let same: Vec<String> = quoted.iter().map(|k| format!("k.{k} = s.{k}")).collect();
        Ok(format!(
            "SELECT {} FROM {lake}.{}.{} /*+ OPTIONS('snapshot-id' = {}) */ AS s\nWHERE NOT EXISTS (SELECT 1 FROM {newest} AS k WHERE {})\nUNION ALL\nSELECT {} FROM {newest} AS k JOIN {} AS r ON k._partition = r._partition AND k._offset = r._offset AND k.has_",
            committed.join(", "),
            quote_ident(namespace),
            quote_ident(table),
            quote_text(&head.to_string()),
            same.join(" AND "),
            come.join(", "),
            quote_ident(&records),
            newest = quote_ident(&newest),
        ))
    }
}
