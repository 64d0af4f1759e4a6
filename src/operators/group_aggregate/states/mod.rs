//! States of updating aggregates: typed vectors under the slots of the group directory.
//!
//! Unlike DataFusion's `GroupsAccumulator` they can take rows back and be read without being emptied.
//!
//! | aggregate | state per slot | takes rows back |
//! |---|---|---|
//! | COUNT | count | yes |
//! | SUM, AVG | sum, count of values | yes |
//! | STDDEV, VAR | count, mean, sum of squared differences | yes |
//! | BOOL_AND, BOOL_OR | count of true, count of false | yes |
//! | MIN, MAX, FIRST_VALUE, LAST_VALUE over append-only input | the value | no |
//! | MIN, MAX over updating input, COLLECT, PERCENTILE, BITMAP_*_AGG | every value with its count, in order | yes |
//! | LISTAGG, ARRAY_AGG, JSON_ARRAYAGG, JSON_OBJECTAGG, SINGLE_VALUE; FIRST_VALUE, LAST_VALUE over updating input | every value, in order of arrival | yes |
//! | those of the user | the state of the script as JSON text | with `retract` |
//! | any other | DataFusion's own state columns | no |

mod count;
mod extreme;
mod moments;
mod multiset;
mod scratch;
mod sequence;
mod sum;
mod user;
mod value;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::functions::aggregate::bitmap::Op;
use crate::functions::aggregate::variance::Form;
use crate::functions::aggregate::{listagg, percentile};
use crate::operators::group_aggregate::AggregateCall;

/// The rows of one update.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The group of each row.
    pub(crate) slots: &'a [u32],
    /// +1 or −1 by row; `None`: all +1.
    pub(crate) signs: Option<&'a [i8]>,
    /// Rows that count; no nulls.
    pub(crate) filter: Option<&'a BooleanArray>,
}

impl Rows<'_> {
    /// Calls `f(row, slot, sign)` for every row that passes the filter and has no null.
    #[inline]
    fn each(&self, nulls: Option<&NullBuffer>, mut f: impl FnMut(usize, usize, i64)) {
        let nulls = nulls.filter(|n| n.null_count() > 0);
        let filter = self.filter.map(BooleanArray::values);
        match (nulls, filter, self.signs) {
            (None, None, None) => {
                for (row, slot) in self.slots.iter().enumerate() {
                    f(row, *slot as usize, 1);
                }
            }
            (None, None, Some(signs)) => {
                for (row, (slot, sign)) in self.slots.iter().zip(signs).enumerate() {
                    f(row, *slot as usize, i64::from(*sign));
                }
            }
            _ => {
                let valid = match (nulls, filter) {
                    (Some(n), Some(v)) => n.inner() & v,
                    (Some(n), None) => n.inner().clone(),
                    (None, Some(v)) => v.clone(),
                    (None, None) => return,
                };
                for row in valid.set_indices() {
                    let sign = self.signs.map_or(1, |s| i64::from(s[row]));
                    f(row, self.slots[row] as usize, sign);
                }
            }
        }
    }
}

impl Rows<'_> {
    /// Calls `add(state, row, slot, sign)` as [`Rows::each`] does and, at each of `ends`, `result(state, slot)` with the slot
    /// of the row before it.
    fn run<S>(
        &self,
        state: &mut S,
        nulls: Option<&NullBuffer>,
        ends: &[usize],
        mut add: impl FnMut(&mut S, usize, usize, i64),
        mut result: impl FnMut(&S, usize),
    ) {
        let nulls = nulls.filter(|n| n.null_count() > 0);
        let counts = |row: usize| {
            nulls.is_none_or(|n| n.is_valid(row)) && self.filter.is_none_or(|f| f.values().value(row))
        };
        let mut row = 0;
        for end in ends {
            while row < *end {
                if counts(row) {
                    let sign = self.signs.map_or(1, |s| i64::from(s[row]));
                    add(state, row, self.slots[row] as usize, sign);
                }
                row += 1;
            }
            result(state, self.slots[end - 1] as usize);
        }
    }

    /// Whether one of the rows that pass the filter is among `those`.
    fn any(&self, those: Option<BooleanBuffer>) -> bool {
        let Some(those) = those else { return false };
        match self.filter {
            Some(filter) => (filter.values() & &those).count_set_bits() > 0,
            None => those.count_set_bits() > 0,
        }
    }
}

