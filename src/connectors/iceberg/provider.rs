//! The table of a batch query: DataFusion's view of a pinned scan.
//!
//! ```text
//!  IcebergTable (TableProvider) ── scan(projection, filters, limit): plan files ─► IcebergScanExec
//!                                   files dealt out by size, big ones cut ─► one stream per partition
//! ```
//!
//! Filters prune manifests, partitions, files and row groups; DataFusion evaluates them again (`Inexact`). Row counts
//! come from the manifests, so `COUNT(*)` without a filter reads no file.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DFResult;
use datafusion::common::stats::Precision;
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use iceberg::scan::FileScanTask;

use super::scan::{Scan, all_columns};
use crate::edges::scan_exec::{self, ScanExec, column_names};
use crate::error::Error;

/// Files are cut only into pieces at least this big: below, opening them again costs more than it gains.
const MIN_PIECE: u64 = 8 << 20;

/// A pinned Iceberg table.
pub(super) struct IcebergTable {
    scan: Arc<Scan>,
}

impl fmt::Debug for IcebergTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IcebergTable({})", self.scan.shown())
    }
}

impl IcebergTable {
    /// The table of a scan.
    pub fn new(scan: Arc<Scan>) -> Self {
        IcebergTable { scan }
    }
}

#[async_trait]
impl TableProvider for IcebergTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.scan.schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DFResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let tasks = self.scan.plan(filters).await.map_err(DataFusionError::from)?;
        let projection = projection.cloned().unwrap_or_else(|| all_columns(self.scan.schema()));
        let exec = IcebergScan::plan(
            Arc::clone(&self.scan),
            projection,
            tasks,
            filters.iter().map(ToString::to_string).collect(),
            limit,
            state.config().target_partitions(),
        )
        .map_err(DataFusionError::from)?;
        Ok(Arc::new(exec))
    }
}

/// Reads the files of a scan, one group of them per partition.
pub(super) struct IcebergScan {
    scan: Arc<Scan>,
    schema: SchemaRef,
    projection: Vec<usize>,
    groups: Vec<Vec<FileScanTask>>,
    /// Files before they were cut.
    files: usize,
    rows: Precision<usize>,
    filters: Vec<String>,
    limit: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for IcebergScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IcebergScan({}, {} files)", self.scan.shown(), self.files)
    }
}

impl IcebergScan {
    fn plan(
        scan: Arc<Scan>,
        projection: Vec<usize>,
        tasks: Vec<FileScanTask>,
        filters: Vec<String>,
        limit: Option<usize>,
        partitions: usize,
    ) -> crate::Result<ScanExec<Self>> {
        let schema: SchemaRef = Arc::new(scan.schema().project(&projection)?);
        let files = tasks.len();
        let filtered = !filters.is_empty();
        let rows = count_rows(&tasks, filtered);
        let tasks = match (limit, filtered) {
            (Some(limit), false) => enough_for(tasks, limit),
            _ => tasks,
        };
        let groups = deal_out(tasks, partitions.max(1));
        let partitions = groups.len();
        let read = IcebergScan {
            scan,
            schema: schema.clone(),
            projection,
            groups,
            files,
            rows,
            filters,
            limit,
            metrics: ExecutionPlanMetricsSet::new(),
        };
        Ok(ScanExec::new(read, schema, partitions, EmissionType::Incremental))
    }

    /// Data files that are read.
    #[cfg(test)]
    pub fn files(&self) -> usize {
        self.files
    }
}

/// The number of rows, exact where neither filters nor deletes take any away.
fn count_rows(tasks: &[FileScanTask], filtered: bool) -> Precision<usize> {
    let counts: Option<u64> = tasks.iter().map(|t| t.record_count).sum();
    let Some(n) = counts.and_then(|n| usize::try_from(n).ok()) else { return Precision::Absent };
    if filtered || tasks.iter().any(|t| !t.deletes.is_empty()) {
        Precision::Inexact(n)
    } else {
        Precision::Exact(n)
    }
}

/// The first files that hold `limit` rows for sure.
fn enough_for(tasks: Vec<FileScanTask>, limit: usize) -> Vec<FileScanTask> {
    let mut rows = 0;
    tasks
        .into_iter()
        .take_while(|t| {
            let needed = rows < limit as u64;
            if t.deletes.is_empty() {
                rows += t.record_count.unwrap_or(0);
            }
            needed
        })
        .collect()
}

/// Groups of about the same size, at most `partitions` and at least one. Files far above the average are cut at row
/// groups, unless they have deletes, whose positions count from the start of the file.
fn deal_out(tasks: Vec<FileScanTask>, partitions: usize) -> Vec<Vec<FileScanTask>> {
    let total: u64 = tasks.iter().map(|t| t.length).sum();
    let piece = (total / partitions as u64).max(MIN_PIECE);
    let mut pieces = Vec::new();
    for task in tasks {
        if partitions == 1 || !task.deletes.is_empty() || task.length <= piece + piece / 2 {
            pieces.push(task);
            continue;
        }
        let n = task.length.div_ceil(piece);
        let step = task.length.div_ceil(n);
        let end = task.start + task.length;
        let mut start = task.start;
        while start < end {
            let mut part = task.clone();
            part.start = start;
            part.length = step.min(end - start);
            part.record_count = None;
            start += part.length;
            pieces.push(part);
        }
    }
    let mut groups: Vec<(u64, Vec<FileScanTask>)> = Vec::new();
    groups.resize_with(partitions.min(pieces.len()).max(1), Default::default);
    for task in pieces {
        if let Some((size, group)) = groups.iter_mut().min_by_key(|(size, _)| *size) {
            *size += task.length;
            group.push(task);
        }
    }
    groups.into_iter().map(|(_, g)| g).collect()
}

impl scan_exec::Scan for IcebergScan {
    const NAME: &'static str = "IcebergScan";

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, files={}, partitions={}, projection=[{}]",
            self.scan.shown(),
            self.files,
            self.groups.len(),
            column_names(&self.schema)
        )?;
        // The filters as DataFusion shows them: the Iceberg crate panics on showing some timestamps.
        if !self.filters.is_empty() {
            write!(f, ", filters=[{}]", self.filters.join(", "))?;
        }
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }

    fn open(
        &self,
        partition: usize,
        context: &TaskContext,
    ) -> DFResult<BoxStream<'static, DFResult<RecordBatch>>> {
        let tasks = self.groups.get(partition).cloned().ok_or_else(|| {
            DataFusionError::from(Error::internal(format!("no scan partition {partition}")))
        })?;
        let rows = context.session_config().batch_size();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let scan = Arc::clone(&self.scan);
        let projection = self.projection.clone();
        let mut left = self.limit.unwrap_or(usize::MAX);
        let stream = futures::stream::iter(tasks)
            .map(move |task| scan.read(task, &projection, rows, None))
            .flatten()
            .map_err(DataFusionError::from)
            .scan((), move |(), batch| {
                let next = match batch {
                    Ok(_) if left == 0 => None,
                    Ok(b) => {
                        let b: RecordBatch = if b.num_rows() > left { b.slice(0, left) } else { b };
                        left -= b.num_rows();
                        metrics.record_output(b.num_rows());
                        Some(Ok(b))
                    }
                    Err(e) => Some(Err(e)),
                };
                futures::future::ready(next)
            });
        Ok(stream.boxed())
    }

    fn rows(&self, partition: Option<usize>) -> Precision<usize> {
        match partition {
            None if self.limit.is_none() => self.rows,
            None => self.rows.to_inexact(),
            Some(_) => Precision::Absent,
        }
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
