//! Conditions of DEFINE: whether a row can be one of a variable, given the rows before it on a path.
//!
//! ```text
//!  price > 10 AND (price < LAST(a.price, 1) OR LAST(a.price, 1) IS NULL) AND SUM(a.qty) < 100
//!  └ fact ──┘      └ values of two rows ─┘     └ fact of another row ─┘      └ computed ──┘
//! ```
//!
//! Facts and values are computed when rows come ([`super::rows`]). What combines several rows otherwise, or aggregates,
//! is computed for the row at hand: its inputs make a batch of one row. Aggregates keep their state after each row of the
//! path, so that a row more costs a row, and a row less nothing: what is
//! the same of the path as when they were computed last is not looked at.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_plan::PhysicalExpr;

use super::rows::ComputedRows;
use super::search::Path;
use crate::error::{Error, Result};
use crate::functions::room::evaluate;
use crate::operators::group_aggregate::AggregateCall;
use crate::state::RowStore;

/// A row of a match, as seen from the row at hand, which is one of the variable that it is tested for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowRef {
    /// The row at hand.
    Current,
    /// The `n`th row of a variable, or of all, from the first on.
    First(Option<u8>, u32),
    /// The `n`th row of a variable, or of all, from the last on.
    Last(Option<u8>, u32),
}

impl RowRef {
    /// The place of the row in the match; `None` if there is no such row.
    fn place(self, variable: u8, path: &Path) -> Option<usize> {
        let at = path.variables.len();
        match self {
            RowRef::Current => Some(at),
            RowRef::First(None, n) => (n as usize <= at).then_some(n as usize),
            RowRef::Last(None, n) => at.checked_sub(n as usize),
            RowRef::First(Some(of), n) => {
                let places = path.places(of);
                match places.get(n as usize) {
                    Some(place) => Some(*place as usize),
                    None => (of == variable && places.len() == n as usize).then_some(at),
                }
            }
            RowRef::Last(Some(of), n) => {
                if of == variable && n == 0 {
                    return Some(at);
                }
                let back = n as usize + usize::from(of != variable);
                let places = path.places(of);
                places.get(places.len().checked_sub(back)?).map(|place| *place as usize)
            }
        }
    }
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// What a computed condition reads.
#[derive(Debug, Clone)]
pub enum Input {
    /// A value of a row; NULL if there is no such row.
    Value(RowRef, Arc<dyn PhysicalExpr>),
    /// An aggregate over the rows of a variable, or all, up to the row at hand. Its number is that of its state.
    Aggregate(Option<u8>, Box<AggregateCall>, usize),
}

/// Whether a row can be one of a variable: only what is true counts.
#[derive(Debug, Clone)]
pub enum Condition {
    /// All of them.
    All(Vec<Condition>),
    /// One of them.
    Any(Vec<Condition>),
    /// A condition on one row; the last is what it is without that row.
    Fact(RowRef, usize, bool),
    /// Values of two rows.
    Compare((RowRef, usize), Comparison, (RowRef, usize)),
    /// Anything else, over columns that are its inputs.
    Computed {
        /// What it reads.
        inputs: Vec<Input>,
        /// Columns for these.
        schema: SchemaRef,
        /// The condition over them.
        condition: Arc<dyn PhysicalExpr>,
    },
}

impl Condition {
    /// Whether it is about the row at hand alone.
    pub fn is_local(&self) -> bool {
        match self {
            Condition::All(parts) | Condition::Any(parts) => parts.iter().all(Condition::is_local),
            Condition::Fact(row, ..) => *row == RowRef::Current,
            Condition::Compare(left, _, right) => left.0 == RowRef::Current && right.0 == RowRef::Current,
            Condition::Computed { inputs, .. } => {
                inputs.iter().all(|i| matches!(i, Input::Value(RowRef::Current, _)))
            }
        }
    }

    /// One more than the greatest variable whose rows it looks up.
    pub(super) fn referred(&self) -> usize {
        let of = |row: &RowRef| match row {
            RowRef::First(Some(v), _) | RowRef::Last(Some(v), _) => usize::from(*v) + 1,
            _ => 0,
        };
        match self {
            Condition::All(parts) | Condition::Any(parts) => {
                parts.iter().map(Condition::referred).max().unwrap_or(0)
            }
            Condition::Fact(row, ..) => of(row),
            Condition::Compare(left, _, right) => of(&left.0).max(of(&right.0)),
            Condition::Computed { inputs, .. } => {
                let each = inputs.iter().map(|i| match i {
                    Input::Value(row, _) => of(row),
                    Input::Aggregate(variable, ..) => variable.map_or(0, |v| usize::from(v) + 1),
                });
                each.max().unwrap_or(0)
            }
        }
    }
}

/// The states of an aggregate after each of its rows on the path.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// Places in the match.
    places: Vec<u32>,
    states: Vec<Vec<ArrayRef>>,
}

