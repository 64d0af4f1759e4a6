//! BITMAP: a set of 32-bit integers, as a Roaring bitmap. Integers count as unsigned: -1 is the largest.
//!
//! A BITMAP is the bytes of its portable format in a struct of one field ([`crate::types::bitmap_type`]).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int32Array, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use datafusion::logical_expr::ScalarUDF;
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::functions::udf::{Builtin, Call, Nulls, Ret, build_bytes, build_prims, build_strings};
use crate::text::write_bitmap;
use crate::types::{bitmap_type, sql_name};

/// All scalar ones.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let bitmap = || Ret::Type(bitmap_type());
    let two = |name: &'static str, f: fn(RoaringBitmap, &RoaringBitmap) -> RoaringBitmap| {
        Builtin::new(name, "B B", Ret::Type(bitmap_type()), move |c| {
            let (a, b) = (Bitmaps::argument(c, 0)?, Bitmaps::argument(c, 1)?);
            build(c.rows, |i| match (a.get(i)?, b.get(i)?) {
                (Some(a), Some(b)) => Ok(Some(f(a, &b))),
                _ => Ok(None),
            })
        })
    };
    vec![
        Builtin::new("bitmap_build", "A", Ret::Of(build_type), |c| {
            let list = c.full(0)?;
            let Some(list) = list.as_list_opt::<i32>() else { return build(c.rows, |_| Ok(None)) };
            let ints = arrow::compute::cast(list.values(), &DataType::Int32)?;
            let ints = ints.as_primitive::<Int32Type>();
            build(c.rows, |i| {
                if list.is_null(i) {
                    return Ok(None);
                }
                let o = list.value_offsets();
                let (from, to) = (o.get(i).copied().unwrap_or(0), o.get(i + 1).copied().unwrap_or(0));
                let rows = from as usize..to as usize;
                Ok(Some(rows.filter(|k| ints.is_valid(*k)).map(|k| ints.value(k) as u32).collect()))
            })
        }),
        two("bitmap_and", |a, b| a & b),
        two("bitmap_or", |a, b| a | b),
        two("bitmap_xor", |a, b| a ^ b),
        two("bitmap_andnot", |a, b| a - b),
        Builtin::new("bitmap_cardinality", "B", Ret::Type(DataType::Int64), |c| {
            let a = Bitmaps::argument(c, 0)?;
            build_prims::<Int64Type>(c.rows, |i| Ok(a.get(i)?.map(|b| b.len() as i64)))
        }),
        Builtin::new("bitmap_from_bytes", "x", bitmap(), |c| {
            let a = c.bytes(0)?;
            build(c.rows, |i| {
                a.get(i)
                    .map(|bytes| {
                        read(bytes).ok_or_else(|| {
                            Error::data(format!(
                                "BITMAP_FROM_BYTES: {} bytes that are no bitmap",
                                bytes.len()
                            ))
                            .hint("they have to be in the portable format of Roaring bitmaps")
                        })
                    })
                    .transpose()
            })
        }),
        Builtin::new("bitmap_to_bytes", "B", Ret::Type(DataType::Binary), |c| {
            let a = Bitmaps::argument(c, 0)?;
            build_bytes(c.rows, |i, out| {
                let Some(bytes) = a.bytes(i) else { return Ok(false) };
                out.extend_from_slice(bytes);
                Ok(true)
            })
        }),
        Builtin::new("bitmap_to_array", "B", Ret::Type(integers()), |c| {
            let a = Bitmaps::argument(c, 0)?;
            let (mut values, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
            for i in 0..c.rows {
                let before = values.len();
                let bitmap = a.get(i)?;
                valid.push(bitmap.is_some());
                crate::functions::room::check_room(
                    before * 4,
                    bitmap.as_ref().map_or(0, |b| b.len() as usize) * 4,
                )?;
                values.extend(bitmap.iter().flatten().map(|v| v as i32));
                lengths.push(values.len() - before);
            }
            let item = Arc::new(Field::new("item", DataType::Int32, true));
            Ok(Arc::new(ListArray::try_new(
                item,
                OffsetBuffer::from_lengths(lengths),
                Arc::new(Int32Array::from(values)),
                Some(NullBuffer::from(valid)),
            )?))
        }),
        Builtin::new("bitmap_to_string", "B", Ret::Type(DataType::Utf8), |c| {
            let a = Bitmaps::argument(c, 0)?;
            build_strings(c.rows, |i, out| {
                let Some(bytes) = a.bytes(i) else { return Ok(false) };
                write_bitmap(bytes, out);
                Ok(true)
            })
        }),
    ]
    .into_iter()
    .map(|b| b.nulls(Nulls::Propagate).build())
    .collect()
}

