//! Reading a table, whole or in ranges of a number.
//!
//! Rows come from a task of their own, which a reader that is dropped in the middle of waiting does not disturb. A restored
//! reader begins the split again that it was in and passes over the rows that were sent on: as a database promises no order,
//! that is exact only where it happens to keep one, as it does while a table is not written.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::client::Client;
use super::config::JdbcTable;
use super::lookup::JdbcLookups;
use super::values::Cells;
use crate::edges::lookup::LookupTable;
use crate::edges::{ScanRequest, Source, SourceEvent, SourceMetrics, SourceReader, SplitId, SplitState};
use crate::error::{Error, Result, ResultExt};
use crate::stream::{BATCH_ROWS, ChangeBatch};

/// A table of a database as a source.
#[derive(Debug)]
pub(super) struct JdbcSource {
    table: Arc<JdbcTable>,
    schema: SchemaRef,
}

impl JdbcSource {
    pub(super) fn new(table: JdbcTable, schema: SchemaRef) -> Self {
        JdbcSource { table: Arc::new(table), schema }
    }
}

/// A part of the table: its name, its condition, and rows of it that are known already.
#[derive(Debug, Clone)]
struct Split {
    name: String,
    condition: Option<String>,
    skip: u64,
}

impl JdbcSource {
    fn splits(&self) -> Vec<Split> {
        let Some(partition) = &self.table.partition else {
            return vec![Split { name: "all".to_owned(), condition: None, skip: 0 }];
        };
        let column = self.table.address.dialect.column(&partition.column);
        let (lower, upper) = (i128::from(partition.lower), i128::from(partition.upper));
        // As Flink cuts them: as many values in each, the first ones have what is left over.
        let values = upper - lower + 1;
        let parts = i128::from(partition.num).min(values);
        let (size, rest) = (values / parts, values % parts);
        let mut begin = lower;
        (0..parts)
            .map(|i| {
                let end = begin + size + i128::from(i < rest) - 1;
                let condition = format!("{column} BETWEEN {begin} AND {end}");
                let split = Split { name: format!("{begin}-{end}"), condition: Some(condition), skip: 0 };
                begin = end + 1;
                split
            })
            .collect()
    }
}

/// Position of a split that is done.
const DONE: &str = "done";

#[async_trait]
impl Source for JdbcSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn reads_in_turn(&self) -> bool {
        true
    }

    fn lookup(&self) -> Option<LookupTable> {
        let points = JdbcLookups::new(self.table.clone(), self.schema.clone());
        Some(LookupTable { cache: self.table.lookup.clone(), points: Some(Arc::new(points)) })
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let table = &self.table;
        let known: BTreeMap<&str, &str> =
            restored.iter().flatten().map(|s| (s.split.as_str(), s.position.as_str())).collect();
        let (mut splits, mut done) = (VecDeque::new(), Vec::new());
        // Dealt out at once: in the queue nobody would remember how far they were read.
        let mut begun: Vec<VecDeque<Split>> = vec![VecDeque::new(); parallelism.max(1)];
        let mut takers = (0..parallelism.max(1)).cycle();
        for mut split in self.splits() {
            match known.get(split.name.as_str()) {
                Some(&DONE) => done.push(split.name),
                Some(position) => {
                    split.skip = position.parse().map_err(|_| {
                        Error::data(format!(
                            "the snapshot holds a position of '{}' that is no number",
                            split.name
                        ))
                    })?;
                    if let Some(begun) = takers.next().and_then(|taker| begun.get_mut(taker)) {
                        begun.push_back(split);
                    }
                }
                None => splits.push_back(split),
            }
        }
        let splits = Arc::new(Mutex::new(splits));
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let columns = scan.projection.clone().unwrap_or(all);
        let schema: SchemaRef = Arc::new(Schema::project(&self.schema, &columns)?);
        let names: Vec<String> =
            schema.fields().iter().map(|f| table.address.dialect.column(f.name())).collect();
        // A query of no columns is none everywhere.
        let names = if names.is_empty() { "1".to_owned() } else { names.join(", ") };
        let mut select = format!("SELECT {names} FROM {}", table.table);
        let limit = scan.limit.map(|n| format!(" LIMIT {n}")).unwrap_or_default();
        select.push(' ');
        Ok(begun
            .into_iter()
            .map(|begun| {
                let reader = JdbcReader {
                    table: table.clone(),
                    schema: schema.clone(),
                    select: select.clone(),
                    limit: limit.clone(),
                    fetch: table.fetch_size.min(if scan.batch_rows == 0 {
                        BATCH_ROWS
                    } else {
                        scan.batch_rows
                    }),
                    splits: splits.clone(),
                    metrics: scan.metrics.clone(),
                    current: None,
                    begun,
                    // What is done is remembered by one of them.
                    done: std::mem::take(&mut done),
                    next_id: 0,
                };
                Box::new(reader) as Box<dyn SourceReader>
            })
            .collect())
    }
}

