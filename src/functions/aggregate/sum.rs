//! `SUM`: in the argument's type, wrapping; DECIMAL(p, s) gives DECIMAL(38, s), NULL on overflow.
//!
//! State per group: the sum (NULL before the first value). Sums beyond 38 digits stay in the 128 bits until the end,
//! so a later opposite value brings them back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, i256,
};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::value::{GroupValues, ValueGroups};
use super::{first, for_each_valid, validity};
use crate::error::{Error, Result};
use crate::functions::arith::fits;

pub(super) fn result_type(t: &DataType) -> Option<DataType> {
    match t {
        DataType::Decimal128(_, s) => Some(DataType::Decimal128(38, *s)),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64 => Some(t.clone()),
        DataType::Null => Some(DataType::Int32),
        _ => None,
    }
}

macro_rules! by_type {
    ($t:expr, $make:ident, $out:expr) => {
        match $t {
            DataType::Int8 => Ok(Box::new($make::<Int8Type>::new($out.clone()))),
            DataType::Int16 => Ok(Box::new($make::<Int16Type>::new($out.clone()))),
            DataType::Int32 => Ok(Box::new($make::<Int32Type>::new($out.clone()))),
            DataType::Int64 => Ok(Box::new($make::<Int64Type>::new($out.clone()))),
            DataType::Float32 => Ok(Box::new($make::<Float32Type>::new($out.clone()))),
            DataType::Float64 => Ok(Box::new($make::<Float64Type>::new($out.clone()))),
            DataType::Decimal128(_, _) => Ok(Box::new($make::<Decimal128Type>::new($out.clone()))),
            other => {
                Err(Error::validation(format!("SUM does not support type {}", crate::types::sql_name(other))))
            }
        }
    };
}

pub(super) fn groups(t: &DataType, out: &DataType) -> Result<Box<dyn GroupsAccumulator>> {
    by_type!(t, SumGroups, out)
}

pub(super) fn accumulator(t: &DataType, out: &DataType) -> Result<Box<dyn Accumulator>> {
    by_type!(t, SumOne, out)
}

/// A sum of decimals, in batch as in streaming: NULL beyond 38 digits.
#[inline]
pub(crate) fn decimal_sum(sum: i128) -> Option<i128> {
    fits(sum, 38).then_some(sum)
}

/// A sum of decimals in another DECIMAL, `factor` the quotient of the scales; NULL if it does not fit.
pub(crate) fn decimal_sum_as(sum: i128, factor: i256, precision: u8) -> Option<i128> {
    i256::from_i128(sum).wrapping_mul(factor).to_i128().filter(|v| fits(*v, precision))
}

/// Results for sums in their type.
fn finish(array: ArrayRef, out: &DataType) -> DfResult<ArrayRef> {
    if matches!(out, DataType::Decimal128(_, _)) {
        let d = array.as_primitive::<Decimal128Type>();
        if d.iter().flatten().any(|v| decimal_sum(v).is_none()) {
            let kept = d.unary_opt::<_, Decimal128Type>(decimal_sum);
            return Ok(Arc::new(kept.with_data_type(out.clone())));
        }
    }
    Ok(array)
}

#[derive(Debug)]
struct SumGroups<T: ArrowPrimitiveType> {
    sums: Vec<T::Native>,
    seen: Vec<bool>,
    out: DataType,
}

impl<T: ArrowPrimitiveType> SumGroups<T> {
    fn new(out: DataType) -> ValueGroups<Self> {
        ValueGroups(SumGroups { sums: Vec::new(), seen: Vec::new(), out })
    }
}

impl<T: ArrowPrimitiveType> GroupValues for SumGroups<T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn add(
        &mut self,
        values: &ArrayRef,
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        let a = values.as_primitive::<T>();
        self.sums.resize(total, T::Native::default());
        self.seen.resize(total, false);
        let (sums, seen) = (self.sums.as_mut_slice(), self.seen.as_mut_slice());
        let v = a.values();
        for_each_valid(group_indices, a.nulls(), filter, |group, row| {
            sums[group] = sums[group].add_wrapping(v[row]);
            seen[group] = true;
        });
        Ok(())
    }

    fn take(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let nulls = validity(&mut self.seen, emit);
        let sums = PrimitiveArray::<T>::new(emit.take_needed(&mut self.sums).into(), nulls);
        Ok(Arc::new(sums.with_data_type(self.out.clone())))
    }

    fn finish(&self, states: ArrayRef) -> DfResult<ArrayRef> {
        finish(states, &self.out)
    }

    fn as_states(&self, rows: ArrayRef) -> ArrayRef {
        Arc::new(rows.as_primitive::<T>().clone().with_data_type(self.out.clone()))
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<T::Native>() + self.seen.capacity()
    }
}

#[derive(Debug)]
struct SumOne<T: ArrowPrimitiveType> {
    sum: T::Native,
    count: i64,
    out: DataType,
}

impl<T: ArrowPrimitiveType> SumOne<T> {
    fn new(out: DataType) -> Self {
        SumOne { sum: T::Native::default(), count: 0, out }
    }

    fn array(&self) -> ArrayRef {
        let sum = PrimitiveArray::<T>::from_iter([(self.count > 0).then_some(self.sum)]);
        Arc::new(sum.with_data_type(self.out.clone()))
    }
}

impl<T: ArrowPrimitiveType + std::fmt::Debug> Accumulator for SumOne<T>
where
    T::Native: ArrowNativeTypeOp,
{
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let a = first(values)?.as_primitive::<T>();
        if let Some(s) = arrow::compute::sum(a) {
            self.sum = self.sum.add_wrapping(s);
        }
        self.count += (a.len() - a.null_count()) as i64;
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.update_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let a = first(values)?.as_primitive::<T>();
        if let Some(s) = arrow::compute::sum(a) {
            self.sum = self.sum.sub_wrapping(s);
        }
        self.count -= (a.len() - a.null_count()) as i64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        ScalarValue::try_from_array(&finish(self.array(), &self.out)?, 0)
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::try_from_array(&self.array(), 0)?])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}
