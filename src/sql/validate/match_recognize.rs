//! The clauses of MATCH_RECOGNIZE.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    EmptyMatchesMode, Expr, MatchRecognizePattern, MatchRecognizeSymbol, Measure, OrderByExpr, Query,
    RowsPerMatch, SymbolDefinition, Visit, Visitor,
};

use super::{Validator, place_of, places, refuse_at, unsupported};
use crate::error::{Error, Location, Result};
use crate::sql::query::ident_location;

impl Validator {
    /// All of a MATCH_RECOGNIZE but its table and its alias.
    pub(super) fn matches(
        &mut self,
        partition_by: &mut [Expr],
        order_by: &mut [OrderByExpr],
        measures: &mut [Measure],
        rows_per_match: Option<&RowsPerMatch>,
        pattern: &MatchRecognizePattern,
        symbols: &mut [SymbolDefinition],
    ) -> Result<()> {
        let at = first_symbol(pattern);
        match rows_per_match {
            None | Some(RowsPerMatch::OneRow) => {}
            // No match is empty: patterns that can be are refused.
            Some(RowsPerMatch::AllRows(None | Some(EmptyMatchesMode::Show | EmptyMatchesMode::Omit))) => {}
            Some(RowsPerMatch::AllRows(Some(EmptyMatchesMode::WithUnmatched))) => {
                refuse_at(true, "ALL ROWS PER MATCH WITH UNMATCHED ROWS", at)?;
            }
        }
        for key in partition_by {
            if !matches!(key, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
                return Err(unsupported("PARTITION BY anything but columns", &*key).hint(
                    "compute it below: FROM (SELECT *, … AS k FROM t) MATCH_RECOGNIZE (PARTITION BY k …)",
                ));
            }
        }
        self.order_by(order_by)?;
        let was = std::mem::replace(&mut self.in_match, true);
        let checked = self.match_exprs(measures, symbols);
        self.in_match = was;
        checked
    }

    fn match_exprs(&mut self, measures: &mut [Measure], symbols: &mut [SymbolDefinition]) -> Result<()> {
        for Measure { expr, alias: _ } in measures {
            no_query(expr)?;
            places::no_window(expr, "MEASURES")?;
            self.expr(expr)?;
        }
        for SymbolDefinition { symbol: _, definition } in symbols {
            no_query(definition)?;
            places::no_window(definition, "DEFINE")?;
            self.expr(definition)?;
        }
        Ok(())
    }
}

/// Where the first variable of a pattern stands: patterns have no places.
fn first_symbol(pattern: &MatchRecognizePattern) -> Location {
    use MatchRecognizePattern as P;
    let of = |symbol: &MatchRecognizeSymbol| match symbol {
        MatchRecognizeSymbol::Named(name) => ident_location(name),
        MatchRecognizeSymbol::Start | MatchRecognizeSymbol::End => Location::default(),
    };
    match pattern {
        P::Symbol(symbol) | P::Exclude(symbol) => of(symbol),
        P::Permute(symbols) => symbols.first().map(of).unwrap_or_default(),
        P::Concat(parts) | P::Alternation(parts) => parts.first().map(first_symbol).unwrap_or_default(),
        P::Group(inner) | P::Repetition(inner, _) => first_symbol(inner),
    }
}

fn no_query(e: &Expr) -> Result<()> {
    match e.visit(&mut Queries) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(at) => Err(Error::unsupported("a sub-query in MATCH_RECOGNIZE is not supported")
            .hint("join its result to the rows before they are matched")
            .at(at)),
    }
}

struct Queries;

impl Visitor for Queries {
    type Break = Location;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Location> {
        ControlFlow::Break(place_of(&query.body))
    }
}
