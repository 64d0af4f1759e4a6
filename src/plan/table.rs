//! Tables as DataFusion sees them.
//!
//! ```text
//!  ConnectorTable   what the connector reads: physical ++ metadata columns; scanned through its readers, or by a plan of
//!                   the connector's own where that pushes down more
//!  DerivedTable     a plan under a name: a view, or a ConnectorTable with computed columns and watermark
//! ```

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::edges::{BatchScan, ScanRequest, Source, SourceChangelog};
use crate::error::{Error, Result};
use crate::plan::batch::net_rows_exec::NetRowsScan;
use crate::plan::batch::reader_exec::ReaderScan;
use crate::runtime::job::JobMetrics;
use crate::stream::BATCH_ROWS;
use crate::types::LogicalType;

/// `scan.watermark.*`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatermarkOptions {
    /// `idle-timeout`; the session's when `None`.
    pub idle_timeout: Option<Duration>,
    /// `emit.strategy` is `on-event`: a watermark behind every row.
    pub on_event: bool,
    /// `alignment.*`
    pub alignment: Option<AlignmentOptions>,
}

/// `scan.watermark.alignment.*`: tables of a group that are read at about the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignmentOptions {
    /// The group.
    pub group: String,
    /// How far a reader may be ahead of the last one of the group.
    pub max_drift: Duration,
    /// How often a reader that waits looks at the others.
    pub update_interval: Duration,
}

/// A connector's source as a DataFusion table.
#[derive(Debug)]
pub struct ConnectorTable {
    /// Name for plans and errors.
    pub name: String,
    /// Hash of full name and options: equal for scans that may share one source.
    pub identity: u64,
    /// The types of its columns as they are declared, where they are.
    pub types: Vec<Option<LogicalType>>,
    /// The source.
    pub source: Arc<dyn Source>,
    /// Columns of its PRIMARY KEY (taken at its word), empty without.
    pub primary_key: Vec<String>,
    /// `table.exec.source.cdc-events-duplicate`: changes may come twice, the last of each key counts.
    pub duplicates: bool,
    /// `scan.watermark.*`
    pub watermarks: WatermarkOptions,
    /// `scan.parallelism`: readers of a stream; the job's parallelism when `None`.
    pub parallelism: Option<usize>,
    /// Where its counters go.
    pub metrics: Arc<JobMetrics>,
}

impl ConnectorTable {
    /// The key by which the source's changes have to be made whole, as columns of the source; `None` if they are.
    ///
    /// # Errors
    /// Validation if there is no key to go by.
    pub fn normalized_by(&self) -> Result<Option<Vec<usize>>> {
        match self.source.changelog() {
            SourceChangelog::AppendOnly => return Ok(None),
            SourceChangelog::Retract if !self.duplicates => return Ok(None),
            SourceChangelog::Retract | SourceChangelog::Upsert => {}
        }
        if self.primary_key.is_empty() {
            return Err(Error::validation(format!(
                "Configuration 'table.exec.source.cdc-events-duplicate' is enabled which requires the changelog sources to define a PRIMARY KEY. However, table '{}' doesn't have a primary key.",
                self.name
            )));
        }
        let schema = self.source.schema();
        self.primary_key.iter().map(|c| Ok(schema.index_of(c)?)).collect::<Result<_>>().map(Some)
    }
}

#[async_trait]
impl TableProvider for ConnectorTable {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DfResult<Vec<TableProviderFilterPushDown>> {
        // Sources may use filters to read less; the query evaluates them again.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        if !self.source.bounded() {
            return Err(Error::validation(format!(
                "querying the unbounded table {} in batch mode is not allowed",
                self.name
            ))
            .hint(
                "SET 'execution.runtime-mode' = 'streaming', or bound the source (e.g. 'scan.bounded.mode')",
            )
            .into());
        }
        if let Some(provider) =
            self.source.batch_provider().await.map_err(|e| e.context(self.name.clone()))?
        {
            return provider.scan(state, projection, filters, limit).await;
        }
        let scan = ScanRequest {
            projection: projection.cloned(),
            filters: filters.to_vec(),
            limit,
            nested: None,
            filters_behind_watermark: Vec::new(),
            batch_rows: BATCH_ROWS,
            metrics: self.metrics.add_source(),
        };
        let counted = Arc::clone(&self.metrics);
        let native = BatchScan {
            table: &self.name,
            request: &scan,
            count: Arc::new(move |rows| {
                counted.rows_in.fetch_add(rows as u64, Ordering::Relaxed);
            }),
            session: state,
        };
        if let Some(plan) = self.source.batch_scan(native).await.map_err(|e| e.context(self.name.clone()))? {
            return Ok(plan);
        }
        if self.source.changelog() != SourceChangelog::AppendOnly {
            let key = self.normalized_by()?;
            return Ok(Arc::new(NetRowsScan::plan(
                self.name.clone(),
                self.source.clone(),
                scan,
                key.as_deref(),
                self.metrics.clone(),
            )?));
        }
        let partitions = state.config().target_partitions();
        Ok(Arc::new(ReaderScan::plan(
            self.name.clone(),
            self.source.clone(),
            scan,
            partitions,
            self.metrics.clone(),
        )?))
    }
}

/// A plan under a name.
#[derive(Debug)]
pub struct DerivedTable {
    plan: LogicalPlan,
    schema: SchemaRef,
}

impl DerivedTable {
    /// A table that stands for `plan`.
    pub fn new(plan: LogicalPlan) -> Self {
        let schema = Arc::new(plan.schema().as_arrow().clone());
        DerivedTable { plan, schema }
    }
}

#[async_trait]
impl TableProvider for DerivedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        // Its plan is inlined when the query is planned.
        Err(Error::internal("a derived table was scanned").into())
    }
}
