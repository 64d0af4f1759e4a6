//! Parquet files in batch mode: through DataFusion's own source, where it gives the rows that our readers give.
//!
//! ```text
//!  files ─► footers ─► all columns straight, rows narrow? ──yes─► DataSourceExec(GuardedSource(ParquetSource))
//!                                  │                               statistics, pages, files cut by bytes, dynamic filters
//!                                  └─no─► the readers: casts that can fail, NOT NULL that is to be checked, wide rows
//! ```
//!
//! Partition and metadata columns are constants of a file. What cannot be read here is left to the readers, with their
//! errors; so is a file that is damaged: it is read once more by them ([`guarded`]). Texts are read as they are declared, or
//! as views where most of them are filtered out at once ([`views`]).

mod guarded;
mod input;
mod straight;
mod views;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::{Field, Schema};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};

use self::guarded::{GuardedSource, Watched};
use self::input::{InputFactory, Probe, Progress, ScanFile};
use self::straight::StraightColumns;
pub use self::views::filter_on_views;
use super::FileFormat;
use super::layout::Projected;
use super::location::Store;
use super::parquet::{ParquetScan, StoreFile};
use super::source::FilesystemSource;
use super::split::SplitFile;
use crate::edges::BatchScan;
use crate::error::Result;
use crate::formats::parquet::Footer;
use crate::stream::BATCH_BYTES;

/// Footers read at a time.
const AT_ONCE: usize = 8;

/// Rows in a batch, at least: files of wider rows are left to the readers.
const FEW_ROWS: usize = 1024;

/// Bytes of each column of a row, as far as a scan of files knows them; `None` for other plans.
pub fn row_widths(plan: &dyn ExecutionPlan) -> Option<Vec<Option<usize>>> {
    let config = plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()?;
    let source = config.file_source().downcast_ref::<GuardedSource>()?;
    let width = |expr: &ProjectionExpr| {
        let column = expr.expr.downcast_ref::<Column>()?;
        source.widths().get(column.index()).copied()
    };
    Some(source.projection()?.as_ref().iter().map(width).collect())
}

/// The plan of a scan; `None` where the readers have to read.
///
/// # Errors
/// Those of [`Source::readers`](crate::edges::Source::readers).
pub(super) async fn plan(
    source: &FilesystemSource,
    scan: &BatchScan<'_>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let FileFormat::Parquet(format) = &source.format else { return Ok(None) };
    let request = scan.request;
    let Some(files) = source.files(&request.filters).await? else { return Ok(None) };
    if files.is_empty() || source.monitor.is_some() {
        return Ok(None);
    }
    let total = files.iter().map(|f| f.entry.size).sum();
    let projected = source.layout.project(request.projection.as_deref())?;
    let columns = Arc::new(format.schema().project(&projected.file_columns)?);
    let store = &source.discovery.location.store;
    let opened = open_all(files, columns.clone(), store, request.limit).await;
    // Whoever reads them says what is the matter.
    let Ok(Some(opened)) = opened else { return Ok(None) };

    let widest = |i: usize| opened.iter().map(|f| f.widths.get(i).copied().unwrap_or(0)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.fields().len()).map(widest).collect();
    let batch_rows = request.batch_rows.max(1);
    let fit = BATCH_BYTES / widths.iter().sum::<usize>().max(1);
    if fit < FEW_ROWS.min(batch_rows) {
        return Ok(None);
    }

    let (table, indices) = table_schema(&columns, &projected);
    let watched = Arc::new(Watched {
        name: scan.table.to_owned(),
        context: source.context(),
        widths,
        rows: scan.count.clone(),
        // What a failed file is read again for.
        reread: ParquetScan {
            schema: columns.clone(),
            table: format.schema().clone(),
            filters: Arc::from([]),
            batch_rows,
        },
    });
    let parquet = ParquetSource::new(table.clone()).with_parquet_file_reader_factory(Arc::new(InputFactory));
    let guarded = Arc::new(GuardedSource::new(Arc::new(parquet), watched));
    let schema = table.table_schema();
    let mut statistics = Vec::new();
    let mut partitioned = Vec::new();
    for OpenedFile { file, footer, .. } in opened {
        let constants = projected.constants(&file, store)?;
        let of_file = Arc::new(with_constants(footer.statistics(&columns), &constants));
        let mut entry = PartitionedFile::new(file.entry.path.clone(), file.entry.size)
            .with_partition_values(constants)
            .with_extension(ScanFile {
                file,
                store: store.clone(),
                metadata: footer.metadata,
                progress: Progress::of(&request.metrics),
            });
        entry.statistics = Some(of_file.clone());
        statistics.push(of_file);
        partitioned.push(entry);
    }
    let merged = Statistics::try_merge_iter(statistics.iter().map(AsRef::as_ref), schema)?;
    let groups = FileGroup::new(partitioned).split_files(scan.session.config().target_partitions().max(1));
    let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), guarded)
        .with_file_groups(groups)
        .with_statistics(merged)
        .with_expr_adapter(Some(Arc::new(StraightColumns)))
        .with_batch_size((fit < batch_rows).then_some(fit))
        .with_limit(request.limit)
        .with_projection_indices(Some(indices))?
        .build();
    request.metrics.total_bytes.store(total, Ordering::Relaxed);
    Ok(Some(DataSourceExec::from_data_source(config)))
}

