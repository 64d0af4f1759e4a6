//! Proof that a table is its topic: nothing missing, nothing twice.
//!
//! ```text
//!  snapshots ─► ranges of offsets ─► do they tile? do they hold as many rows as were read of them?
//!  rows      ─► per partition: how many, how many offsets ─► as many as the ranges say?
//!  deep: Kafka, decoded again ─┐
//!        the table ────────────┴─► a digest of every 64 offsets of a partition ─► the same?
//! ```
//!
//! A table of keys has the last row of each key, and no row for most records: its ranges have to tile, and with `deep` what the
//! topic says in the end is compared with it.
//!
//! A row and its record are compared by what they hold: the columns with the rest column put over them, without nulls.
//! So a row from before a column was added is the same as its record decoded with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hasher as _;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::Xxh3;

use super::config::{Layout, OnError, REST, RecordFormat, Route, TableflowConfig};
use super::infer::{Column, infer_images};
use super::layout::columns_of;
use super::registered::earlier_names;
use crate::catalog::{CatalogObject, ObjectPath, TableDef};
use crate::connectors::iceberg::{KeptPositions, kept_positions};
use crate::error::{Error, Result, ResultExt};
use crate::formats::record_format;
use crate::options::Options;
use crate::session::Session;
use crate::sql::quote_ident;

/// Offsets that share a digest.
const BLOCK: i64 = 64;

/// What was found out about a table.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The topic and its table.
    pub route: Route,
    /// Rows that were read of the topic, by the positions.
    pub rows: u64,
    /// Partitions.
    pub partitions: usize,
    /// Commits whose ranges are known.
    pub commits: usize,
    /// Rows that were compared with their records, if that was asked for.
    pub compared: Option<u64>,
    /// Rows whose records Kafka does not have any more, and which could not be compared.
    pub gone: u64,
    /// What is wrong; nothing if table and topic agree.
    pub problems: Vec<String>,
}

/// A position of the Kafka source.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct At {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    #[serde(default)]
    rows: u64,
    #[serde(default)]
    bad: u64,
}

impl At {
    /// Rows that a table has of it.
    fn expected(&self, has_bad: bool) -> u64 {
        if has_bad { self.rows } else { self.rows.saturating_sub(self.bad) }
    }
}

pub(super) fn at(value: &Value) -> Result<At> {
    At::deserialize(value).map_err(|e| Error::data(format!("a position of the table cannot be read: {e}")))
}

/// Verifies the tables of a namespace that tableflow writes, or those of the topics for which `wanted` says so.
///
/// # Errors
/// Of the catalog and, if `deep`, of Kafka.
pub async fn verify(
    config: &TableflowConfig,
    wanted: impl Fn(&str) -> bool,
    deep: bool,
) -> Result<Vec<Verified>> {
    let mut session = super::session(config).await?;
    session.set("execution.runtime-mode", "batch")?;
    let mut all = Vec::new();
    for (table, _) in session.catalogs().list_objects("tableflow", &config.namespace).await? {
        let base = std::env::current_dir()?;
        let Some(kept) =
            kept_positions("tableflow", &config.catalog, &base, &config.namespace, &table).await?
        else {
            continue;
        };
        let Some(first) = kept.now.values().next() else { continue };
        let route = Route { topic: at(first)?.topic, namespace: config.namespace.clone(), table };
        if wanted(&route.topic) {
            let shown = route.to_string();
            all.push(one(&mut session, config, route, &kept, deep).await.context(|| shown)?);
        }
    }
    Ok(all)
}

