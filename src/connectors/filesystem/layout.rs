//! Where the columns of a table come from: the file, its partition folders or its metadata.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use arrow::record_batch::RecordBatchOptions;
use datafusion::common::ScalarValue;

use super::location::Store;
use super::partition::{Partitioning, repeat};
use super::split::SplitFile;
use crate::catalog::ResolvedTable;
use crate::error::{Error, Result, ResultExt};

/// Metadata of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileMetadata {
    Path,
    Name,
    Size,
    ModificationTime,
}

impl FileMetadata {
    const ALL: [(&'static str, FileMetadata); 4] = [
        ("file.path", FileMetadata::Path),
        ("file.name", FileMetadata::Name),
        ("file.size", FileMetadata::Size),
        ("file.modification-time", FileMetadata::ModificationTime),
    ];

    fn data_type(self) -> DataType {
        match self {
            FileMetadata::Path | FileMetadata::Name => DataType::Utf8,
            FileMetadata::Size => DataType::Int64,
            FileMetadata::ModificationTime => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        }
    }

    fn value(self, file: &SplitFile, store: &Store) -> ArrayRef {
        let entry = &file.entry;
        match self {
            FileMetadata::Path => Arc::new(StringArray::from(vec![store.display(&entry.path)])),
            FileMetadata::Name => {
                let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
                Arc::new(StringArray::from(vec![name]))
            }
            FileMetadata::Size => {
                Arc::new(Int64Array::from(vec![i64::try_from(entry.size).unwrap_or(i64::MAX)]))
            }
            FileMetadata::ModificationTime => {
                Arc::new(TimestampMillisecondArray::from(vec![entry.modified]).with_timezone("UTC"))
            }
        }
    }
}

/// Where a column comes from.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// Index among the columns of the file.
    File(usize),
    /// Index among the partition columns.
    Partition(usize),
    Metadata(FileMetadata),
}

/// The columns of a table and where they come from.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// All columns: physical, then metadata.
    pub(super) schema: SchemaRef,
    origins: Vec<Origin>,
}

impl Layout {
    /// Of a table that is read.
    ///
    /// # Errors
    /// Validation for unknown metadata keys or types that they cannot be cast to.
    pub(super) fn new(table: &ResolvedTable, partitioning: &Partitioning) -> Result<Self> {
        let mut origins = Vec::new();
        let mut in_files = 0;
        for field in table.physical.fields() {
            match partitioning.columns.iter().position(|p| p.name() == field.name()) {
                Some(i) => origins.push(Origin::Partition(i)),
                None => {
                    origins.push(Origin::File(in_files));
                    in_files += 1;
                }
            }
        }
        for column in &table.metadata {
            let known = FileMetadata::ALL.iter().find(|(key, _)| *key == column.key);
            let Some((_, metadata)) = known else {
                let keys: Vec<&str> = FileMetadata::ALL.iter().map(|(k, _)| *k).collect();
                return Err(Error::validation(format!(
                    "Invalid metadata key '{}' in column '{}' of table '{}'",
                    column.key,
                    column.field.name(),
                    table.def.path
                ))
                .hint(format!("The connector supports the following metadata keys: {}", keys.join(", "))));
            };
            if !can_cast_types(&metadata.data_type(), column.field.data_type()) {
                return Err(Error::validation(format!(
                    "metadata column `{}` cannot have the type {}",
                    column.field.name(),
                    column.field.data_type()
                )));
            }
            origins.push(Origin::Metadata(*metadata));
        }
        Ok(Layout { schema: table.scan_schema(), origins })
    }

    /// How to read the columns `projection` (all if `None`).
    ///
    /// # Errors
    /// Internal for an index out of range.
    pub(super) fn project(&self, projection: Option<&[usize]>) -> Result<Projected> {
        let all: Vec<usize> = (0..self.origins.len()).collect();
        let projection = projection.unwrap_or(&all);
        let schema = Arc::new(self.schema.project(projection)?);
        let mut file_columns = Vec::new();
        let mut origins = Vec::new();
        for i in projection {
            let origin = self
                .origins
                .get(*i)
                .ok_or_else(|| Error::internal("a projection beyond the table's columns"))?;
            origins.push(match origin {
                Origin::File(f) => {
                    file_columns.push(*f);
                    Origin::File(file_columns.len() - 1)
                }
                other => *other,
            });
        }
        Ok(Projected { schema, file_columns, origins })
    }
}

/// A projection of a [`Layout`].
#[derive(Debug, Clone)]
pub(super) struct Projected {
    /// What comes out.
    pub(super) schema: SchemaRef,
    /// What to read of the files' columns, in this order.
    pub(super) file_columns: Vec<usize>,
    origins: Vec<Origin>,
}

impl Projected {
    /// For each column, in which place among the columns that are read of the files it stands; `None` for those that are
    /// the same in all rows of a file.
    pub(super) fn places(&self) -> impl Iterator<Item = Option<usize>> {
        self.origins.iter().map(|origin| match origin {
            Origin::File(i) => Some(*i),
            Origin::Partition(_) | Origin::Metadata(_) => None,
        })
    }

    /// The values of the columns that are the same in all rows of a file, in their order.
    ///
    /// # Errors
    /// Data if a metadata value does not fit its declared type.
    pub(super) fn constants(&self, file: &SplitFile, store: &Store) -> Result<Vec<ScalarValue>> {
        let columns = self.origins.iter().zip(self.schema.fields());
        let arrays = columns.filter_map(|(origin, field)| constant(*origin, field, file, store).transpose());
        arrays.map(|array| Ok(ScalarValue::try_from_array(&array?, 0)?)).collect()
    }

    /// Puts partition and metadata columns beside the columns of a file.
    ///
    /// # Errors
    /// Data if a metadata value does not fit its declared type.
    pub(super) fn assemble(&self, rows: RecordBatch, file: &SplitFile, store: &Store) -> Result<RecordBatch> {
        let n = rows.num_rows();
        let missing = || Error::internal("a batch lacks a column of its file");
        let mut columns = Vec::with_capacity(self.origins.len());
        for (origin, field) in self.origins.iter().zip(self.schema.fields()) {
            columns.push(match (origin, constant(*origin, field, file, store)?) {
                (Origin::File(i), _) => rows.columns().get(*i).cloned().ok_or_else(missing)?,
                (_, Some(value)) => repeat(&value, n)?,
                (_, None) => return Err(missing()),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(n));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

/// The value of a column that is the same in all rows of a file, as an array of one row.
fn constant(origin: Origin, field: &Field, file: &SplitFile, store: &Store) -> Result<Option<ArrayRef>> {
    match origin {
        Origin::File(_) => Ok(None),
        Origin::Partition(i) => Ok(file.partition.get(i).cloned()),
        Origin::Metadata(m) => {
            let options = CastOptions { safe: false, ..Default::default() };
            let value = cast_with_options(&m.value(file, store), field.data_type(), &options);
            Ok(Some(value.context(|| format!("column `{}`", field.name()))?))
        }
    }
}
