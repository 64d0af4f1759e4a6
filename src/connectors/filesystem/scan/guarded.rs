//! DataFusion's Parquet source with the manners of our readers: panics of the decoder are errors, errors name the file and
//! the place, rows and bytes are counted.
//!
//! ```text
//!  GuardedSource ─► morselizer ─► planners of a file ─► morsels ─► batches, in slices
//!                                        └───── fails ────┴─────────┴─► the file is read again by our reader, which says where
//! ```

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use arrow::array::RecordBatch;
use datafusion::common::Result as DfResult;
use datafusion::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileSource, ParquetSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::ObjectStore;

use super::input::{InputFactory, ScanFile};
use crate::connectors::filesystem::parquet::{ParquetScan, reread};
use crate::edges::CountRows;
use crate::error::guard::{guarded, guarded_stream};
use crate::error::{Error, Result};
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::slices;

/// What is the same for all files of a scan.
pub(super) struct Watched {
    /// Name of the table, for errors.
    pub(super) name: String,
    pub(super) context: String,
    /// Bytes of the columns of the files in a row.
    pub(super) widths: Vec<usize>,
    pub(super) rows: CountRows,
    /// How a file that fails is read by our reader.
    pub(super) reread: ParquetScan,
}

/// The source.
#[derive(Clone)]
pub(super) struct GuardedSource {
    inner: Arc<dyn FileSource>,
    watched: Arc<Watched>,
}

impl GuardedSource {
    /// Around DataFusion's.
    pub(super) fn new(inner: Arc<dyn FileSource>, watched: Arc<Watched>) -> Self {
        GuardedSource { inner, watched }
    }

    /// The same source of a table with other types, which the filter is for; `None` if it cannot be had.
    ///
    /// # Errors
    /// From DataFusion.
    pub(super) fn over(
        &self,
        table: &TableSchema,
        filter: Option<Arc<dyn PhysicalExpr>>,
    ) -> DfResult<Option<Arc<dyn FileSource>>> {
        let Some(inner) = self.inner.downcast_ref::<ParquetSource>() else { return Ok(None) };
        let mut source = ParquetSource::new(table.clone())
            .with_table_parquet_options(inner.table_parquet_options().clone())
            .with_parquet_file_reader_factory(Arc::new(InputFactory));
        if let Some(filter) = filter {
            source = source.with_predicate(filter);
        }
        let source = self.around(Arc::new(source));
        match inner.projection() {
            Some(projection) => source.try_pushdown_projection(projection),
            None => Ok(Some(source)),
        }
    }

    /// Bytes of each column of the table in a row; those of columns that are constant are not known.
    pub(super) fn widths(&self) -> &[usize] {
        &self.watched.widths
    }

    fn around(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(GuardedSource { inner, watched: Arc::clone(&self.watched) })
    }
}

impl FileSource for GuardedSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> DfResult<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(store, config, partition)
    }

    fn create_morselizer(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> DfResult<Box<dyn Morselizer>> {
        let inner = self.inner.create_morselizer(store, config, partition)?;
        Ok(Box::new(GuardedMorselizer { inner, watched: Arc::clone(&self.watched) }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, rows: usize) -> Arc<dyn FileSource> {
        self.around(self.inner.with_batch_size(rows))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_extra(t, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> DfResult<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        let updated_node = pushed.updated_node.map(|inner| self.around(inner));
        Ok(FilterPushdownPropagation { filters: pushed.filters, updated_node })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        known: &EquivalenceProperties,
    ) -> DfResult<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_sort(order, known)?.map(|inner| self.around(inner)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> DfResult<Option<Arc<dyn FileSource>>> {
        // What is computed has errors of its own, and texts that grow.
        if !projection.expr_iter().all(|e| e.is::<Column>()) {
            return Ok(None);
        }
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.around(inner)))
    }
}

/// A file at work.
#[derive(Clone)]
struct Work {
    watched: Arc<Watched>,
    file: Option<ScanFile>,
    /// Bytes that the whole file, or its part, counts.
    share: u64,
}

impl Work {
    fn is_done(&self) {
        if let Some(ScanFile { progress, .. }) = &self.file {
            progress.part_is_done(self.share);
        }
    }

    /// An error that names file, row group, column and page, as our reader has it. If that can read the file, the error is
    /// that of DataFusion's.
    async fn explain(self, error: Error) -> Error {
        let Some(ScanFile { file, store, .. }) = self.file else { return error };
        let shown = format!("file {}", store.display(&file.entry.path));
        let scan = self.watched.reread.clone();
        let again = tokio::task::spawn_blocking(move || reread(&store, &file, &scan)).await;
        let error = match again {
            Ok(Err(found)) => found,
            _ => error,
        };
        let Watched { name, context, .. } = &*self.watched;
        error.context(shown).context(context.clone()).context(name.clone())
    }
}

struct GuardedMorselizer {
    inner: Box<dyn Morselizer>,
    watched: Arc<Watched>,
}

impl fmt::Debug for GuardedMorselizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Morselizer for GuardedMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> DfResult<Box<dyn MorselPlanner>> {
        let part = file.range.as_ref().and_then(|r| u64::try_from(r.end - r.start).ok());
        let work = Work {
            watched: Arc::clone(&self.watched),
            file: file.extension::<ScanFile>().cloned(),
            share: part.unwrap_or(file.object_meta.size),
        };
        let planned = guarded(|| Ok(self.inner.plan_file(file)?));
        Ok(Box::new(GuardedPlanner { planned, work }))
    }
}

/// A planner of a part of a file, or why there is none.
struct GuardedPlanner {
    planned: Result<Box<dyn MorselPlanner>>,
    work: Work,
}

impl fmt::Debug for GuardedPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedPlanner").finish_non_exhaustive()
    }
}

