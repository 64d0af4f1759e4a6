//! The execution plan of a scan: what every leaf of a batch plan is to DataFusion, whatever it reads.
//!
//! ```text
//!  ScanExec<S>  name, properties, no inputs ──execute(partition)──► S::open(partition) ─► batches of `schema`
//! ```

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{Result as DfResult, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::stream::BoxStream;

/// A bounded scan in partitions.
pub trait Scan: fmt::Debug + Send + Sync + 'static {
    /// The plan's name in EXPLAIN.
    const NAME: &'static str;

    /// What is read and how, as it stands behind the name in EXPLAIN.
    ///
    /// # Errors
    /// Those of `f`.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// The batches of one partition.
    ///
    /// # Errors
    /// If there is no such partition.
    fn open(
        &self,
        partition: usize,
        context: &TaskContext,
    ) -> DfResult<BoxStream<'static, DfResult<RecordBatch>>>;

    /// The number of rows of a partition, or of all.
    fn rows(&self, _partition: Option<usize>) -> Precision<usize> {
        Precision::Absent
    }

    /// What has been counted while it ran.
    fn metrics(&self) -> Option<MetricsSet> {
        None
    }
}

/// The execution plan of a [`Scan`].
#[derive(Debug)]
pub struct ScanExec<S> {
    scan: S,
    properties: Arc<PlanProperties>,
}

impl<S: Scan> ScanExec<S> {
    /// The plan of a scan that gives rows of `schema` in so many partitions.
    pub fn new(scan: S, schema: SchemaRef, partitions: usize, emission: EmissionType) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            emission,
            Boundedness::Bounded,
        );
        ScanExec { scan, properties: Arc::new(properties) }
    }

    /// The scan.
    pub fn scan(&self) -> &S {
        &self.scan
    }
}

impl<S: Scan> DisplayAs for ScanExec<S> {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", S::NAME)?;
        self.scan.describe(f)
    }
}

impl<S: Scan> ExecutionPlan for ScanExec<S> {
    fn name(&self) -> &str {
        S::NAME
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

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        let batches = self.scan.open(partition, &context)?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        self.scan.metrics()
    }

    fn partition_statistics(&self, partition: Option<usize>) -> DfResult<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = self.scan.rows(partition);
        Ok(Arc::new(statistics))
    }
}

/// Names of columns, for [`Scan::describe`].
pub fn column_names(schema: &SchemaRef) -> String {
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    names.join(", ")
}
