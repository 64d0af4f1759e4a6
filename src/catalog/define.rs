//! From `CREATE TABLE` to a table definition: names resolved, `LIKE` and `AS` merged in, the whole checked.
//!
//! ```text
//!  CreateTable ─┬─ LIKE source ─► like::merge ─┐
//!               ├─ AS query    ─► as_query ────┼─► check ─► TableDef
//!               └─ columns ────────────────────┘
//! ```

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, visit_expressions};

use super::manager::CatalogManager;
use super::{CatalogObject, TableDef, like};
use crate::error::{Error, Location, Result};
use crate::sql::ast::CreateTable;
use crate::sql::ast::{ColumnDef, ColumnKind, SqlExpr};
use crate::sql::{nearest_name, quote_ident};
use crate::types::{LogicalType, TypeRoot};

impl CatalogManager {
    /// The definition a `CREATE TABLE` makes. `query` are the columns of its `AS` query, which the planner knows.
    ///
    /// # Errors
    /// Validation, in Flink's sense and at the place of the statement.
    pub async fn define_table(
        &self,
        create: &CreateTable,
        query: Option<&[(String, LogicalType)]>,
    ) -> Result<TableDef> {
        let at = create.name.location;
        let mut def = TableDef {
            path: self.resolve(&create.name)?,
            columns: create.columns.clone(),
            watermark: create.watermark.clone(),
            primary_key: create.primary_key.clone(),
            partitioned_by: create.partitioned_by.clone(),
            comment: create.comment.clone(),
            options: create.options.clone(),
            temporary: create.temporary,
            location: at,
            external: None,
        };
        if let Some(clause) = &create.like {
            match self.get(&clause.source).await? {
                CatalogObject::Table(source) => {
                    like::merge(&mut def, &source, &clause.options)
                        .map_err(|e| e.at(clause.source.location))?;
                }
                CatalogObject::View(view) => {
                    return Err(Error::validation(format!("{} is a view: LIKE takes a table", view.path))
                        .at(clause.source.location)
                        .hint("write CREATE TABLE … AS SELECT, or list the columns"));
                }
            }
        }
        if create.query.is_some() {
            let columns =
                query.ok_or_else(|| Error::internal("CREATE TABLE … AS without the query's columns"))?;
            as_query(&mut def, &create.column_names_only, columns).map_err(|e| e.at(at))?;
        }
        key_columns_hold_no_nulls(&mut def);
        let memory = self.catalog(&def.path.catalog).is_ok_and(|c| c.kind() == "generic_in_memory");
        check(&def, memory).map_err(|e| e.at(at))?;
        Ok(def)
    }
}

/// Key columns are NOT NULL whatever was declared.
pub(super) fn key_columns_hold_no_nulls(def: &mut TableDef) {
    let Some(key) = &def.primary_key else { return };
    for column in def.columns.iter_mut().filter(|c| key.columns.contains(&c.name)) {
        if let Some(ty) = &mut column.ty {
            ty.nullable = false;
        }
    }
}

/// Columns of the query after those of the table's own; own types win, bare names reorder.
fn as_query(def: &mut TableDef, order: &[String], query: &[(String, LogicalType)]) -> Result<()> {
    let mut seen = BTreeSet::new();
    if let Some((name, _)) = query.iter().find(|(n, _)| !seen.insert(n.as_str())) {
        return Err(Error::validation(format!("the query yields two columns named {}", quote_ident(name)))
            .hint("give them different names with AS"));
    }
    let column = |name: &str, ty: &LogicalType| ColumnDef {
        name: name.to_owned(),
        ty: Some(ty.clone()),
        kind: ColumnKind::Physical,
        comment: None,
    };
    if !order.is_empty() {
        if order.len() != query.len() {
            return Err(Error::validation(format!(
                "the column list has {} names, the query yields {} columns",
                order.len(),
                query.len()
            ))
            .hint("name every column of the query, or leave the list out"));
        }
        for name in order {
            let (_, ty) = query.iter().find(|(n, _)| n == name).ok_or_else(|| {
                unknown_column(name, query.iter().map(|(n, _)| n.as_str()), "the query has no column")
            })?;
            def.columns.push(column(name, ty));
        }
        return Ok(());
    }
    for (name, ty) in query {
        match def.columns.iter().find(|c| c.name == *name) {
            None => def.columns.push(column(name, ty)),
            Some(ColumnDef { kind: ColumnKind::Physical, .. }) => {}
            Some(_) => {
                return Err(Error::validation(format!(
                    "the column {} is computed or metadata, and the query yields one of that name",
                    quote_ident(name)
                ))
                .hint("rename one of them"));
            }
        }
    }
    Ok(())
}

/// Everything that can be told without planning an expression.
pub(super) fn check(def: &TableDef, memory: bool) -> Result<()> {
    let mut names = BTreeSet::new();
    if let Some(c) = def.columns.iter().find(|c| !names.insert(c.name.as_str())) {
        return Err(Error::validation(format!("the column {} appears twice", quote_ident(&c.name)))
            .hint("names are case-sensitive; rename one of them"));
    }
    if def.columns.iter().all(|c| matches!(c.kind, ColumnKind::Computed(_))) {
        return Err(Error::validation("a table needs at least one column that is not computed"));
    }
    for column in &def.columns {
        if let ColumnKind::Computed(expr) = &column.kind {
            check_computed(def, column, expr)?;
        }
    }
    check_watermark(def)?;
    if let Some(key) = &def.primary_key {
        let mut seen = BTreeSet::new();
        for name in &key.columns {
            if !seen.insert(name) {
                return Err(Error::validation(format!(
                    "the column {} appears twice in the primary key",
                    quote_ident(name)
                )));
            }
            match def.columns.iter().find(|c| c.name == *name).map(|c| &c.kind) {
                Some(ColumnKind::Physical) => {}
                Some(_) => {
                    return Err(Error::validation(format!(
                        "the primary key column {} is not physical",
                        quote_ident(name)
                    ))
                    .hint("computed and metadata columns cannot be part of a key"));
                }
                None => {
                    return Err(unknown_column(
                        name,
                        column_names(def),
                        "the primary key names no column of the table:",
                    ));
                }
            }
        }
    }
    def.partitioned_by.iter().try_for_each(|p| check_partition(def, p, memory))
}