struct JdbcReader {
    table: Arc<JdbcTable>,
    schema: SchemaRef,
    select: String,
    limit: String,
    /// Rows that are asked for at once.
    fetch: usize,
    splits: Arc<Mutex<VecDeque<Split>>>,
    /// Splits that were begun before a restore and not taken up yet.
    begun: VecDeque<Split>,
    metrics: Arc<SourceMetrics>,
    current: Option<Current>,
    done: Vec<String>,
    next_id: SplitId,
}

/// The split at work.
struct Current {
    split: Split,
    id: SplitId,
    rows: u64,
    /// `None` says that there are no more.
    batches: mpsc::Receiver<Result<Option<RecordBatch>>>,
    task: AbortHandle,
}

impl Drop for Current {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl SourceReader for JdbcReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        let Some(current) = &mut self.current else {
            let fresh = || self.splits.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(split) = self.begun.pop_front().or_else(fresh) else { return Ok(SourceEvent::End) };
            let condition = split.condition.as_ref().map(|c| format!("WHERE {c}")).unwrap_or_default();
            let sql = format!("{}{condition}{}", self.select, self.limit);
            let (sender, batches) = mpsc::channel(2);
            let (table, schema, skip) = (self.table.clone(), self.schema.clone(), split.skip);
            let (metrics, fetch) = (self.metrics.clone(), self.fetch);
            let task = tokio::spawn(async move {
                let end = read(&table, &schema, &sql, (skip, fetch), &metrics, &sender).await;
                // Nobody listens any more if the reader is gone.
                let _ = sender.send(end.map(|()| None)).await;
            });
            let id = self.next_id;
            self.next_id += 1;
            let rows = split.skip;
            self.current = Some(Current { split, id, rows, batches, task: task.abort_handle() });
            return Ok(SourceEvent::SplitsStarted(vec![id]));
        };
        let part = current.batches.recv().await;
        let part = part.unwrap_or_else(|| Err(Error::internal("the task that reads it has ended early")));
        match part.context(|| format!("table {}", self.table.name))? {
            Some(rows) => {
                current.rows += rows.num_rows() as u64;
                Ok(SourceEvent::Batch { split: current.id, batch: ChangeBatch::insert_only(rows) })
            }
            None => {
                let id = current.id;
                self.done.push(current.split.name.clone());
                self.current = None;
                Ok(SourceEvent::SplitFinished(id))
            }
        }
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        let state = |split: &String, position: String| SplitState { split: split.clone(), position };
        let mut states: Vec<SplitState> = self.done.iter().map(|s| state(s, DONE.to_owned())).collect();
        states.extend(self.current.iter().map(|c| state(&c.split.name, c.rows.to_string())));
        states.extend(self.begun.iter().map(|s| state(&s.name, s.skip.to_string())));
        Ok(states)
    }
}

async fn read(
    table: &JdbcTable,
    schema: &SchemaRef,
    sql: &str,
    (mut skip, fetch): (u64, usize),
    metrics: &SourceMetrics,
    sender: &mpsc::Sender<Result<Option<RecordBatch>>>,
) -> Result<()> {
    let columns = schema.fields().len();
    let mut client = Client::connect(&table.address).await?;
    client.begin(sql).await?;
    loop {
        let cells: Cells = client.fetch(columns.max(1), fetch).await?;
        if cells.rows() == 0 {
            return Ok(());
        }
        metrics.bytes.fetch_add(cells.bytes() as u64, std::sync::atomic::Ordering::Relaxed);
        let batch = cells.finish(schema, table.address.dialect)?;
        let known = skip.min(batch.num_rows() as u64);
        skip -= known;
        let batch = batch.slice(known as usize, batch.num_rows() - known as usize);
        if batch.num_rows() > 0 && sender.send(Ok(Some(batch))).await.is_err() {
            return Ok(());
        }
    }
}