async fn one(
    session: &mut Session,
    config: &TableflowConfig,
    route: Route,
    kept: &KeptPositions,
    deep: bool,
) -> Result<Verified> {
    let mut now = kept.now.values().map(at).collect::<Result<Vec<_>>>()?;
    let def = table(session, &route).await?;
    // Where bad records go elsewhere, they are no rows here.
    let has_bad = def.columns.iter().any(|c| c.name == "_error");
    now.iter_mut().for_each(|a| a.rows = a.expected(has_bad));
    let config = &config.of_table(&def.options);
    let is_keyed = def.primary_key.is_some();
    let mut verified = Verified {
        route,
        rows: now.iter().map(|a| a.rows).sum(),
        partitions: now.len(),
        commits: kept.commits.iter().filter(|c| !c.is_claim).count(),
        compared: None,
        gone: 0,
        problems: tiling(kept, is_keyed, has_bad)?,
    };
    if kept.is_rolled_back {
        verified.problems.push("the table was rolled back to an older snapshot".to_owned());
    }
    verified.problems.extend(counts(session, &verified.route, &now, is_keyed).await?);
    if deep {
        compare(session, config, &def, &now, &mut verified).await?;
    }
    Ok(verified)
}

async fn table(session: &Session, route: &Route) -> Result<Arc<TableDef>> {
    let path = ObjectPath {
        catalog: "tableflow".to_owned(),
        database: route.namespace.clone(),
        object: route.table.clone(),
    };
    match session.catalogs().find(&path).await? {
        Some(CatalogObject::Table(def)) => Ok(def),
        _ => Err(Error::external("the table is gone")),
    }
}

/// Whether the ranges of the commits follow each other, and hold as many rows as were committed with them. Rows of keys are
/// fewer.
fn tiling(kept: &KeptPositions, is_keyed: bool, has_bad: bool) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut ends: BTreeMap<&String, At> = BTreeMap::new();
    for commit in &kept.commits {
        let mut rows = 0;
        for (split, (from, to)) in &commit.ranges {
            let to = at(to)?;
            let from = if from.is_null() { None } else { Some(at(from)?) };
            if let Some(end) = ends.get(split)
                && from.as_ref().map(|f| f.offset) != Some(end.offset)
            {
                let begins = from.as_ref().map_or_else(|| "nothing".to_owned(), |f| f.offset.to_string());
                problems.push(format!(
                    "{split}: snapshot {} begins at {begins}, and the one before ends at {}",
                    commit.snapshot, end.offset
                ));
            }
            rows += to.expected(has_bad).saturating_sub(from.map_or(0, |f| f.expected(has_bad)));
            ends.insert(split, to);
        }
        if !commit.is_claim && !is_keyed && rows != commit.rows {
            problems.push(format!(
                "snapshot {} has {} rows, and {rows} were read for it",
                commit.snapshot, commit.rows
            ));
        }
    }
    for (split, position) in &kept.now {
        let now = at(position)?;
        if let Some(end) = ends.get(split)
            && end.offset != now.offset
        {
            problems.push(format!(
                "{split}: the table says that it is read up to {}, and its snapshots end at {}",
                now.offset, end.offset
            ));
        }
    }
    Ok(problems)
}

fn table_name(route: &Route) -> String {
    format!("tableflow.{}.{}", quote_ident(&route.namespace), quote_ident(&route.table))
}

/// Whether the table has as many rows of each partition as were read of it (of keys not more), each offset once.
async fn counts(session: &mut Session, route: &Route, now: &[At], is_keyed: bool) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT _partition, COUNT(*), COUNT(DISTINCT _offset), MIN(_offset), MAX(_offset) FROM {} \
         WHERE _partition IS NOT NULL GROUP BY _partition",
        table_name(route)
    );
    let mut found = BTreeMap::new();
    for batch in session.query(&sql).await?.collect().await? {
        let rows = batch.rows;
        let partition = rows.column(0).as_primitive::<Int32Type>().clone();
        let number = |c: usize, i: usize| rows.column(c).as_primitive::<Int64Type>().value(i);
        for i in 0..rows.num_rows() {
            found.insert(partition.value(i), (number(1, i), number(2, i), number(3, i), number(4, i)));
        }
    }
    let mut problems = Vec::new();
    for a in now {
        let (count, offsets, min, max) = found.remove(&a.partition).unwrap_or((0, 0, 0, -1));
        let read = i64::try_from(a.rows).unwrap_or(i64::MAX);
        if count > read || count < read && !is_keyed {
            problems
                .push(format!("partition {}: {} rows were read and {count} are there", a.partition, a.rows));
        }
        if offsets != count {
            problems
                .push(format!("partition {}: {count} rows have {offsets} different offsets", a.partition));
        }
        if max >= a.offset || min < 0 {
            problems.push(format!(
                "partition {}: offsets {min} to {max} are there, and it is read up to {}",
                a.partition, a.offset
            ));
        }
    }
    for partition in found.keys() {
        problems.push(format!("partition {partition}: rows are there, and nothing was read of it"));
    }
    Ok(problems)
}

