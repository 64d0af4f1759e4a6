//! SUM and AVG: a running sum and the count of values, both signed.
//!
//! | argument | sum kept as | SUM | AVG |
//! |---|---|---|---|
//! | integers | 64 bits, wrapping | cut to the result type: wraps as Flink does | truncated division |
//! | floats | 64-bit float (SUM(FLOAT): 32-bit) | the sum | divided, rounded to the result type |
//! | DECIMAL(p, s) | 128 bits and the overflow beyond them | NULL beyond 38 digits | rounded half up |
//!
//! The decimal sum is exact whatever the order of rows; only a result that does not fit is NULL.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Decimal128Array, Float64Array, Int64Array, PrimitiveArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};

use super::{GroupedState, Rows, column, gather};
use crate::error::{Error, Result};
use crate::functions::aggregate::avg::{decimal_average, decimal_factor};
use crate::functions::aggregate::sum::{decimal_sum, decimal_sum_as};
use crate::state::ordinal::to_ordinals;

pub(super) fn build(arg: &DataType, out: &DataType, average: bool) -> Option<Box<dyn GroupedState>> {
    use DataType as D;
    match (arg, out) {
        (D::Int8 | D::Int16 | D::Int32 | D::Int64, D::Int8 | D::Int16 | D::Int32 | D::Int64) => {
            Some(NumberSum::<Int64Type>::boxed(out, average))
        }
        (D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::Float32 | D::Float64, D::Float32 | D::Float64) => {
            Some(NumberSum::<Float64Type>::boxed(out, average))
        }
        (D::Decimal128(_, scale), D::Decimal128(precision, out_scale)) if out_scale >= scale => {
            Some(Box::new(DecimalSum {
                average,
                scale: *scale,
                precision: *precision,
                out_scale: *out_scale,
                sums: Vec::new(),
            }))
        }
        _ => None,
    }
}

/// Valid where the count is not zero.
fn known(counts: &[i64], slots: &[u32]) -> Option<NullBuffer> {
    slots
        .iter()
        .any(|s| counts[*s as usize] == 0)
        .then(|| slots.iter().map(|s| counts[*s as usize] != 0).collect())
}

/// What sums of integers and of floats differ in.
trait Number: ArrowPrimitiveType + Sized {
    /// The values of a column in the type that sums are kept in; null rows have any value.
    fn widen<'a>(arg: &'a ArrayRef, scratch: &'a mut Vec<Self::Native>) -> Result<&'a [Self::Native]>;

    /// The sum with a value added, or taken back. `single`: as FLOATs are added.
    fn add(sum: Self::Native, value: Self::Native, sign: i64, single: bool) -> Self::Native;

    fn average(sum: Self::Native, count: i64) -> Self::Native;

    /// Sums in the type of the result.
    fn cut(sums: PrimitiveArray<Self>, out: &DataType) -> ArrayRef;
}

impl Number for Int64Type {
    fn widen<'a>(arg: &'a ArrayRef, scratch: &'a mut Vec<i64>) -> Result<&'a [i64]> {
        if let Some(values) = arg.as_primitive_opt::<Int64Type>() {
            return Ok(values.values());
        }
        to_ordinals(arg, scratch)?;
        Ok(scratch)
    }

    #[inline]
    fn add(sum: i64, value: i64, sign: i64, _single: bool) -> i64 {
        sum.wrapping_add(value.wrapping_mul(sign))
    }

    #[inline]
    fn average(sum: i64, count: i64) -> i64 {
        sum.checked_div(count).unwrap_or(sum)
    }

    fn cut(sums: Int64Array, out: &DataType) -> ArrayRef {
        match out {
            DataType::Int8 => Arc::new(sums.unary::<_, Int8Type>(|v| v as i8)),
            DataType::Int16 => Arc::new(sums.unary::<_, Int16Type>(|v| v as i16)),
            DataType::Int32 => Arc::new(sums.unary::<_, Int32Type>(|v| v as i32)),
            _ => Arc::new(sums),
        }
    }
}

impl Number for Float64Type {
    fn widen<'a>(arg: &'a ArrayRef, scratch: &'a mut Vec<f64>) -> Result<&'a [f64]> {
        if let Some(values) = arg.as_primitive_opt::<Float64Type>() {
            return Ok(values.values());
        }
        let wide = arrow::compute::cast(arg, &DataType::Float64)?;
        scratch.clear();
        scratch.extend_from_slice(wide.as_primitive::<Float64Type>().values());
        Ok(scratch)
    }

    #[inline]
    fn add(sum: f64, value: f64, sign: i64, single: bool) -> f64 {
        let sum = sum + value * sign as f64;
        // A sum of two FLOATs rounded once more is what 32-bit addition gives.
        if single { f64::from(sum as f32) } else { sum }
    }

    #[inline]
    fn average(sum: f64, count: i64) -> f64 {
        sum / count as f64
    }

    fn cut(sums: Float64Array, out: &DataType) -> ArrayRef {
        match out {
            DataType::Float32 => Arc::new(sums.unary::<_, Float32Type>(|v| v as f32)),
            _ => Arc::new(sums),
        }
    }
}

struct NumberSum<T: Number> {
    average: bool,
    /// SUM(FLOAT) adds FLOATs.
    single: bool,
    out: DataType,
    sums: Vec<T::Native>,
    counts: Vec<i64>,
    scratch: Vec<T::Native>,
}

impl<T: Number> NumberSum<T> {
    fn boxed(out: &DataType, average: bool) -> Box<dyn GroupedState> {
        Box::new(NumberSum::<T> {
            average,
            single: *out == DataType::Float32 && !average,
            out: out.clone(),
            sums: Vec::new(),
            counts: Vec::new(),
            scratch: Vec::new(),
        })
    }
}

