//! A table whose rows say where they are stored, for batch queries.
//!
//! ```text
//!  Scan ─► files dealt out, never cut ─► rows ++ $file, $row ─► the columns that are asked for
//! ```

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DFResult;
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::EmissionType;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use iceberg::scan::FileScanTask;

use super::super::scan::{Scan, all_columns};
use super::place_fields;
use crate::edges::scan_exec::{self, ScanExec, column_names};
use crate::edges::{ScanRequest, Source, SourceReader, SplitState};
use crate::error::{Error, Result};

/// The table of an UPDATE or DELETE.
pub(super) struct PlacedSource {
    scan: Arc<Scan>,
    schema: SchemaRef,
}

impl fmt::Debug for PlacedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlacedSource({})", self.scan.shown())
    }
}

impl PlacedSource {
    /// The columns of a scan, and the places of its rows.
    pub fn new(scan: Arc<Scan>) -> Self {
        let fields = scan.schema().fields().iter().cloned().chain(place_fields());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        PlacedSource { scan, schema }
    }
}

#[async_trait]
impl Source for PlacedSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn bounded(&self) -> bool {
        true
    }

    async fn readers(
        &self,
        _scan: ScanRequest,
        _parallelism: usize,
        _restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        Err(Error::internal("a table is changed in batch mode only"))
    }

    async fn batch_provider(&self) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(Some(Arc::new(PlacedTable { scan: Arc::clone(&self.scan), schema: Arc::clone(&self.schema) })))
    }
}

/// The same for DataFusion.
struct PlacedTable {
    scan: Arc<Scan>,
    schema: SchemaRef,
}

impl fmt::Debug for PlacedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlacedTable({})", self.scan.shown())
    }
}

#[async_trait]
impl TableProvider for PlacedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
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
        _limit: Option<usize>,
    ) -> DFResult<Arc<dyn ExecutionPlan>> {
        let mut tasks = self.scan.plan(filters).await.map_err(DataFusionError::from)?;
        for task in &mut tasks {
            // Rows are counted from the beginning of the file.
            task.predicate = None;
        }
        let projection = projection.cloned().unwrap_or_else(|| all_columns(&self.schema));
        let schema: SchemaRef = Arc::new(self.schema.project(&projection)?);
        let partitions = state.config().target_partitions().min(tasks.len()).max(1);
        let mut groups: Vec<(u64, Vec<FileScanTask>)> = Vec::new();
        groups.resize_with(partitions, Default::default);
        for task in tasks {
            if let Some((size, group)) = groups.iter_mut().min_by_key(|(size, _)| *size) {
                *size += task.length;
                group.push(task);
            }
        }
        let groups = groups.into_iter().map(|(_, group)| group).collect();
        let scan =
            PlacedScan { scan: Arc::clone(&self.scan), schema: Arc::clone(&schema), projection, groups };
        Ok(Arc::new(ScanExec::new(scan, schema, partitions, EmissionType::Incremental)))
    }
}

/// Reads whole files.
struct PlacedScan {
    scan: Arc<Scan>,
    schema: SchemaRef,
    projection: Vec<usize>,
    groups: Vec<Vec<FileScanTask>>,
}

impl fmt::Debug for PlacedScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlacedScan({})", self.scan.shown())
    }
}

impl scan_exec::Scan for PlacedScan {
    const NAME: &'static str = "IcebergPlacesScan";

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: usize = self.groups.iter().map(Vec::len).sum();
        write!(f, "{}, files={files}, projection=[{}]", self.scan.shown(), column_names(&self.schema))
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
        let scan = Arc::clone(&self.scan);
        let columns = scan.schema().fields().len();
        let own: Vec<usize> = self.projection.iter().copied().filter(|i| *i < columns).collect();
        // The places come behind the columns that are read.
        let mut read = 0..own.len();
        let from: Vec<usize> = self
            .projection
            .iter()
            .map(|i| match i.checked_sub(columns) {
                Some(place) => own.len() + place,
                None => read.next().unwrap_or_default(),
            })
            .collect();
        let stream = futures::stream::iter(tasks)
            .map(move |task| scan.read_placed(task, &own, rows))
            .flatten()
            .map_err(DataFusionError::from)
            .map(move |batch| Ok(batch?.project(&from)?));
        Ok(stream.boxed())
    }
}
