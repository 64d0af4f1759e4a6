//! Which states the calls of an aggregation need: native or DataFusion's, over rows or over distinct values, shared where two
//! calls need the same.

use arrow::datatypes::{DataType, SchemaRef};

use super::AggregateCall;
use super::distinct::{DistinctSet, MOST_FILTERS};
use super::exprs::ExprSet;
use super::states::{self, GroupedState};
use crate::error::Result;

/// Where the result of a call comes from.
pub(super) enum Source {
    /// The row count of the group.
    RowCount,
    /// COUNT(DISTINCT …): set and filter.
    Distinct(usize, usize),
    /// The state of that index.
    State(usize),
}

/// A state and what feeds it.
pub(super) struct StateEntry {
    pub(super) state: Box<dyn GroupedState>,
    /// Expressions of the arguments.
    pub(super) args: Vec<usize>,
    pub(super) filter: Option<usize>,
    /// The set and filter whose transitions it follows instead of the rows.
    pub(super) distinct: Option<(usize, usize)>,
    /// What it computes, to share it and to name it in errors.
    pub(super) name: String,
    pub(super) return_type: DataType,
}

/// A set of distinct values and what feeds it.
pub(super) struct DistinctEntry {
    pub(super) set: DistinctSet,
    pub(super) args: Vec<usize>,
    pub(super) filters: Vec<Option<usize>>,
}

/// What is computed for some calls.
pub(super) struct Plan {
    /// Keys, arguments and filters.
    pub(super) exprs: ExprSet,
    pub(super) states: Vec<StateEntry>,
    pub(super) distincts: Vec<DistinctEntry>,
    /// By call.
    pub(super) results: Vec<Source>,
}

/// The states of `calls` over `input`; `exprs` has the keys.
pub(super) fn plan(
    exprs: ExprSet,
    input: &SchemaRef,
    calls: &[AggregateCall],
    retracts: bool,
) -> Result<Plan> {
    let mut planner = Planner { exprs, input, retracts, states: Vec::new(), distincts: Vec::new() };
    let results = calls.iter().map(|c| planner.source(c)).collect::<Result<_>>()?;
    let Planner { exprs, states, distincts, .. } = planner;
    let distincts = distincts.into_iter().map(|d| d.build(retracts)).collect::<Result<_>>()?;
    Ok(Plan { exprs, states, distincts, results })
}

/// Chooses states for calls, sharing what can be shared.
struct Planner<'a> {
    exprs: ExprSet,
    input: &'a SchemaRef,
    retracts: bool,
    states: Vec<StateEntry>,
    distincts: Vec<PlannedSet>,
}

struct PlannedSet {
    args: Vec<usize>,
    types: Vec<DataType>,
    /// Whether NULL is a value.
    nulls: bool,
    filters: Vec<Option<usize>>,
    /// Filters whose transitions feed a state.
    wanted: Vec<usize>,
}

impl PlannedSet {
    fn build(self, retracts: bool) -> Result<DistinctEntry> {
        let mut set = DistinctSet::new(self.types, self.filters.len(), retracts, self.nulls)?;
        self.wanted.iter().for_each(|f| set.want_transitions(*f));
        Ok(DistinctEntry { set, args: self.args, filters: self.filters })
    }
}

impl Planner<'_> {
    fn source(&mut self, call: &AggregateCall) -> Result<Source> {
        let filter = call.filter.as_ref().map(|f| self.exprs.add_filter(f));
        let counts_rows = call.counts_rows();
        if counts_rows && filter.is_none() && *call.return_type() == DataType::Int64 {
            return Ok(Source::RowCount);
        }
        let all: Vec<DataType> =
            call.args.iter().map(|a| Ok(a.data_type(self.input)?)).collect::<Result<_>>()?;
        let values = call.value_args();
        let types: Vec<DataType> = values.iter().map(|i| all[*i].clone()).collect();
        let native = states::native(call, &types, self.retracts)?.is_some();
        // DataFusion's own accumulators take every argument.
        let args: Vec<usize> = if counts_rows {
            Vec::new()
        } else if native {
            values.iter().map(|i| self.exprs.add(&call.args[*i])).collect()
        } else {
            call.args.iter().map(|a| self.exprs.add(a)).collect()
        };
        // The least of distinct values is the least of all.
        let ignores_distinct = matches!(
            call.name.as_str(),
            "min" | "max" | "first_value" | "last_value" | "bool_and" | "bool_or"
        );
        let mut distinct = None;
        if call.distinct && !ignores_distinct {
            if !native {
                // DataFusion's own accumulator knows DISTINCT.
                return self.state(call, &types, args, filter, None);
            }
            let place = self.distinct_filter(&args, &types, filter, call.takes_nulls());
            if call.name == "count" {
                return Ok(Source::Distinct(place.0, place.1));
            }
            if let Some(set) = self.distincts.get_mut(place.0) {
                set.wanted.push(place.1);
            }
            distinct = Some(place);
        }
        self.state(call, &types, args, filter, distinct)
    }

    /// The set and filter number of a DISTINCT argument list.
    fn distinct_filter(
        &mut self,
        args: &[usize],
        types: &[DataType],
        filter: Option<usize>,
        nulls: bool,
    ) -> (usize, usize) {
        let known = self.distincts.iter().position(|d| {
            d.args == args
                && d.nulls == nulls
                && (d.filters.contains(&filter) || d.filters.len() < MOST_FILTERS)
        });
        let set = known.unwrap_or_else(|| {
            self.distincts.push(PlannedSet {
                args: args.to_vec(),
                types: types.to_vec(),
                nulls,
                filters: Vec::new(),
                wanted: Vec::new(),
            });
            self.distincts.len() - 1
        });
        let filters = &mut self.distincts[set].filters;
        let number = filters.iter().position(|f| *f == filter).unwrap_or_else(|| {
            filters.push(filter);
            filters.len() - 1
        });
        (set, number)
    }

    fn state(
        &mut self,
        call: &AggregateCall,
        types: &[DataType],
        args: Vec<usize>,
        filter: Option<usize>,
        distinct: Option<(usize, usize)>,
    ) -> Result<Source> {
        let known = self.states.iter().position(|s| {
            s.name == call.text()
                && s.args == args
                && s.filter == filter
                && s.distinct == distinct
                && s.return_type == *call.return_type()
        });
        if let Some(known) = known {
            return Ok(Source::State(known));
        }
        self.states.push(StateEntry {
            state: states::build(call, types, self.retracts)?,
            args,
            filter,
            distinct,
            name: call.text(),
            return_type: call.return_type().clone(),
        });
        Ok(Source::State(self.states.len() - 1))
    }
}