fn column_names(def: &TableDef) -> impl Iterator<Item = &str> {
    def.columns.iter().map(|c| c.name.as_str())
}

fn unknown_column<'a>(name: &str, columns: impl Iterator<Item = &'a str>, what: &str) -> Error {
    let columns: Vec<&str> = columns.collect();
    let e = Error::validation(format!("{what} {}", quote_ident(name)));
    match nearest_name(name, columns.iter().copied()) {
        Some(near) => e.hint(format!("did you mean {}?", quote_ident(near))),
        None => e.hint(format!("columns are {}", columns.join(", "))),
    }
}

/// Names that an expression may mean as columns: bare identifiers and the first part of compound ones.
pub(super) fn references(expr: &SqlExpr) -> (Vec<(String, Location)>, bool) {
    let place = |i: &datafusion::sql::sqlparser::ast::Ident| {
        (i.value.clone(), Location { line: i.span.start.line, column: i.span.start.column })
    };
    let mut names = Vec::new();
    let mut subquery = false;
    let _ = visit_expressions(&expr.expr, |e| {
        match e {
            Expr::Identifier(i) => names.push(place(i)),
            Expr::CompoundIdentifier(parts) => names.extend(parts.first().map(place)),
            Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. } => subquery = true,
            _ => {}
        }
        ControlFlow::<()>::Continue(())
    });
    (names, subquery)
}

/// A computed column sees physical and metadata columns only, as in Flink; so there are no cycles.
fn check_computed(def: &TableDef, column: &ColumnDef, expr: &SqlExpr) -> Result<()> {
    let (names, subquery) = references(expr);
    if subquery {
        return Err(Error::validation(format!(
            "the computed column {} holds a query",
            quote_ident(&column.name)
        ))
        .at(expr.location)
        .hint("computed columns are made of the row's own columns"));
    }
    for (name, at) in names {
        let computed =
            def.columns.iter().any(|c| c.name == name && matches!(c.kind, ColumnKind::Computed(_)));
        if computed {
            return Err(Error::validation(format!(
                "the computed column {} uses the computed column {}",
                quote_ident(&column.name),
                quote_ident(&name)
            ))
            .at(at)
            .hint("write its expression out, or compute it in a view"));
        }
    }
    Ok(())
}

fn check_watermark(def: &TableDef) -> Result<()> {
    let Some(watermark) = &def.watermark else { return Ok(()) };
    let at = watermark.expr.location;
    let Some(column) = def.columns.iter().find(|c| c.name == watermark.column) else {
        return Err(unknown_column(
            &watermark.column,
            column_names(def),
            "the watermark is for no column of the table:",
        )
        .at(at));
    };
    if let ColumnKind::Computed(expr) = &column.kind
        && is_proctime(expr)
    {
        return Err(Error::validation("a watermark cannot be defined for a processing-time attribute")
            .at(at)
            .hint("put it on a column that holds the event's time"));
    }
    // The type of a computed column is the planner's to check.
    match column.ty.as_ref() {
        None => Ok(()),
        Some(LogicalType { root: TypeRoot::Timestamp(0..=3) | TypeRoot::TimestampLtz(0..=3), .. }) => Ok(()),
        Some(ty) => Err(Error::validation(format!(
            "the row-time column {} is {ty}; it must be TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p from 0 to 3",
            quote_ident(&watermark.column)
        ))
        .at(at)
        .hint("declare it as TIMESTAMP(3), or add a computed column that casts it")),
    }
}

/// Whether a computed column is `PROCTIME()`.
pub(crate) fn is_proctime(expr: &SqlExpr) -> bool {
    matches!(&expr.expr, Expr::Function(f) if f.name.to_string().eq_ignore_ascii_case("PROCTIME"))
}

fn check_partition(def: &TableDef, partition: &SqlExpr, memory: bool) -> Result<()> {
    let (names, _) = references(partition);
    for (name, _) in names {
        match def.columns.iter().find(|c| c.name == name).map(|c| &c.kind) {
            Some(ColumnKind::Physical) => {}
            Some(_) => {
                return Err(Error::validation(format!(
                    "the partition column {} is not physical",
                    quote_ident(&name)
                ))
                .at(partition.location));
            }
            None => {
                return Err(unknown_column(
                    &name,
                    column_names(def),
                    "PARTITIONED BY names no column of the table:",
                )
                .at(partition.location));
            }
        }
    }
    let transform = !matches!(partition.expr, Expr::Identifier(_));
    if transform && memory && def.options.get("connector").is_none_or(|c| c != "iceberg") {
        return Err(Error::validation(format!(
            "partition transforms such as {} are for Iceberg tables",
            partition.text
        ))
        .at(partition.location)
        .hint("partition by plain columns, or create the table in an Iceberg catalog"));
    }
    Ok(())
}
