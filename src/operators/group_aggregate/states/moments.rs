//! VAR_POP, VAR_SAMP, STDDEV_POP, STDDEV_SAMP: the moments of batch under slots.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::DataType;

use super::{GroupedState, Rows, column, gather};
use crate::error::{Error, Result};
use crate::functions::aggregate::variance::{Form, Moments, cut, doubles};

pub(super) fn build(arg: &DataType, out: &DataType, form: Form) -> Option<Box<dyn GroupedState>> {
    use DataType as D;
    let number = |t: &D| {
        matches!(t, D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::Float32 | D::Float64 | D::Decimal128(..))
    };
    if number(arg) && number(out) {
        Some(Box::new(MomentState { form, out: out.clone(), states: Vec::new() }))
    } else {
        None
    }
}

struct MomentState {
    form: Form,
    /// The type of the result: Flink gives the argument's, integers cut towards zero.
    out: DataType,
    states: Vec<Moments>,
}

impl GroupedState for MomentState {
    fn resize(&mut self, slots: usize) {
        self.states.resize(slots, Moments::default());
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        let [arg] = args else { return Err(Error::internal("a variance takes one number")) };
        let arg = doubles(arg)?;
        let (values, states) = (arg.values(), &mut self.states);
        rows.each(arg.nulls(), |row, slot, sign| states[slot].add(values[row], sign));
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        cut(slots.iter().map(|s| self.states[*s as usize].result(self.form)).collect(), &self.out)
    }

    fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|s| self.states[*s as usize] = Moments::default());
    }

    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        let states = gather(&self.states, slots);
        Ok(vec![
            Arc::new(states.iter().map(|s| s.count).collect::<Int64Array>()),
            Arc::new(Float64Array::from_iter_values(states.iter().map(|s| s.mean))),
            Arc::new(Float64Array::from_iter_values(states.iter().map(|s| s.m2))),
        ])
    }

    fn read(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let count: &Int64Array = column(columns, 0)?;
        let (mean, m2): (&Float64Array, &Float64Array) = (column(columns, 1)?, column(columns, 2)?);
        for (i, s) in slots.iter().enumerate() {
            self.states[*s as usize] =
                Moments { count: count.value(i), mean: mean.value(i), m2: m2.value(i) };
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.states.capacity() * size_of::<Moments>()
    }
}
