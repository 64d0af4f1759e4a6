//! Aggregate functions of scripts: for batch, windows and OVER; [`UserState`] also for streaming GROUP BY.
//!
//! | the script has | state columns in batch and windows |
//! |---|---|
//! | `merge` | the state as JSON text |
//! | no `merge` | the arguments of all rows: what cannot be merged is computed when everything is there |
//!
//! Streaming GROUP BY keeps the JSON text in both cases, and needs `retract` where rows are taken back.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, StringArray, StringBuilder, UInt32Array, new_empty_array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature as DfSignature,
    TypeSignature,
};

use super::Signature;
use super::engine::{Abilities, Accumulate, Engine};
use super::kept::{Kept, unnested};
use crate::error::{Error, Result};
use crate::functions::aggregate::Distinct;
use crate::functions::room::append;

/// The function for a script.
pub(super) fn function(signature: &Arc<Signature>, engine: Arc<dyn Engine>) -> Result<Arc<AggregateUDF>> {
    let abilities = engine.abilities()?;
    Ok(Arc::new(AggregateUDF::new_from_impl(UserAggregate {
        signature: Arc::clone(signature),
        types: DfSignature::new(TypeSignature::UserDefined, signature.volatility),
        engine,
        abilities,
    })))
}

/// An aggregate function of a script.
#[derive(Debug, Clone)]
pub(crate) struct UserAggregate {
    pub(super) signature: Arc<Signature>,
    types: DfSignature,
    engine: Arc<dyn Engine>,
    abilities: Abilities,
}

impl UserAggregate {
    /// The script of an aggregate, if it is one.
    pub(crate) fn of(f: &AggregateUDF) -> Option<&UserAggregate> {
        f.inner().downcast_ref::<UserAggregate>()
    }

    /// What the script can do.
    pub(crate) fn abilities(&self) -> Abilities {
        self.abilities
    }

    /// Whether rows with NULL count.
    pub(crate) fn takes_nulls(&self) -> bool {
        !self.signature.strict
    }

    /// Lists of the arguments.
    pub(super) fn kept_fields(&self) -> Vec<FieldRef> {
        let parameters = self.signature.parameters.iter();
        let field = |(i, ty): (usize, DataType)| {
            let item = Field::new_list_field(ty, true);
            Arc::new(Field::new_list(format_state_name(self.name(), &format!("rows_{i}")), item, true))
        };
        parameters.map(|p| p.ty.to_arrow()).enumerate().map(field).collect()
    }
}

impl PartialEq for UserAggregate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.signature, &other.signature)
    }
}

impl Eq for UserAggregate {}

impl Hash for UserAggregate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.signature.name.hash(state);
    }
}

impl AggregateUDFImpl for UserAggregate {
    fn name(&self) -> &str {
        &self.signature.name
    }

