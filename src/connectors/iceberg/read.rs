//! The rows of one data file.
//!
//! ```text
//!  footer ─► rows per batch ─┐
//!  FileScanTask ─────────────┴─► batches of the file ─► deletes ─► declared types
//!                                  │ rows turn out to be wider: begun again with smaller batches, behind what was read
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use iceberg::arrow::ArrowFileReader;
use iceberg::io::FileMetadata;
use iceberg::scan::FileScanTask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use tokio::sync::OnceCell;

use super::row_changes::place_fields;
use super::scan::{Scan, has_evolved};
use super::{deletes, nested};
use crate::connectors::conform::conform_batch;
use crate::edges::SourceMetrics;
use crate::error::guard::guarded_stream;
use crate::error::{Error, Result};
use crate::formats::parquet::{average_row_bytes, fewer_rows, is_overflow};
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::{batch_bytes, slices};

/// Stored bytes per row below which no file is asked how wide its rows are.
const NARROW: u64 = 64;

impl Scan {
    /// The rows of a file, in its order, with the columns of `projection`.
    pub fn read(
        self: &Arc<Self>,
        task: FileScanTask,
        projection: &[usize],
        batch_rows: usize,
        metrics: Option<Arc<SourceMetrics>>,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        self.rows(task, projection, batch_rows, metrics, false)
    }

    /// As [`Scan::read`], with where each row is stored behind the columns (see `row_changes`).
    pub fn read_placed(
        self: &Arc<Self>,
        task: FileScanTask,
        projection: &[usize],
        batch_rows: usize,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        self.rows(task, projection, batch_rows, None, true)
    }

    fn rows(
        self: &Arc<Self>,
        task: FileScanTask,
        projection: &[usize],
        batch_rows: usize,
        metrics: Option<Arc<SourceMetrics>>,
        placed: bool,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        let culprit = format!("{}: data file {}", self.shown(), task.data_file_path);
        let file = Source {
            scan: Arc::clone(self),
            task,
            projection: projection.to_vec(),
            rows: batch_rows.max(1),
            metrics,
            placed,
            passed: 0,
            footer: OnceCell::new(),
        };
        let file = FileRows { file, stream: None, ready: VecDeque::new() };
        let batches = futures::stream::try_unfold(file, |mut file| async move {
            Ok(file.next().await?.map(|batch| (batch, file)))
        });
        batches.map_err(move |e: Error| e.context(culprit.clone())).boxed()
    }
}

/// A batch, and how many rows of the file were read for it: deletes may have taken some away.
type Piece = (u64, RecordBatch);

/// What is read of a file, and how.
struct Source {
    scan: Arc<Scan>,
    task: FileScanTask,
    projection: Vec<usize>,
    /// Rows per batch.
    rows: usize,
    metrics: Option<Arc<SourceMetrics>>,
    /// Rows come with where they are stored.
    placed: bool,
    /// Rows of the file that were read.
    passed: u64,
    footer: OnceCell<ArrowReaderMetadata>,
}

/// A file under way.
struct FileRows {
    file: Source,
    stream: Option<BoxStream<'static, Result<Piece>>>,
    ready: VecDeque<RecordBatch>,
}

impl FileRows {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let file = &mut self.file;
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    if file.passed == 0 {
                        file.rows = file.rows_per_batch().await.min(file.rows).max(1);
                    }
                    let opened = file.open().await?;
                    self.stream.insert(guarded_stream(opened).boxed())
                }
            };
            match stream.next().await {
                None => return Ok(None),
                Some(Ok((rows, batch))) => {
                    file.passed += rows;
                    if let Some(rows) = fewer_rows(batch.num_rows(), batch_bytes(&batch)) {
                        file.rows = rows;
                        self.stream = None;
                    }
                    self.ready.extend(slices(batch, BATCH_BYTES).into_iter().filter(|b| b.num_rows() > 0));
                }
                Some(Err(e)) if file.rows > 1 && is_overflow(&e) => {
                    file.rows = (file.rows / 8).max(1);
                    self.stream = None;
                }
                Some(Err(e)) => return Err(e),
            }
        }
    }
}

impl Source {
    /// How many rows make a batch, as far as the footer of the file tells.
    async fn rows_per_batch(&self) -> usize {
        let schema = self.scan.schema();
        let is_wide = |i: &usize| schema.fields().get(*i).is_some_and(|f| has_texts(f.data_type()));
        let stored = self.task.record_count.map(|n| self.task.file_size_in_bytes / n.max(1));
        if !self.projection.iter().any(is_wide) || stored.is_some_and(|bytes| bytes < NARROW) {
            return usize::MAX;
        }
        // What is wrong with the file is told when it is read.
        let width = self.row_bytes().await.unwrap_or(0);
        BATCH_BYTES / width.max(1)
    }

    /// The footer of the file, read once.
    async fn footer(&self) -> Result<&ArrowReaderMetadata> {
        let read = async || {
            let file = self.scan.table().file_io().new_input(&self.task.data_file_path).map_err(external)?;
            let size = FileMetadata { size: self.task.file_size_in_bytes };
            let mut file = ArrowFileReader::new(size, file.reader().await.map_err(external)?);
            Ok(ArrowReaderMetadata::load_async(&mut file, ArrowReaderOptions::new()).await?)
        };
        self.footer.get_or_try_init(read).await
    }

    /// Bytes of a row, in the row group where they are most.
    async fn row_bytes(&self) -> Result<usize> {
        let footer = self.footer().await?;
        let ids: Vec<i32> = self.scan.ids(&self.projection);
        let columns = footer.parquet_schema();
        let wanted = |leaf: usize| {
            let root = columns.get_column_root(leaf).get_basic_info();
            // Files that were not written for Iceberg have no ids.
            !root.has_id() || ids.contains(&root.id())
        };
        let groups = footer.metadata().row_groups().iter();
        Ok(groups.map(|g| average_row_bytes(g, wanted)).max().unwrap_or(0))
    }

