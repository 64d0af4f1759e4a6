//! Merge-on-read: rows of a data file that position and equality deletes have taken away.
//!
//! ```text
//!  FileScanTask.deletes ─► position files  path → row numbers ─┐
//!                      └─► equality files  set of key rows ────┴─► Deletions of one data file ─► keep mask per batch
//! ```
//!
//! The Iceberg crate's own delete reader is not used: in 0.10.1 it drops rows whose nullable key is NULL, turns every
//! deleted key into a predicate, and can hang. Which delete file applies to which data file (sequence numbers,
//! partitions) is decided by the crate's planner.
//!
//! State: each delete file is read once per scan and shared by its data files; dropped with the scan.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField};
use futures::{StreamExt, TryStreamExt};
use iceberg::scan::{FileScanTask, FileScanTaskDeleteFile};
use iceberg::spec::{DataContentType, SchemaRef};
use iceberg::table::Table;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tokio::sync::{Mutex, OnceCell};

use super::scan::whole_file;
use crate::connectors::conform::conform;
use crate::error::{Error, Result, ResultExt};

/// Refuses delete files that cannot be applied, before anything is read.
///
/// # Errors
/// Unsupported, naming the file.
pub(super) fn check(task: &FileScanTask) -> Result<()> {
    for d in &task.deletes {
        if d.file_path.ends_with(".puffin") {
            return Err(Error::unsupported(format!(
                "the table has deletion vectors ({}), which cannot be read yet",
                d.file_path
            ))
            .hint("compact the table with its writer, or write with format-version 2"));
        }
        if !d.file_path.ends_with(".parquet") {
            return Err(Error::unsupported(format!("the delete file {} is not Parquet", d.file_path)));
        }
        if d.file_type == DataContentType::EqualityDeletes
            && d.equality_ids.as_ref().is_none_or(Vec::is_empty)
        {
            return Err(Error::data(format!("the equality delete file {} names no columns", d.file_path)));
        }
    }
    Ok(())
}

type PositionFile = HashMap<String, Vec<i64>>;

/// The deleted keys, row-encoded; the encoding lives in memory only.
struct EqualityFile {
    types: Vec<DataType>,
    converter: RowConverter,
    rows: HashSet<Box<[u8]>>,
}

type Cell<T> = Arc<OnceCell<Arc<T>>>;

/// The delete files of one scan.
#[derive(Default)]
pub(super) struct DeleteFiles {
    positions: Mutex<HashMap<String, Cell<PositionFile>>>,
    equalities: Mutex<HashMap<String, Cell<EqualityFile>>>,
}

impl DeleteFiles {
    /// What the deletes of `task` take away.
    ///
    /// # Errors
    /// External or Data, naming the delete file.
    pub async fn load(&self, table: &Table, task: &FileScanTask) -> Result<Deletions> {
        let mut positions: Vec<i64> = Vec::new();
        let mut equalities = Vec::new();
        for file in &task.deletes {
            let culprit = || format!("delete file {}", file.file_path);
            match file.file_type {
                DataContentType::PositionDeletes => {
                    let cell =
                        Arc::clone(self.positions.lock().await.entry(file.file_path.clone()).or_default());
                    let read = cell
                        .get_or_try_init(|| async {
                            read_position_file(table, &file.file_path).await.map(Arc::new)
                        })
                        .await
                        .context(culprit)?;
                    if let Some(rows) = read.get(&task.data_file_path) {
                        positions.extend(rows);
                    }
                }
                _ => {
                    let ids = file.equality_ids.clone().unwrap_or_default();
                    let cell =
                        Arc::clone(self.equalities.lock().await.entry(file.file_path.clone()).or_default());
                    let read = cell
                        .get_or_try_init(|| async {
                            read_equalities(table, file, &task.schema, &ids).await.map(Arc::new)
                        })
                        .await
                        .context(culprit)?;
                    equalities.push((ids, Arc::clone(read)));
                }
            }
        }
        positions.sort_unstable();
        positions.dedup();
        Ok(Deletions { positions, equalities, next_row: 0, next_position: 0 })
    }
}

