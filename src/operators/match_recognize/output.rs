//! Matches become rows, many at a time.
//!
//! ```text
//!  match ─► ids of the rows that measures refer to ─► gathered ─► values ─┐
//!        └► ids of the rows that they aggregate    ─► aggregated ─────────┼─► measures ─► batch
//!        └► the variable of the row               (CLASSIFIER) ───────────┘
//! ```
//!
//! ONE ROW PER MATCH: measures are those of the last row. ALL ROWS PER MATCH: those of each row, with what comes after it
//! not seen. An aggregate takes the rows that an output row has more than the one before, and their states are then put
//! together along the match, in as many rounds as the logarithm of its rows.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array, new_null_array,
};
use arrow::compute::{concat, take};
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_plan::PhysicalExpr;

use super::condition::RowRef;
use crate::error::{Error, Result};
use crate::functions::room::{evaluate, project};
use crate::operators::group_aggregate::AggregateCall;
use crate::state::RowStore;
use crate::stream::{BATCH_BYTES, BATCH_ROWS};

/// No such row.
const NONE: u32 = u32::MAX;

/// Rows that aggregates of one batch read, about.
const MEMBERS: usize = 16 * BATCH_ROWS;

/// What comes out of a match.
#[derive(Debug, Clone)]
pub struct MatchOutput {
    /// Whether each row of a match comes out.
    pub all_rows: bool,
    /// Rows that are read.
    pub rows: Vec<RowRef>,
    /// Values of these rows, by their place in `rows`.
    pub values: Vec<(usize, Arc<dyn PhysicalExpr>)>,
    /// Aggregates over the rows of a variable, or all.
    pub aggregates: Vec<(Option<u8>, AggregateCall)>,
    /// Names of the variables, if the row's is read.
    pub classes: Option<Vec<String>>,
    /// Columns of the values, the aggregates and the variable.
    pub read: SchemaRef,
    /// What comes out, over these columns.
    pub columns: Vec<Arc<dyn PhysicalExpr>>,
    /// Its columns.
    pub schema: SchemaRef,
}

/// Gathers matches for a batch.
pub(super) struct Emitting {
    output: MatchOutput,
    input: SchemaRef,
    /// Ids, for each of the rows read.
    rows: Vec<Vec<u32>>,
    /// Ids and output rows, for each of the aggregates.
    members: Vec<(Vec<u32>, Vec<usize>)>,
    classes: Vec<u8>,
    /// For each output row: how many before it belong to the same match.
    behind: Vec<u32>,
    count: usize,
    bytes: usize,
    /// Rows of each variable of the match at hand.
    places: Vec<Vec<u32>>,
}

impl Emitting {
    pub(super) fn new(output: MatchOutput, input: SchemaRef) -> Self {
        let of = |row: &RowRef| match row {
            RowRef::First(Some(v), _) | RowRef::Last(Some(v), _) => usize::from(*v) + 1,
            _ => 0,
        };
        let referred = output
            .rows
            .iter()
            .map(of)
            .chain(output.aggregates.iter().map(|(v, _)| v.map_or(0, |v| usize::from(v) + 1)));
        Emitting {
            places: vec![Vec::new(); referred.max().unwrap_or(0)],
            rows: vec![Vec::new(); output.rows.len()],
            members: vec![Default::default(); output.aggregates.len()],
            classes: Vec::new(),
            behind: Vec::new(),
            count: 0,
            bytes: 0,
            output,
            input,
        }
    }

