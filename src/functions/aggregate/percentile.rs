//! `PERCENTILE(x, p[, frequency])`: the value at a fraction of the order, between two values their weighted mean.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use datafusion::physical_plan::PhysicalExpr;

use crate::error::{Error, Result};

/// Types that the arguments are cast to, `None` if they cannot be.
pub(super) fn coerce(types: &[DataType]) -> Option<Vec<DataType>> {
    let number = |t: &DataType| t.is_numeric() || *t == DataType::Null;
    let fraction = |t: &DataType| match t {
        DataType::List(item) if number(item.data_type()) => {
            Some(DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true))))
        }
        t => number(t).then_some(DataType::Float64),
    };
    match types {
        [x, p] if number(x) => Some(vec![DataType::Float64, fraction(p)?]),
        [x, p, times] if number(x) && (times.is_integer() || *times == DataType::Null) => {
            Some(vec![DataType::Float64, fraction(p)?, DataType::Int64])
        }
        _ => None,
    }
}

/// The constant fractions of a call, and whether they are a list.
pub(crate) fn fractions(args: &[Arc<dyn PhysicalExpr>]) -> Result<(Vec<f64>, bool)> {
    let wrong = || {
        Error::validation("the percentage of PERCENTILE must be a constant between 0 and 1")
            .hint("PERCENTILE(x, 0.5), or PERCENTILE(x, ARRAY[0.25, 0.75]) for several")
    };
    let expr = args.get(1).ok_or_else(wrong)?;
    // A constant needs no columns.
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?;
    let value = expr.evaluate(&row).and_then(|v| v.into_array(1)).map_err(|_| wrong())?;
    let (values, list) = match value.as_list_opt::<i32>() {
        Some(list) if list.is_valid(0) => (list.value(0), true),
        Some(_) => return Err(wrong()),
        None => (value, false),
    };
    let values = values.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
    let fractions: Option<Vec<f64>> = values.iter().map(|p| p.filter(|p| (0.0..=1.0).contains(p))).collect();
    Ok((fractions.ok_or_else(wrong)?, list))
}

/// The value at `fraction` of the sorted `values`, of which each stands there so many times.
pub(crate) fn interpolate(values: &[f64], counts: &[i64], fraction: f64) -> Option<f64> {
    let total: i64 = counts.iter().sum();
    if total <= 0 {
        return None;
    }
    // Counted from 1, as Flink does: that decides the last digit.
    let position = (total - 1) as f64 * fraction + 1.0;
    let (lower, upper) = (position.floor(), position.ceil());
    let at = |index: f64| {
        let mut passed = 0;
        values.iter().zip(counts).find_map(|(value, count)| {
            passed += count;
            (passed as f64 >= index).then_some(*value)
        })
    };
    if lower == upper {
        return at(lower);
    }
    let (low, high) = (at(lower)?, at(upper)?);
    Some(if low == high { low } else { (upper - position) * low + (position - lower) * high })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_values() {
        let (values, counts) = ([10.0, 20.0, 30.0, 40.0], [1, 1, 1, 1]);
        assert_eq!(interpolate(&values, &counts, 0.25), Some(17.5));
        assert_eq!(interpolate(&values, &counts, 0.0), Some(10.0));
        assert_eq!(interpolate(&values, &counts, 1.0), Some(40.0));
        assert_eq!(interpolate(&[1.0, 2.0], &[3, 1], 0.5), Some(1.0));
        assert_eq!(interpolate(&[1.5, 2.5], &[1, 1], 0.9), Some(2.400_000_000_000_000_4));
        assert_eq!(interpolate(&[], &[], 0.5), None);
    }
}