/// Number and sum of the digests of the rows of a block.
type Digests = HashMap<(i32, i64), (u64, u64)>;

/// Compares every row with its record.
async fn compare(
    session: &mut Session,
    config: &TableflowConfig,
    def: &TableDef,
    now: &[At],
    verified: &mut Verified,
) -> Result<()> {
    let route = verified.route.clone();
    let columns = columns_of(def, config)?;
    let format = match config.format {
        RecordFormat::Registered(_) | RecordFormat::Changes(_) => config.format,
        _ => format_of(&columns, &def.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>()),
    };
    // Bad records that are no rows of the table are none here.
    let rescued = def.columns.iter().any(|c| c.name == "_error");
    let is_registered = matches!(format, RecordFormat::Registered(_));
    let on_error = if rescued || is_registered { OnError::Rescue } else { OnError::Skip };
    let config = TableflowConfig { format, on_error, ..config.clone() };
    let stops: Vec<String> =
        now.iter().map(|a| format!("partition:{},offset:{}", a.partition, a.offset)).collect();
    let bounds = [
        ("scan.startup.mode", "earliest-offset".to_owned()),
        ("scan.bounded.mode", "specific-offsets".to_owned()),
        ("scan.bounded.specific-offsets", stops.join(";")),
    ];
    let bounds = bounds.map(|(k, v)| (k.to_owned(), v)).into();
    let layout = Layout {
        columns: columns.clone(),
        key: def.primary_key.as_ref().map(|k| k.columns.clone()).unwrap_or_default(),
        has_envelope: has_envelope(session, &config, &route.topic).await?,
        renamed: earlier_names(&config, &route.topic).await?,
    };
    super::execute(session, &config.source_table("records", &route.topic, &layout, &bounds)).await?;
    let mut selected: Vec<String> = columns.iter().map(|c| quote_ident(&c.name)).collect();
    let config = &config;
    if config.has_rest() {
        selected.push(REST.to_owned());
    }
    let selected = selected.join(", ");
    let good = if is_registered && !rescued { " WHERE _error IS NULL" } else { "" };
    // What a change says of the row before counts for nothing: the last row of each key does.
    let duplicates = "table.exec.source.cdc-events-duplicate";
    let is_changes = matches!(config.format, RecordFormat::Changes(_));
    if is_changes {
        session.set(duplicates, "true")?;
    }
    let records =
        digests(session, &format!("SELECT {selected}, _partition, _offset FROM records{good}"), &columns)
            .await;
    if is_changes {
        session.set(duplicates, "false")?;
    }
    super::execute(session, "DROP TEMPORARY TABLE records").await?;
    let (records, firsts) = records?;
    let sql = format!(
        "SELECT {selected}, _partition, _offset FROM {} WHERE _partition IS NOT NULL",
        table_name(&route)
    );
    let (rows, _) = digests(session, &sql, &columns).await?;
    let mut compared = 0;
    let mut blocks: Vec<&(i32, i64)> = rows.keys().chain(records.keys()).collect();
    blocks.sort_unstable();
    blocks.dedup();
    for block in blocks {
        let (row, record) =
            (rows.get(block).copied().unwrap_or_default(), records.get(block).copied().unwrap_or_default());
        // Retention takes whole beginnings of partitions away.
        let first = firsts.get(&block.0).copied().unwrap_or(i64::MAX);
        if (block.1 + 1) * BLOCK <= first || block.1 * BLOCK < first && row != record {
            verified.gone += row.0;
            continue;
        }
        compared += row.0;
        if row != record && verified.problems.len() < 20 {
            let (from, to) = (block.1 * BLOCK, (block.1 + 1) * BLOCK - 1);
            verified.problems.push(match row.0 == record.0 {
                true => {
                    format!("partition {}, offsets {from} to {to}: rows differ from their records", block.0)
                }
                false => format!(
                    "partition {}, offsets {from} to {to}: {} rows for {} records",
                    block.0, row.0, record.0
                ),
            });
        }
    }
    verified.compared = Some(compared);
    Ok(())
}

