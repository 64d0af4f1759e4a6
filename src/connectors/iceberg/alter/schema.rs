//! The schema of a table as `ALTER TABLE` leaves it.
//!
//! ```text
//!  the schema that is there ─┐  by name, a renamed column by its old one
//!  columns as declared      ─┴─► kept: its id, perhaps a wider type · new: an id that none ever had ─► Schema
//! ```
//!
//! Files are read by the ids of their columns. So a column that keeps its id keeps its values under any name, and one that is
//! dropped and added again has none.

use std::sync::Arc;

use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, Schema, StructType, TableMetadata, Type,
};

use super::super::evolution::is_wider;
use super::super::new_ids::NewIds;
use super::super::types::{identifier_ids, stored_columns, to_logical, type_of};
use crate::catalog::TableDef;
use crate::error::{Error, Location, Result};
use crate::sql::ast::TableChange;
use crate::types::{LogicalType, RowField, TypeRoot};

const WIDER: &str = "Iceberg widens INT to BIGINT, FLOAT to DOUBLE and DECIMAL(p, s) to DECIMAL(p + n, s), and nothing else: \
    ADD a column of the new type and fill it by UPDATE";

/// The schema of a table as `after` declares it.
///
/// # Errors
/// Unsupported, at the column, for what Iceberg cannot do.
pub(super) fn schema_after(
    metadata: &TableMetadata,
    after: &TableDef,
    change: &TableChange,
) -> Result<Schema> {
    let current = metadata.current_schema();
    let mut ids = NewIds::after(metadata.last_column_id());
    let mut fields = Vec::with_capacity(after.columns.len());
    for (column, ty) in stored_columns(after)? {
        let before = match change {
            TableChange::RenameColumn { from, to } if to.0 == column.name => &from.0,
            _ => &column.name,
        };
        let at = place(change, &column.name);
        let old = current.as_struct().fields().iter().find(|f| f.name == *before);
        let field = match old {
            Some(old) => kept(old, ty, &column.name, &mut ids).map_err(|e| at_place(e, at))?,
            None => added(ty, &column.name, &mut ids).map_err(|e| at_place(e, at))?,
        };
        let field = NestedField { name: column.name.clone(), doc: column.comment.clone(), ..field };
        fields.push(Arc::new(field));
    }
    used_by_older_files(metadata, &fields)?;
    let changes_key = match change {
        TableChange::Add(e) | TableChange::Modify(e) => e.primary_key.is_some(),
        TableChange::DropPrimaryKey(_) | TableChange::DropConstraint(..) => true,
        _ => false,
    };
    let identifiers = if changes_key {
        identifier_ids(after.primary_key.as_ref(), &fields)?
    } else {
        current.identifier_field_ids().collect()
    };
    Schema::builder()
        .with_fields(fields)
        .with_identifier_field_ids(identifiers)
        .build()
        .map_err(|e| Error::validation(e.message()))
}

/// Where the statement names a column.
fn place(change: &TableChange, column: &str) -> Option<Location> {
    match change {
        TableChange::Add(e) | TableChange::Modify(e) => {
            let key = || e.primary_key.as_ref().filter(|(k, _)| k.columns.iter().any(|c| c == column));
            let own = e.columns.iter().find(|p| p.column.name == column).map(|p| p.location);
            own.or_else(|| key().map(|(_, at)| *at))
        }
        _ => None,
    }
}

fn at_place(e: Error, at: Option<Location>) -> Error {
    match at {
        Some(at) => e.at(at),
        None => e,
    }
}

/// A column that the table gets.
fn added(ty: &LogicalType, path: &str, ids: &mut NewIds) -> Result<NestedField> {
    if !ty.nullable {
        return Err(Error::unsupported(format!(
            "the column `{path}` cannot be added with NOT NULL, or as part of the key: the rows that are there have no value \
             for it"
        ))
        .hint("ADD it without NOT NULL"));
    }
    let id = ids.next();
    let ty = ids.numbered(&type_of(ty, path)?);
    Ok(NestedField::new(id, path, ty, false))
}

/// A column or field that is there, as it is declared now.
fn kept(old: &NestedField, wanted: &LogicalType, path: &str, ids: &mut NewIds) -> Result<NestedField> {
    if !old.required && !wanted.nullable {
        return Err(Error::unsupported(format!(
            "the column `{path}` cannot become NOT NULL, or part of the key: the rows that are there may hold NULLs"
        ))
        .hint("only a column that was created with NOT NULL can be in a PRIMARY KEY; leave NOT NULL out otherwise"));
    }
    let field_type = Box::new(ty(&old.field_type, old, wanted, path, ids)?);
    Ok(NestedField { required: !wanted.nullable, field_type, ..old.clone() })
}

