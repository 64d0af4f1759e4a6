//! Batch scan through a connector's readers: one partition per reader.
//!
//! Readers share their queue of splits, so they are opened together, by the first partition that runs.

use std::any::Any;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result as DfResult;
use datafusion::common::stats::Precision;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, Statistics,
};
use tokio::sync::OnceCell;

use crate::edges::{ScanRequest, Source, SourceEvent, SourceReader};
use crate::error::{Error, Result};
use crate::runtime::job::JobMetrics;

type Readers = Vec<Mutex<Option<Box<dyn SourceReader>>>>;

/// Reads a bounded source.
pub struct ReaderExec {
    name: String,
    source: Arc<dyn Source>,
    scan: ScanRequest,
    metrics: Arc<JobMetrics>,
    partitions: usize,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    readers: Arc<OnceCell<Readers>>,
}

impl ReaderExec {
    /// A scan with `partitions` readers.
    ///
    /// # Errors
    /// If the projection is out of range.
    pub fn try_new(
        name: String,
        source: Arc<dyn Source>,
        scan: ScanRequest,
        partitions: usize,
        metrics: Arc<JobMetrics>,
    ) -> Result<Self> {
        let schema = match &scan.projection {
            None => source.schema(),
            Some(p) => Arc::new(Schema::project(&source.schema(), p)?),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(ReaderExec {
            name,
            source,
            scan,
            metrics,
            partitions,
            schema,
            properties: Arc::new(properties),
            readers: Arc::new(OnceCell::new()),
        })
    }
}

impl fmt::Debug for ReaderExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReaderExec").field("table", &self.name).finish_non_exhaustive()
    }
}

impl DisplayAs for ReaderExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let columns: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        write!(
            f,
            "ReaderExec: table={}, columns=[{}], readers={}",
            self.name,
            columns.join(", "),
            self.partitions
        )
    }
}

impl ExecutionPlan for ReaderExec {
    fn name(&self) -> &str {
        "ReaderExec"
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn partition_statistics(&self, _partition: Option<usize>) -> DfResult<Statistics> {
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Absent;
        Ok(statistics)
    }

    fn execute(&self, partition: usize, _context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
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
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows)))
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
