//! Reading a table: bounded, at one snapshot, for both engines.
//!
//! ```text
//!  IcebergSource ── batch_provider ─► IcebergTable (DataFusion)
//!             └──── readers ────────► files dealt out by size ─► one reader per subtask, file after file
//! ```
//!
//! A split is a data file. All splits of a reader count as started from the beginning: files are in no order of time,
//! so the watermark may pass a row only when no file is left that could hold an older one.
//!
//! State of a reader: per file the number of rows already emitted, pinned to the snapshot's id; a restored reader plans
//! the same snapshot again and skips them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use futures::StreamExt;
use futures::stream::BoxStream;
use iceberg::TableIdent;
use iceberg::scan::FileScanTask;
use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::provider::IcebergTable;
use super::scan::{Scan, Version, all_columns};
use crate::edges::{ScanRequest, Source, SourceEvent, SourceMetrics, SourceReader, SplitId, SplitState};
use crate::error::{Error, Result};
use crate::stream::ChangeBatch;

/// An Iceberg table as a source.
#[derive(Debug)]
pub(super) struct IcebergSource {
    connection: Connection,
    ident: TableIdent,
    version: Version,
    schema: SchemaRef,
}

impl IcebergSource {
    /// A read of `version` of a table, with the declared columns.
    pub fn new(connection: Connection, ident: TableIdent, version: Version, schema: SchemaRef) -> Self {
        IcebergSource { connection, ident, version, schema }
    }

    async fn scan(&self, version: &Version) -> Result<Arc<Scan>> {
        let lake = self.connection.open().await?;
        Scan::new(&lake, &self.ident, version, Arc::clone(&self.schema)).await
    }
}

#[async_trait]
impl Source for IcebergSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        true
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let ScanRequest {
            projection,
            filters,
            filters_behind_watermark: _,
            limit: _,
            nested: _,
            batch_rows,
            metrics,
        } = scan;
        let mut done: HashMap<String, Position> = HashMap::new();
        let mut version = self.version.clone();
        for state in restored.iter().flatten() {
            let position: Position = serde_json::from_str(&state.position).map_err(|e| {
                Error::internal(format!(
                    "the position of split {} in the checkpoint is damaged: {e}",
                    state.split
                ))
            })?;
            version = Version::Snapshot(position.snapshot);
            done.insert(state.split.clone(), position);
        }
        let opened = self.scan(&version).await?;
        // A restored read of a table that had no files then has none now, whatever was added since.
        let nothing = restored.as_ref().is_some_and(Vec::is_empty);
        let mut tasks = if nothing { Vec::new() } else { opened.plan(&filters).await? };
        for task in &mut tasks {
            // Positions count rows of the file, so the reader must not filter them.
            task.predicate = None;
        }
        let total: u64 = tasks.iter().map(|t| t.length).sum();
        metrics.total_bytes.fetch_add(total, std::sync::atomic::Ordering::Relaxed);
        let projection = projection.unwrap_or_else(|| all_columns(&self.schema));
        let mut shares: Vec<(u64, Vec<Split>)> = Vec::new();
        shares.resize_with(parallelism.max(1), Default::default);
        for task in tasks {
            let position = done.remove(&task.data_file_path);
            let split = Split {
                skip: position.as_ref().map_or(0, |p| p.rows),
                rows: position.as_ref().map_or(0, |p| p.rows),
                finished: position.as_ref().is_some_and(|p| p.finished),
                task,
            };
            if let Some((size, share)) = shares.iter_mut().min_by_key(|(size, _)| *size) {
                *size += if split.finished { 0 } else { split.task.length };
                share.push(split);
            }
        }
        Ok(shares
            .into_iter()
            .map(|(_, splits)| {
                Box::new(IcebergReader {
                    scan: Arc::clone(&opened),
                    projection: projection.clone(),
                    batch_rows,
                    metrics: Arc::clone(&metrics),
                    splits,
                    announced: false,
                    current: 0,
                    stream: None,
                }) as Box<dyn SourceReader>
            })
            .collect())
    }

    async fn batch_provider(&self) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(Some(Arc::new(IcebergTable::new(self.scan(&self.version).await?))))
    }
}

/// Where a file is read on, as stored in checkpoints.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    snapshot: i64,
    rows: u64,
    finished: bool,
}

struct Split {
    task: FileScanTask,
    /// Rows to pass over after a restore.
    skip: u64,
    rows: u64,
    finished: bool,
}

struct IcebergReader {
    scan: Arc<Scan>,
    projection: Vec<usize>,
    batch_rows: usize,
    metrics: Arc<SourceMetrics>,
    splits: Vec<Split>,
    announced: bool,
    current: usize,
    stream: Option<BoxStream<'static, Result<RecordBatch>>>,
}

#[async_trait]
impl SourceReader for IcebergReader {
    async fn next(&mut self) -> Result<SourceEvent> {
        if !self.announced {
            self.announced = true;
            let open: Vec<SplitId> =
                (0..).zip(&self.splits).filter(|(_, s)| !s.finished).map(|(i, _)| i).collect();
            if !open.is_empty() {
                return Ok(SourceEvent::SplitsStarted(open));
            }
        }
        loop {
            let Some(split) = self.splits.get_mut(self.current) else { return Ok(SourceEvent::End) };
            if split.finished {
                self.current += 1;
                continue;
            }
            let stream = match &mut self.stream {
                Some(s) => s,
                None => {
                    let task = split.task.clone();
                    let metrics = Some(Arc::clone(&self.metrics));
                    self.stream.insert(self.scan.read(task, &self.projection, self.batch_rows, metrics))
                }
            };
            let id = SplitId::try_from(self.current).map_err(|_| Error::internal("too many splits"))?;
            // Dropping this future loses nothing: the stream keeps what it has begun.
            match stream.next().await {
                Some(batch) => {
                    let mut batch = batch?;
                    let passed = split.skip.min(batch.num_rows() as u64);
                    split.skip -= passed;
                    let passed = usize::try_from(passed).unwrap_or(usize::MAX);
                    batch = batch.slice(passed, batch.num_rows() - passed);
                    if batch.num_rows() == 0 {
                        continue;
                    }
                    split.rows += batch.num_rows() as u64;
                    return Ok(SourceEvent::Batch { split: id, batch: ChangeBatch::insert_only(batch) });
                }
                None => {
                    split.finished = true;
                    self.stream = None;
                    self.current += 1;
                    return Ok(SourceEvent::SplitFinished(id));
                }
            }
        }
    }

    fn snapshot(&self) -> Result<Vec<SplitState>> {
        let snapshot = self.scan.snapshot().unwrap_or_default();
        self.splits
            .iter()
            .map(|s| {
                let position = Position { snapshot, rows: s.rows, finished: s.finished };
                let position =
                    serde_json::to_string(&position).map_err(|e| Error::internal(e.to_string()))?;
                Ok(SplitState { split: s.task.data_file_path.clone(), position })
            })
            .collect()
    }
}
