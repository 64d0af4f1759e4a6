//! Reading Parquet files row group by row group.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt64Array, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatchOptions;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_optimizer::pruning::PruningPredicate;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::ChunkReader;

use crate::error::guard::guarded;
use crate::error::{Error, Result, ResultExt};
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::batch_bytes;
use crate::types::LogicalType;

/// An open file and how its columns become those of the table.
pub(crate) struct ParquetFile<R> {
    pub(super) input: R,
    pub(super) metadata: ArrowReaderMetadata,
    /// The projected columns of the table.
    schema: SchemaRef,
    /// For each of them the column of the file.
    sources: Vec<Option<usize>>,
    pub(super) mask: ProjectionMask,
}

impl<R: ChunkReader + Clone + 'static> ParquetFile<R> {
    /// Reads the footer and finds the columns of `schema` by name.
    ///
    /// # Errors
    /// Data if it is no Parquet file or a column has a type that the declared one cannot hold.
    pub(crate) fn open(input: R, schema: SchemaRef) -> Result<Self> {
        let metadata = guarded(|| Ok(ArrowReaderMetadata::load(&input, ArrowReaderOptions::new())?))?;
        let mut roots = Vec::new();
        for field in schema.fields() {
            let root = metadata.schema().fields().iter().position(|f| f.name() == field.name());
            match root.and_then(|i| metadata.schema().fields().get(i)) {
                Some(found) => check_cast(found, field)?,
                None if field.is_nullable() => {}
                None => {
                    return Err(Error::data(format!(
                        "the file has no column `{}`, which is NOT NULL",
                        field.name()
                    )));
                }
            }
            roots.push(root);
        }
        let wanted: Vec<usize> = roots.iter().flatten().copied().collect();
        let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted.iter().copied());
        // The reader yields the wanted roots in the order of the file.
        let mut order = wanted;
        order.sort_unstable();
        order.dedup();
        let sources = roots.iter().map(|r| r.and_then(|r| order.binary_search(&r).ok())).collect();
        Ok(ParquetFile { input, metadata, schema, sources, mask })
    }

    /// The row groups that begin within the bytes `start..end` of the file and can hold rows that pass `filters`.
    pub(crate) fn row_groups(&self, start: u64, end: u64, filters: &[Expr], table: &SchemaRef) -> Vec<usize> {
        let groups = self.metadata.metadata().row_groups();
        let mut keep: Vec<bool> = groups.iter().map(|g| (start..end).contains(&first_byte(g))).collect();
        let statistics = GroupStatistics { file: self.metadata.schema(), groups, metadata: &self.metadata };
        for filter in filters {
            // A filter that cannot be turned into a predicate prunes nothing: the query evaluates it anyway.
            if let Ok(mask) = prune(filter, table, &statistics) {
                keep.iter_mut().zip(mask).for_each(|(k, m)| *k &= m);
            }
        }
        keep.iter().enumerate().filter(|(_, k)| **k).map(|(i, _)| i).collect()
    }

    /// Bytes of a row group as stored.
    pub(crate) fn row_group_bytes(&self, group: usize) -> u64 {
        let group = self.metadata.metadata().row_groups().get(group);
        group.map_or(0, |g| u64::try_from(g.compressed_size()).unwrap_or(0))
    }

    /// Reads a row group, without its first `skip` rows, in batches of at most `batch_rows` rows.
    ///
    /// # Errors
    /// Data for a damaged file.
    pub(crate) fn read(&self, group: usize, skip: u64, batch_rows: usize) -> Result<RowGroupReader<'_, R>> {
        let found = self.metadata.metadata().row_groups().get(group);
        let width = found.map_or(0, |g| average_row_bytes(g, |leaf| self.mask.leaf_included(leaf)));
        let step = batch_rows.min(BATCH_BYTES / width.max(1)).max(1);
        let all = found.map_or(0, RowGroupMetaData::num_rows);
        let left = u64::try_from(all).unwrap_or(0).saturating_sub(skip);
        Ok(RowGroupReader {
            reader: self.reader(group, skip, step)?,
            file: self,
            group,
            next: skip,
            left,
            step,
        })
    }

    fn reader(&self, group: usize, skip: u64, batch_rows: usize) -> Result<ParquetRecordBatchReader> {
        let mut builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.input.clone(), self.metadata.clone())
                .with_row_groups(vec![group])
                .with_batch_size(batch_rows)
                .with_projection(self.mask.clone());
        if skip > 0 {
            builder = builder.with_offset(usize::try_from(skip).unwrap_or(usize::MAX));
        }
        guarded(|| Ok(builder.build()?))
    }
}

