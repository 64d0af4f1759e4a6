//! `EXISTS`, `IN` and comparisons with `ANY` or `ALL` of a sub-query, by three-valued logic.
//!
//! `x IN (S)` is true if a row of S is equal, otherwise unknown if a comparison is, otherwise false; `x < ALL (S)` is
//! `NOT (x >= ANY (S))`. In `WHERE` unknown counts as false, and a semi or an anti join is enough:
//!
//! | condition | join | on |
//! |---|---|---|
//! | `x = ANY (S)` | semi | `x = y` |
//! | `x NOT IN (S)` | anti, null-aware | `x = y` |
//! | `(a, b) NOT IN (S)`, or correlated | anti | `(a = y1) IS NOT FALSE AND …` |
//!
//! Inside of other expressions a mark column says whether there is a match, and if it matters a second one whether there
//! is an unknown one. For `x IN (S)` with S the same for all rows, two aggregates over S replace the second: whether it has
//! rows, and whether it has a NULL.

use datafusion::common::{Column, JoinType, Result as DfResult, ScalarValue};
use datafusion::functions_aggregate::expr_fn::max;
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator, Subquery, lit, not, when,
};

use crate::error::Error;
use crate::plan::logical::subquery::carry::columns;
use crate::plan::logical::subquery::pull::{has_outer, number};
use crate::plan::logical::subquery::{Beside, SubqueryJoiner, has_subquery, join, rows};

/// Whether it makes a difference that a condition is unknown and not false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    IsFalse,
    Matters,
}

/// What that is for the parts of an expression.
pub(super) fn inside(expr: &Expr, unknown: Unknown) -> Unknown {
    match expr {
        Expr::BinaryExpr(BinaryExpr { op: Operator::And | Operator::Or, .. }) | Expr::Alias(_) => unknown,
        Expr::IsTrue(_) | Expr::IsNotTrue(_) => Unknown::IsFalse,
        _ => Unknown::Matters,
    }
}

/// A row of a sub-query for which comparisons hold.
struct Quantified {
    comparisons: Vec<(Expr, Operator)>,
    /// Whether there is to be none.
    negated: bool,
    subquery: Subquery,
}

/// Its rows, with what they are compared by.
struct Compared {
    plan: LogicalPlan,
    comparisons: Vec<(Expr, Operator)>,
    columns: Vec<Column>,
    negated: bool,
}

fn quantified(expr: Expr) -> DfResult<Quantified> {
    Ok(match expr {
        Expr::Exists(Exists { subquery, negated }) => {
            Quantified { comparisons: Vec::new(), negated, subquery }
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            Quantified { comparisons: vec![(*expr, Operator::Eq)], negated, subquery }
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
            let (op, negated) = match quantifier {
                SetQuantifier::Any => (op, false),
                SetQuantifier::All => match op.negate() {
                    Some(op) => (op, true),
                    None => return Err(Error::unsupported(format!("{op} ALL is not supported")).into()),
                },
            };
            Quantified { comparisons: vec![(*expr, op)], negated, subquery }
        }
        other => return Err(Error::internal(format!("{other} is no condition on a sub-query")).into()),
    })
}

/// NOT moved down to the sub-queries.
pub(super) fn without_not(expr: Expr) -> Expr {
    let Expr::Not(inner) = expr else { return expr };
    match *inner {
        Expr::Not(inner) => without_not(*inner),
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right })
            if has_subquery(&left) || has_subquery(&right) =>
        {
            let op = if op == Operator::And { Operator::Or } else { Operator::And };
            let (left, right) = (without_not(Expr::Not(left)), without_not(Expr::Not(right)));
            Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
        }
        Expr::Exists(Exists { subquery, negated }) => Expr::Exists(Exists { subquery, negated: !negated }),
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            Expr::InSubquery(InSubquery { expr, subquery, negated: !negated })
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) if op.negate().is_some() => {
            let quantifier = match quantifier {
                SetQuantifier::Any => SetQuantifier::All,
                SetQuantifier::All => SetQuantifier::Any,
            };
            let op = op.negate().unwrap_or(op);
            Expr::SetComparison(SetComparison { expr, subquery, op, quantifier })
        }
        other => Expr::Not(Box::new(other)),
    }
}

