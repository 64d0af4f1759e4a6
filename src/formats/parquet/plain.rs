//! What the footer of a Parquet file promises: whether columns can be read straight into the declared types, how wide
//! rows are, and their statistics.
//!
//! ```text
//!  footer ─► Footer ─► straight(column)?   no cast that can fail; no NULL where none may be
//!                  ├─► width(column)       bytes of a row in memory, in the widest row group
//!                  └─► statistics(columns) rows, minima, maxima, NULLs
//! ```
//!
//! Types are those of Parquet itself. Writers leave a hint of their own types in the footer (`ARROW:schema`), which asks for
//! views, dictionaries or large offsets; that would only have to be cast back.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::Type as PhysicalType;
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::{ColumnChunkMetaData, FileMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::statistics::Statistics as ChunkStatistics;

use super::read::lossless;
use crate::error::guard::guarded;
use crate::error::{Error, Result};

/// The footer of a file.
#[derive(Debug, Clone)]
pub(crate) struct Footer {
    /// Without the hint of the writer's own types.
    pub(crate) metadata: Arc<ParquetMetaData>,
    /// The types of Parquet.
    plain: SchemaRef,
    /// The types that the writer had.
    written: SchemaRef,
}

impl Footer {
    /// Reads it.
    ///
    /// # Errors
    /// Data if it is no Parquet file.
    pub(crate) fn read(input: &impl ChunkReader) -> Result<Self> {
        let loaded = guarded(|| Ok(ArrowReaderMetadata::load(input, ArrowReaderOptions::new())?))?;
        let (written, loaded) = (Arc::clone(loaded.schema()), loaded.metadata());
        let file = loaded.file_metadata();
        let plain = Arc::new(parquet_to_arrow_schema(file.schema_descr(), None)?);
        let file = FileMetaData::new(
            file.version(),
            file.num_rows(),
            file.created_by().map(str::to_owned),
            None,
            file.schema_descr_ptr(),
            file.column_orders().cloned(),
        );
        let groups = loaded.row_groups().iter().cloned().map(trusted).collect::<Result<_>>()?;
        let metadata = Arc::new(ParquetMetaData::new(file, groups));
        Ok(Footer { metadata, plain, written })
    }

    /// Rows of the file.
    pub(crate) fn rows(&self) -> usize {
        let rows: i64 = self.metadata.row_groups().iter().map(RowGroupMetaData::num_rows).sum();
        usize::try_from(rows).unwrap_or(0)
    }

    /// Whether a declared column can be read without a cast that can fail, and holds no NULL that it must not hold. A column that the file lacks is NULL.
    pub(crate) fn is_straight(&self, declared: &Field) -> bool {
        let mut found = self.named(declared);
        let Some((root, plain)) = found.next() else { return declared.is_nullable() };
        found.next().is_none()
            && self.written.fields().get(root).is_some_and(|f| lossless(f.data_type(), declared.data_type()))
            && (widens(plain.data_type(), declared.data_type())
                || cuts(plain.data_type(), declared.data_type()))
            && (declared.is_nullable() || self.is_never_null(root, plain))
    }

    /// Columns of the file with the name of a declared one.
    fn named<'a>(&'a self, declared: &'a Field) -> impl Iterator<Item = (usize, &'a Field)> {
        let fields = self.plain.fields().iter().map(AsRef::as_ref).enumerate();
        fields.filter(|(_, f)| f.name() == declared.name())
    }

    fn is_never_null(&self, root: usize, plain: &Field) -> bool {
        if !plain.is_nullable() {
            return true;
        }
        let [leaf] = self.leaves(root)[..] else { return false };
        let counted = |g: &RowGroupMetaData| {
            g.columns().get(leaf).and_then(|c| c.statistics()?.null_count_opt()) == Some(0)
        };
        !plain.data_type().is_nested()
            && self.metadata.row_groups().iter().all(|g| g.num_rows() == 0 || counted(g))
    }

    fn leaves(&self, root: usize) -> Vec<usize> {
        let schema = self.metadata.file_metadata().schema_descr();
        (0..schema.num_columns()).filter(|leaf| schema.get_column_root_idx(*leaf) == root).collect()
    }

    /// Bytes of a declared column in memory for a row, on average over the row group where they are most; `None` where
    /// that cannot be told.
    pub(crate) fn width(&self, declared: &Field, input: &impl DictionaryInput) -> Option<usize> {
        if let Some(bytes) = declared.data_type().primitive_width() {
            return Some(bytes);
        }
        let Some((root, _)) = self.named(declared).next() else { return Some(8) };
        let mut most = 0;
        for leaf in self.leaves(root) {
            let mut widest = 0;
            for group in self.metadata.row_groups() {
                let rows = usize::try_from(group.num_rows()).ok().filter(|rows| *rows > 0);
                let (Some(rows), Some(chunk)) = (rows, group.columns().get(leaf)) else { continue };
                widest = widest.max(chunk_width(chunk, rows, input)?);
            }
            // An offset beside the bytes.
            most += widest + 4;
        }
        Some(most)
    }

    /// Statistics of declared columns, in their types.
    pub(crate) fn statistics(&self, declared: &Schema) -> Statistics {
        let found: Vec<Option<&Field>> =
            declared.fields().iter().map(|f| self.named(f).next().map(|(_, plain)| plain)).collect();
        let schema = Arc::new(Schema::new(found.iter().flatten().copied().cloned().collect::<Vec<_>>()));
        let unknown = || Statistics {
            num_rows: Precision::Exact(self.rows()),
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics::new_unknown(); declared.fields().len()],
        };
        // Damaged statistics are none.
        let read =
            guarded(|| Ok(DFParquetMetadata::statistics_from_parquet_metadata(&self.metadata, &schema)?));
        let Ok(read) = read else { return unknown() };
        let mut columns = read.column_statistics.into_iter();
        let mut statistics = unknown();
        for ((column, plain), field) in
            statistics.column_statistics.iter_mut().zip(found).zip(declared.fields())
        {
            if plain.is_none() {
                continue;
            }
            let Some(found) = columns.next() else { continue };
            *column = typed(found, field.data_type());
        }
        statistics
    }
}