/// Field ids that have to be read to apply the equality deletes of a task.
pub(super) fn key_ids(task: &FileScanTask) -> Vec<i32> {
    let mut ids: Vec<i32> =
        task.deletes.iter().filter_map(|d| d.equality_ids.as_ref()).flatten().copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Applies to the batches of one whole data file, in order.
pub(super) struct Deletions {
    positions: Vec<i64>,
    equalities: Vec<(Vec<i32>, Arc<EqualityFile>)>,
    next_row: i64,
    next_position: usize,
}

impl Deletions {
    /// Which rows of the next batch live. `column` finds a column by field id.
    ///
    /// # Errors
    /// Data if the key columns do not match.
    pub fn keep(
        &mut self,
        batch: &RecordBatch,
        column: &dyn Fn(i32) -> Option<ArrayRef>,
    ) -> Result<BooleanArray> {
        let rows = batch.num_rows();
        let mut keep = vec![true; rows];
        let end = self.next_row + rows as i64;
        while let Some(p) = self.positions.get(self.next_position).filter(|p| **p < end) {
            if let Some(k) = usize::try_from(p - self.next_row).ok().and_then(|i| keep.get_mut(i)) {
                *k = false;
            }
            self.next_position += 1;
        }
        self.next_row = end;
        for (ids, file) in &self.equalities {
            if file.rows.is_empty() {
                continue;
            }
            let columns = ids
                .iter()
                .zip(&file.types)
                .map(|(id, ty)| {
                    let c = column(*id)
                        .ok_or_else(|| Error::internal(format!("the delete key column {id} was not read")))?;
                    conform(&c, ty)
                })
                .collect::<Result<Vec<_>>>()?;
            let encoded = file.converter.convert_columns(&columns)?;
            for (k, row) in keep.iter_mut().zip(&encoded) {
                *k = *k && !file.rows.contains(row.as_ref());
            }
        }
        Ok(BooleanArray::new(BooleanBuffer::from(keep), None))
    }
}

async fn read_position_file(table: &Table, path: &str) -> Result<PositionFile> {
    let bytes = read_all(table, path).await?;
    let mut found: PositionFile = HashMap::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        let batch = batch?;
        let get = |name: &str, ty: &DataType| -> Result<ArrayRef> {
            let c = batch
                .column_by_name(name)
                .ok_or_else(|| Error::data(format!("a position delete file without the column {name}")))?;
            Ok(cast(c, ty)?)
        };
        let paths = get("file_path", &DataType::Utf8)?;
        let rows = get("pos", &DataType::Int64)?;
        let mut last: Option<(&str, Vec<i64>)> = None;
        // Delete files are sorted by path, so this touches the map once per run of equal paths.
        for (path, row) in paths.as_string::<i32>().iter().zip(rows.as_primitive::<Int64Type>().iter()) {
            let (Some(path), Some(row)) = (path, row) else {
                return Err(Error::data("a position delete without path or row number"));
            };
            match &mut last {
                Some((p, run)) if *p == path => run.push(row),
                _ => {
                    if let Some((p, run)) = last.replace((path, vec![row])) {
                        found.entry(p.to_owned()).or_default().extend(run);
                    }
                }
            }
        }
        if let Some((p, run)) = last {
            found.entry(p.to_owned()).or_default().extend(run);
        }
    }
    Ok(found)
}

/// The data files that a position delete file names.
///
/// # Errors
/// External or Data, naming the delete file.
pub(super) async fn position_paths(table: &Table, path: &str) -> Result<Vec<String>> {
    let read = read_position_file(table, path).await.context(|| format!("delete file {path}"))?;
    Ok(read.into_keys().collect())
}

async fn read_all(table: &Table, path: &str) -> Result<bytes::Bytes> {
    let read = async { table.file_io().new_input(path)?.read().await };
    read.await.map_err(|e| Error::external(e.message().to_owned()))
}

async fn read_equalities(
    table: &Table,
    file: &FileScanTaskDeleteFile,
    schema: &SchemaRef,
    ids: &[i32],
) -> Result<EqualityFile> {
    // Read as a data file, so that field ids, promotions and renames are resolved as they are there.
    let mut task = whole_file(&file.file_path, file.file_size_in_bytes, schema);
    task.project_field_ids = ids.to_vec();
    let external = |e: iceberg::Error| Error::external(e.message().to_owned());
    let mut stream = table
        .reader_builder()
        .with_data_file_concurrency_limit(1)
        .build()
        .read(futures::stream::once(async { Ok(task) }).boxed())
        .map_err(external)?
        .stream();
    let types = ids
        .iter()
        .map(|id| {
            let field = schema.field_by_id(*id).ok_or_else(|| {
                Error::unsupported(format!("its key column with id {id} is not in the table any more"))
            })?;
            iceberg::arrow::type_to_arrow_type(&field.field_type).map_err(external)
        })
        .collect::<Result<Vec<_>>>()?;
    let converter = RowConverter::new(types.iter().cloned().map(SortField::new).collect())?;
    let mut rows = HashSet::new();
    while let Some(batch) = stream.try_next().await.map_err(external)? {
        let columns =
            batch.columns().iter().zip(&types).map(|(c, ty)| conform(c, ty)).collect::<Result<Vec<_>>>()?;
        for row in &converter.convert_columns(&columns)? {
            rows.insert(row.as_ref().into());
        }
    }
    Ok(EqualityFile { types, converter, rows })
}
