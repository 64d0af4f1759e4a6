//! Rows in flat typed columns under ids that the owner gives out: no allocation per row, no boxed value.
//!
//! ```text
//!  put(ids, batch, rows) ─► fixed-width columns: one vector each, indexed by id
//!                           strings, binaries: bytes of all such columns of a row side by side, see `bytes`
//!                           anything else: arrow-row bytes, as if it were binary (in memory only)
//!  gather(ids)           ◄─ typed Arrow columns
//! ```
//!
//! | state | dropped |
//! |---|---|
//! | id → row | [`RowStore::free`] |

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, ListArray, NullArray, make_array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};

use crate::error::{Error, Result};
use crate::functions::room::check_column;
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::cut;

mod bytes;

use bytes::Bytes;

/// Rows by id; see the module.
pub struct RowStore {
    columns: Vec<StoredColumn>,
    bytes: Bytes,
    /// One more than the greatest id ever stored.
    capacity: usize,
}

impl std::fmt::Debug for RowStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowStore").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

struct StoredColumn {
    ty: DataType,
    values: Values,
    /// By id; absent while no value was NULL.
    valid: Option<Vec<bool>>,
}

enum Values {
    Null,
    Bool(Vec<bool>),
    W1(Vec<u8>),
    W2(Vec<u16>),
    W4(Vec<u32>),
    W8(Vec<u64>),
    W16(Vec<u128>),
    /// The variable-width column of that index.
    Text(usize),
    /// As `Text`, as arrow-row bytes.
    Encoded(usize, RowConverter),
}

/// The columns of a batch, ready to be stored or compared.
pub struct SourceRows {
    columns: Vec<SourceColumn>,
    nulls: Vec<Option<NullBuffer>>,
}

enum SourceColumn {
    Null,
    Bool(BooleanArray),
    /// Values of a fixed width from the start of the buffer.
    Fixed(Buffer),
    /// Offsets and bytes of an array of strings or binaries.
    Text(Buffer, Buffer),
    Encoded(Rows),
}

impl SourceColumn {
    /// The bytes of row `row` of a variable-width column.
    #[inline]
    fn bytes(&self, row: usize) -> &[u8] {
        match self {
            SourceColumn::Text(offsets, data) => {
                let (offsets, _) = offsets.as_slice().as_chunks::<4>();
                let at = |i: usize| i32::from_ne_bytes(offsets[i]) as usize;
                &data.as_slice()[at(row)..at(row + 1)]
            }
            SourceColumn::Encoded(rows) => rows.row(row).data(),
            _ => &[],
        }
    }
}

impl RowStore {
    /// An empty store for rows of these types.
    ///
    /// # Errors
    /// Unsupported for a type that cannot be encoded (maps inside of other values).
    pub fn new(types: &[DataType]) -> Result<Self> {
        let mut bytes = Bytes::default();
        let columns = types
            .iter()
            .map(|ty| {
                let mut variable = || bytes.add_column();
                let values = match ty {
                    DataType::Null => Values::Null,
                    DataType::Boolean => Values::Bool(Vec::new()),
                    DataType::Utf8 | DataType::Binary => Values::Text(variable()),
                    _ => match ty.primitive_width() {
                        Some(1) => Values::W1(Vec::new()),
                        Some(2) => Values::W2(Vec::new()),
                        Some(4) => Values::W4(Vec::new()),
                        Some(8) => Values::W8(Vec::new()),
                        Some(16) => Values::W16(Vec::new()),
                        _ => {
                            let fields = vec![SortField::new(encoded_type(ty))];
                            if !RowConverter::supports_fields(&fields) {
                                return Err(Error::unsupported(format!(
                                    "rows with a value of type {ty} cannot be kept in state"
                                ))
                                .hint("leave the column out of the query, or turn it into a string first"));
                            }
                            Values::Encoded(variable(), RowConverter::new(fields)?)
                        }
                    },
                };
                Ok(StoredColumn { ty: ty.clone(), values, valid: None })
            })
            .collect::<Result<_>>()?;
        Ok(RowStore { columns, bytes, capacity: 0 })
    }