/// What conditions look at.
pub(super) struct Rows<'a> {
    pub(super) schema: &'a SchemaRef,
    pub(super) computed: &'a ComputedRows,
    pub(super) store: &'a RowStore,
    /// Ids of the rows from the first of the match on.
    pub(super) ids: &'a VecDeque<u32>,
}

impl Rows<'_> {
    /// Whether the row behind the path can be one of `variable`.
    pub(super) fn fits(
        &self,
        condition: &Condition,
        variable: u8,
        path: &mut Path,
        trails: &mut Vec<Trail>,
    ) -> Result<bool> {
        match condition {
            Condition::All(parts) => {
                for part in parts {
                    if !self.fits(part, variable, path, trails)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Condition::Any(parts) => {
                for part in parts {
                    if self.fits(part, variable, path, trails)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Condition::Fact(row, fact, without) => match row.place(variable, path) {
                Some(place) => self.computed.holds(*fact, self.ids[place], self.store),
                None => Ok(*without),
            },
            Condition::Compare(left, comparison, right) => {
                let (Some(l), Some(r)) = (left.0.place(variable, path), right.0.place(variable, path)) else {
                    return Ok(false);
                };
                let ordering =
                    self.computed.compare((left.1, self.ids[l]), (right.1, self.ids[r]), self.store)?;
                Ok(ordering.is_some_and(|o| comparison.holds(o)))
            }
            Condition::Computed { inputs, schema, condition } => {
                let mut columns = Vec::with_capacity(inputs.len());
                for (input, field) in inputs.iter().zip(schema.fields()) {
                    columns.push(self.input(input, field.data_type(), variable, path, trails)?);
                }
                let options = RecordBatchOptions::new().with_row_count(Some(1));
                let row = RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?;
                let value = evaluate(condition, &row)?;
                let value = value
                    .as_boolean_opt()
                    .ok_or_else(|| Error::internal(format!("the condition {condition} is not boolean")))?;
                Ok(value.is_valid(0) && value.value(0))
            }
        }
    }

    fn row(&self, id: u32) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        Ok(RecordBatch::try_new_with_options(Arc::clone(self.schema), self.store.gather(&[id])?, &options)?)
    }

    fn input(
        &self,
        input: &Input,
        ty: &DataType,
        variable: u8,
        path: &mut Path,
        trails: &mut Vec<Trail>,
    ) -> Result<ArrayRef> {
        match input {
            Input::Value(row, value) => match row.place(variable, path) {
                Some(place) => evaluate(value, &self.row(self.ids[place])?),
                None => Ok(new_null_array(ty, 1)),
            },
            Input::Aggregate(of, call, number) => {
                if trails.len() <= *number {
                    trails.resize_with(*number + 1, Trail::default);
                }
                let (trail, same) = (&mut trails[*number], path.same(*number));
                // Rows of the path that the trail has.
                let known = trail.places.partition_point(|place| *place < same);
                let at = path.variables.len() as u32;
                let tested = of.is_none_or(|of| of == variable).then_some(at);
                match of {
                    Some(of) => {
                        let rest = path.places(*of).iter().skip(known).copied();
                        self.aggregate(call, known, rest.chain(tested), trail)
                    }
                    None => self.aggregate(call, known, (known as u32..at).chain(tested), trail),
                }
            }
        }
    }

    /// An aggregate over the first `known` rows of a trail and the `rest`.
    fn aggregate(
        &self,
        call: &AggregateCall,
        mut known: usize,
        rest: impl Iterator<Item = u32>,
        trail: &mut Trail,
    ) -> Result<ArrayRef> {
        let mut rest = rest.peekable();
        // The row that was tested last is often on the path now.
        while rest.next_if(|place| trail.places.get(known) == Some(place)).is_some() {
            known += 1;
        }
        trail.places.truncate(known);
        trail.states.truncate(known);
        for place in rest {
            let row = self.row(self.ids[place as usize])?;
            let mut accumulator = call.accumulator()?;
            if let Some(state) = trail.states.last() {
                accumulator.merge_batch(state, &[0], None, 1)?;
            }
            accumulator.update_batch(
                &call.evaluate_args(&row)?,
                &[0],
                call.evaluate_filter(&row)?.as_ref(),
                1,
            )?;
            trail.places.push(place);
            trail.states.push(accumulator.state(EmitTo::All)?);
        }
        match trail.states.last() {
            Some(state) => {
                let mut accumulator = call.accumulator()?;
                accumulator.merge_batch(state, &[0], None, 1)?;
                Ok(accumulator.evaluate(EmitTo::All)?)
            }
            None => Ok(call.expr.create_accumulator()?.evaluate()?.to_array()?),
        }
    }
}
