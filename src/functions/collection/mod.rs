//! Arrays, maps, rows, and the functions that choose among values.
//!
//! Values of any type are compared through Arrow's row format: one normalized byte string a value, so equality, order
//! and sets need no code per type.

mod array;
mod choose;
mod map;
mod row;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::logical_expr::ScalarUDF;

use crate::error::{Error, Result};
use crate::text::units_per_second;
use crate::types::sql_name;

pub(crate) use map::map_constructor;

/// All of them.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut out = array::functions();
    out.extend(map::functions());
    out.extend(choose::functions());
    out.extend(row::functions());
    out
}

/// Values in the row format; NULLs equal each other.
pub(super) fn rows_of(values: &ArrayRef) -> Result<Rows> {
    let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())])?;
    Ok(converter.convert_columns(&[Arc::clone(values)])?)
}

/// Two arrays of one type in comparable row formats.
pub(super) fn rows_of_two(a: &ArrayRef, b: &ArrayRef) -> Result<(Rows, Rows)> {
    let converter = RowConverter::new(vec![SortField::new(a.data_type().clone())])?;
    Ok((converter.convert_columns(&[Arc::clone(a)])?, converter.convert_columns(&[Arc::clone(b)])?))
}

/// Picks values by position.
pub(super) fn pick(values: &ArrayRef, at: Vec<u32>) -> Result<ArrayRef> {
    Ok(arrow::compute::take(values, &UInt32Array::from(at), None)?)
}

/// The element field of an array type.
pub(super) fn element(t: &DataType) -> Option<&FieldRef> {
    match t {
        DataType::List(f) => Some(f),
        _ => None,
    }
}

/// An array type of nullable elements.
pub(super) fn list_of(t: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", t, true)))
}

/// The common type of decimals and other numbers; `None` if there is no decimal, or something else.
pub(crate) fn common_decimal(types: &[DataType]) -> Option<DataType> {
    const MOST: i32 = 38;
    let is_float = |t: &DataType| matches!(t, DataType::Float32 | DataType::Float64);
    if types.iter().any(is_float) {
        let exact: Vec<DataType> = types.iter().filter(|t| !is_float(t)).cloned().collect();
        return common_decimal(&exact).map(|_| DataType::Float64);
    }
    if !types.iter().any(|t| matches!(t, DataType::Decimal128(..))) {
        return None;
    }
    let (mut whole, mut scale) = (0, 0);
    for t in types {
        let (p, s) = match t {
            DataType::Int8 => (3, 0),
            DataType::Int16 => (5, 0),
            DataType::Int32 => (10, 0),
            DataType::Int64 => (19, 0),
            DataType::Decimal128(p, s) => (i32::from(*p), i32::from(*s)),
            _ => return None,
        };
        whole = whole.max(p - s);
        scale = scale.max(s);
    }
    let scale = scale.min(MOST - whole);
    Some(DataType::Decimal128(u8::try_from(whole + scale).ok()?, i8::try_from(scale).ok()?))
}

/// The finest of timestamps: DataFusion would take the coarsest, and lose digits. `None` if they are not all timestamps,
/// with or all without a zone.
pub(crate) fn common_timestamp(types: &[DataType]) -> Option<DataType> {
    use DataType::Timestamp;
    let finest = types.iter().try_fold(None, |finest: Option<&DataType>, t| match (finest, t) {
        (None, Timestamp(..)) => Some(Some(t)),
        (Some(Timestamp(a, z)), Timestamp(b, y)) if z == y => {
            Some(if units_per_second(*b) > units_per_second(*a) { Some(t) } else { finest })
        }
        _ => None,
    });
    finest.flatten().cloned()
}

/// DATE, if these are dates and timestamps without a zone.
pub(crate) fn days_of(types: &[DataType]) -> Option<DataType> {
    let fits = types.iter().all(|t| matches!(t, DataType::Date32 | DataType::Timestamp(_, None)));
    (fits && types.contains(&DataType::Date32)).then_some(DataType::Date32)
}

/// The least common type of some types.
pub(crate) fn common(name: &str, types: &[DataType]) -> Result<DataType> {
    let known: Vec<DataType> = types.iter().filter(|t| **t != DataType::Null).cloned().collect();
    if known.windows(2).all(|w| w.first() == w.last()) {
        return Ok(known.first().cloned().unwrap_or(DataType::Null));
    }
    if let Some(exact) = common_decimal(&known).or_else(|| common_timestamp(&known)) {
        return Ok(exact);
    }
    let mixed = known.contains(&DataType::Utf8) && known.iter().any(|t| *t != DataType::Utf8);
    let union = if mixed { None } else { datafusion::logical_expr::binary::type_union_resolution(&known) };
    union.ok_or_else(|| {
        Error::validation(format!(
            "{}: no common type of {}",
            name.to_uppercase(),
            types.iter().map(sql_name).collect::<Vec<_>>().join(", ")
        ))
        .hint("CAST them to one type")
    })
}
