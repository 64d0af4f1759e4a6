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
    Array, ArrayRef, AsArray, Decimal128Array, Float32Array, Float64Array, Int64Array, PrimitiveArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type};

use super::{GroupedState, Rows, column, gather};
use crate::error::{Error, Result};
use crate::functions::aggregate::avg::{decimal_average, decimal_factor};
use crate::functions::aggregate::sum::{decimal_sum, decimal_sum_as};
use crate::state::ordinal::to_ordinals;

pub(super) fn build(arg: &DataType, out: &DataType, average: bool) -> Option<Box<dyn GroupedState>> {
    use DataType as D;
    match (arg, out) {
        (D::Int8 | D::Int16 | D::Int32 | D::Int64, D::Int8 | D::Int16 | D::Int32 | D::Int64) => {
            Some(Box::new(IntSum { average, out: out.clone(), ..IntSum::default() }))
        }
        (D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::Float32 | D::Float64, D::Float32 | D::Float64) => {
            Some(Box::new(FloatSum { average, out: out.clone(), ..FloatSum::default() }))
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

struct IntSum {
    average: bool,
    out: DataType,
    sums: Vec<i64>,
    counts: Vec<i64>,
    scratch: Vec<i64>,
}

impl Default for IntSum {
    fn default() -> Self {
        IntSum {
            average: false,
            out: DataType::Int64,
            sums: Vec::new(),
            counts: Vec::new(),
            scratch: Vec::new(),
        }
    }
}

impl GroupedState for IntSum {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots, 0);
        self.counts.resize(slots, 0);
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        let [arg] = args else { return Err(arity()) };
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        let mut add = |values: &[i64]| {
            rows.each(arg.nulls(), |row, slot, sign| {
                sums[slot] = sums[slot].wrapping_add(values[row].wrapping_mul(sign));
                counts[slot] += sign;
            });
        };
        match arg.as_primitive_opt::<Int64Type>() {
            Some(values) => add(values.values()),
            None => {
                to_ordinals(arg, &mut self.scratch)?;
                add(&self.scratch);
            }
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let values = slots.iter().map(|s| {
            let (sum, count) = (self.sums[*s as usize], self.counts[*s as usize]);
            if self.average { sum.checked_div(count).unwrap_or(sum) } else { sum }
        });
        let nulls = known(&self.counts, slots);
        macro_rules! cut {
            ($t:ty, $n:ty) => {
                Arc::new(PrimitiveArray::<$t>::new(values.map(|v| v as $n).collect(), nulls))
            };
        }
        Ok(match self.out {
            DataType::Int8 => cut!(Int8Type, i8),
            DataType::Int16 => cut!(Int16Type, i16),
            DataType::Int32 => cut!(Int32Type, i32),
            _ => cut!(Int64Type, i64),
        })
    }

    fn clear(&mut self, slots: &[u32]) {
        for s in slots {
            self.sums[*s as usize] = 0;
            self.counts[*s as usize] = 0;
        }
    }

    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![
            Arc::new(Int64Array::from(gather(&self.sums, slots))),
            Arc::new(Int64Array::from(gather(&self.counts, slots))),
        ])
    }

    fn read(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let (sums, counts): (&Int64Array, &Int64Array) = (column(columns, 0)?, column(columns, 1)?);
        for (i, s) in slots.iter().enumerate() {
            self.sums[*s as usize] = sums.value(i);
            self.counts[*s as usize] = counts.value(i);
        }
        Ok(())
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let (sums, counts): (&Int64Array, &Int64Array) = (column(columns, 0)?, column(columns, 1)?);
        for (i, s) in slots.iter().enumerate() {
            let sum = &mut self.sums[*s as usize];
            *sum = sum.wrapping_add(sums.value(i));
            self.counts[*s as usize] += counts.value(i);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        (self.sums.capacity() + self.counts.capacity() + self.scratch.capacity()) * 8
    }
}

struct FloatSum {
    average: bool,
    out: DataType,
    sums: Vec<f64>,
    counts: Vec<i64>,
}

impl Default for FloatSum {
    fn default() -> Self {
        FloatSum { average: false, out: DataType::Float64, sums: Vec::new(), counts: Vec::new() }
    }
}

impl GroupedState for FloatSum {
    fn resize(&mut self, slots: usize) {
        self.sums.resize(slots, 0.0);
        self.counts.resize(slots, 0);
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        let [arg] = args else { return Err(arity()) };
        let arg = arrow::compute::cast(arg, &DataType::Float64)?;
        let values = arg.as_primitive::<Float64Type>().values();
        let (sums, counts) = (&mut self.sums, &mut self.counts);
        // SUM(FLOAT) adds FLOATs; a sum of two rounded once more is what 32-bit addition gives.
        let single = self.out == DataType::Float32 && !self.average;
        rows.each(arg.nulls(), |row, slot, sign| {
            let sum = sums[slot] + values[row] * sign as f64;
            sums[slot] = if single { f64::from(sum as f32) } else { sum };
            counts[slot] += sign;
        });
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let values = slots.iter().map(|s| {
            let (sum, count) = (self.sums[*s as usize], self.counts[*s as usize]);
            if self.average { sum / count as f64 } else { sum }
        });
        let nulls = known(&self.counts, slots);
        Ok(match self.out {
            DataType::Float32 => {
                Arc::new(Float32Array::new(values.map(|v| v as f32).collect(), nulls)) as ArrayRef
            }
            _ => Arc::new(Float64Array::new(values.collect(), nulls)),
        })
    }

    fn clear(&mut self, slots: &[u32]) {
        for s in slots {
            self.sums[*s as usize] = 0.0;
            self.counts[*s as usize] = 0;
        }
    }

    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![
            Arc::new(Float64Array::from(gather(&self.sums, slots))),
            Arc::new(Int64Array::from(gather(&self.counts, slots))),
        ])
    }

    fn read(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let (sums, counts): (&Float64Array, &Int64Array) = (column(columns, 0)?, column(columns, 1)?);
        for (i, s) in slots.iter().enumerate() {
            self.sums[*s as usize] = sums.value(i);
            self.counts[*s as usize] = counts.value(i);
        }
        Ok(())
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let (sums, counts): (&Float64Array, &Int64Array) = (column(columns, 0)?, column(columns, 1)?);
        let single = self.out == DataType::Float32 && !self.average;
        for (i, s) in slots.iter().enumerate() {
            let sum = self.sums[*s as usize] + sums.value(i);
            self.sums[*s as usize] = if single { f64::from(sum as f32) } else { sum };
            self.counts[*s as usize] += counts.value(i);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        (self.sums.capacity() + self.counts.capacity()) * 8
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

    fn read(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let part = |i| column::<Int64Array>(columns, i);
        let (high, low, carry, count) = (part(0)?, part(1)?, part(2)?, part(3)?);
        for (i, s) in slots.iter().enumerate() {
            let sum = (i128::from(high.value(i)) << 64) | i128::from(low.value(i) as u64);
            self.sums[*s as usize] = WideSum { sum, carry: carry.value(i), count: count.value(i) };
        }
        Ok(())
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
