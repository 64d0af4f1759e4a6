//! Aggregates of the user: a state as JSON text for each slot, which the script reads and writes.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};

use super::{GroupedState, Rows, column};
use crate::error::{Error, Result};
use crate::functions::{UserAggregate, UserState};
use crate::operators::group_aggregate::AggregateCall;

/// See the module.
struct State {
    states: UserState,
    /// Partial results of rows that are taken back could be less than nothing, which scripts need not have a state for.
    merges: bool,
}

/// The state of a call, if its function is one of the user's.
pub(super) fn build(call: &AggregateCall, retracts: bool) -> Result<Option<Box<dyn GroupedState>>> {
    let Some(function) = UserAggregate::of(call.expr.fun()) else { return Ok(None) };
    if retracts && !function.abilities().retracts {
        return Err(Error::unsupported(format!("{} over updating input is not supported", call.text()))
            .hint("define a function retract(state, …) in its body, or aggregate the rows before they are updated"));
    }
    let merges = function.abilities().merges && !retracts;
    Ok(Some(Box::new(State { states: UserState::new(function, 0), merges })))
}

impl GroupedState for State {
    fn resize(&mut self, slots: usize) {
        self.states.resize(slots);
    }

    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()> {
        self.states.update(rows.slots, rows.signs, rows.filter, args)
    }

    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef> {
        self.states.finish(slots)
    }

    fn clear(&mut self, slots: &[u32]) {
        self.states.clear(slots);
    }

    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.states.column(slots)?)])
    }

    fn read(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        self.states.store(slots, column::<StringArray>(columns, 0)?)
    }

    fn merges(&self) -> bool {
        self.merges
    }

    fn merge(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        self.states.merge(slots, column::<StringArray>(columns, 0)?)
    }

    fn size(&self) -> usize {
        self.states.size()
    }
}