    /// The rows behind those that were read.
    async fn open(&self) -> Result<BoxStream<'static, Result<Piece>>> {
        let (scan, mut task) = (&self.scan, self.task.clone());
        let mut ids = scan.ids(&self.projection);
        // Whether the file has each of them, as far as the crate could not give NULLs for it.
        let mut there = vec![true; ids.len()];
        let mut deletions = None;
        let metadata = scan.table().metadata();
        task.schema = Arc::clone(metadata.current_schema());
        let mut lacks_fields = false;
        if has_evolved(metadata) {
            let file = self.footer().await?;
            let in_file = nested::ids_of(file.parquet_schema());
            there = nested::columns_there(&task.schema, &ids, &in_file);
            let mut kept = there.iter();
            ids.retain(|_| kept.next().is_none_or(|there| *there));
            if let Some(pruned) = nested::without_missing(&task.schema, &in_file) {
                (task.schema, lacks_fields) = (pruned, true);
            }
        }
        if !task.deletes.is_empty() {
            deletions = Some(scan.delete_files().load(scan.table(), &task).await?);
            for id in deletes::key_ids(&task) {
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            task.deletes.clear();
        }
        if ids.is_empty() {
            ids.push(scan.cheapest());
        }
        task.project_field_ids = ids.clone();
        let result = scan
            .table()
            .reader_builder()
            .with_data_file_concurrency_limit(1)
            .with_batch_size(self.rows)
            .build()
            .read(futures::stream::once(async { Ok(task) }).boxed())
            .map_err(external)?;
        let counter = result.metrics().clone();
        let schema: SchemaRef = Arc::new(Schema::project(scan.schema(), &self.projection)?);
        let (metrics, mut skip, mut counted) = (self.metrics.clone(), self.passed, 0);
        let mut places = self.placed.then(|| PlaceColumns::new(&self.task.data_file_path, &schema));
        Ok(result
            .stream()
            .map(move |batch| {
                let mut batch = batch.map_err(external)?;
                if let Some(m) = &metrics {
                    let now = counter.bytes_read();
                    m.bytes.fetch_add(now.saturating_sub(counted), Ordering::Relaxed);
                    counted = now;
                }
                let mut keep = None;
                if let Some(d) = &mut deletions {
                    let column = |id: i32| {
                        ids.iter().position(|i| *i == id).and_then(|i| batch.columns().get(i)).cloned()
                    };
                    keep = Some(d.keep(&batch, &column)?);
                }
                let all = batch.num_rows();
                let mut numbers = places.as_mut().map(|p| p.numbers(all)).transpose()?;
                let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(all);
                skip -= passed as u64;
                batch = batch.slice(passed, all - passed);
                let rows = batch.num_rows() as u64;
                numbers = numbers.map(|n| n.slice(passed, all - passed));
                if let Some(keep) = keep.map(|keep| keep.slice(passed, all - passed))
                    && keep.true_count() < batch.num_rows()
                {
                    batch = filter_record_batch(&batch, &keep)?;
                    numbers = numbers.map(|n| filter(&n, &keep)).transpose()?;
                }
                let mut read = batch.columns().iter();
                let mut columns = Vec::with_capacity(there.len());
                for (field, there) in schema.fields().iter().zip(&there) {
                    let ty = field.data_type();
                    columns.push(match if *there { read.next() } else { None } {
                        Some(column) if lacks_fields => nested::fill(column, ty)?,
                        Some(column) => Arc::clone(column),
                        None => new_null_array(ty, batch.num_rows()),
                    });
                }
                let whole = conform_batch(&columns, batch.num_rows(), &schema)?;
                let whole = match (&places, numbers) {
                    (Some(places), Some(numbers)) => places.beside(&whole, numbers)?,
                    _ => whole,
                };
                Ok((rows, whole))
            })
            .boxed())
    }
}

/// The columns that say where rows are stored.
struct PlaceColumns {
    path: String,
    schema: SchemaRef,
    next: i64,
}

impl PlaceColumns {
    fn new(path: &str, schema: &Schema) -> Self {
        let fields = schema.fields().iter().cloned().chain(place_fields());
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        PlaceColumns { path: path.to_owned(), schema, next: 0 }
    }

    /// The numbers of the next rows of the file.
    fn numbers(&mut self, rows: usize) -> Result<ArrayRef> {
        let end = i64::try_from(rows).ok().and_then(|n| self.next.checked_add(n));
        let end = end.ok_or_else(|| Error::internal("a file with too many rows"))?;
        let numbers = Int64Array::from_iter_values(self.next..end);
        self.next = end;
        Ok(Arc::new(numbers))
    }

    fn beside(&self, rows: &RecordBatch, numbers: ArrayRef) -> Result<RecordBatch> {
        let paths = StringArray::from_iter_values(std::iter::repeat_n(&self.path, rows.num_rows()));
        let mut columns = rows.columns().to_vec();
        columns.extend([Arc::new(paths) as ArrayRef, numbers]);
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

fn external(e: iceberg::Error) -> Error {
    let cause = std::error::Error::source(&e).map(|c| format!(": {c}")).unwrap_or_default();
    Error::external(format!("{}{cause}", e.message()))
}

/// Whether values of a type can be long.
fn has_texts(ty: &DataType) -> bool {
    *ty != DataType::Boolean && ty.primitive_width().is_none()
}
