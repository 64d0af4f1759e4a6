//! Lowering of `ORDER BY` and `LIMIT`.
//!
//! ```text
//!  Limit[m, n] ─ (Projection | SubqueryAlias)* ─ Sort     ─► ══ single ══► SortLimit
//!  Limit[m, n]                                            ─► ══ single ══► Limit
//!  Sort[row time ASC, …]                                  ─► ══ single ══► TemporalSort
//! ```

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::logical_expr::{
    Expr, Limit, LogicalPlan, Projection, Sort as SortPlan, SortExpr, SubqueryAlias,
};

use crate::error::{Error, Result};
use crate::operators::late_rows::LateRule;
use crate::operators::temporal_sort::{TemporalSortConfig, TemporalSortOperator};
use crate::operators::top_n::{RankFunction, SortColumn};
use crate::plan::stream::rank::{Arrival, Rank, by_arrival};
use crate::plan::stream::top_n::Bound;
use crate::plan::stream::{Relation, StreamPlanner};
use crate::runtime::graph::{ChangelogMode, OperatorFactory};

impl StreamPlanner {
    /// `LIMIT`, over `ORDER BY` or not.
    pub(super) fn lower_limit(&mut self, limit: &Limit) -> Result<Relation> {
        match limit.input.as_ref() {
            // Projections keep rows and order: limit below them, where the sort is.
            LogicalPlan::Projection(p) if ends_in_sort(&p.input) => {
                let below = LogicalPlan::Limit(Limit { input: Arc::clone(&p.input), ..limit.clone() });
                let projection =
                    Projection::try_new_with_schema(p.expr.clone(), Arc::new(below), Arc::clone(&p.schema))?;
                self.lower(&LogicalPlan::Projection(projection))
            }
            LogicalPlan::SubqueryAlias(a) if ends_in_sort(&a.input) => {
                let below = LogicalPlan::Limit(Limit { input: Arc::clone(&a.input), ..limit.clone() });
                let alias = SubqueryAlias::try_new(Arc::new(below), a.alias.clone())?;
                self.lower(&LogicalPlan::SubqueryAlias(alias))
            }
            LogicalPlan::Sort(sort) => {
                let (skip, fetch) = limits(limit)?;
                let fetch = sort.fetch.map_or(fetch, |n| fetch.min((n as u64).saturating_sub(skip)));
                self.lower_sort_limit(sort, skip, fetch)
            }
            other => {
                let (skip, fetch) = limits(limit)?;
                let input = self.lower(other)?;
                self.lower_first("Limit", input, Vec::new(), None, skip, fetch)
            }
        }
    }

    /// `ORDER BY`.
    pub(super) fn lower_sort(&mut self, sort: &SortPlan) -> Result<Relation> {
        match sort.fetch {
            Some(fetch) => self.lower_sort_limit(sort, 0, fetch as u64),
            None => self.lower_temporal_sort(sort),
        }
    }

    /// `ORDER BY` without a number of rows: by time only.
    fn lower_temporal_sort(&mut self, sort: &SortPlan) -> Result<Relation> {
        let not_by_time = || {
            Error::unsupported("Sort on a non-time-attribute field is not supported").hint(
                "drop ORDER BY, add LIMIT, sort what the stream produced, or SET 'execution.runtime-mode' = 'batch'",
            )
        };
        if by_arrival(&sort.expr, &sort.input) == Some(Arrival::EarliestFirst) {
            // As they come.
            return self.lower(&sort.input);
        }
        let mut input = self.lower(&sort.input)?;
        input.schema = sort.input.schema().clone();
        let input = self.materialize(input)?;
        let keys: Vec<Expr> = sort.expr.iter().map(|s| s.expr.clone()).collect();
        let (input, columns) = self.with_key_columns(input, &keys)?;
        let (Some((time, then)), Some((first, others))) = (columns.split_first(), sort.expr.split_first())
        else {
            return Err(not_by_time());
        };
        if !input.rowtime.contains(time) || !first.asc || !input.changelog.is_append_only() {
            return Err(not_by_time());
        }
        let then = then.iter().zip(others).map(|(column, sort)| SortColumn {
            column: *column,
            options: SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first },
        });
        let input = self.without_late_rows(input, &[], *time, LateRule::Passed, "TemporalSort")?;
        let config = TemporalSortConfig { schema: input.physical.clone(), time: *time, then: then.collect() };
        let order: Vec<String> = sort.expr.iter().map(ToString::to_string).collect();
        let detail = format!("orderBy=[{}]", order.join(", "));
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(TemporalSortOperator::new(config.clone())?)));
        let node = self.add_operator(
            "TemporalSort",
            detail,
            &input,
            ChangelogMode::APPEND_ONLY,
            Some(Vec::new()),
            factory,
        );
        Ok(Relation { node, ..input })
    }

    fn lower_sort_limit(&mut self, sort: &SortPlan, skip: u64, fetch: u64) -> Result<Relation> {
        let mut input = self.lower(&sort.input)?;
        input.schema = sort.input.schema().clone();
        let order = sort.expr.iter().filter(|s| !matches!(s.expr, Expr::Literal(..))).cloned().collect();
        let by_arrival = by_arrival(&sort.expr, &sort.input);
        self.lower_first("SortLimit", input, order, by_arrival, skip, fetch)
    }

    /// Rows `skip..skip + fetch` of an order.
    fn lower_first(
        &mut self,
        name: &'static str,
        input: Relation,
        order: Vec<SortExpr>,
        by_arrival: Option<Arrival>,
        skip: u64,
        fetch: u64,
    ) -> Result<Relation> {
        let rank = Rank {
            name,
            function: RankFunction::RowNumber,
            start: skip + 1,
            end: Bound::Constant(skip.saturating_add(fetch)),
            partition: Vec::new(),
            order: if by_arrival.is_some() { Vec::new() } else { order },
            by_arrival,
            columns: (0..input.schema.fields().len()).collect(),
            rank: None,
            takes_history: false,
        };
        self.lower_rank(input, rank)
    }
}

fn ends_in_sort(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(p) => ends_in_sort(&p.input),
        LogicalPlan::SubqueryAlias(a) => ends_in_sort(&a.input),
        _ => false,
    }
}

/// OFFSET and the number of rows.
fn limits(limit: &Limit) -> Result<(u64, u64)> {
    use datafusion::logical_expr::{FetchType, SkipType};
    let skip = match limit.get_skip_type()? {
        SkipType::Literal(skip) => skip as u64,
        SkipType::UnsupportedExpr => return Err(Error::validation("OFFSET has to be a constant")),
    };
    match limit.get_fetch_type()? {
        FetchType::Literal(Some(fetch)) => Ok((skip, fetch as u64)),
        FetchType::Literal(None) => {
            Err(Error::unsupported("FETCH is missed, which on streaming table is not supported currently.")
                .hint("add LIMIT, or run in batch mode"))
        }
        FetchType::UnsupportedExpr => Err(Error::validation("LIMIT has to be a constant")),
    }
}