/// A file with its footer.
struct OpenedFile {
    file: Arc<SplitFile>,
    footer: Footer,
    /// Bytes of the columns in a row.
    widths: Vec<usize>,
}

/// Reads the footers of files, of as many as hold `limit` rows; `None` if one of them is for the readers.
async fn open_all(
    files: Vec<SplitFile>,
    columns: Arc<Schema>,
    store: &Store,
    limit: Option<usize>,
) -> Result<Option<Vec<OpenedFile>>> {
    let opening = files.into_iter().map(|file| {
        let (store, columns) = (store.clone(), columns.clone());
        tokio::task::spawn_blocking(move || open(Arc::new(file), &columns, store))
    });
    // A limit is reached with the first files, mostly.
    let ahead = if limit.is_some() { 1 } else { AT_ONCE };
    let mut opening = futures::stream::iter(opening).buffered(ahead).map(|opened| opened?);
    let (mut all, mut rows) = (Vec::new(), 0);
    while let Some(opened) = opening.try_next().await? {
        let Some(opened) = opened else { return Ok(None) };
        rows += opened.footer.rows();
        all.push(opened);
        if limit.is_some_and(|limit| rows >= limit) {
            break;
        }
    }
    Ok(Some(all))
}

fn open(file: Arc<SplitFile>, columns: &Schema, store: Store) -> Result<Option<OpenedFile>> {
    let probe = Probe(StoreFile::new(store, &file.entry));
    let footer = Footer::read(&probe.0)?;
    if !columns.fields().iter().all(|f| footer.is_straight(f)) {
        return Ok(None);
    }
    let widths: Option<Vec<usize>> = columns.fields().iter().map(|f| footer.width(f, &probe)).collect();
    Ok(widths.map(|widths| OpenedFile { file, footer, widths }))
}

/// The columns of the files, then those that are constants of a file; and where the projected columns stand among them.
fn table_schema(columns: &Arc<Schema>, projected: &Projected) -> (TableSchema, Vec<usize>) {
    let mut constants = Vec::new();
    let mut indices = Vec::new();
    for (place, field) in projected.places().zip(projected.schema.fields()) {
        indices.push(place.unwrap_or(columns.fields().len() + constants.len()));
        if place.is_none() {
            constants.push(Arc::<Field>::clone(field));
        }
    }
    (TableSchema::new(columns.clone(), constants), indices)
}

/// Statistics of a file with those of its constants.
fn with_constants(mut statistics: Statistics, constants: &[ScalarValue]) -> Statistics {
    for value in constants {
        statistics.column_statistics.push(if value.is_null() {
            ColumnStatistics { null_count: statistics.num_rows, ..ColumnStatistics::new_unknown() }
        } else {
            ColumnStatistics {
                null_count: Precision::Exact(0),
                min_value: Precision::Exact(value.clone()),
                max_value: Precision::Exact(value.clone()),
                distinct_count: Precision::Exact(1),
                ..ColumnStatistics::new_unknown()
            }
        });
    }
    statistics
}
