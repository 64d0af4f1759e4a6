//! COUNT, BOOL_AND, BOOL_OR: signed counters.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::buffer::NullBuffer;

use super::{GroupedState, Rows, column, gather};
use crate::error::Result;

/// COUNT(*) (no arguments) and COUNT(x).
#[derive(Default)]
pub(super) struct CountState {
    counts: Vec<i64>,
}

impl GroupedState for CountState {
    fn resize(&mut self, slots: usize) {
        self.counts.resize(slots, 0);
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        // A row counts if no argument is null.
        let mut nulls: Option<NullBuffer> = None;
        for arg in args {
            nulls = NullBuffer::union(nulls.as_ref(), arg.logical_nulls().as_ref());
        }
        let counts = &mut self.counts;
        rows.each(nulls.as_ref(), |_, slot, sign| counts[slot] += sign);
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from(gather(&self.counts, slots))))
    }

    fn running(&mut self, rows: &Rows<'_>, args: &[ArrayRef], ends: &[usize]) -> Result<ArrayRef> {
        let mut nulls: Option<NullBuffer> = None;
        for arg in args {
            nulls = NullBuffer::union(nulls.as_ref(), arg.logical_nulls().as_ref());
        }
        let mut results = Vec::with_capacity(ends.len());
        let add = |counts: &mut Vec<i64>, _, slot: usize, sign| counts[slot] += sign;
        rows.run(&mut self.counts, nulls.as_ref(), ends, add, |counts, slot| results.push(counts[slot]));
        Ok(Arc::new(Int64Array::from(results)))
    }

    fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|s| self.counts[*s as usize] = 0);
    }

    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(slots)?])
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let counts: &Int64Array = column(columns, 0)?;
        slots.iter().zip(counts.values()).for_each(|(s, c)| self.counts[*s as usize] += c);
        Ok(())
    }

    fn size(&self) -> usize {
        self.counts.capacity() * 8
    }
}

/// BOOL_AND and BOOL_OR: how many values were true and false.
pub(super) struct BoolState {
    and: bool,
    trues: Vec<i64>,
    falses: Vec<i64>,
}

impl BoolState {
    pub(super) fn new(and: bool) -> Self {
        BoolState { and, trues: Vec::new(), falses: Vec::new() }
    }
}

impl GroupedState for BoolState {
    fn resize(&mut self, slots: usize) {
        self.trues.resize(slots, 0);
        self.falses.resize(slots, 0);
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        for arg in args {
            let values = arg.as_boolean().values();
            rows.each(arg.nulls(), |row, slot, sign| {
                let counts = if values.value(row) { &mut self.trues } else { &mut self.falses };
                counts[slot] += sign;
            });
        }
        Ok(())
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        let of = |s: &u32| {
            let (t, f) = (self.trues[*s as usize], self.falses[*s as usize]);
            let known = t > 0 || f > 0;
            known.then_some(if self.and { f <= 0 } else { t > 0 })
        };
        Ok(Arc::new(slots.iter().map(of).collect::<BooleanArray>()))
    }

    fn clear(&mut self, slots: &[u32]) {
        for s in slots {
            self.trues[*s as usize] = 0;
            self.falses[*s as usize] = 0;
        }
    }

    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![
            Arc::new(Int64Array::from(gather(&self.trues, slots))),
            Arc::new(Int64Array::from(gather(&self.falses, slots))),
        ])
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let (trues, falses): (&Int64Array, &Int64Array) = (column(columns, 0)?, column(columns, 1)?);
        for (i, s) in slots.iter().enumerate() {
            self.trues[*s as usize] += trues.value(i);
            self.falses[*s as usize] += falses.value(i);
        }
        Ok(())
    }

    fn size(&self) -> usize {
        (self.trues.capacity() + self.falses.capacity()) * 8
    }
}