impl SubqueryJoiner {
    /// A condition of WHERE that is one on a sub-query and nothing else, as a join; `None` for others.
    pub(super) fn top_level(&mut self, expr: &Expr, input: &mut LogicalPlan) -> DfResult<Option<Vec<Expr>>> {
        if !matches!(expr, Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_)) {
            return Ok(None);
        }
        let compared = match self.compared(quantified(expr.clone())?, input)? {
            Ok(compared) => compared,
            Err(value) => return Ok(Some(vec![value])),
        };
        let join_type = if compared.negated { JoinType::LeftAnti } else { JoinType::LeftSemi };
        let beside = self.related(&compared, input)?;
        // Of one comparison that no other condition goes with, joins know what NULLs mean.
        let null_aware = compared.negated
            && beside.conditions.is_empty()
            && matches!(compared.comparisons.as_slice(), [(left, Operator::Eq)] if !left.column_refs().is_empty())
            && !has_outer(&compared.plan)
            && unknown_possible(&compared, input)?;
        let mut conditions = beside.conditions;
        for (comparison, nullable) in comparisons(&compared, &beside.columns, input, &beside.plan)? {
            conditions.push(if compared.negated && nullable && !null_aware {
                comparison.is_not_false()
            } else {
                comparison
            });
        }
        *input = join(input.clone(), beside.plan, join_type, conditions, null_aware)?;
        Ok(Some(Vec::new()))
    }

    /// A condition on a sub-query as a value.
    pub(super) fn quantified(
        &mut self,
        expr: Expr,
        input: &mut LogicalPlan,
        unknown: Unknown,
    ) -> DfResult<Expr> {
        let compared = match self.compared(quantified(expr)?, input)? {
            Ok(compared) => compared,
            Err(value) => return Ok(value),
        };
        let nullable = unknown_possible(&compared, input)?;
        let negated = |e: Expr| if compared.negated { not(e) } else { e };
        if !nullable || (unknown == Unknown::IsFalse && !compared.negated) {
            return Ok(negated(self.mark(&compared, input, false)?));
        }
        if let ([(left, Operator::Eq)], [column], false) =
            (compared.comparisons.as_slice(), compared.columns.as_slice(), has_outer(&compared.plan))
        {
            let found = self.mark(&compared, input, false)?;
            // Two facts about all the rows. Not their counts, which would change with every row.
            let summary = LogicalPlanBuilder::from(compared.plan.clone())
                .aggregate(
                    Vec::<Expr>::new(),
                    vec![
                        max(lit(1_i32)).alias("rows"),
                        max(when(Expr::Column(column.clone()).is_null(), lit(1_i32)).end()?).alias("nulls"),
                    ],
                )?
                .alias(self.name("summary"))?
                .build()?;
            let mut facts = columns(&summary).into_iter().map(|c| Expr::Column(c).is_not_null());
            let (Some(rows), Some(nulls)) = (facts.next(), facts.next()) else {
                return Err(Error::internal("a summary has two columns").into());
            };
            *input = join(input.clone(), summary, JoinType::Left, Vec::new(), false)?;
            let unknown = left.clone().is_null().and(rows).or(nulls);
            return Ok(negated(three_valued(found, unknown)?));
        }
        let possible = self.mark(&compared, input, true)?;
        if unknown == Unknown::IsFalse {
            // NOT IN, true where nothing matches and nothing could.
            return Ok(not(possible));
        }
        let found = self.mark(&compared, input, false)?;
        Ok(negated(three_valued(found, possible)?))
    }

    /// The rows and comparisons; a value where that is simple.
    fn compared(
        &mut self,
        quantified: Quantified,
        input: &mut LogicalPlan,
    ) -> DfResult<std::result::Result<Compared, Expr>> {
        let Quantified { comparisons, negated, subquery } = quantified;
        let mut comparisons = comparisons
            .into_iter()
            .map(|(left, op)| Ok((self.expr(left, input, Unknown::Matters)?, op)))
            .collect::<DfResult<Vec<_>>>()?;
        if comparisons.is_empty() {
            let plan = existence(self.inner(&subquery)?);
            if one_row(&plan) {
                return Ok(Err(lit(!negated)));
            }
            return Ok(Ok(Compared { plan, comparisons, columns: Vec::new(), negated }));
        }
        let mut plan = self.inner(&subquery)?;
        if let Some(row) = rows::taken_apart(&plan) {
            comparisons = rows::paired(comparisons, &row)?;
            plan = row;
        }
        if one_row(&plan)
            && let [(left, op)] = comparisons.as_slice()
        {
            let op = if negated { op.negate().unwrap_or(*op) } else { *op };
            let value = self.scalar(&subquery, input)?;
            let compared = BinaryExpr::new(Box::new(left.clone()), op, Box::new(value));
            return Ok(Err(Expr::BinaryExpr(compared)));
        }
        let columns = columns(&plan);
        Ok(Ok(Compared { plan, comparisons, columns, negated }))
    }

    /// The rows related to those of `input`, by everything but the comparisons.
    fn related(&mut self, compared: &Compared, input: &LogicalPlan) -> DfResult<Beside> {
        let mut plan = compared.plan.clone();
        if compared.comparisons.is_empty() && !has_outer(&plan) {
            // Any row is as good as all of them.
            plan = LogicalPlanBuilder::from(plan)
                .aggregate(Vec::<Expr>::new(), vec![max(lit(1_i32)).alias("rows")])?
                .filter(Expr::Column(Column::from_name("rows")).is_not_null())?
                .build()?;
        }
        let pulled = self.pull_apart(&plan, input, true, false)?;
        self.beside(pulled, &compared.columns, input)
    }

    /// A column that says whether a row matches; with `possible` also where a comparison is unknown.
    fn mark(&mut self, compared: &Compared, input: &mut LogicalPlan, possible: bool) -> DfResult<Expr> {
        let beside = self.related(compared, input)?;
        let mut conditions = beside.conditions;
        for (comparison, nullable) in comparisons(compared, &beside.columns, input, &beside.plan)? {
            conditions.push(if possible && nullable { comparison.is_not_false() } else { comparison });
        }
        let joined = join(input.clone(), beside.plan, JoinType::LeftMark, conditions, false)?;
        let Some(mark) = columns(&joined).pop() else {
            return Err(Error::internal("a mark join without a mark").into());
        };
        *input = joined;
        Ok(Expr::Column(mark))
    }
}