impl GuardedPlanner {
    fn boxed(planner: Box<dyn MorselPlanner>, work: Work) -> Box<dyn MorselPlanner> {
        Box::new(GuardedPlanner { planned: Ok(planner), work })
    }
}

impl MorselPlanner for GuardedPlanner {
    fn plan(self: Box<Self>) -> DfResult<Option<MorselPlan>> {
        let GuardedPlanner { planned, work } = *self;
        let planned = planned.and_then(|planner| guarded(|| Ok(planner.plan()?)));
        let mut plan = match planned {
            Ok(Some(plan)) => plan,
            Ok(None) => {
                // Nothing of it has to be read.
                work.is_done();
                return Ok(None);
            }
            // Only what waits can tell more.
            Err(e) => {
                let failed = async move { Err(work.explain(e).await.into()) };
                return Ok(Some(MorselPlan::new().with_pending_planner(failed)));
            }
        };
        let morsels = plan.take_morsels().into_iter().map(|inner| {
            let work = work.clone();
            Box::new(GuardedMorsel { inner, work }) as Box<dyn Morsel>
        });
        let mut made = MorselPlan::new().with_morsels(morsels.collect());
        let planners = plan.take_ready_planners().into_iter();
        made = made.with_planners(planners.map(|p| GuardedPlanner::boxed(p, work.clone())).collect());
        if let Some(pending) = plan.take_pending_planner() {
            let waiting: BoxFuture<'static, DfResult<Box<dyn MorselPlanner>>> = async move {
                match pending.into_future().await {
                    Ok(planner) => Ok(GuardedPlanner::boxed(planner, work)),
                    Err(e) => Err(work.explain(e.into()).await.into()),
                }
            }
            .boxed();
            made = made.with_pending_planner(waiting);
        }
        Ok(Some(made))
    }
}

struct GuardedMorsel {
    inner: Box<dyn Morsel>,
    work: Work,
}

impl fmt::Debug for GuardedMorsel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Morsel for GuardedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, DfResult<RecordBatch>> {
        let GuardedMorsel { inner, work } = *self;
        let rows = Arc::clone(&work.watched.rows);
        let batches = guarded_stream(inner.into_stream().map_err(Error::from));
        let done = work.clone();
        let batches = batches.chain(futures::stream::poll_fn(move |_| {
            done.is_done();
            Poll::Ready(None)
        }));
        let explained = batches.then(move |batch| {
            let work = batch.is_err().then(|| work.clone());
            async move {
                match (batch, work) {
                    (Err(e), Some(work)) => Err(work.explain(e).await),
                    (batch, _) => batch,
                }
            }
        });
        let sliced = explained.map_ok(move |batch| {
            rows(batch.num_rows());
            futures::stream::iter(slices(batch, BATCH_BYTES).into_iter().map(Ok::<_, Error>))
        });
        sliced.try_flatten().map_err(Into::into).boxed()
    }
}
