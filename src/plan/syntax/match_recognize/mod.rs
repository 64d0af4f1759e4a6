//! Plans MATCH_RECOGNIZE.
//!
//! ```text
//!  PATTERN (a b+?)               ─► `Pattern`, variables by number
//!  MEASURES LAST(b.x, 1) - a.x   ─► expressions over the input with references to rows (`references`)
//!  DEFINE b AS x < LAST(b.x, 1)  ─► likewise; the row that is tested is the plain columns
//! ```

mod arguments;
mod references;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, SortExpr, cast};
use datafusion::sql::sqlparser::ast::{
    AfterMatchSkip, Ident, MatchRecognizePattern, MatchRecognizeSymbol, Measure, OrderByExpr,
    RepetitionQuantifier, RowsPerMatch, Spanned, SymbolDefinition, TableFactor,
};

use crate::error::{Error, Location, Result};
use crate::operators::match_recognize::{AfterMatch, Pattern, Program};
use crate::plan::nodes::match_recognize::{MatchClauses, MatchRecognizeNode};
use crate::plan::planner::location_of;
use crate::plan::syntax::window_tvf::milliseconds;
use crate::sql::ast::WITHIN;
use crate::sql::suggestion;
use crate::types::sql_name;

use references::{Clause, References};

/// Plans the MATCH_RECOGNIZEs among the table factors.
#[derive(Debug)]
pub struct MatchRecognizePlanner;

impl RelationPlanner for MatchRecognizePlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let TableFactor::MatchRecognize {
            table,
            partition_by,
            order_by,
            measures,
            rows_per_match,
            after_match_skip,
            pattern,
            symbols,
            alias,
        } = relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let input = context.plan(*table)?;
        let mut variables = Variables::default();
        let pattern_text = pattern.to_string();
        let parsed = variables.pattern(&pattern)?;
        let start = variables.start;
        if parsed.least_rows() == 0 {
            return Err(Error::unsupported("a row pattern that matches no row at all is not supported")
                .hint("let a match have one row at least: a+ instead of a*")
                .at(start)
                .into());
        }
        Program::new(&parsed).map_err(|e| e.at(start))?;
        let after = variables.after(after_match_skip)?;
        let partition = partition_by
            .into_iter()
            .map(|e| context.sql_to_expr(e, input.schema()))
            .collect::<DfResult<Vec<_>>>()?;
        let order = order(order_by, &input, start, context)?;
        let (within, defines) = definitions(symbols, &variables.names, &input, context)?;
        let mut planned: Vec<(String, Expr)> = Vec::new();
        let mut names: HashSet<String> = partition.iter().filter_map(column_name).collect();
        for Measure { expr, alias } in measures {
            if !names.insert(alias.value.clone()) {
                return Err(Error::validation(format!("the column name '{}' stands twice", alias.value))
                    .hint("give the measure another name: … AS other")
                    .at(location_of(alias.span))
                    .into());
            }
            let time = order.first().map(|o| o.expr.clone());
            let clause = Clause::Measures { time };
            let expr = References::plan(expr, clause, &variables.names, input.schema(), context)?;
            planned.push((alias.value, expr));
        }
        let all_rows = matches!(rows_per_match, Some(RowsPerMatch::AllRows(_)));
        let clauses = MatchClauses {
            pattern: parsed,
            pattern_text,
            variables: variables.names,
            after,
            within,
            all_rows,
        };
        let node = MatchRecognizeNode::try_new(input, partition, order, planned, defines, clauses)
            .map_err(|e| crate::plan::errors::explain(e).at(start))?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn column_name(e: &Expr) -> Option<String> {
    match e {
        Expr::Column(c) => Some(c.name.clone()),
        _ => None,
    }
}