/// Whether messages of changes come with their schema.
async fn has_envelope(session: &mut Session, config: &TableflowConfig, topic: &str) -> Result<bool> {
    let RecordFormat::Changes(changes) = config.format else { return Ok(false) };
    super::execute(session, &config.sample_table("first", topic)).await?;
    let first = session.query("SELECT v FROM `first` WHERE v IS NOT NULL LIMIT 10").await?.collect().await;
    super::execute(session, "DROP TEMPORARY TABLE `first`").await?;
    let batches = first?;
    let values = batches.iter().flat_map(|b| b.rows.column(0).as_binary::<i32>().iter().flatten());
    Ok(infer_images(values, changes.images(), &BTreeSet::new()).1)
}

/// How the records of a table were read, by its columns.
fn format_of(columns: &[Column], all: &[&str]) -> RecordFormat {
    match columns {
        _ if all.contains(&REST) => RecordFormat::Json,
        [only] if only.ty.to_arrow() == DataType::Utf8 => RecordFormat::Text,
        _ => RecordFormat::Raw,
    }
}

/// Digests of the rows of a query in batch mode, and the first offset of each partition.
async fn digests(
    session: &mut Session,
    sql: &str,
    columns: &[Column],
) -> Result<(Digests, HashMap<i32, i64>)> {
    let mut query = session.query(sql).await?;
    let (mut digests, mut firsts) = (Digests::new(), HashMap::new());
    let mut reader = RowDigests::new(columns)?;
    while let Some(batch) = query.rows.next().await {
        let batch = batch?.rows;
        let at = batch.num_columns().saturating_sub(2);
        let partitions = batch.column(at).as_primitive::<Int32Type>().clone();
        let offsets = batch.column(at + 1).as_primitive::<Int64Type>().clone();
        let rows = reader.digest(&batch)?;
        for ((digest, partition), offset) in rows.into_iter().zip(partitions.values()).zip(offsets.values()) {
            let block = digests.entry((*partition, offset.div_euclid(BLOCK))).or_insert((0, 0));
            let mut hash = Xxh3::new();
            hash.write_i64(*offset);
            hash.write_u64(digest);
            *block = (block.0 + 1, block.1.wrapping_add(hash.finish()));
            let first = firsts.entry(*partition).or_insert(*offset);
            *first = (*first).min(*offset);
        }
    }
    query.job.wait().await?;
    Ok((digests, firsts))
}

/// Digests rows by what they hold.
struct RowDigests {
    columns: usize,
    encoder: Box<dyn crate::formats::RecordEncoder>,
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

impl RowDigests {
    fn new(columns: &[Column]) -> Result<Self> {
        let fields: Vec<_> = columns.iter().map(|c| c.ty.to_field(&c.name)).collect();
        let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(fields));
        let options = BTreeMap::from([("json.encode.ignore-null-fields".to_owned(), "true".to_owned())]);
        let format = record_format("json", &Options::new("verify", "json", &options), "json.", schema)?;
        Ok(RowDigests {
            columns: columns.len(),
            encoder: format.encoder()?,
            buffer: Vec::new(),
            ends: Vec::new(),
        })
    }