    fn signature(&self) -> &DfSignature {
        &self.types
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        let fields: Vec<FieldRef> =
            arg_types.iter().map(|t| Arc::new(Field::new("", t.clone(), false)) as FieldRef).collect();
        self.signature.accept(&fields)?;
        Ok(arg_types.to_vec())
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(self.signature.result())
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> DfResult<FieldRef> {
        self.signature.accept(arg_fields)?;
        Ok(Arc::new(Field::new(self.name(), self.signature.result(), self.signature.result_is_nullable())))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DfResult<Vec<FieldRef>> {
        if args.is_distinct {
            let t = args.input_fields.first().map_or(DataType::Null, |f| f.data_type().clone());
            let item = Field::new_list_field(t, true);
            return Ok(vec![Arc::new(Field::new_list(format_state_name(args.name, "distinct"), item, true))]);
        }
        if self.abilities.merges {
            return Ok(vec![Arc::new(Field::new(
                format_state_name(args.name, "state"),
                DataType::Utf8,
                true,
            ))]);
        }
        Ok(self.kept_fields())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn Accumulator>> {
        let plain: Box<dyn Accumulator> =
            if self.abilities.merges || (self.abilities.retracts && !args.is_distinct) {
                Box::new(OneState {
                    states: UserState::new(self, 1),
                    kept: Kept::new(self),
                    mixed: !self.abilities.merges,
                })
            } else {
                Box::new(Kept::new(self))
            };
        if args.is_distinct {
            let [argument] = args.expr_fields else {
                return Err(
                    Error::unsupported(format!("DISTINCT in {} of several arguments", self.name())).into()
                );
            };
            return Ok(Box::new(Distinct::new(plain, argument.data_type().clone(), self.takes_nulls())));
        }
        Ok(plain)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.abilities.merges && !args.is_distinct
    }

    fn create_groups_accumulator(&self, _args: AccumulatorArgs<'_>) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups { states: UserState::new(self, 0) }))
    }

    fn supports_null_handling_clause(&self) -> bool {
        false
    }
}

/// States as texts, by slot.
#[derive(Debug)]
pub(crate) struct UserState {
    function: UserAggregate,
    /// `None`: no row has come.
    texts: Vec<Option<Box<str>>>,
    bytes: usize,
}

impl UserState {
    /// For `slots` slots.
    pub(crate) fn new(function: &UserAggregate, slots: usize) -> Self {
        UserState { function: function.clone(), texts: vec![None; slots], bytes: 0 }
    }

    /// Makes room.
    pub(crate) fn resize(&mut self, slots: usize) {
        self.texts.resize(slots, None);
    }

    /// Adds rows, or takes them back where their sign is negative. `filter` has no nulls.
    ///
    /// # Errors
    /// Data, as the script fails.
    pub(crate) fn update(
        &mut self,
        slots: &[u32],
        signs: Option<&[i8]>,
        filter: Option<&BooleanArray>,
        args: &[ArrayRef],
    ) -> Result<()> {
        let args = self.function.signature.arguments(args)?;
        let counts = |row: usize| {
            filter.is_none_or(|f| f.is_valid(row) && f.value(row))
                && (self.function.takes_nulls() || args.iter().all(|a| a.is_valid(row)))
        };
        let all = filter.is_none() && self.function.takes_nulls();
        let kept: Vec<u32> =
            if all { Vec::new() } else { (0..slots.len() as u32).filter(|r| counts(*r as usize)).collect() };
        if all || kept.len() == slots.len() {
            return self.add(slots, signs, &args);
        }
        let rows = UInt32Array::from(kept);
        let args = args.iter().map(|a| Ok(take(a, &rows, None)?)).collect::<Result<Vec<_>>>()?;
        let pick = |row: &u32| slots.get(*row as usize).copied().unwrap_or(0);
        let slots: Vec<u32> = rows.values().iter().map(pick).collect();
        let sign = |row: &u32| signs.and_then(|s| s.get(*row as usize)).copied().unwrap_or(1);
        let signs: Option<Vec<i8>> = signs.map(|_| rows.values().iter().map(sign).collect());
        self.add(&slots, signs.as_deref(), &args)
    }

    fn add(&mut self, slots: &[u32], signs: Option<&[i8]>, args: &[ArrayRef]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let (touched, groups) = numbered(slots);
        let states = self.column(&touched)?;
        let engine = Arc::clone(&self.function.engine);
        let states = engine.accumulate(&Accumulate { states: &states, groups: &groups, signs, args })?;
        self.store(&touched, &states)
    }

    /// Adds the states of `others` to those of their slots.
    ///
    /// # Errors
    /// Data, as the script fails.
    pub(crate) fn merge(&mut self, slots: &[u32], others: &StringArray) -> Result<()> {
        // States of slots that have none are theirs from now on.
        let mut rest: Vec<u32> = Vec::new();
        for (i, slot) in slots.iter().enumerate() {
            match self.texts.get(*slot as usize) {
                _ if others.is_null(i) => {}
                Some(None) => self.put(*slot, Some(others.value(i))),
                _ => rest.push(i as u32),
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        let picked: Vec<u32> = rest.iter().map(|i| slots.get(*i as usize).copied().unwrap_or(0)).collect();
        let others = take(others, &UInt32Array::from(rest), None)?;
        let (touched, groups) = numbered(&picked);
        let states = self.column(&touched)?;
        let engine = Arc::clone(&self.function.engine);
        let states = engine.merge(&states, &groups, others.as_string())?;
        self.store(&touched, &states)
    }

    fn put(&mut self, slot: u32, text: Option<&str>) {
        if let Some(place) = self.texts.get_mut(slot as usize) {
            self.bytes =
                self.bytes.saturating_sub(place.as_ref().map_or(0, |t| t.len())) + text.map_or(0, str::len);
            *place = text.map(Box::from);
        }
    }

    /// States of slots as a column.
    ///
    /// # Errors
    /// Data, for more than a column holds.
    pub(crate) fn column(&self, slots: &[u32]) -> Result<StringArray> {
        let mut out = StringBuilder::with_capacity(slots.len(), 32 * slots.len());
        for slot in slots {
            match self.texts.get(*slot as usize) {
                Some(Some(text)) => append(&mut out, text)?,
                _ => out.append_null(),
            }
        }
        Ok(out.finish())
    }

    /// Inverse of [`UserState::column`].
    ///
    /// # Errors
    /// Internal, for another number of states.
    pub(crate) fn store(&mut self, slots: &[u32], states: &StringArray) -> Result<()> {
        if states.len() != slots.len() {
            return Err(Error::internal("an aggregate has other groups than it was asked for"));
        }
        for (i, slot) in slots.iter().enumerate() {
            let text = states.is_valid(i).then(|| states.value(i));
            self.put(*slot, text);
        }
        Ok(())
    }

    /// Forgets slots.
    pub(crate) fn clear(&mut self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.put(*slot, None));
    }

    /// Results of slots.
    ///
    /// # Errors
    /// Data, as the script fails.
    pub(crate) fn finish(&self, slots: &[u32]) -> Result<ArrayRef> {
        if slots.is_empty() {
            return Ok(new_empty_array(&self.function.signature.result()));
        }
        self.function.engine.finish(&self.column(slots)?)
    }

    /// Bytes held.
    pub(crate) fn size(&self) -> usize {
        self.bytes + self.texts.capacity() * size_of::<Option<Box<str>>>()
    }

    /// The states of the first groups, which leave.
    fn emit(&mut self, emit: EmitTo) -> Vec<Option<Box<str>>> {
        let taken = emit.take_needed(&mut self.texts);
        self.bytes = self.bytes.saturating_sub(taken.iter().flatten().map(|t| t.len()).sum());
        taken
    }
}

/// The different ones of `slots`, and the place among them of each.
fn numbered(slots: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut touched = slots.to_vec();
    touched.sort_unstable();
    touched.dedup();
    let groups = slots.iter().map(|s| touched.binary_search(s).unwrap_or_default() as u32).collect();
    (touched, groups)
}

fn strings(states: &[ArrayRef]) -> DfResult<&StringArray> {
    let states = states.first().and_then(|s| s.as_string_opt::<i32>());
    Ok(states.ok_or_else(|| Error::internal("states of an aggregate that are no texts"))?)
}

/// States of groups.
#[derive(Debug)]
struct Groups {
    states: UserState,
}

fn slots_of(groups: &[usize]) -> Vec<u32> {
    groups.iter().map(|g| *g as u32).collect()
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> DfResult<()> {
        self.states.resize(total_num_groups);
        Ok(self.states.update(&slots_of(group_indices), None, opt_filter, values)?)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        let texts = self.states.emit(emit_to);
        let part = UserState { function: self.states.function.clone(), bytes: 0, texts };
        let slots: Vec<u32> = (0..part.texts.len() as u32).collect();
        Ok(part.finish(&slots)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let texts = self.states.emit(emit_to);
        Ok(vec![Arc::new(texts.iter().map(Option::as_deref).collect::<StringArray>())])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> DfResult<()> {
        if opt_filter.is_some() {
            return Err(Error::internal("a filter on states").into());
        }
        self.states.resize(total_num_groups);
        Ok(self.states.merge(&slots_of(group_indices), strings(values)?)?)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.states.size()
    }
}

/// The state of one group. Where states cannot be merged, they are not passed on, either: the rows are.
#[derive(Debug)]
struct OneState {
    states: UserState,
    /// The rows beside the state.
    kept: Kept,
    /// Whether they are needed.
    mixed: bool,
}

impl OneState {
    fn change(&mut self, values: &[ArrayRef], sign: i8) -> DfResult<()> {
        let Some(rows) = values.first().map(|v| v.len()) else { return Ok(()) };
        Ok(self.states.update(&vec![0; rows], Some(&vec![sign; rows]), None, values)?)
    }
}

impl Accumulator for OneState {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        if self.mixed {
            self.kept.update_batch(values)?;
        }
        self.change(values, 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        // Frames that move pass no states on.
        self.mixed = false;
        self.kept.clear();
        self.change(values, -1)
    }

    fn supports_retract_batch(&self) -> bool {
        self.states.function.abilities.retracts
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        if self.states.function.abilities.merges {
            let states = strings(states)?;
            return Ok(self.states.merge(&vec![0; states.len()], states)?);
        }
        for rows in unnested(states)? {
            self.update_batch(&rows)?;
        }
        Ok(())
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        if self.states.function.abilities.merges {
            return Ok(vec![ScalarValue::try_from_array(&self.states.column(&[0])?, 0)?]);
        }
        self.kept.state()
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        ScalarValue::try_from_array(&self.states.finish(&[0])?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.states.size() + self.kept.size()
    }
}
