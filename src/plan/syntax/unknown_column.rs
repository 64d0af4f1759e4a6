//! Where a column that does not exist stands in the query: DataFusion keeps the position of plain columns only, not of
//! those inside expressions.

use std::ops::ControlFlow;

use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{Expr, Query, visit_expressions};

use crate::error::Location;
use crate::plan::planner::location_of;

/// The position of the column that `error` is about, if it is about one and `query` names it.
pub fn locate(error: &DataFusionError, query: &Query) -> Option<Location> {
    let missing = missing_column(error)?;
    let found = visit_expressions(query, |expr| {
        let parts = match expr {
            Expr::Identifier(ident) => std::slice::from_ref(ident),
            Expr::CompoundIdentifier(parts) => parts.as_slice(),
            _ => return ControlFlow::Continue(()),
        };
        // `t.c` may be reported as a field of `t` or as a column named after its first part.
        let named = match &missing.relation {
            Some(relation) => parts.windows(2).any(|pair| match pair {
                [table, column] => table.value == relation.table() && column.value == missing.name,
                _ => false,
            }),
            None => parts.first().is_some_and(|first| first.value == missing.name),
        };
        match (named, parts.first()) {
            (true, Some(first)) => ControlFlow::Break(location_of(first.span)),
            _ => ControlFlow::Continue(()),
        }
    });
    match found {
        ControlFlow::Break(location) => Some(location),
        ControlFlow::Continue(()) => None,
    }
}

fn missing_column(error: &DataFusionError) -> Option<&Column> {
    match error {
        DataFusionError::SchemaError(e, _) => match &**e {
            SchemaError::FieldNotFound { field, .. } | SchemaError::AmbiguousReference { field } => {
                Some(field)
            }
            _ => None,
        },
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => missing_column(inner),
        DataFusionError::Collection(all) => all.first().and_then(missing_column),
        _ => None,
    }
}