    /// Of rows that begin with the columns, then perhaps the rest column, then partition and offset.
    fn digest(&mut self, batch: &RecordBatch) -> Result<Vec<u64>> {
        let rest =
            (batch.num_columns() == self.columns + 3).then(|| batch.column(self.columns).as_string::<i32>());
        let own: Vec<usize> = (0..self.columns).collect();
        self.buffer.clear();
        self.ends.clear();
        self.encoder.encode(&batch.project(&own)?, &mut self.buffer, &mut self.ends)?;
        let mut start = 0;
        let mut digests = Vec::with_capacity(batch.num_rows());
        for (row, end) in self.ends.iter().enumerate() {
            let bytes = self.buffer.get(start..*end).unwrap_or_default();
            start = *end;
            let damaged = |e: serde_json::Error| Error::internal(format!("a row as JSON: {e}"));
            let mut fields: Map<String, Value> = serde_json::from_slice(bytes).map_err(damaged)?;
            if let Some(rest) = rest.filter(|r| !r.is_null(row)) {
                fields.extend(serde_json::from_str::<Map<String, Value>>(rest.value(row)).map_err(damaged)?);
            }
            let mut hash = Xxh3::new();
            write(&Value::Object(fields), &mut hash);
            digests.push(hash.finish());
        }
        Ok(digests)
    }
}

/// Writes what a value holds: fields sorted, no nulls, scalars as their text whatever they are declared as.
fn write(value: &Value, hash: &mut Xxh3) {
    match value {
        Value::Null => hash.write(b"n"),
        Value::Bool(b) => scalar(if *b { "true" } else { "false" }, hash),
        Value::Number(n) => scalar(&n.to_string(), hash),
        Value::String(text) if text.starts_with(['{', '[']) => match serde_json::from_str::<Value>(text) {
            Ok(inner) => write(&inner, hash),
            Err(_) => scalar(text, hash),
        },
        Value::String(text) => scalar(text, hash),
        Value::Array(items) => {
            hash.write(b"[");
            items.iter().for_each(|item| write(item, hash));
            hash.write(b"]");
        }
        Value::Object(fields) => {
            hash.write(b"{");
            for (name, value) in fields.iter().filter(|(_, v)| !v.is_null()) {
                scalar(name, hash);
                write(value, hash);
            }
            hash.write(b"}");
        }
    }
}

/// A number is the same however it is written.
fn scalar(text: &str, hash: &mut Xxh3) {
    hash.write(b"\"");
    match text.parse::<f64>() {
        Ok(n) if text.parse::<i64>().is_err() && n.fract() == 0.0 && n.abs() < 9e15 => {
            hash.write((n as i64).to_string().as_bytes());
        }
        Ok(n) if text.parse::<i64>().is_err() && n.is_finite() => hash.write(n.to_string().as_bytes()),
        _ => hash.write(text.as_bytes()),
    }
    hash.write(b"\"");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> u64 {
        let mut hash = Xxh3::new();
        write(&serde_json::from_str(text).unwrap(), &mut hash);
        hash.finish()
    }

    #[test]
    fn values_are_the_same_however_they_are_written() {
        let same = [
            (r#"{"a": 1, "b": null}"#, r#"{"a": 1.0}"#),
            (r#"{"a": "12"}"#, r#"{"a": 12}"#),
            (r#"{"a": {"x": 1, "y": [2]}}"#, r#"{"a": "{\"y\":[2],\"x\":1}"}"#),
            (r#"{"a": 1.50}"#, r#"{"a": 1.5}"#),
            (r#"{"b": true, "a": "é"}"#, r#"{"a": "é", "b": "true"}"#),
        ];
        for (a, b) in same {
            assert_eq!(digest(a), digest(b), "{a} {b}");
        }
        let other = [
            (r#"{"a": 1}"#, r#"{"a": 2}"#),
            (r#"{"a": 1}"#, r#"{"b": 1}"#),
            (r#"{"a": [1, 2]}"#, r#"{"a": [12]}"#),
            (r#"{"a": [null]}"#, r#"{"a": []}"#),
            (r#"{"a": 9007199254740993}"#, r#"{"a": 9007199254740992}"#),
            (r#"{}"#, r#"{"a": ""}"#),
        ];
        for (a, b) in other {
            assert_ne!(digest(a), digest(b), "{a} {b}");
        }
    }
}
