//! Arrays into exactly the Arrow types that the other side declares: Iceberg's files or the batches of a program on one
//! side, the table definition on the other.
//!
//! Nested arrays are rebuilt around their children, which costs nothing; leaves are shared where the types agree,
//! else cast without loss (an overflow is an error, not a null). Timestamps are floored to the coarser unit, also
//! before 1970, as Flink does.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, PrimitiveArray, RecordBatch, RecordBatchOptions,
    StructArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    ArrowTimestampType, DataType, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

use crate::error::{Error, Result, ResultExt};
use crate::text::units_per_second;

/// `columns` under `schema`, position by position.
///
/// # Errors
/// Data, naming the column, for values that do not fit and nulls where none may be.
pub(crate) fn conform_batch(columns: &[ArrayRef], rows: usize, schema: &SchemaRef) -> Result<RecordBatch> {
    if columns.len() != schema.fields().len() {
        return Err(Error::internal(format!(
            "{} columns for {} fields",
            columns.len(),
            schema.fields().len()
        )));
    }
    let arrays = columns
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(Error::data(format!(
                    "column `{}` is NOT NULL and got {} null value(s)",
                    field.name(),
                    column.null_count()
                )));
            }
            conform(column, field.data_type()).context(|| format!("column `{}`", field.name()))
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)?)
}

/// An array as `target`.
///
/// # Errors
/// Data if a value does not fit.
pub(super) fn conform(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    if array.data_type() == target {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), target) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let from = array.as_struct();
            if from.num_columns() != fields.len() {
                return Err(Error::data(format!(
                    "{} fields where {} are expected",
                    from.num_columns(),
                    fields.len()
                )));
            }
            let children = from
                .columns()
                .iter()
                .zip(fields)
                .map(|(c, f)| conform(c, f.data_type()).context(|| format!("field `{}`", f.name())))
                .collect::<Result<Vec<_>>>()?;
            if fields.is_empty() {
                return Ok(Arc::new(StructArray::new_empty_fields(from.len(), from.nulls().cloned())));
            }
            Ok(Arc::new(StructArray::try_new(fields.clone(), children, from.nulls().cloned())?))
        }
        (DataType::List(_), DataType::List(field)) => {
            let from = array.as_list::<i32>();
            let values = conform(from.values(), field.data_type())?;
            Ok(Arc::new(ListArray::try_new(
                Arc::clone(field),
                from.offsets().clone(),
                values,
                from.nulls().cloned(),
            )?))
        }
        (DataType::Map(_, _), DataType::Map(field, sorted)) => {
            let from = array.as_map();
            let entries: ArrayRef = Arc::new(from.entries().clone());
            let entries = conform(&entries, field.data_type())?;
            Ok(Arc::new(MapArray::try_new(
                Arc::clone(field),
                from.offsets().clone(),
                entries.as_struct().clone(),
                from.nulls().cloned(),
                *sorted,
            )?))
        }
        (DataType::Timestamp(from, _), DataType::Timestamp(to, zone)) => {
            timestamp(array, *from, *to, zone.clone())
        }
        _ => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            Ok(cast_with_options(array, target, &options)?)
        }
    }
}

fn timestamp(array: &ArrayRef, from: TimeUnit, to: TimeUnit, zone: Option<Arc<str>>) -> Result<ArrayRef> {
    match from {
        TimeUnit::Second => timestamp_from::<TimestampSecondType>(array, from, to, zone),
        TimeUnit::Millisecond => timestamp_from::<TimestampMillisecondType>(array, from, to, zone),
        TimeUnit::Microsecond => timestamp_from::<TimestampMicrosecondType>(array, from, to, zone),
        TimeUnit::Nanosecond => timestamp_from::<TimestampNanosecondType>(array, from, to, zone),
    }
}

fn timestamp_from<F: ArrowTimestampType>(
    array: &ArrayRef,
    from: TimeUnit,
    to: TimeUnit,
    zone: Option<Arc<str>>,
) -> Result<ArrayRef> {
    let array = array.as_primitive::<F>();
    Ok(match to {
        TimeUnit::Second => {
            Arc::new(rescale::<F, TimestampSecondType>(array, from, to)?.with_timezone_opt(zone))
        }
        TimeUnit::Millisecond => {
            Arc::new(rescale::<F, TimestampMillisecondType>(array, from, to)?.with_timezone_opt(zone))
        }
        TimeUnit::Microsecond => {
            Arc::new(rescale::<F, TimestampMicrosecondType>(array, from, to)?.with_timezone_opt(zone))
        }
        TimeUnit::Nanosecond => {
            Arc::new(rescale::<F, TimestampNanosecondType>(array, from, to)?.with_timezone_opt(zone))
        }
    })
}

fn rescale<F: ArrowTimestampType, T: ArrowTimestampType>(
    array: &PrimitiveArray<F>,
    from: TimeUnit,
    to: TimeUnit,
) -> Result<PrimitiveArray<T>> {
    let (f, t) = (units_per_second(from), units_per_second(to));
    if f == t {
        return Ok(PrimitiveArray::<T>::new(array.values().clone(), array.nulls().cloned()));
    }
    if f > t {
        let divisor = f / t;
        return Ok(array.unary(|v| v.div_euclid(divisor)));
    }
    let factor = t / f;
    array.try_unary(|v| {
        v.checked_mul(factor)
            .ok_or_else(|| Error::data("a timestamp is outside the range that the column can hold"))
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, TimestampMicrosecondArray, TimestampNanosecondArray};
    use arrow::datatypes::{Field, Schema};

    use super::*;

    #[test]
    fn timestamps_floor_before_1970() {
        let ns: ArrayRef =
            Arc::new(TimestampNanosecondArray::from(vec![Some(-1), Some(-1001), Some(1999), None]));
        let us = conform(&ns, &DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))).unwrap();
        let us = us.as_primitive::<TimestampMicrosecondType>();
        assert_eq!(us.iter().collect::<Vec<_>>(), [Some(-1), Some(-2), Some(1), None]);
        assert_eq!(us.timezone(), Some("+00:00"));
        let big: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]));
        assert!(conform(&big, &DataType::Timestamp(TimeUnit::Nanosecond, None)).is_err());
    }

    #[test]
    fn nulls_and_overflow_name_the_column() {
        let schema = Arc::new(Schema::new(vec![Field::new("qty", DataType::Int32, false)]));
        let nulls: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let e = conform_batch(&[nulls], 2, &schema).unwrap_err().to_string();
        assert!(e.contains("`qty` is NOT NULL"), "{e}");
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        let e = conform_batch(&[wide], 1, &schema).unwrap_err().to_string();
        assert!(e.contains("`qty`"), "{e}");
    }
}