/// True if found, otherwise unknown or false.
fn three_valued(found: Expr, unknown: Expr) -> DfResult<Expr> {
    when(found, lit(true)).when(unknown, lit(ScalarValue::Boolean(None))).otherwise(lit(false))
}

/// The comparisons, and whether they can be unknown.
fn comparisons(
    compared: &Compared,
    to: &[Column],
    input: &LogicalPlan,
    right: &LogicalPlan,
) -> DfResult<Vec<(Expr, bool)>> {
    compared
        .comparisons
        .iter()
        .zip(to)
        .map(|((left, op), column)| {
            let right_nullable = right.schema().qualified_field_from_column(column)?.1.is_nullable();
            let nullable = right_nullable || nullable(left, input)?;
            let column = Expr::Column(column.clone());
            Ok((Expr::BinaryExpr(BinaryExpr::new(Box::new(left.clone()), *op, Box::new(column))), nullable))
        })
        .collect()
}

fn unknown_possible(compared: &Compared, input: &LogicalPlan) -> DfResult<bool> {
    Ok(comparisons(compared, &compared.columns, input, &compared.plan)?.iter().any(|(_, nullable)| *nullable))
}

fn nullable(expr: &Expr, input: &LogicalPlan) -> DfResult<bool> {
    if super::has_outer_expr(expr) {
        return Ok(true);
    }
    expr.nullable(input.schema())
}

/// A plan that has rows whenever `plan` has some, without what does not matter for that.
fn existence(plan: LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Projection(p) => existence(p.input.as_ref().clone()),
        LogicalPlan::SubqueryAlias(a) => existence(a.input.as_ref().clone()),
        LogicalPlan::Distinct(d) => existence(d.input().as_ref().clone()),
        LogicalPlan::Sort(s) if s.fetch.is_none() => existence(s.input.as_ref().clone()),
        LogicalPlan::Limit(l) if l.skip.is_none() && number(l.fetch.as_deref()).is_some_and(|n| n > 0) => {
            existence(l.input.as_ref().clone())
        }
        other => other,
    }
}

/// Whether a plan has exactly one row, whatever the data.
fn one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(a) => a.group_expr.is_empty(),
        LogicalPlan::Projection(p) => one_row(&p.input),
        LogicalPlan::SubqueryAlias(a) => one_row(&a.input),
        LogicalPlan::EmptyRelation(e) => e.produce_one_row,
        _ => false,
    }
}
