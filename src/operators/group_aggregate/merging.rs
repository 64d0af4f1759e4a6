//! Groups of one table merged into those of another: slices into windows, pieces into sessions.
//!
//! ```text
//!  groups of `from` ─┬─► states that add up, least and greatest values ─► states of the group they are merged into
//!                    └─► distinct values with their filters ─► its distinct sets ─► the states that follow those
//! ```

use arrow::array::{BooleanArray, Int64Array, UInt32Array};
use arrow::compute::take;

use super::planner::StateEntry;
use super::states::{Entries, Rows};
use super::table::AggregateTable;
use crate::error::{Error, Result, ResultExt};

impl AggregateTable {
    /// Whether [`AggregateTable::merge_groups`] alone can merge groups of this table.
    pub(crate) fn merges(&self) -> bool {
        self.distincts.is_empty() && self.merges_with_distincts()
    }

    /// Whether [`AggregateTable::merge_groups`] can, with [`AggregateTable::merge_distincts`] behind it.
    pub(crate) fn merges_with_distincts(&self) -> bool {
        let follows = |s: &StateEntry| {
            let set = s.distinct.and_then(|(set, _)| self.distincts.get(set));
            set.is_none_or(|set| s.args.iter().all(|arg| set.args.contains(arg)))
        };
        self.states.iter().all(|s| (s.state.merges() || s.state.is_extreme()) && follows(s))
    }

    /// Merges groups of `from` into `slots`, one of them for each. `from` has the same calls over updating input, this
    /// table over append-only input.
    ///
    /// # Errors
    /// Of the states.
    pub(crate) fn merge_groups(
        &mut self,
        slots: &[u32],
        from: &AggregateTable,
        groups: &[u32],
    ) -> Result<()> {
        slots.iter().zip(groups).for_each(|(s, g)| self.rows[*s as usize] += from.rows[*g as usize]);
        let pairs = self.states.iter_mut().zip(&from.states);
        for (into, of) in pairs.filter(|(into, _)| into.distinct.is_none()) {
            if of.state.merges() {
                into.state.merge(slots, &of.state.write(groups)?)?;
            } else {
                // The least of the least values is the least of all.
                let rows = Rows { slots, signs: None, filter: None };
                into.state.update(&rows, &[of.state.evaluate(groups)?])?;
            }
        }
        Ok(())
    }

    /// For tables whose groups go a few at a time: distinct values are found by group. Before any row.
    pub(crate) fn list_distincts(&mut self) {
        self.distincts.iter_mut().for_each(|d| d.set.list_by_slot());
    }

    /// Makes [`AggregateTable::merge_distincts`] able to take values back in this table, if nothing but counts follows
    /// them: what a sum of floats leaves when a value is taken back is not what it would be without it. Before any row.
    pub(crate) fn count_distincts(&mut self) -> bool {
        if self.distincts.is_empty() || self.states.iter().any(|s| s.distinct.is_some()) {
            return false;
        }
        self.distincts.iter_mut().for_each(|d| d.set.count_occurrences());
        true
    }

    /// Merges the distinct values of groups of `from` into `slots`, one of them for each group, or takes them back
    /// (`sign`) after [`AggregateTable::count_distincts`].
    ///
    /// # Errors
    /// Of the states.
    pub(crate) fn merge_distincts(
        &mut self,
        slots: &[u32],
        from: &AggregateTable,
        groups: &[u32],
        sign: i8,
    ) -> Result<()> {
        let broken = || Error::internal("distinct values of other columns than they should have");
        for (i, (entry, of)) in self.distincts.iter_mut().zip(&from.distincts).enumerate() {
            for Entries { slots: places, columns } in of.set.write_entries_of(groups)? {
                let slots: Vec<u32> = places.iter().map(|place| slots[*place as usize]).collect();
                let signs = (sign < 0).then(|| vec![sign; slots.len()]);
                let (values, counts) = columns.split_at_checked(entry.args.len()).ok_or_else(broken)?;
                let is_there = |column: &Int64Array| BooleanArray::from_unary(column, |count| count > 0);
                let counts = counts.iter().map(|c| c.as_any().downcast_ref().map(is_there));
                let masks: Vec<BooleanArray> = counts.collect::<Option<_>>().ok_or_else(broken)?;
                let filters: Vec<Option<&BooleanArray>> = masks.iter().map(Some).collect();
                let transitions = entry.set.update(&slots, signs.as_deref(), values, &filters)?;
                for (filter, transition) in transitions.into_iter().enumerate() {
                    if transition.rows.is_empty() {
                        continue;
                    }
                    let indices = UInt32Array::from(transition.rows);
                    for state in self.states.iter_mut().filter(|s| s.distinct == Some((i, filter))) {
                        let place = |arg: &usize| entry.args.iter().position(|a| a == arg);
                        let args = state.args.iter().map(|arg| {
                            let value = place(arg).and_then(|p| values.get(p)).ok_or_else(broken)?;
                            Ok(take(value, &indices, None)?)
                        });
                        let args = args.collect::<Result<Vec<_>>>()?;
                        let rows = Rows { slots: &transition.slots, signs: None, filter: None };
                        state.state.update(&rows, &args).context(|| state.name.clone())?;
                    }
                }
            }
        }
        Ok(())
    }
}