    /// Prepares the columns of a batch.
    ///
    /// # Errors
    /// Internal if the columns are not of the declared types.
    pub fn source(&self, columns: &[ArrayRef]) -> Result<SourceRows> {
        if columns.len() != self.columns.len()
            || columns.iter().zip(&self.columns).any(|(c, stored)| c.data_type() != &stored.ty)
        {
            return Err(Error::internal("rows to be stored have other columns than they should"));
        }
        let mut nulls = Vec::with_capacity(columns.len());
        let sources = columns
            .iter()
            .zip(&self.columns)
            .map(|(column, stored)| {
                nulls.push(column.nulls().filter(|n| n.null_count() > 0).cloned());
                Ok(match &stored.values {
                    Values::Null => SourceColumn::Null,
                    Values::Bool(_) => SourceColumn::Bool(column.as_boolean().clone()),
                    Values::Text(_) => {
                        let data = column.to_data();
                        let from = data.offset() * 4;
                        match data.buffers() {
                            [offsets, bytes] if column.is_empty() && offsets.is_empty() => {
                                SourceColumn::Text(Buffer::from(vec![0_u8; 4]), bytes.clone())
                            }
                            [offsets, bytes] => SourceColumn::Text(offsets.slice(from), bytes.clone()),
                            _ => return Err(Error::internal("a string column without buffers")),
                        }
                    }
                    Values::Encoded(_, converter) => {
                        SourceColumn::Encoded(converter.convert_columns(&[encodable(Arc::clone(column))])?)
                    }
                    _ => {
                        let data = column.to_data();
                        let width = stored.ty.primitive_width().unwrap_or(0);
                        match data.buffers() {
                            [values] => SourceColumn::Fixed(values.slice(data.offset() * width)),
                            _ => return Err(Error::internal("a column without values")),
                        }
                    }
                })
            })
            .collect::<Result<_>>()?;
        Ok(SourceRows { columns: sources, nulls })
    }

    /// Stores row `rows[i]` of a batch under `ids[i]`, over what was there.
    pub fn put(&mut self, ids: &[u32], source: &SourceRows, rows: &[u32]) {
        let Some(greatest) = ids.iter().max() else { return };
        self.capacity = self.capacity.max(*greatest as usize + 1);
        let capacity = self.capacity;
        for ((stored, column), nulls) in self.columns.iter_mut().zip(&source.columns).zip(&source.nulls) {
            macro_rules! scatter {
                ($to:expr, $n:literal, $t:ty) => {
                    if let SourceColumn::Fixed(buffer) = column {
                        let (values, _) = buffer.as_slice().as_chunks::<$n>();
                        $to.resize(capacity, 0);
                        for (id, row) in ids.iter().zip(rows) {
                            $to[*id as usize] = <$t>::from_ne_bytes(values[*row as usize]);
                        }
                    }
                };
            }
            match &mut stored.values {
                Values::W1(to) => scatter!(to, 1, u8),
                Values::W2(to) => scatter!(to, 2, u16),
                Values::W4(to) => scatter!(to, 4, u32),
                Values::W8(to) => scatter!(to, 8, u64),
                Values::W16(to) => scatter!(to, 16, u128),
                Values::Bool(to) => {
                    if let SourceColumn::Bool(values) = column {
                        to.resize(capacity, false);
                        for (id, row) in ids.iter().zip(rows) {
                            to[*id as usize] = values.value(*row as usize);
                        }
                    }
                }
                Values::Null | Values::Text(_) | Values::Encoded(..) => {}
            }
            if let Some(nulls) = nulls {
                let valid = stored.valid.get_or_insert_default();
                valid.resize(capacity, true);
                ids.iter()
                    .zip(rows)
                    .for_each(|(id, row)| valid[*id as usize] = nulls.is_valid(*row as usize));
            } else if let Some(valid) = &mut stored.valid {
                valid.resize(capacity, true);
                ids.iter().for_each(|id| valid[*id as usize] = true);
            }
        }
        self.put_bytes(ids, source, rows);
    }