/// Bytes of a row in memory, on average over a row group, of the leaves that are wanted: at least, as the footer does not
/// always say how long values are that a dictionary holds.
pub(crate) fn average_row_bytes(group: &RowGroupMetaData, wanted: impl Fn(usize) -> bool) -> usize {
    let bytes: i64 = (group.columns().iter().enumerate())
        .filter(|(leaf, _)| wanted(*leaf))
        .map(|(_, c)| c.unencoded_byte_array_data_bytes().unwrap_or(0).max(c.uncompressed_size()))
        .sum();
    usize::try_from(bytes / group.num_rows().max(1)).unwrap_or(0)
}

/// Whether a decoder gave up because the texts of a batch are too long together.
pub(crate) fn is_overflow(error: &Error) -> bool {
    error.is_batch_overflow() || error.message().contains("index overflow decoding byte array")
}

/// Rows to read at once instead of `rows`, of which some took `bytes`; `None` if those were not too many.
pub(crate) fn fewer_rows(rows: usize, bytes: usize) -> Option<usize> {
    (rows > 1 && bytes > 4 * BATCH_BYTES).then(|| (rows * BATCH_BYTES / bytes).max(1))
}

/// Where the data of a row group begins.
fn first_byte(group: &RowGroupMetaData) -> u64 {
    let offset = group.columns().iter().map(|c| c.byte_range().0).min();
    offset.unwrap_or_else(|| group.file_offset().and_then(|o| u64::try_from(o).ok()).unwrap_or(0))
}

/// The batches of a row group with the declared types.
pub(crate) struct RowGroupReader<'a, R> {
    reader: ParquetRecordBatchReader,
    file: &'a ParquetFile<R>,
    group: usize,
    /// The row that comes next.
    next: u64,
    /// Rows that have to come.
    left: u64,
    /// Rows per batch, as many as are not too large together.
    step: usize,
}

impl<R: ChunkReader + Clone + 'static> RowGroupReader<'_, R> {
    /// The next batch.
    ///
    /// # Errors
    /// Data for a damaged file or a value that does not fit its column.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>> {
        let batch = loop {
            match guarded(|| Ok(self.reader.next().transpose()?)) {
                Ok(Some(batch)) => break batch,
                Ok(None) if self.left == 0 => return Ok(None),
                Ok(None) => {
                    return Err(Error::data(format!("damaged data: {} rows are missing", self.left)));
                }
                Err(e) if self.step > 1 && is_overflow(&e) => self.begin_again((self.step / 8).max(1))?,
                Err(e) => return Err(e),
            }
        };
        let rows = batch.num_rows();
        self.left = self.left.saturating_sub(rows as u64);
        self.next += rows as u64;
        if self.left > 0
            && let Some(step) = fewer_rows(rows, batch_bytes(&batch))
        {
            self.begin_again(step)?;
        }
        let columns = self
            .file
            .sources
            .iter()
            .zip(self.file.schema.fields())
            .map(|(source, field)| match source.and_then(|i| batch.columns().get(i)) {
                None => Ok(new_null_array(field.data_type(), rows)),
                Some(column) => convert(column, field),
            })
            .collect::<Result<Vec<ArrayRef>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(self.file.schema.clone(), columns, &options)?))
    }

    /// Goes on with other batches.
    fn begin_again(&mut self, step: usize) -> Result<()> {
        self.step = step;
        self.reader = self.file.reader(self.group, self.next, step)?;
        Ok(())
    }
}

fn convert(column: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let context = || format!("column `{}`", field.name());
    let array = if column.data_type() == field.data_type() {
        column.clone()
    } else {
        let options = CastOptions { safe: false, ..Default::default() };
        cast_with_options(column, field.data_type(), &options).context(context)?
    };
    if !field.is_nullable() && array.null_count() > 0 {
        return Err(Error::data("the column is NOT NULL and the file holds a NULL").context(context()));
    }
    Ok(array)
}

/// Whether a file's column can be read as the declared one without losing anything that a value check would not find.
fn check_cast(found: &Field, declared: &Field) -> Result<()> {
    if !lossless(found.data_type(), declared.data_type()) {
        let sql =
            |t: &DataType| LogicalType::from_arrow(t, true).map_or_else(|_| t.to_string(), |t| t.to_string());
        return Err(Error::data(format!(
            "column `{}` is {} in the file and cannot be read as {}",
            declared.name(),
            sql(found.data_type()),
            sql(declared.data_type())
        ))
        .hint("declare the column with the type of the file and CAST it in the query"));
    }
    Ok(())
}

