//! Columns in the few types that scripts have values for, and back.
//!
//! Times and DECIMALs travel as texts, in the form of CAST(x AS STRING) in UTC: a number of JavaScript would lose digits
//! of them. Arrays, maps and rows keep their shape.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use chrono_tz::Tz;

use crate::error::{Error, Result};
use crate::functions::cast::{Mode, cast_array};
use crate::types::sql_name;

/// The type that values of a type travel in.
pub(super) fn wire_type(ty: &DataType) -> DataType {
    let field = |f: &FieldRef| Arc::new(f.as_ref().clone().with_data_type(wire_type(f.data_type())));
    match ty {
        DataType::Decimal128(..) | DataType::Date32 | DataType::Time32(_) | DataType::Timestamp(..) => {
            DataType::Utf8
        }
        DataType::List(item) => DataType::List(field(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect::<Fields>()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}

/// A column in its [`wire_type`].
///
/// # Errors
/// Internal.
pub(super) fn to_wire(a: &ArrayRef) -> Result<ArrayRef> {
    let ty = wire_type(a.data_type());
    let mode = Mode { lenient: false, zone: Tz::UTC };
    convert(a, &ty, &|a, ty| cast_array(a, ty, mode))
}

/// A column from its [`wire_type`].
///
/// # Errors
/// Data, for a text that is none of the type.
pub(super) fn from_wire(a: &ArrayRef, ty: &DataType) -> Result<ArrayRef> {
    convert(a, ty, &|a, ty| {
        let out = cast_array(a, ty, Mode { lenient: true, zone: Tz::UTC })?;
        if out.null_count() > a.null_count() {
            let lost = (0..a.len()).find(|i| a.is_valid(*i) && out.is_null(*i)).unwrap_or(0);
            let text = a.as_string_opt::<i32>().map_or("", |t| t.value(lost));
            let text: String = text.chars().take(100).collect();
            return Err(Error::data(format!("'{text}' is no {}", sql_name(ty))));
        }
        Ok(out)
    })
}

fn convert(
    a: &ArrayRef,
    to: &DataType,
    leaf: &dyn Fn(&ArrayRef, &DataType) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    if a.data_type() == to {
        return Ok(Arc::clone(a));
    }
    match to {
        DataType::List(item) => {
            let l = a.as_list::<i32>();
            let values = convert(l.values(), item.data_type(), leaf)?;
            Ok(Arc::new(ListArray::try_new(
                Arc::clone(item),
                l.offsets().clone(),
                values,
                l.nulls().cloned(),
            )?))
        }
        DataType::Struct(fields) => convert_struct(a.as_struct(), fields, leaf).map(|s| Arc::new(s) as _),
        DataType::Map(entries, sorted) => {
            let m = a.as_map();
            let DataType::Struct(fields) = entries.data_type() else {
                return Err(Error::internal("a map without entries"));
            };
            let converted = convert_struct(m.entries(), fields, leaf)?;
            let (entries, offsets) = (Arc::clone(entries), m.offsets().clone());
            Ok(Arc::new(MapArray::try_new(entries, offsets, converted, m.nulls().cloned(), *sorted)?))
        }
        _ => leaf(a, to),
    }
}

fn convert_struct(
    s: &StructArray,
    fields: &Fields,
    leaf: &dyn Fn(&ArrayRef, &DataType) -> Result<ArrayRef>,
) -> Result<StructArray> {
    let columns =
        s.columns().iter().zip(fields).map(|(c, f): (_, &Arc<Field>)| convert(c, f.data_type(), leaf));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(StructArray::try_new_with_length(fields.clone(), columns, s.nulls().cloned(), s.len())?)
}