fn integers() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Int32, true)))
}

fn build_type(types: &[DataType], _: &[Option<&datafusion::common::ScalarValue>]) -> Result<DataType> {
    match types.first() {
        Some(DataType::List(f))
            if !matches!(
                f.data_type(),
                DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Null
            ) =>
        {
            Err(Error::validation(format!(
                "BITMAP_BUILD takes an ARRAY<INT>, not ARRAY<{}>",
                sql_name(f.data_type())
            ))
            .hint("CAST(a AS ARRAY<INT>)"))
        }
        _ => Ok(bitmap_type()),
    }
}

/// A column of bitmaps.
pub(crate) struct Bitmaps {
    bytes: BinaryArray,
    nulls: Option<NullBuffer>,
    single: bool,
}

impl Bitmaps {
    fn argument(c: &Call<'_>, i: usize) -> Result<Bitmaps> {
        let mut out = Bitmaps::of(c.raw(i)?)?;
        out.single = c.is_constant(i);
        Ok(out)
    }

    /// The bitmaps of a column.
    ///
    /// # Errors
    /// Internal, if it has none.
    pub(crate) fn of(a: &ArrayRef) -> Result<Bitmaps> {
        let a = a.as_struct_opt().ok_or_else(|| Error::internal("a BITMAP is a struct"))?;
        let bytes = a
            .columns()
            .first()
            .and_then(|c| c.as_binary_opt::<i32>())
            .ok_or_else(|| Error::internal("a BITMAP has bytes"))?;
        Ok(Bitmaps { bytes: bytes.clone(), nulls: a.nulls().cloned(), single: false })
    }

    /// The bytes of a row.
    pub(crate) fn bytes(&self, row: usize) -> Option<&[u8]> {
        let row = if self.single { 0 } else { row };
        let null = self.bytes.is_null(row) || self.nulls.as_ref().is_some_and(|n| n.is_null(row));
        (!null).then(|| self.bytes.value(row))
    }

    /// The bitmap of a row.
    ///
    /// # Errors
    /// Data, if the bytes are none.
    pub(crate) fn get(&self, row: usize) -> Result<Option<RoaringBitmap>> {
        self.bytes(row).map(|b| read(b).ok_or_else(|| Error::data("a BITMAP is damaged"))).transpose()
    }
}

/// A bitmap from its bytes, all of them.
pub(crate) fn read(mut bytes: &[u8]) -> Option<RoaringBitmap> {
    RoaringBitmap::deserialize_from(&mut bytes).ok()
}

/// Appends the bytes of a bitmap.
///
/// # Errors
/// Internal; writing to memory does not fail.
pub(crate) fn append(bitmap: &RoaringBitmap, out: &mut Vec<u8>) -> Result<()> {
    bitmap.serialize_into(out).map_err(|e| Error::internal(format!("bytes of a bitmap: {e}")))
}

/// Builds bitmaps row by row.
///
/// # Errors
/// Those of `f`.
pub(crate) fn build(rows: usize, f: impl Fn(usize) -> Result<Option<RoaringBitmap>>) -> Result<ArrayRef> {
    let bytes = build_bytes(rows, |i, out| match f(i)? {
        Some(bitmap) => append(&bitmap, out).map(|()| true),
        None => Ok(false),
    })?;
    of_bytes(bytes)
}

/// Bytes as bitmaps.
///
/// # Errors
/// Internal.
pub(crate) fn of_bytes(bytes: ArrayRef) -> Result<ArrayRef> {
    let DataType::Struct(fields) = bitmap_type() else {
        return Err(Error::internal("a BITMAP is a struct"));
    };
    let nulls = bytes.nulls().cloned();
    Ok(Arc::new(StructArray::try_new(fields, vec![bytes], nulls)?))
}