/// ORDER BY: a time first.
fn order(
    list: Vec<OrderByExpr>,
    input: &LogicalPlan,
    start: Location,
    context: &mut dyn RelationPlannerContext,
) -> Result<Vec<SortExpr>> {
    let hint = "write ORDER BY with the row time of the table, which WATERMARK FOR declares";
    if list.is_empty() {
        return Err(Error::validation("You must specify either rowtime or proctime for order by.")
            .hint(hint)
            .at(start));
    }
    let mut order = Vec::new();
    for OrderByExpr { expr, options, with_fill: _ } in list {
        let place = location_of(expr.span());
        let expr = context.sql_to_expr(expr, input.schema())?;
        let asc = options.asc.unwrap_or(true);
        if order.is_empty() {
            let ty = expr.get_type(input.schema())?;
            if !matches!(ty, DataType::Timestamp(..)) || !matches!(expr, Expr::Column(_)) {
                return Err(Error::validation(format!(
                    "You must specify either rowtime or proctime for order by as the first one, and {expr} is {}",
                    sql_name(&ty)
                ))
                .hint(hint)
                .at(place));
            }
            if !asc {
                return Err(Error::validation(
                    "Primary sort order of a streaming table must be ascending on time.",
                )
                .hint("leave DESC out: rows are matched in the order of their time")
                .at(place));
            }
        }
        // NULLs are low.
        order.push(SortExpr { expr, asc, nulls_first: options.nulls_first.unwrap_or(asc) });
    }
    Ok(order)
}

/// WITHIN in milliseconds, and the conditions of variables.
type Definitions = (Option<i64>, Vec<(u8, Expr)>);

fn definitions(
    symbols: Vec<SymbolDefinition>,
    names: &[String],
    input: &LogicalPlan,
    context: &mut dyn RelationPlannerContext,
) -> Result<Definitions> {
    let (mut within, mut defines) = (None, Vec::<(u8, Expr)>::new());
    for SymbolDefinition { symbol, definition } in symbols {
        let place = location_of(definition.span());
        if symbol.value == WITHIN {
            let at = if place.line > 0 { place } else { location_of(symbol.span) };
            let expr = context.sql_to_expr(definition, &datafusion::common::DFSchema::empty())?;
            let millis =
                milliseconds(expr, "MATCH_RECOGNIZE", "WITHIN").map_err(|e| Error::from(e).at(at))?;
            if millis <= 0 {
                return Err(Error::validation("WITHIN takes an interval longer than zero").at(at));
            }
            within = Some(millis);
            continue;
        }
        let at = location_of(symbol.span);
        let Some(number) = names.iter().position(|n| *n == symbol.value) else {
            return Err(unknown_variable(&symbol, names));
        };
        let number = number as u8;
        if defines.iter().any(|(n, _)| *n == number) {
            return Err(Error::validation(format!("the variable {} is defined twice", symbol.value))
                .hint("join its conditions by AND")
                .at(at));
        }
        let clause = Clause::Define { variable: number };
        let expr = References::plan(definition, clause, names, input.schema(), context)?;
        let ty = expr.get_type(input.schema())?;
        if !matches!(ty, DataType::Boolean | DataType::Null) {
            return Err(Error::validation(format!(
                "DEFINE clause must be a condition, not {}",
                sql_name(&ty)
            ))
            .at(if place.line > 0 { place } else { at }));
        }
        // NULL, which no row fulfils.
        let expr = if ty == DataType::Null { cast(expr, DataType::Boolean) } else { expr };
        defines.push((number, expr));
    }
    Ok((within, defines))
}

/// Numbers of pattern variables, in the order of their first place.
#[derive(Debug, Default)]
struct Variables {
    names: Vec<String>,
    /// Where the first one stands.
    start: Location,
}

fn unknown_variable(symbol: &Ident, names: &[String]) -> Error {
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    Error::validation(format!("the variable {} does not stand in PATTERN", symbol.value))
        .hint(suggestion(&symbol.value, &known, "its variables are"))
        .at(location_of(symbol.span))
}

