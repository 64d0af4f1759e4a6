//! `AVG`: in the argument's type, integers truncated; DECIMAL(p, s) gives DECIMAL(38, max(6, s)).
//!
//! State per group: the sum (BIGINT, DOUBLE or DECIMAL(38, s)) and the count of values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, PrimitiveArray};
use arrow::datatypes::{ArrowNativeTypeOp, DataType, Decimal128Type, Float64Type, Int64Type, i256};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::{first, for_each_valid, masked};
use crate::error::{Error, Result};
use crate::functions::arith::{fits, half_up};

pub(super) fn result_type(t: &DataType) -> Option<DataType> {
    match t {
        DataType::Decimal128(_, s) => Some(DataType::Decimal128(38, (*s).max(6))),
        other => super::sum::result_type(other),
    }
}

pub(super) fn sum_type(t: &DataType) -> Option<DataType> {
    match t {
        DataType::Decimal128(_, s) => Some(DataType::Decimal128(38, *s)),
        DataType::Float32 | DataType::Float64 => Some(DataType::Float64),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Null => {
            Some(DataType::Int64)
        }
        _ => None,
    }
}

macro_rules! by_sum {
    ($t:expr, $make:ident, $out:expr) => {{
        let sum =
            sum_type($t).ok_or_else(|| Error::validation(format!("AVG does not support type {}", $t)))?;
        match sum {
            DataType::Int64 => Ok(Box::new($make::<Int64Type>::new(sum, $out.clone()))),
            DataType::Float64 => Ok(Box::new($make::<Float64Type>::new(sum, $out.clone()))),
            _ => Ok(Box::new($make::<Decimal128Type>::new(sum, $out.clone()))),
        }
    }};
}

pub(super) fn groups(t: &DataType, out: &DataType) -> Result<Box<dyn GroupsAccumulator>> {
    by_sum!(t, AvgGroups, out)
}

pub(super) fn accumulator(t: &DataType, out: &DataType) -> Result<Box<dyn Accumulator>> {
    by_sum!(t, AvgOne, out)
}

/// By what sums of decimals are multiplied before they are divided.
pub(crate) fn decimal_factor(sum_scale: i8, out_scale: i8) -> i256 {
    i256::from_i128(10i128.pow((out_scale - sum_scale).max(0) as u32))
}

/// An average of decimals, in batch as in streaming: rounded half up, NULL if it does not fit.
#[inline]
pub(crate) fn decimal_average(sum: i128, count: i64, factor: i256, precision: u8) -> Option<i128> {
    let scaled = i256::from_i128(sum).wrapping_mul(factor);
    half_up(scaled, i256::from_i128(i128::from(count))).to_i128().filter(|v| fits(*v, precision))
}

/// Divides sums by counts into the result type.
fn divide<T: ArrowPrimitiveType>(
    sums: &[T::Native],
    counts: &[i64],
    sum: &DataType,
    out: &DataType,
) -> DfResult<ArrayRef> {
    let sums: ArrayRef =
        Arc::new(PrimitiveArray::<T>::new(sums.to_vec().into(), None).with_data_type(sum.clone()));
    let pairs = |i: usize| counts.get(i).copied().filter(|n| *n > 0);
    let n = sums.len();
    let array: ArrayRef = match (sum, out) {
        (DataType::Int64, _) => {
            let s = sums.as_primitive::<Int64Type>();
            Arc::new((0..n).map(|i| pairs(i).map(|c| s.value(i) / c)).collect::<Int64Array>())
        }
        (DataType::Float64, _) => {
            let s = sums.as_primitive::<Float64Type>();
            Arc::new(
                (0..n)
                    .map(|i| pairs(i).map(|c| s.value(i) / c as f64))
                    .collect::<PrimitiveArray<Float64Type>>(),
            )
        }
        (DataType::Decimal128(_, s1), DataType::Decimal128(p, s2)) => {
            let s = sums.as_primitive::<Decimal128Type>();
            let factor = decimal_factor(*s1, *s2);
            let a: PrimitiveArray<Decimal128Type> =
                (0..n).map(|i| decimal_average(s.value(i), pairs(i)?, factor, *p)).collect();
            Arc::new(a.with_data_type(out.clone()))
        }
        _ => return Err(Error::internal(format!("AVG of {sum} into {out}")).into()),
    };
    // Averages lie between the smallest and the largest value, so narrowing back cannot fail.
    Ok(if array.data_type() == out { array } else { arrow::compute::cast(&array, out)? })
}

#[derive(Debug)]
struct AvgGroups<T: ArrowPrimitiveType> {
    sums: Vec<T::Native>,
    counts: Vec<i64>,
    sum: DataType,
    out: DataType,
}