impl<T: Number> GroupedState for NumberSum<T> {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots, T::Native::default());
        self.counts.resize(slots, 0);
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        let [arg] = args else { return Err(arity()) };
        let values = T::widen(arg, &mut self.scratch)?;
        let (sums, counts, single) = (&mut self.sums, &mut self.counts, self.single);
        rows.each(arg.nulls(), |row, slot, sign| {
            sums[slot] = T::add(sums[slot], values[row], sign, single);
            counts[slot] += sign;
        });
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let result = |s: &u32| {
            let (sum, count) = (self.sums[*s as usize], self.counts[*s as usize]);
            if self.average { T::average(sum, count) } else { sum }
        };
        let sums = PrimitiveArray::<T>::new(slots.iter().map(result).collect(), known(&self.counts, slots));
        Ok(T::cut(sums, &self.out))
    }

    fn running(&mut self, rows: &Rows<'_>, args: &[ArrayRef], ends: &[usize]) -> Result<ArrayRef> {
        let [arg] = args else { return Err(arity()) };
        let values = T::widen(arg, &mut self.scratch)?;
        let (single, average) = (self.single, self.average);
        let (mut results, mut known) = (Vec::with_capacity(ends.len()), Vec::with_capacity(ends.len()));
        let mut state = (&mut self.sums, &mut self.counts);
        rows.run(
            &mut state,
            arg.nulls(),
            ends,
            |(sums, counts), row, slot, sign| {
                sums[slot] = T::add(sums[slot], values[row], sign, single);
                counts[slot] += sign;
            },
            |(sums, counts), slot| {
                let (sum, count) = (sums[slot], counts[slot]);
                results.push(if average { T::average(sum, count) } else { sum });
                known.push(count != 0);
            },
        );
        let sums = PrimitiveArray::<T>::new(results.into(), Some(NullBuffer::from(known)));
        Ok(T::cut(sums, &self.out))
    }

    fn clear(&mut self, slots: &[u32]) {
        for s in slots {
            self.sums[*s as usize] = T::Native::default();
            self.counts[*s as usize] = 0;
        }
    }

    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![
            Arc::new(PrimitiveArray::<T>::new(gather(&self.sums, slots).into(), None)),
            Arc::new(Int64Array::from(gather(&self.counts, slots))),
        ])
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let (sums, counts): (&PrimitiveArray<T>, &Int64Array) = (column(columns, 0)?, column(columns, 1)?);
        for (i, s) in slots.iter().enumerate() {
            let sum = &mut self.sums[*s as usize];
            *sum = T::add(*sum, sums.value(i), 1, self.single);
            self.counts[*s as usize] += counts.value(i);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        (self.sums.capacity() + self.scratch.capacity()) * size_of::<T::Native>() + self.counts.capacity() * 8
    }
}

/// `sum + carry · 2^128`, and the count of values.
#[derive(Clone, Copy, Default)]
struct WideSum {
    sum: i128,
    carry: i64,
    count: i64,
}

struct DecimalSum {
    average: bool,
    scale: i8,
    precision: u8,
    out_scale: i8,
    sums: Vec<WideSum>,
}

impl DecimalSum {
    fn result(&self, state: &WideSum) -> Option<i128> {
        // Flink keeps the sum of AVG as DECIMAL(38, s) too.
        if state.count == 0 || state.carry != 0 || decimal_sum(state.sum).is_none() {
            return None;
        }
        let factor = decimal_factor(self.scale, self.out_scale);
        if self.average {
            return decimal_average(state.sum, state.count, factor, self.precision);
        }
        decimal_sum_as(state.sum, factor, self.precision)
    }
}

impl GroupedState for DecimalSum {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots, WideSum::default());
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        let [arg] = args else { return Err(arity()) };
        let arg = arg.as_primitive_opt::<Decimal128Type>().ok_or_else(arity)?;
        let (values, sums) = (arg.values(), &mut self.sums);
        rows.each(arg.nulls(), |row, slot, sign| {
            let state = &mut sums[slot];
            // Cannot overflow: a decimal has at most 38 digits.
            let value = values[row] * i128::from(sign);
            let (sum, over) = state.sum.overflowing_add(value);
            state.sum = sum;
            if over {
                state.carry += if value > 0 { 1 } else { -1 };
            }
            state.count += sign;
        });
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let values: Decimal128Array = slots.iter().map(|s| self.result(&self.sums[*s as usize])).collect();
        Ok(Arc::new(values.with_precision_and_scale(self.precision, self.out_scale)?))
    }

    fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|s| self.sums[*s as usize] = WideSum::default());
    }

    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        // The sum may take all 128 bits, more than a decimal column can hold: two halves.
        let sums = gather(&self.sums, slots);
        let column =
            |f: fn(&WideSum) -> i64| Arc::new(sums.iter().map(f).collect::<Int64Array>()) as ArrayRef;
        Ok(vec![
            column(|s| (s.sum >> 64) as i64),
            column(|s| s.sum as i64),
            column(|s| s.carry),
            column(|s| s.count),
        ])
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let part = |i| column::<Int64Array>(columns, i);
        let (high, low, carry, count) = (part(0)?, part(1)?, part(2)?, part(3)?);
        for (i, s) in slots.iter().enumerate() {
            let value = (i128::from(high.value(i)) << 64) | i128::from(low.value(i) as u64);
            let state = &mut self.sums[*s as usize];
            let (sum, over) = state.sum.overflowing_add(value);
            state.sum = sum;
            state.carry += carry.value(i) + if over { value.signum() as i64 } else { 0 };
            state.count += count.value(i);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<WideSum>()
    }
}

fn arity() -> Error {
    Error::internal("SUM and AVG take one number")
}
