//! A table as `ALTER TABLE` leaves it.
//!
//! ```text
//!  TableDef ─ change ─► TableDef ─ check (as for CREATE TABLE) ─► the definition that a catalog stores
//! ```
//!
//! Flink's rules: elements of a list apply one after the other, in the order written; what something else of the table
//! uses stays; a column that is modified keeps its place and its comment unless new ones are given.

use super::TableDef;
use super::define::{self, references};
use crate::error::{Error, Location, Result};
use crate::sql::ast::{
    ColumnDef, ColumnKind, ColumnPosition, PlacedColumn, PrimaryKey, TableChange, TableElements,
};
use crate::sql::{quote_ident, suggestion};

/// The table after a change. `plain` says that its catalog knows no partition transforms by itself.
///
/// # Errors
/// Validation, at the place of what cannot be.
pub(crate) fn altered(def: &TableDef, change: &TableChange, plain: bool) -> Result<TableDef> {
    let mut table = def.clone();
    match change {
        TableChange::Set(options) => {
            table.options.extend(options.iter().map(|(k, v)| (k.clone(), v.clone())));
        }
        TableChange::Reset(keys) => {
            for (key, at) in keys {
                if key == "connector" {
                    return Err(Error::validation("the option 'connector' cannot be reset")
                        .at(*at)
                        .hint("SET ('connector' = '…') gives the table another one"));
                }
                table.options.remove(key);
            }
        }
        TableChange::Add(elements) => add(&mut table, elements)?,
        TableChange::Modify(elements) => modify(&mut table, elements)?,
        TableChange::DropColumns(columns) => drop_columns(&mut table, columns)?,
        TableChange::DropPrimaryKey(at) => {
            if table.primary_key.take().is_none() {
                return Err(lacks("primary key").at(*at));
            }
        }
        TableChange::DropConstraint(name, at) => {
            let key = table.primary_key.take().ok_or_else(|| lacks("primary key").at(*at))?;
            let own = constraint_name(&key);
            if own != *name {
                return Err(Error::validation(format!("the table has no constraint {}", quote_ident(name)))
                    .at(*at)
                    .hint(format!("its primary key is named {}", quote_ident(&own))));
            }
        }
        TableChange::DropWatermark(at) => {
            if table.watermark.take().is_none() {
                return Err(lacks("watermark").at(*at));
            }
        }
        TableChange::RenameColumn { from, to } => rename(&mut table, from, to)?,
    }
    define::key_columns_hold_no_nulls(&mut table);
    define::check(&table, plain)?;
    Ok(table)
}

/// The name of a key, given or not.
pub(crate) fn constraint_name(key: &PrimaryKey) -> String {
    key.name.clone().unwrap_or_else(|| format!("PK_{}", key.columns.join("_")))
}

fn lacks(what: &str) -> Error {
    Error::validation(format!("the table has no {what}")).hint("SHOW CREATE TABLE shows what it has")
}

fn has_already(what: &str) -> Error {
    Error::validation(format!("the table has a {what} already"))
        .hint(format!("MODIFY the {what}, or DROP it first"))
}

fn add(table: &mut TableDef, elements: &TableElements) -> Result<()> {
    for placed in &elements.columns {
        let name = &placed.column.name;
        if table.columns.iter().any(|c| c.name == *name) {
            return Err(Error::validation(format!("the column {} is there already", quote_ident(name)))
                .at(placed.location)
                .hint("MODIFY changes it"));
        }
        let place = match &placed.position {
            None => table.columns.len(),
            Some(position) => self::place(table, position)?,
        };
        table.columns.insert(place, placed.column.clone());
    }
    if let Some((key, at)) = &elements.primary_key {
        if table.primary_key.is_some() {
            return Err(has_already("primary key").at(*at));
        }
        table.primary_key = Some(key.clone());
    }
    if let Some((watermark, at)) = &elements.watermark {
        if table.watermark.is_some() {
            return Err(has_already("watermark").at(*at));
        }
        table.watermark = Some(watermark.clone());
    }
    Ok(())
}