/// Several rows of state per slot: slot and columns of each.
pub(crate) struct Entries {
    pub(crate) slots: Vec<u32>,
    pub(crate) columns: Vec<ArrayRef>,
}

/// State of one aggregate call for all groups.
pub(crate) trait GroupedState: Send {
    /// Makes room for `slots` slots.
    fn resize(&mut self, slots: usize);
    /// Adds or takes back rows.
    fn update(&mut self, rows: &Rows<'_>, args: &[ArrayRef]) -> Result<()>;
    /// Results of slots, in the call's return type.
    fn evaluate(&self, slots: &[u32]) -> Result<ArrayRef>;
    /// Adds or takes back rows one after the other, and gives the result of a slot at each of `ends`: after so many rows, of
    /// the slot of the last of them. No row comes behind the last end.
    fn running(&mut self, rows: &Rows<'_>, args: &[ArrayRef], ends: &[usize]) -> Result<ArrayRef> {
        self.step_by_step(rows, args, ends)
    }
    /// What [`GroupedState::running`] does where nothing better is known: an update and a result at a time.
    fn step_by_step(&mut self, rows: &Rows<'_>, args: &[ArrayRef], ends: &[usize]) -> Result<ArrayRef> {
        let (mut results, mut from) = (Vec::with_capacity(ends.len()), 0);
        for end in ends {
            let args: Vec<ArrayRef> = args.iter().map(|a| a.slice(from, end - from)).collect();
            let filter = rows.filter.map(|f| f.slice(from, end - from));
            let slots = &rows.slots[from..*end];
            let signs = rows.signs.map(|s| &s[from..*end]);
            self.update(&Rows { slots, signs, filter: filter.as_ref() }, &args)?;
            results.push(self.evaluate(&rows.slots[end - 1..*end])?);
            from = *end;
        }
        if results.is_empty() {
            return self.evaluate(&[]);
        }
        let results: Vec<&dyn Array> = results.iter().map(|r| r.as_ref()).collect();
        Ok(arrow::compute::concat(&results)?)
    }
    /// Back to the state of a new group.
    fn clear(&mut self, slots: &[u32]);
    /// One row of typed columns per slot.
    fn write(&self, slots: &[u32]) -> Result<Vec<ArrayRef>>;
    /// Inverse of `write`, into cleared slots. What can be added up is added to nothing.
    fn read(&mut self, slots: &[u32], columns: &[ArrayRef]) -> Result<()> {
        self.merge(slots, columns)
    }
    /// State with several rows per slot, if there is any, in parts that make a batch each.
    fn write_entries(&self) -> Result<Vec<Entries>> {
        Ok(Vec::new())
    }
    /// Inverse of `write_entries`, part by part.
    fn read_entries(&mut self, _entries: &Entries) -> Result<()> {
        Ok(())
    }
    /// Whether partial results of [`GroupedState::write`] can be added up by [`GroupedState::merge`].
    fn merges(&self) -> bool {
        false
    }
    /// Adds partial results.
    fn merge(&mut self, _slots: &[u32], _columns: &[ArrayRef]) -> Result<()> {
        Err(Error::internal("an aggregate without partial results"))
    }
    /// Whether it is MIN or MAX: results of groups are values of the group they are merged into.
    fn is_extreme(&self) -> bool {
        false
    }
    /// Bytes held.
    fn size(&self) -> usize;
}

/// The state for a call whose arguments have the given types. `retracts`: rows will be taken back.
pub(crate) fn build(
    call: &AggregateCall,
    arg_types: &[DataType],
    retracts: bool,
) -> Result<Box<dyn GroupedState>> {
    if let Some(state) = native(call, arg_types, retracts)? {
        return Ok(state);
    }
    if call.name == "approx_distinct" {
        return Err(Error::unsupported("APPROX_COUNT_DISTINCT is not supported in streaming mode")
            .hint("COUNT(DISTINCT x) counts exactly"));
    }
    if retracts {
        return Err(Error::unsupported(format!("{} over updating input is not supported", call.text()))
            .hint("aggregate the rows before they are updated, or use an aggregate of Flink's"));
    }
    if !call.expr.order_bys().is_empty() {
        return Err(Error::unsupported(format!("ORDER BY inside {} is not supported", call.text())));
    }
    Ok(Box::new(scratch::ScratchState::new(call)?))
}

/// A state of our own for the call, if there is one; `arg_types` are those of [`AggregateCall::value_args`].
pub(crate) fn native(
    call: &AggregateCall,
    arg_types: &[DataType],
    retracts: bool,
) -> Result<Option<Box<dyn GroupedState>>> {
    use multiset::End;
    use sequence::Finish;
    use value::Keep;
    if let Some(state) = user::build(call, retracts)? {
        return Ok(Some(state));
    }
    let out = call.return_type();
    if !call.expr.order_bys().is_empty() {
        return Ok(None);
    }
    let sequence = |finish, nulls| sequence::build(arg_types, finish, nulls, retracts).map(Some);
    Ok(match (call.name.as_str(), arg_types) {
        ("count", _) if *out == DataType::Int64 => Some(Box::new(count::CountState::default())),
        ("sum", [arg]) => sum::build(arg, out, false),
        ("avg" | "mean", [arg]) => sum::build(arg, out, true),
        ("min", [arg]) if arg == out && retracts => extreme::end(arg, End::Least),
        ("min", [arg]) if arg == out => value::build(arg, Keep::Least),
        ("max", [arg]) if arg == out && retracts => extreme::end(arg, End::Greatest),
        ("max", [arg]) if arg == out => value::build(arg, Keep::Greatest),
        ("first_value", [arg]) if arg == out && retracts => return sequence(Finish::First, false),
        ("last_value", [arg]) if arg == out && retracts => return sequence(Finish::Last, false),
        ("first_value", [arg]) if arg == out => value::build(arg, Keep::First),
        ("last_value", [arg]) if arg == out => value::build(arg, Keep::Last),
        ("single_value", [arg]) if arg == out => return sequence(Finish::Single, true),
        ("listagg", [DataType::Utf8]) => {
            let separator = listagg::separator(&call.args)?;
            return sequence(Finish::Join(separator), false);
        }
        ("array_agg", [arg]) if matches!(out, DataType::List(item) if item.data_type() == arg) => {
            return sequence(Finish::List(out.clone()), !call.expr.ignore_nulls());
        }
        ("json_arrayagg", [DataType::Utf8]) => return sequence(Finish::JsonArray, false),
        ("__json_arrayagg_null", [DataType::Utf8]) => return sequence(Finish::JsonArray, true),
        ("json_objectagg", [DataType::Utf8, DataType::Utf8]) => return sequence(Finish::JsonObject, true),
        ("__json_objectagg_absent", [DataType::Utf8, DataType::Utf8]) => {
            return sequence(Finish::JsonObject, false);
        }
        ("collect", [arg]) => extreme::collect(arg, out),
        (name, [_]) if name.starts_with("bitmap_") => {
            Op::of(name).and_then(|(op, counts)| extreme::bitmap(op, counts))
        }
        ("percentile", [_] | [_, _]) => {
            let (fractions, list) = percentile::fractions(&call.args)?;
            extreme::percentile(fractions, list)
        }
        ("bool_and" | "every", [DataType::Boolean]) => Some(Box::new(count::BoolState::new(true))),
        ("bool_or" | "any", [DataType::Boolean]) => Some(Box::new(count::BoolState::new(false))),
        ("var_pop", [arg]) => moments::build(arg, out, Form::VarPop),
        ("var" | "var_samp" | "variance", [arg]) => moments::build(arg, out, Form::VarSamp),
        ("stddev_pop", [arg]) => moments::build(arg, out, Form::StddevPop),
        ("stddev" | "stddev_samp", [arg]) => moments::build(arg, out, Form::StddevSamp),
        _ => None,
    })
}

/// Takes the column of a snapshot that a state wrote at `at`.
fn column<T: Array + 'static>(columns: &[ArrayRef], at: usize) -> Result<&T> {
    columns
        .get(at)
        .and_then(|c| c.as_any().downcast_ref::<T>())
        .ok_or_else(|| Error::internal("the state of an aggregate has other columns than it should"))
}

/// Values of `slots`, in order.
fn gather<T: Copy>(values: &[T], slots: &[u32]) -> Vec<T> {
    slots.iter().map(|s| values[*s as usize]).collect()
}