    fn put_bytes(&mut self, ids: &[u32], source: &SourceRows, rows: &[u32]) {
        if self.bytes.is_unused() {
            return;
        }
        let variable: Vec<(&SourceColumn, Option<&NullBuffer>)> = self
            .columns
            .iter()
            .zip(&source.columns)
            .zip(&source.nulls)
            .filter(|((stored, _), _)| matches!(stored.values, Values::Text(_) | Values::Encoded(..)))
            .map(|((_, column), nulls)| (column, nulls.as_ref()))
            .collect();
        self.bytes.grow(self.capacity);
        for (id, row) in ids.iter().zip(rows) {
            let row = *row as usize;
            let values = variable.iter().map(|(column, nulls)| {
                // What lies below a NULL means nothing.
                if nulls.is_some_and(|n| n.is_null(row)) { &[] as &[u8] } else { column.bytes(row) }
            });
            self.bytes.put(*id as usize, values);
        }
        self.bytes.pack();
    }

    /// Whether row `row` of a batch equals the stored row `id`, NULL equal to NULL.
    pub fn is_equal(&self, source: &SourceRows, row: usize, id: u32) -> bool {
        let id = id as usize;
        self.columns.iter().zip(&source.columns).zip(&source.nulls).all(|((stored, column), nulls)| {
            let is_valid = stored.valid.as_ref().is_none_or(|v| v[id]);
            if nulls.as_ref().is_none_or(|n| n.is_valid(row)) != is_valid {
                return false;
            }
            if !is_valid {
                return true;
            }
            macro_rules! same {
                ($stored:expr, $n:literal, $t:ty) => {
                    if let SourceColumn::Fixed(buffer) = column {
                        let (values, _) = buffer.as_slice().as_chunks::<$n>();
                        <$t>::from_ne_bytes(values[row]) == $stored[id]
                    } else {
                        false
                    }
                };
            }
            match &stored.values {
                Values::Null => true,
                Values::Bool(v) => matches!(column, SourceColumn::Bool(b) if b.value(row) == v[id]),
                Values::W1(v) => same!(v, 1, u8),
                Values::W2(v) => same!(v, 2, u16),
                Values::W4(v) => same!(v, 4, u32),
                Values::W8(v) => same!(v, 8, u64),
                Values::W16(v) => same!(v, 16, u128),
                Values::Text(i) | Values::Encoded(i, _) => column.bytes(row) == self.bytes.get(id, *i),
            }
        })
    }

    /// Rows as typed columns, in the order of `ids`.
    ///
    /// # Errors
    /// Data if the strings of the rows exceed what one array can hold.
    pub fn gather(&self, ids: &[u32]) -> Result<Vec<ArrayRef>> {
        let texts = self.bytes.gather(ids)?;
        let mut texts = texts.into_iter();
        self.columns
            .iter()
            .map(|column| {
                let nulls: Option<NullBuffer> = column
                    .valid
                    .as_ref()
                    .map(|valid| {
                        NullBuffer::new(BooleanBuffer::collect_bool(ids.len(), |i| valid[ids[i] as usize]))
                    })
                    .filter(|n| n.null_count() > 0);
                macro_rules! pick {
                    ($values:expr) => {{
                        let picked: Vec<_> = ids.iter().map(|id| $values[*id as usize]).collect();
                        fixed_array(&column.ty, ids.len(), Buffer::from_vec(picked), nulls)?
                    }};
                }
                Ok(match &column.values {
                    Values::Null => Arc::new(NullArray::new(ids.len())) as ArrayRef,
                    Values::Bool(values) => Arc::new(BooleanArray::new(
                        BooleanBuffer::collect_bool(ids.len(), |i| values[ids[i] as usize]),
                        nulls,
                    )),
                    Values::W1(values) => pick!(values),
                    Values::W2(values) => pick!(values),
                    Values::W4(values) => pick!(values),
                    Values::W8(values) => pick!(values),
                    Values::W16(values) => pick!(values),
                    Values::Text(_) => {
                        let (offsets, data) = texts.next().unwrap_or_default();
                        let data = ArrayData::builder(column.ty.clone())
                            .len(ids.len())
                            .add_buffer(Buffer::from_vec(offsets))
                            .add_buffer(Buffer::from_vec(data))
                            .nulls(nulls);
                        make_array(data.build()?)
                    }
                    Values::Encoded(i, converter) => {
                        texts.next();
                        // Encoded values are longer than the values.
                        check_column(ids.iter().map(|id| self.bytes.get(*id as usize, *i).len()).sum())?;
                        let parser = converter.parser();
                        let null =
                            converter.convert_columns(&[new_null_array(&encoded_type(&column.ty), 1)])?;
                        let rows = ids.iter().map(|id| {
                            let is_valid = column.valid.as_ref().is_none_or(|v| v[*id as usize]);
                            if is_valid {
                                parser.parse(self.bytes.get(*id as usize, *i))
                            } else {
                                null.row(0)
                            }
                        });
                        let mut made = converter.convert_rows(rows)?;
                        let made = made.pop().ok_or_else(|| Error::internal("a stored column got lost"))?;
                        decoded(&column.ty, made)?
                    }
                })
            })
            .collect()
    }