/// A row group without bounds that rows can be outside of: those of floats, which know no NaN, and those of early writers,
/// which did not agree on an order. How many NULLs there are stays known.
fn trusted(group: RowGroupMetaData) -> Result<RowGroupMetaData> {
    if group.columns().iter().all(is_trusted) {
        return Ok(group);
    }
    let columns = group.columns().iter().cloned().map(|chunk| {
        if is_trusted(&chunk) {
            return Ok(chunk);
        }
        let nulls = chunk.statistics().and_then(ChunkStatistics::null_count_opt);
        let unbounded = match chunk.column_type() {
            PhysicalType::FLOAT => ChunkStatistics::float(None, None, None, nulls, false),
            PhysicalType::DOUBLE => ChunkStatistics::double(None, None, None, nulls, false),
            PhysicalType::INT96 => ChunkStatistics::int96(None, None, None, nulls, false),
            PhysicalType::BYTE_ARRAY => ChunkStatistics::byte_array(None, None, None, nulls, false),
            _ => return Ok(chunk.into_builder().clear_statistics().build()?),
        };
        // Nor bounds of pages.
        let chunk = chunk.into_builder().set_statistics(unbounded);
        Ok(chunk.set_column_index_offset(None).set_column_index_length(None).build()?)
    });
    let columns = columns.collect::<Result<_>>()?;
    Ok(group.into_builder().set_column_metadata(columns).build()?)
}

fn is_trusted(chunk: &ColumnChunkMetaData) -> bool {
    match chunk.column_type() {
        PhysicalType::FLOAT | PhysicalType::DOUBLE | PhysicalType::INT96 => false,
        PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY => {
            chunk.statistics().is_none_or(|s| !s.is_min_max_deprecated())
        }
        _ => true,
    }
}

/// Statistics with bounds of the declared type.
fn typed(mut column: ColumnStatistics, declared: &DataType) -> ColumnStatistics {
    let cast = |bound: Precision<ScalarValue>| match bound {
        _ if declared.is_floating() || declared.is_nested() => Precision::Absent,
        Precision::Exact(v) => v.cast_to(declared).map_or(Precision::Absent, Precision::Exact),
        Precision::Inexact(v) => v.cast_to(declared).map_or(Precision::Absent, Precision::Inexact),
        Precision::Absent => Precision::Absent,
    };
    column.min_value = cast(column.min_value);
    column.max_value = cast(column.max_value);
    column
}

/// Whether a timestamp at most loses digits: nothing fails, and no two change places.
fn cuts(from: &DataType, to: &DataType) -> bool {
    matches!((from, to), (DataType::Timestamp(from, _), DataType::Timestamp(to, _)) if from >= to)
}

/// Whether every value of a type is one of the other, of the same order.
fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    match (from, to) {
        _ if from == to => true,
        (D::Int8, D::Int16 | D::Int32 | D::Int64) => true,
        (D::Int16, D::Int32 | D::Int64) => true,
        (D::Int32, D::Int64) => true,
        (D::UInt8, D::Int16 | D::Int32 | D::Int64) => true,
        (D::UInt16, D::Int32 | D::Int64) => true,
        (D::UInt32, D::Int64) => true,
        (D::Decimal128(p, s), D::Decimal128(q, t)) => s == t && p <= q,
        _ => false,
    }
}

/// Gives dictionaries to be looked at.
pub(crate) trait DictionaryInput {
    /// What can be read of the file; `None` if that costs too much.
    type Input: ChunkReader + 'static;

    /// The file.
    fn input(&self) -> Option<Arc<Self::Input>>;
}

/// Bytes of a row of a column chunk. What a dictionary holds once can be in every row.
fn chunk_width(chunk: &ColumnChunkMetaData, rows: usize, input: &impl DictionaryInput) -> Option<usize> {
    let bytes = |n: i64| usize::try_from(n).unwrap_or(0);
    let stored = bytes(chunk.uncompressed_size()) / rows;
    if chunk.column_type() != PhysicalType::BYTE_ARRAY {
        return Some(stored.max(16));
    }
    if let Some(all) = chunk.unencoded_byte_array_data_bytes() {
        return Some(stored.max(bytes(all) / rows));
    }
    if chunk.dictionary_page_offset().is_none() {
        return Some(stored);
    }
    let longest = guarded(|| longest_in_dictionary(chunk, rows, input)).ok()??;
    Some(stored.max(longest))
}

/// The length of the longest value in a dictionary.
fn longest_in_dictionary(
    chunk: &ColumnChunkMetaData,
    rows: usize,
    input: &impl DictionaryInput,
) -> Result<Option<usize>> {
    let Some(input) = input.input() else { return Ok(None) };
    let mut pages = SerializedPageReader::new(input, chunk, rows, None)?;
    let Some(Page::DictionaryPage { buf, num_values, .. }) = pages.get_next_page()? else { return Ok(None) };
    let (mut rest, mut longest) = (&buf[..], 0);
    for _ in 0..num_values {
        let damaged = || Error::data("a damaged dictionary");
        let (length, values) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let length = u32::from_le_bytes(*length) as usize;
        longest = longest.max(length);
        rest = values.get(length..).ok_or_else(damaged)?;
    }
    Ok(Some(longest))
}
