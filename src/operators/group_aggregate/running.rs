//! Results after every row instead of after a bundle: what OVER asks of the states.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array};
use arrow::compute::concat;

use super::AggregateTable;
use super::exprs::Evaluated;
use super::planner::Source;
use super::states::Rows;
use crate::error::{Error, Result, ResultExt};

impl AggregateTable {
    /// Takes events one after the other, each a row that is added or taken back, and gives the results of all calls at
    /// each of `ends`: after so many events, of the slot of the last of them. No event comes behind the last end. Row
    /// counts follow.
    pub(crate) fn running(
        &mut self,
        batch: &Evaluated,
        slots: &[u32],
        signs: Option<&[i8]>,
        ends: &[usize],
    ) -> Result<Vec<ArrayRef>> {
        if !self.distincts.is_empty() {
            return self.step_by_step(batch, slots, signs, ends);
        }
        let mut results = Vec::with_capacity(self.states.len());
        for entry in &mut self.states {
            let filter = entry.filter.and_then(|f| batch.masks[f].as_ref());
            let rows = Rows { slots, signs, filter };
            let args = batch.pick(&entry.args);
            results.push(entry.state.running(&rows, &args, ends).context(|| entry.name.clone())?);
        }
        let (mut counts, mut from) = (Vec::with_capacity(ends.len()), 0);
        for end in ends {
            self.count(&slots[from..*end], signs.map(|s| &s[from..*end]));
            counts.push(self.rows[slots[end - 1] as usize]);
            from = *end;
        }
        let counts: ArrayRef = Arc::new(Int64Array::from(counts));
        self.results
            .iter()
            .map(|r| match *r {
                Source::RowCount => Ok(Arc::clone(&counts)),
                Source::State(i) => Ok(Arc::clone(&results[i])),
                Source::Distinct(..) => Err(Error::internal("a distinct count without a set")),
            })
            .collect()
    }

    fn count(&mut self, slots: &[u32], signs: Option<&[i8]>) {
        match signs {
            None => slots.iter().for_each(|s| self.rows[*s as usize] += 1),
            Some(signs) => {
                slots.iter().zip(signs).for_each(|(s, n)| self.rows[*s as usize] += i64::from(*n));
            }
        }
    }

    /// States behind sets of distinct values follow the transitions of these: an update and a result at a time.
    fn step_by_step(
        &mut self,
        batch: &Evaluated,
        slots: &[u32],
        signs: Option<&[i8]>,
        ends: &[usize],
    ) -> Result<Vec<ArrayRef>> {
        let (mut steps, mut from) = (Vec::with_capacity(ends.len()), 0);
        for end in ends {
            let (of, signs) = (&slots[from..*end], signs.map(|s| &s[from..*end]));
            self.count(of, signs);
            self.update(&batch.slice(from, end - from), of, signs)?;
            steps.push(self.evaluate(&slots[end - 1..*end])?);
            from = *end;
        }
        if steps.is_empty() {
            return self.evaluate(&[]);
        }
        (0..self.results.len())
            .map(|i| {
                let parts: Vec<&dyn Array> = steps.iter().map(|s| s[i].as_ref()).collect();
                Ok(concat(&parts)?)
            })
            .collect()
    }
}