fn modify(table: &mut TableDef, elements: &TableElements) -> Result<()> {
    for (i, placed) in elements.columns.iter().enumerate() {
        let PlacedColumn { column, location, position } = placed;
        if elements.columns.iter().take(i).any(|p| p.column.name == column.name) {
            return Err(twice(&column.name).at(*location));
        }
        let index = find(table, &column.name).map_err(|e| e.at(*location))?;
        let old = table.columns.remove(index);
        let comment = column.comment.clone().or(old.comment);
        let place = match position {
            None => index,
            Some(ColumnPosition::After(other, at)) if *other == column.name => {
                return Err(Error::validation("a column cannot come after itself").at(*at));
            }
            Some(position) => self::place(table, position)?,
        };
        table.columns.insert(place, ColumnDef { comment, ..column.clone() });
    }
    if let Some((key, at)) = &elements.primary_key {
        if table.primary_key.is_none() {
            return Err(lacks("primary key").at(*at).hint("ADD PRIMARY KEY (…) NOT ENFORCED gives it one"));
        }
        table.primary_key = Some(key.clone());
    }
    if let Some((watermark, at)) = &elements.watermark {
        if table.watermark.is_none() {
            return Err(lacks("watermark").at(*at).hint("ADD WATERMARK FOR … gives it one"));
        }
        table.watermark = Some(watermark.clone());
    }
    Ok(())
}

fn twice(column: &str) -> Error {
    Error::validation(format!("the column {} appears twice", quote_ident(column)))
}

/// Which column has a name.
fn find(table: &TableDef, name: &str) -> Result<usize> {
    table.columns.iter().position(|c| c.name == name).ok_or_else(|| {
        let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
        Error::validation(format!("the table has no column {}", quote_ident(name))).hint(suggestion(
            name,
            &names,
            "its columns are",
        ))
    })
}

fn place(table: &TableDef, position: &ColumnPosition) -> Result<usize> {
    match position {
        ColumnPosition::First => Ok(0),
        ColumnPosition::After(name, at) => find(table, name).map(|i| i + 1).map_err(|e| e.at(*at)),
    }
}

fn drop_columns(table: &mut TableDef, columns: &[(String, Location)]) -> Result<()> {
    for (i, (name, at)) in columns.iter().enumerate() {
        if columns.iter().take(i).any(|(n, _)| n == name) {
            return Err(twice(name).at(*at));
        }
        find(table, name).map_err(|e| e.at(*at))?;
        let goes_too = |other: &str| columns.iter().any(|(n, _)| n == other);
        if table.primary_key.as_ref().is_some_and(|k| k.columns.contains(name)) {
            return Err(cannot("dropped", name, "the primary key")
                .at(*at)
                .hint("DROP PRIMARY KEY first, or MODIFY it"));
        }
        unused(table, name, "dropped", &goes_too).map_err(|e| e.at(*at))?;
    }
    table.columns.retain(|c| !columns.iter().any(|(n, _)| *n == c.name));
    Ok(())
}

fn cannot(what: &str, column: &str, user: &str) -> Error {
    Error::validation(format!("the column {} cannot be {what}: {user} uses it", quote_ident(column)))
}

/// That neither computed columns nor the watermark nor the partitioning use a column.
fn unused(table: &TableDef, name: &str, what: &str, goes_too: &dyn Fn(&str) -> bool) -> Result<()> {
    let uses = |expr| references(expr).0.iter().any(|(n, _)| n == name);
    for column in &table.columns {
        if let ColumnKind::Computed(expr) = &column.kind
            && !goes_too(&column.name)
            && uses(expr)
        {
            let user = quote_ident(&column.name);
            let hint = if what == "dropped" {
                format!("drop both: DROP ({}, {user})", quote_ident(name))
            } else {
                format!("DROP {user} first, and ADD it again afterwards")
            };
            return Err(cannot(what, name, &format!("the computed column {user}")).hint(hint));
        }
    }
    if let Some(watermark) = &table.watermark
        && (watermark.column == name || uses(&watermark.expr))
    {
        return Err(cannot(what, name, "the watermark").hint("DROP WATERMARK first"));
    }
    if table.partitioned_by.iter().any(uses) {
        return Err(cannot(what, name, "the partitioning")
            .hint("a table stays partitioned as it was created; create another one, and INSERT the rows"));
    }
    Ok(())
}

fn rename(table: &mut TableDef, from: &(String, Location), to: &(String, Location)) -> Result<()> {
    let index = find(table, &from.0).map_err(|e| e.at(from.1))?;
    if table.columns.iter().any(|c| c.name == to.0) {
        return Err(Error::validation(format!("the column {} is there already", quote_ident(&to.0))).at(to.1));
    }
    unused(table, &from.0, "renamed", &|_| false).map_err(|e| e.at(from.1))?;
    if let Some(column) = table.columns.get_mut(index) {
        column.name.clone_from(&to.0);
    }
    let keys = table.primary_key.iter_mut().flat_map(|k| &mut k.columns);
    keys.filter(|c| **c == from.0).for_each(|c| c.clone_from(&to.0));
    Ok(())
}