/// Whether a type can be read as another one: what does not fit is found when values are cast.
pub(super) fn lossless(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    if from == to {
        return true;
    }
    match (from, to) {
        (D::Dictionary(_, value), _) => lossless(value, to),
        (D::List(a) | D::LargeList(a) | D::FixedSizeList(a, _), D::List(b)) => {
            lossless(a.data_type(), b.data_type())
        }
        (D::Struct(a), D::Struct(b)) => {
            b.iter().all(|b| {
                a.iter()
                    .find(|a| a.name() == b.name())
                    .is_some_and(|a| lossless(a.data_type(), b.data_type()))
            }) && a.len() == b.len()
        }
        (D::Map(a, _), D::Map(b, _)) => match (a.data_type(), b.data_type()) {
            (D::Struct(a), D::Struct(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| lossless(a.data_type(), b.data_type()))
            }
            _ => false,
        },
        _ if from.is_nested() || to.is_nested() => false,
        (D::Float16 | D::Float32, D::Float64 | D::Float32) => true,
        (_, D::Float64) => from.is_integer() && !matches!(from, D::Int64 | D::UInt64),
        (a, D::Decimal128(_, s)) if a.is_integer() => *s >= 0,
        (
            D::Decimal32(_, a) | D::Decimal64(_, a) | D::Decimal128(_, a) | D::Decimal256(_, a),
            D::Decimal128(_, b),
        ) => b >= a,
        // Narrower integers: every value is checked by the cast.
        (a, b) if a.is_integer() && b.is_integer() => true,
        (a, b) if a.is_numeric() || b.is_numeric() => false,
        (D::Boolean, _) | (_, D::Boolean) => false,
        (a, D::Utf8) => {
            matches!(a, D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Binary | D::BinaryView | D::LargeBinary)
        }
        (a, D::Binary) => {
            matches!(
                a,
                D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) | D::Utf8 | D::LargeUtf8 | D::Utf8View
            )
        }
        (D::Timestamp(..), D::Timestamp(..)) => true,
        (D::Date64, D::Date32) => true,
        (D::Time32(_) | D::Time64(_), D::Time32(_)) => true,
        _ => false,
    }
}

fn prune(filter: &Expr, table: &SchemaRef, statistics: &GroupStatistics<'_>) -> Result<Vec<bool>> {
    let fields: Vec<Field> = table.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let table = Arc::new(Schema::new(fields));
    let df_schema = DFSchema::try_from(table.clone())?;
    let expr = create_physical_expr(&unnormalize_col(filter.clone()), &df_schema, &ExecutionProps::new())?;
    let statistics = Typed { statistics, table: table.clone() };
    Ok(PruningPredicate::try_new(expr, table)?.prune(&statistics)?)
}

/// Statistics of the row groups of a file.
struct GroupStatistics<'a> {
    file: &'a SchemaRef,
    groups: &'a [RowGroupMetaData],
    metadata: &'a ArrowReaderMetadata,
}

/// The same with the types of the table.
struct Typed<'a> {
    statistics: &'a GroupStatistics<'a>,
    table: SchemaRef,
}

impl Typed<'_> {
    fn converter(&self, column: &Column) -> Option<StatisticsConverter<'_>> {
        let s = self.statistics;
        StatisticsConverter::try_new(&column.name, s.file, s.metadata.parquet_schema()).ok()
    }

    /// Minima or maxima in the declared type. A cast keeps order only where it is lossless.
    fn cast(&self, column: &Column, values: ArrayRef) -> Option<ArrayRef> {
        let declared = self.table.field_with_name(&column.name).ok()?.data_type();
        // Bounds of floats know no NaN, which no bound keeps from being another value.
        if values.data_type().is_floating() || declared.is_floating() {
            return None;
        }
        let fits = lossless(values.data_type(), declared) && can_cast_types(values.data_type(), declared);
        // Cutting a timestamp's digits moves a bound.
        let cut = matches!((values.data_type(), declared), (DataType::Timestamp(a, _), DataType::Timestamp(b, _)) if a > b);
        if fits && !cut { cast(&values, declared).ok() } else { None }
    }
}

impl PruningStatistics for Typed<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        let min = self.converter(column)?.row_group_mins(self.statistics.groups).ok()?;
        self.cast(column, min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        let max = self.converter(column)?.row_group_maxes(self.statistics.groups).ok()?;
        self.cast(column, max)
    }

    fn num_containers(&self) -> usize {
        self.statistics.groups.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let counts: UInt64Array =
            self.converter(column)?.row_group_null_counts(self.statistics.groups).ok()?;
        Some(Arc::new(counts))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.statistics.groups.iter().map(|g| u64::try_from(g.num_rows()).unwrap_or(0));
        Some(Arc::new(UInt64Array::from_iter_values(rows)))
    }

    fn contained(
        &self,
        _column: &Column,
        _values: &std::collections::HashSet<ScalarValue>,
    ) -> Option<arrow::array::BooleanArray> {
        None
    }
}