    /// Cuts rows into runs of at most `rows` rows and about [`BATCH_BYTES`], so that each makes a batch.
    pub fn cut(&self, ids: &[u32], rows: usize) -> Vec<Range<usize>> {
        if ids.is_empty() {
            return Vec::new();
        }
        if ids.len() <= rows && self.are_few_bytes(ids.len()) {
            return std::iter::once(0..ids.len()).collect();
        }
        // A row counts as much as so many of its kind would have to.
        let least = BATCH_BYTES / rows.max(1);
        let widths: Vec<usize> = ids.iter().map(|id| self.row_bytes(*id).max(least)).collect();
        cut(&widths, BATCH_BYTES, |_| false)
    }

    /// Whether any so many rows make a batch that is not too large.
    pub fn are_few_bytes(&self, rows: usize) -> bool {
        (self.fixed_bytes() + self.bytes.widest()).saturating_mul(rows) <= BATCH_BYTES
    }

    /// Bytes of a row.
    pub fn row_bytes(&self, id: u32) -> usize {
        self.fixed_bytes() + self.bytes.length(id as usize)
    }

    fn fixed_bytes(&self) -> usize {
        self.columns.iter().map(|c| c.ty.primitive_width().unwrap_or(1)).sum()
    }

    /// Forgets rows; their ids may be stored again.
    pub fn free(&mut self, ids: &[u32]) {
        ids.iter().for_each(|id| self.bytes.forget(*id as usize));
        self.bytes.pack();
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let columns: usize = self
            .columns
            .iter()
            .map(|c| {
                let values = match &c.values {
                    Values::Null | Values::Text(_) | Values::Encoded(..) => 0,
                    Values::Bool(v) => v.capacity(),
                    Values::W1(v) => v.capacity(),
                    Values::W2(v) => v.capacity() * 2,
                    Values::W4(v) => v.capacity() * 4,
                    Values::W8(v) => v.capacity() * 8,
                    Values::W16(v) => v.capacity() * 16,
                };
                values + c.valid.as_ref().map_or(0, Vec::capacity)
            })
            .sum();
        columns + self.bytes.size()
    }
}

fn fixed_array(ty: &DataType, len: usize, values: Buffer, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
    // The builder refuses a null buffer that is shorter or a value buffer that is too small.
    let values = if len == 0 { Buffer::from(MutableBuffer::new(0)) } else { values };
    Ok(make_array(ArrayData::builder(ty.clone()).len(len).add_buffer(values).nulls(nulls).build()?))
}

/// A map is kept as the list of its entries, which arrow-row can encode.
fn encoded_type(ty: &DataType) -> DataType {
    match ty {
        DataType::Map(entries, _) => DataType::List(Arc::clone(entries)),
        other => other.clone(),
    }
}

fn encodable(column: ArrayRef) -> ArrayRef {
    match (column.data_type(), column.as_map_opt()) {
        (DataType::Map(entries, _), Some(map)) => Arc::new(ListArray::new(
            Arc::clone(entries),
            map.offsets().clone(),
            Arc::new(map.entries().clone()),
            map.nulls().cloned(),
        )),
        _ => column,
    }
}

fn decoded(ty: &DataType, column: ArrayRef) -> Result<ArrayRef> {
    if matches!(ty, DataType::Map(..)) {
        let data = column.to_data().into_builder().data_type(ty.clone()).build()?;
        return Ok(make_array(data));
    }
    Ok(column)
}

#[cfg(test)]
mod tests;
