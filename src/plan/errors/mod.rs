//! What DataFusion's planner refuses, told in the words of SQL: what is wrong, where, and the way out.
//!
//! | | |
//! |---|---|
//! | [`explain`] | messages: names of columns and tables, rules of GROUP BY, types by their SQL names |
//! | [`locate`] | places: most of its errors have none |

mod locate;
mod names;

use datafusion::common::{Column, SchemaError, TableReference};
use datafusion::error::DataFusionError;

use crate::error::{Error, ErrorKind};
use crate::functions;
use crate::plan::planner::location_of_span;
use crate::plan::syntax::using::shown;
use crate::sql::suggestion;

pub use locate::locate;
pub use names::sql_names;

/// An error of DataFusion as a user of SQL reads it; our own ones stay as they are.
pub fn explain(e: DataFusionError) -> Error {
    use DataFusionError as D;
    match e {
        D::Diagnostic(diagnostic, inner) => {
            let place = diagnostic.span.map(location_of_span);
            place.into_iter().fold(explain(*inner), Error::at)
        }
        D::Context(_, inner) => explain(*inner),
        D::Collection(mut all) if !all.is_empty() => explain(all.swap_remove(0)),
        D::SchemaError(e, _) => schema_error(*e),
        D::Plan(text) => told(ErrorKind::Validation, &text),
        D::NotImplemented(text) => told(ErrorKind::Unsupported, &text),
        D::Execution(text) => told(ErrorKind::Validation, &text),
        other => {
            let e = Error::from(other);
            let text = sql_names(&e.message());
            if text == e.message() || e.hint_text().is_some() { e } else { told(e.kind(), &text) }
        }
    }
}

fn schema_error(e: SchemaError) -> Error {
    match e {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let place = field.spans().first().map(location_of_span);
            place.into_iter().fold(unknown_column(&field, &valid_fields), Error::at)
        }
        SchemaError::AmbiguousReference { field } => {
            let error = Error::validation(format!("Column '{}' is ambiguous", shown(&field.name)))
                .hint(format!("name its table: t.{}", shown(&field.name)));
            field.spans().first().map(location_of_span).into_iter().fold(error, Error::at)
        }
        SchemaError::DuplicateQualifiedField { qualifier, .. } => {
            Error::validation(format!("the table name '{}' stands twice in FROM", qualifier.table()))
                .hint("give one of the tables another name: … AS other")
        }
        SchemaError::DuplicateUnqualifiedField { name } => {
            Error::validation(format!("the column name '{}' stands twice", shown(&name)))
                .hint("give one of the columns another name: … AS other")
        }
    }
}

/// `Column 'x' not found`, with the nearest name or those there are.
fn unknown_column(field: &Column, valid: &[Column]) -> Error {
    let name = shown(&field.name);
    let mut tables: Vec<&str> = Vec::new();
    for table in valid.iter().filter_map(|c| c.relation.as_ref()).map(TableReference::table) {
        if !table.starts_with("__") && !tables.contains(&table) {
            tables.push(table);
        }
    }
    let columns = |of: Option<&str>| {
        let mut names: Vec<&str> = Vec::new();
        for column in valid {
            let belongs = of.is_none_or(|t| column.relation.as_ref().is_some_and(|r| r.table() == t));
            if belongs && !names.contains(&shown(&column.name)) {
                names.push(shown(&column.name));
            }
        }
        names
    };
    if let Some(table) = field.relation.as_ref().map(TableReference::table) {
        if !tables.contains(&table) {
            let e = Error::validation(format!("Table '{table}' not found"));
            return if tables.is_empty() {
                e.hint(format!(
                    "no table of FROM is known here; '{table}.{name}' is a column of a table '{table}'"
                ))
            } else {
                e.hint(suggestion(table, &tables, "the tables of FROM are"))
            };
        }
        let e = Error::validation(format!("Column '{name}' not found in table '{table}'"));
        return e.hint(suggestion(name, &columns(Some(table)), "its columns are"));
    }
    let e = Error::validation(format!("Column '{name}' not found in any table"));
    let known = columns(None);
    match name {
        "window_start" | "window_end" | "window_time" => e.hint(
            "it is a column of window functions: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR))",
        ),
        _ if known.is_empty() => e.hint("no column is known here; a string stands in single quotes: 'text'"),
        _ => e.hint(suggestion(name, &known, "the columns are")),
    }
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(from)?;
    rest.split_once(to).map(|(found, _)| found)
}

/// The last part of `t.c` or `"t"."c"`.
fn last_part(name: &str) -> &str {
    let name = name.rsplit('.').next().unwrap_or(name).trim_matches(['"', '`']);
    shown(name)
}

