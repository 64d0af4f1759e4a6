//! Batch scan through a connector's readers: one partition per reader.
//!
//! Readers share their queue of splits, so they are opened together, by the first partition that runs.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result as DfResult;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::execution_plan::EmissionType;
use futures::stream::{BoxStream, StreamExt};
use tokio::sync::OnceCell;

use crate::edges::scan_exec::{Scan, ScanExec, column_names};
use crate::edges::{ScanRequest, Source, SourceEvent, SourceReader};
use crate::error::{Error, Result};
use crate::runtime::job::JobMetrics;

type Readers = Vec<Mutex<Option<Box<dyn SourceReader>>>>;

/// Reads a bounded source.
pub struct ReaderScan {
    name: String,
    source: Arc<dyn Source>,
    scan: ScanRequest,
    metrics: Arc<JobMetrics>,
    partitions: usize,
    schema: SchemaRef,
    readers: Arc<OnceCell<Readers>>,
}

impl ReaderScan {
    /// The plan of a scan with `partitions` readers.
    ///
    /// # Errors
    /// If the projection is out of range.
    pub fn plan(
        name: String,
        source: Arc<dyn Source>,
        scan: ScanRequest,
        partitions: usize,
        metrics: Arc<JobMetrics>,
    ) -> Result<ScanExec<Self>> {
        let schema = match &scan.projection {
            None => source.schema(),
            Some(p) => Arc::new(Schema::project(&source.schema(), p)?),
        };
        let readers = Arc::new(OnceCell::new());
        let read = ReaderScan { name, source, scan, metrics, partitions, schema: schema.clone(), readers };
        Ok(ScanExec::new(read, schema, partitions, EmissionType::Incremental))
    }
}

impl fmt::Debug for ReaderScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderScan").field("table", &self.name).finish_non_exhaustive()
    }
}

impl Scan for ReaderScan {
    const NAME: &'static str = "ReaderExec";

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = column_names(&self.schema);
        write!(f, "table={}, columns=[{columns}], readers={}", self.name, self.partitions)
    }

    fn open(
        &self,
        partition: usize,
        _context: &TaskContext,
    ) -> DfResult<BoxStream<'static, DfResult<RecordBatch>>> {
        let state = State {
            name: self.name.clone(),
            source: self.source.clone(),
            scan: self.scan.clone(),
            partitions: self.partitions,
            partition,
            readers: self.readers.clone(),
            reader: None,
            metrics: self.metrics.clone(),
        };
        let rows = futures::stream::try_unfold(state, |mut state| async move {
            match state.next().await {
                Ok(Some(batch)) => Ok(Some((batch, state))),
                Ok(None) => Ok(None),
                Err(e) => Err(e.into()),
            }
        });
        Ok(rows.boxed())
    }
}

struct State {
    name: String,
    source: Arc<dyn Source>,
    scan: ScanRequest,
    partitions: usize,
    partition: usize,
    readers: Arc<OnceCell<Readers>>,
    reader: Option<Box<dyn SourceReader>>,
    metrics: Arc<JobMetrics>,
}

impl State {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let all = self
                    .readers
                    .get_or_try_init(|| async {
                        let opened = self.source.readers(self.scan.clone(), self.partitions, None).await?;
                        Ok::<Readers, Error>(opened.into_iter().map(|r| Mutex::new(Some(r))).collect())
                    })
                    .await
                    .map_err(|e| e.context(self.name.clone()))?;
                let mine = all
                    .get(self.partition)
                    .and_then(|r| r.lock().unwrap_or_else(PoisonError::into_inner).take());
                self.reader.insert(mine.ok_or_else(|| {
                    Error::internal(format!("{}: partition {} was read twice", self.name, self.partition))
                })?)
            }
        };
        loop {
            match reader.next().await.map_err(|e| e.context(self.name.clone()))? {
                SourceEvent::Batch { batch, .. } => {
                    if batch.kinds.is_some() {
                        return Err(Error::unsupported(format!(
                            "table {} holds a changelog and cannot be read in batch mode",
                            self.name
                        ))
                        .hint("SET 'execution.runtime-mode' = 'streaming'"));
                    }
                    self.metrics.rows_in.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
                    if batch.num_rows() > 0 {
                        return Ok(Some(batch.rows));
                    }
                }
                SourceEvent::SplitsStarted(_)
                | SourceEvent::SplitFinished(_)
                | SourceEvent::Dropped { .. } => {}
                SourceEvent::End => return Ok(None),
            }
        }
    }
}