impl<T: ArrowPrimitiveType> AvgGroups<T> {
    fn new(sum: DataType, out: DataType) -> Self {
        AvgGroups { sums: Vec::new(), counts: Vec::new(), sum, out }
    }
}

/// The argument in the type of the sum.
fn widen<T: ArrowPrimitiveType>(a: &ArrayRef, sum: &DataType) -> DfResult<PrimitiveArray<T>> {
    if a.data_type() == sum || matches!(a.data_type(), DataType::Decimal128(_, _)) {
        return Ok(a.as_primitive::<T>().clone());
    }
    Ok(arrow::compute::cast(a, sum)?.as_primitive::<T>().clone())
}

impl<T: ArrowPrimitiveType> GroupsAccumulator for AvgGroups<T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        let a = widen::<T>(first(values)?, &self.sum)?;
        self.sums.resize(total, T::Native::default());
        self.counts.resize(total, 0);
        let (sums, counts) = (self.sums.as_mut_slice(), self.counts.as_mut_slice());
        let v = a.values();
        for_each_valid(group_indices, a.nulls(), filter, |group, row| {
            sums[group] = sums[group].add_wrapping(v[row]);
            counts[group] += 1;
        });
        Ok(())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        let [sum, count] = values else { return Err(Error::internal("AVG has two state columns").into()) };
        let (s, c) = (sum.as_primitive::<T>(), count.as_primitive::<Int64Type>());
        self.sums.resize(total, T::Native::default());
        self.counts.resize(total, 0);
        let (sums, counts) = (self.sums.as_mut_slice(), self.counts.as_mut_slice());
        for_each_valid(group_indices, s.nulls(), filter, |group, row| {
            sums[group] = sums[group].add_wrapping(s.values()[row]);
            counts[group] += c.values()[row];
        });
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let (sums, counts) = (emit.take_needed(&mut self.sums), emit.take_needed(&mut self.counts));
        divide::<T>(&sums, &counts, &self.sum, &self.out)
    }

    fn state(&mut self, emit: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let (sums, counts) = (emit.take_needed(&mut self.sums), emit.take_needed(&mut self.counts));
        Ok(vec![
            Arc::new(PrimitiveArray::<T>::new(sums.into(), None).with_data_type(self.sum.clone())),
            Arc::new(Int64Array::from(counts)),
        ])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        let a = masked(first(values)?, filter)?;
        let counts: Int64Array = (0..a.len()).map(|i| Some(i64::from(a.is_valid(i)))).collect();
        Ok(vec![Arc::new(widen::<T>(&a, &self.sum)?.with_data_type(self.sum.clone())), Arc::new(counts)])
    }

    fn supports_convert_to_state(&self) -> bool {
        true
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<T::Native>() + self.counts.capacity() * size_of::<i64>()
    }
}

#[derive(Debug)]
struct AvgOne<T: ArrowPrimitiveType> {
    total: T::Native,
    count: i64,
    sum: DataType,
    out: DataType,
}

impl<T: ArrowPrimitiveType> AvgOne<T> {
    fn new(sum: DataType, out: DataType) -> Self {
        AvgOne { total: T::Native::default(), count: 0, sum, out }
    }
}

impl<T: ArrowPrimitiveType + std::fmt::Debug> Accumulator for AvgOne<T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let a = widen::<T>(first(values)?, &self.sum)?;
        if let Some(s) = arrow::compute::sum(&a) {
            self.total = self.total.add_wrapping(s);
        }
        self.count += (a.len() - a.null_count()) as i64;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let a = widen::<T>(first(values)?, &self.sum)?;
        if let Some(s) = arrow::compute::sum(&a) {
            self.total = self.total.sub_wrapping(s);
        }
        self.count -= (a.len() - a.null_count()) as i64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        let [sum, count] = states else { return Err(Error::internal("AVG has two state columns").into()) };
        if let Some(s) = arrow::compute::sum(sum.as_primitive::<T>()) {
            self.total = self.total.add_wrapping(s);
        }
        self.count += arrow::compute::sum(count.as_primitive::<Int64Type>()).unwrap_or(0);
        Ok(())
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let a = divide::<T>(&[self.total], &[self.count], &self.sum, &self.out)?;
        ScalarValue::try_from_array(&a, 0)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let total = PrimitiveArray::<T>::new(vec![self.total].into(), None).with_data_type(self.sum.clone());
        Ok(vec![ScalarValue::try_from_array(&total, 0)?, ScalarValue::Int64(Some(self.count))])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