/// The number behind `label`.
fn number_after(text: &str, label: &str) -> Option<u64> {
    let (_, rest) = text.split_once(label)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Known messages in our words, others with the names of SQL's types.
fn told(kind: ErrorKind, text: &str) -> Error {
    let v = |message: String| Error::validation(message);
    if text.starts_with("Aggregate functions are not allowed in the WHERE clause") {
        return v("an aggregate function cannot stand in WHERE, which is asked for every row".into())
            .hint("write HAVING, or aggregate in a sub-query");
    }
    if text.contains("must appear in the GROUP BY clause or must be part of an aggregate function") {
        let column = between(text, "column \"", "\" must").map_or("a column", last_part);
        return v(format!("Column '{column}' is not being grouped"))
            .hint(format!("add it to GROUP BY, or take one value of each group, such as MAX({column})"));
    }
    if text.starts_with("HAVING clause references") {
        return v("HAVING stands without GROUP BY and without an aggregate function".into())
            .hint("a condition on rows is written in WHERE");
    }
    if text.starts_with("Cannot create filter with non-boolean predicate")
        || text.starts_with("Join condition must be boolean type")
    {
        let ty = sql_names(text.rsplit(' ').next().unwrap_or_default());
        return functions::no_condition(&ty);
    }
    if text.starts_with("Negation only supports") {
        return v("cannot apply '-' to a value that is neither a number nor an interval".into())
            .hint("CAST it to a number");
    }
    if let Some(name) = between(text, "Invalid function '", "'") {
        return functions::without_over(name);
    }
    if let Some(call) = between(text, "the given name and argument types '", "'") {
        let name = call.split('(').next().unwrap_or(call);
        return v(format!(
            "cannot apply {} to arguments of type {}",
            name.to_uppercase(),
            sql_names(&call.to_uppercase())
        ))
        .hint("CAST the arguments, or look at their number");
    }
    if let Some(table) = text.strip_prefix("Invalid qualifier ") {
        return v(format!("Table '{}' not found", last_part(table)))
            .hint("before `.*` stands the name of a table of FROM");
    }
    if let Some(columns) = text.split_once("The subquery should only return one column").map(|(_, c)| c) {
        let n = columns.split(',').count();
        return v(format!("a sub-query that is a value has one column, this one has {n}"))
            .hint("select one column; rows are compared with (a, b) IN (SELECT x, y …)");
    }
    if text.starts_with("UNION queries have different number of columns") {
        return v("Column count mismatch in UNION".into()).hint("select as many columns on both sides");
    }
    if text.starts_with("Inconsistent data length across values list") {
        let (got, row, want) =
            (number_after(text, "got "), number_after(text, "in row "), number_after(text, "expected "));
        return v(format!(
            "row {} of VALUES has {} columns, the rows before it have {}",
            row.unwrap_or(0) + 1,
            got.unwrap_or(0),
            want.unwrap_or(0)
        ));
    }
    if text.starts_with("Source table contains") {
        let (has, names) = (number_after(text, "contains "), number_after(text, "only "));
        return v(format!(
            "the alias names {} columns, the table has {}",
            names.unwrap_or(0),
            has.unwrap_or(0)
        ))
        .hint("name all of them, or none");
    }
    if text.starts_with("Order by column out of bounds") {
        return v(format!(
            "ORDER BY {}: the select list has {} columns",
            number_after(text, "specified: ").unwrap_or(0),
            number_after(text, "max: ").unwrap_or(0)
        ));
    }
    if let Some(window) = between(text, "The window ", " is not defined") {
        return v(format!("the window '{window}' is not defined"))
            .hint(format!("write OVER (…), or define it behind the query: WINDOW {window} AS (…)"));
    }
    if let Some(argument) = between(text, "Argument ", " to grouping function") {
        let column = last_part(argument);
        return v(format!("GROUPING({column}): '{column}' is not in GROUP BY"))
            .hint("GROUPING takes keys of GROUP BY");
    }
    if let Some(field) = between(text, "Field ", " not found in struct") {
        return v(format!("the row has no field '{field}'")).hint("DESCRIBE shows the fields of rows");
    }
    if let Some(ty) = between(text, ": type ", " is not Struct") {
        return v(format!("a value of type {} has no fields", sql_names(ty)))
            .hint("`.` stands behind a table or a ROW; an element of a MAP is m['key']");
    }
    if let Some((_, parts)) = text.split_once("ompound identifier")
        && let Some(parts) = between(parts, "[", "]")
    {
        let name = parts.replace(['"', ' '], "").replace(',', ".");
        return v(format!("'{name}' is neither a column nor a field of one"))
            .hint("a column is written table.column, a field of a row table.column.field");
    }
    if ["Ident {", "Span", "Spans", "{ inner:"].iter().any(|debug| text.contains(debug)) {
        return Error::unsupported("this expression is not supported here");
    }
    Error::new(kind, sql_names(text))
}

#[cfg(test)]
mod tests;