impl Variables {
    fn number(&mut self, symbol: &MatchRecognizeSymbol) -> Result<u8> {
        let MatchRecognizeSymbol::Named(name) = symbol else {
            return Err(Error::unsupported("`^` and `$` in a pattern are not supported").at(self.start));
        };
        if self.start.line == 0 {
            self.start = location_of(name.span);
        }
        if let Some(number) = self.names.iter().position(|n| *n == name.value) {
            return Ok(number as u8);
        }
        if self.names.len() >= usize::from(u8::MAX) - 1 {
            return Err(Error::unsupported(format!("a pattern of more than {} variables", self.names.len()))
                .at(location_of(name.span)));
        }
        self.names.push(name.value.clone());
        Ok((self.names.len() - 1) as u8)
    }

    fn pattern(&mut self, pattern: &MatchRecognizePattern) -> Result<Pattern> {
        use MatchRecognizePattern as P;
        Ok(match pattern {
            P::Symbol(symbol) => Pattern::Variable(self.number(symbol)?),
            P::Concat(parts) => {
                Pattern::Concat(parts.iter().map(|p| self.pattern(p)).collect::<Result<_>>()?)
            }
            P::Alternation(parts) => {
                Pattern::Alternation(parts.iter().map(|p| self.pattern(p)).collect::<Result<_>>()?)
            }
            P::Group(inner) => self.pattern(inner)?,
            // A quantifier behind a quantifier: the `?` of reluctance.
            P::Repetition(inner, RepetitionQuantifier::AtMostOne) if matches!(**inner, P::Repetition(..)) => {
                let P::Repetition(repeated, quantifier) = &**inner else {
                    return Err(Error::internal("a repetition that is none"));
                };
                if matches!(**repeated, P::Repetition(..)) {
                    return Err(self.twice());
                }
                self.repeat(repeated, quantifier, false)?
            }
            P::Repetition(inner, _) if matches!(**inner, P::Repetition(..)) => {
                // Finds the place.
                self.pattern(inner)?;
                return Err(self.twice());
            }
            P::Repetition(inner, quantifier) => self.repeat(inner, quantifier, true)?,
            P::Exclude(symbol) => {
                self.number(symbol)?;
                return Err(Error::unsupported("`{- -}` in a pattern is not supported").at(self.start));
            }
            P::Permute(_) => return Err(Error::unsupported("PERMUTE is not supported").at(self.start)),
        })
    }

    fn twice(&self) -> Error {
        Error::syntax("two quantifiers behind each other in the pattern")
            .hint("put the first into parentheses: (a{2})*")
            .at(self.start)
    }

    fn repeat(
        &mut self,
        inner: &MatchRecognizePattern,
        quantifier: &RepetitionQuantifier,
        greedy: bool,
    ) -> Result<Pattern> {
        use RepetitionQuantifier as Q;
        let (from, to) = match *quantifier {
            Q::ZeroOrMore => (0, None),
            Q::OneOrMore => (1, None),
            Q::AtMostOne => (0, Some(1)),
            Q::Exactly(n) => (n, Some(n)),
            Q::AtLeast(n) => (n, None),
            Q::AtMost(n) => (0, Some(n)),
            Q::Range(from, to) => (from, Some(to)),
        };
        let inner = Box::new(self.pattern(inner)?);
        if to.is_some_and(|to| to < from || to == 0) {
            return Err(Error::validation(format!("a quantifier {quantifier} that nothing can meet"))
                .hint("the second number is at least the first, and one at least")
                .at(self.start));
        }
        Ok(Pattern::Repeat { inner, from, to, greedy })
    }

    fn after(&self, skip: Option<AfterMatchSkip>) -> Result<AfterMatch> {
        let number = |symbol: Ident| match self.names.iter().position(|n| *n == symbol.value) {
            Some(number) => Ok(number as u8),
            None => Err(unknown_variable(&symbol, &self.names)),
        };
        Ok(match skip {
            // As in Flink; the standard's is PAST LAST ROW.
            None | Some(AfterMatchSkip::ToNextRow) => AfterMatch::ToNextRow,
            Some(AfterMatchSkip::PastLastRow) => AfterMatch::PastLastRow,
            Some(AfterMatchSkip::ToFirst(symbol)) => AfterMatch::ToFirst(number(symbol)?),
            Some(AfterMatchSkip::ToLast(symbol)) => AfterMatch::ToLast(number(symbol)?),
        })
    }
}