    /// Whether it is time to make a batch.
    pub(super) fn is_full(&self) -> bool {
        self.count >= BATCH_ROWS
            || self.bytes >= BATCH_BYTES
            || self.members.iter().any(|(ids, _)| ids.len() >= MEMBERS)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds the rows `from..` of a match until a batch is full; gives the row to go on with, `None` at the end.
    pub(super) fn add(
        &mut self,
        variables: &[u8],
        ids: &VecDeque<u32>,
        store: &RowStore,
        from: usize,
    ) -> Option<usize> {
        for places in &mut self.places {
            places.clear();
        }
        for (place, variable) in variables.iter().enumerate() {
            if let Some(places) = self.places.get_mut(*variable as usize) {
                places.push(place as u32);
            }
        }
        let last = variables.len().saturating_sub(1);
        let from = if self.output.all_rows { from } else { last };
        for (at, class) in variables.iter().enumerate().skip(from) {
            if self.is_full() {
                return Some(at);
            }
            self.add_row(*class, at, at - from, ids, store);
        }
        None
    }

    fn add_row(&mut self, class: u8, at: usize, behind: usize, ids: &VecDeque<u32>, store: &RowStore) {
        let wide = !store.are_few_bytes(BATCH_ROWS);
        for (row, to) in self.output.rows.iter().zip(&mut self.rows) {
            // Rows up to `at` are seen.
            let seen = |of: u8| {
                let places = &self.places[of as usize];
                &places[..places.partition_point(|p| *p as usize <= at)]
            };
            let place = match row {
                RowRef::Current => Some(at),
                RowRef::First(None, n) => (*n as usize <= at).then_some(*n as usize),
                RowRef::Last(None, n) => at.checked_sub(*n as usize),
                RowRef::First(Some(of), n) => seen(*of).get(*n as usize).map(|p| *p as usize),
                RowRef::Last(Some(of), n) => seen(*of).iter().nth_back(*n as usize).map(|p| *p as usize),
            };
            let id = place.map_or(NONE, |p| ids[p]);
            if wide && id != NONE {
                self.bytes += store.row_bytes(id);
            }
            to.push(id);
        }
        for ((of, _), (members, groups)) in self.output.aggregates.iter().zip(&mut self.members) {
            let before = members.len();
            match of {
                _ if behind > 0 => {
                    if of.is_none_or(|of| of == class) {
                        members.push(ids[at]);
                    }
                }
                Some(of) => {
                    let places = self.places[*of as usize].iter().take_while(|p| **p as usize <= at);
                    members.extend(places.map(|p| ids[*p as usize]));
                }
                None => members.extend(ids.range(..=at)),
            }
            groups.resize(groups.len() + members.len() - before, self.count);
        }
        if self.output.classes.is_some() {
            self.classes.push(class);
        }
        self.behind.push(behind as u32);
        self.count += 1;
    }

    /// The batch.
    pub(super) fn finish(&mut self, store: &RowStore) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.output.read.fields().len());
        let gathered = self.rows.iter().map(|ids| self.gather(ids, store)).collect::<Result<Vec<_>>>()?;
        for (row, value) in &self.output.values {
            let (rows, places) = &gathered[*row];
            columns.push(match places {
                None => evaluate(value, rows)?,
                Some(_) if rows.num_rows() == 0 => new_null_array(&value.data_type(&self.input)?, self.count),
                Some(places) => take(&evaluate(value, rows)?, places, None)?,
            });
        }
        for ((_, call), (ids, groups)) in self.output.aggregates.iter().zip(&self.members) {
            let rows = self.batch(ids, store)?;
            let mut accumulator = call.accumulator()?;
            // Without a filter, DataFusion takes it that every group has a row.
            let all = || BooleanArray::from(vec![true; rows.num_rows()]);
            let filter = call.evaluate_filter(&rows)?.unwrap_or_else(all);
            accumulator.update_batch(&call.evaluate_args(&rows)?, groups, Some(&filter), self.count)?;
            columns.push(self.along(call, accumulator)?.evaluate(EmitTo::All)?);
        }
        if let Some(names) = &self.output.classes {
            let names: StringArray =
                self.classes.iter().map(|c| names.get(*c as usize).map(String::as_str)).collect();
            columns.push(Arc::new(names));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.count));
        let read = RecordBatch::try_new_with_options(Arc::clone(&self.output.read), columns, &options)?;
        let made = project(&read, &self.output.columns, &self.output.schema)?;
        self.rows.iter_mut().for_each(Vec::clear);
        for (ids, groups) in &mut self.members {
            ids.clear();
            groups.clear();
        }
        self.classes.clear();
        self.behind.clear();
        (self.count, self.bytes) = (0, 0);
        Ok(made)
    }

    /// Puts the state of each output row together with those of the rows of its match before it.
    fn along(
        &self,
        call: &AggregateCall,
        mut accumulator: Box<dyn GroupsAccumulator>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let longest = self.behind.iter().copied().max().unwrap_or(0);
        // After each round, a state covers twice as many rows.
        let mut covered = 1;
        while covered <= longest {
            let states = accumulator.state(EmitTo::All)?;
            let (mut from, mut to) = (Vec::new(), Vec::new());
            for (row, behind) in self.behind.iter().enumerate() {
                if *behind >= covered {
                    from.push(row as u32 - covered);
                    to.push(row);
                }
            }
            let from = UInt32Array::from(from);
            // At once, so that every group has a state among them; what was before comes first.
            to.extend(0..self.count);
            let both = states
                .iter()
                .map(|s| Ok(concat(&[take(s, &from, None)?.as_ref(), s.as_ref()])?))
                .collect::<Result<Vec<_>>>()?;
            accumulator = call.accumulator()?;
            accumulator.merge_batch(&both, &to, None, self.count)?;
            covered *= 2;
        }
        Ok(accumulator)
    }

    /// The rows that are there, and for each output row which of them it has; `None` if they are all there, in order.
    fn gather(&self, ids: &[u32], store: &RowStore) -> Result<(RecordBatch, Option<UInt32Array>)> {
        if !ids.contains(&NONE) {
            return Ok((self.batch(ids, store)?, None));
        }
        let mut there = Vec::with_capacity(ids.len());
        let places = ids
            .iter()
            .map(|id| {
                (*id != NONE).then(|| {
                    there.push(*id);
                    there.len() as u32 - 1
                })
            })
            .collect();
        Ok((self.batch(&there, store)?, Some(places)))
    }

    fn batch(&self, ids: &[u32], store: &RowStore) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(ids.len()));
        let columns = if ids.is_empty() {
            RecordBatch::new_empty(Arc::clone(&self.input)).columns().to_vec()
        } else {
            store.gather(ids)?
        };
        RecordBatch::try_new_with_options(Arc::clone(&self.input), columns, &options).map_err(Error::from)
    }
}