fn ty(have: &Type, field: &NestedField, wanted: &LogicalType, path: &str, ids: &mut NewIds) -> Result<Type> {
    // Also those that SQL has no name for.
    if to_logical(field)?.root == wanted.root {
        return Ok(have.clone());
    }
    match (have, &wanted.root) {
        (Type::Struct(have), TypeRoot::Row(fields)) => row(have, fields, path, ids),
        (Type::List(have), TypeRoot::Array(element)) => {
            let element = kept(&have.element_field, element, &format!("{path}[]"), ids)?;
            Ok(Type::List(ListType::new(Arc::new(element))))
        }
        (Type::Map(have), TypeRoot::Map(key, value)) => {
            if to_logical(&have.key_field)?.root != key.root {
                return Err(Error::unsupported(format!("the keys of the map `{path}` cannot be changed"))
                    .hint("ADD a column of the new type"));
            }
            let value = kept(&have.value_field, value, &format!("{path}{{value}}"), ids)?;
            Ok(Type::Map(MapType::new(Arc::clone(&have.key_field), Arc::new(value))))
        }
        (Type::Primitive(have), _) => {
            let refused = || {
                Error::unsupported(format!(
                    "the column `{path}` cannot be changed from {} to {}",
                    LogicalType::nullable(to_logical(field).map_or(TypeRoot::Null, |t| t.root)),
                    LogicalType::nullable(wanted.root.clone())
                ))
                .hint(WIDER)
            };
            match type_of(wanted, path)? {
                Type::Primitive(new) if new == *have => Ok(Type::Primitive(new)),
                Type::Primitive(new) if is_wider(have, &new) => Ok(Type::Primitive(new)),
                _ => Err(refused()),
            }
        }
        _ => Err(Error::unsupported(format!(
            "the column `{path}` cannot be changed from {} to {}",
            to_logical(field)?,
            LogicalType::nullable(wanted.root.clone())
        ))
        .hint(WIDER)),
    }
}

/// Fields of a row are columns of their own: found by name, added, left out, put in another order.
fn row(have: &StructType, wanted: &[RowField], path: &str, ids: &mut NewIds) -> Result<Type> {
    let mut fields: Vec<NestedFieldRef> = Vec::with_capacity(wanted.len());
    for w in wanted {
        let path = format!("{path}.{}", w.name);
        let field = match have.fields().iter().find(|f| f.name == w.name) {
            Some(old) => kept(old, &w.ty, &path, ids)?,
            None => added(&w.ty, &path, ids)?,
        };
        let doc = w.comment.clone().or_else(|| field.doc.clone());
        fields.push(Arc::new(NestedField { name: w.name.clone(), doc, ..field }));
    }
    Ok(Type::Struct(StructType::new(fields)))
}

/// That no partitioning, also not one of old files, and no order of rows has lost a column that it is made of.
fn used_by_older_files(metadata: &TableMetadata, fields: &[NestedFieldRef]) -> Result<()> {
    let current = metadata.current_schema();
    let gone = |id: i32| {
        current.as_struct().fields().iter().any(|f| f.id == id) && !fields.iter().any(|f| f.id == id)
    };
    let named = |id: i32| current.name_by_field_id(id).unwrap_or_default().to_owned();
    for spec in metadata.partition_specs_iter() {
        if let Some(field) = spec.fields().iter().find(|f| gone(f.source_id)) {
            return Err(Error::unsupported(format!(
                "the column `{}` cannot be dropped: files are partitioned by it, some perhaps by a partitioning of old",
                named(field.source_id)
            ))
            .hint("create another table without it, and INSERT the rows"));
        }
    }
    for order in metadata.sort_orders_iter() {
        if let Some(field) = order.fields.iter().find(|f| gone(f.source_id)) {
            return Err(Error::unsupported(format!(
                "the column `{}` cannot be dropped: the sort order of the table uses it",
                named(field.source_id)
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use iceberg::spec::PrimitiveType;

    use super::*;

    #[test]
    fn new_ids_are_those_of_nobody() {
        let mut ids = NewIds::after(7);
        let ty = LogicalType::nullable(TypeRoot::Array(Box::new(LogicalType::nullable(TypeRoot::Int))));
        let field = added(&ty, "a", &mut ids).unwrap();
        assert_eq!(field.id, 8);
        let Type::List(list) = field.field_type.as_ref() else { panic!() };
        assert_eq!(list.element_field.id, 9);
        assert_eq!(*list.element_field.field_type, Type::Primitive(PrimitiveType::Int));
        let never = LogicalType::not_null(TypeRoot::Int);
        assert!(added(&never, "a", &mut ids).unwrap_err().to_string().contains("no value"));
    }
}
