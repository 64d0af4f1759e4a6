//! SQL types and Iceberg types, in both directions, as Flink's Iceberg catalog maps them.
//!
//! | SQL | Iceberg | back |
//! |---|---|---|
//! | CHAR, VARCHAR, STRING | string | STRING |
//! | BINARY(n); VARBINARY, BYTES | fixed[n]; binary | BINARY(n); BYTES |
//! | BOOLEAN; TINYINT, SMALLINT, INT; BIGINT | boolean; int; long | BOOLEAN; INT; BIGINT |
//! | FLOAT; DOUBLE; DECIMAL(p, s) | float; double; decimal(p, s) | the same |
//! | DATE; TIME(p) | date; time | DATE; TIME(3) |
//! | TIMESTAMP(p); TIMESTAMP_LTZ(p), p ≤ 6 | timestamp; timestamptz (both µs) | TIMESTAMP(6); TIMESTAMP_LTZ(6) |
//! | ARRAY; MAP, MULTISET; ROW | list; map; struct | ARRAY; MAP; ROW |
//! | | timestamp_ns, timestamptz_ns, uuid | TIMESTAMP(9), TIMESTAMP_LTZ(9), BINARY(16) |
//!
//! More than six fraction digits are refused, as microseconds would lose them.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, TimeUnit};
use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, StructType, Type,
};

use crate::catalog::TableDef;
use crate::error::{Error, Result};
use crate::sql::ast::{ColumnDef, ColumnKind, PrimaryKey};
use crate::types::{LogicalType, MAX_LENGTH, RowField, TypeRoot};

/// The Iceberg schema of a table definition. Its field ids are provisional: every catalog assigns its own.
///
/// # Errors
/// Unsupported for columns and types that Iceberg tables cannot have, naming the column.
pub(super) fn to_schema(def: &TableDef) -> Result<Schema> {
    let mut ids = 0;
    let mut columns = Vec::new();
    for (column, ty) in stored_columns(def)? {
        let key = def.primary_key.as_ref().is_some_and(|k| k.columns.contains(&column.name));
        ids += 1;
        columns.push((ids, column, ty, key));
    }
    let mut fields: Vec<NestedFieldRef> = Vec::with_capacity(columns.len());
    for (id, column, ty, key) in columns {
        let iceberg = to_type(&ty.root, &mut ids, &column.name)?;
        let mut field = NestedField::new(id, &column.name, iceberg, key || !ty.nullable);
        if let Some(c) = &column.comment {
            field = field.with_doc(c);
        }
        fields.push(Arc::new(field));
    }
    let identifiers = identifier_ids(def.primary_key.as_ref(), &fields)?;
    Schema::builder()
        .with_fields(fields)
        .with_identifier_field_ids(identifiers)
        .build()
        .map_err(|e| Error::validation(e.message()))
}

/// The columns of a table with their types, if an Iceberg table can hold it.
///
/// # Errors
/// Unsupported for computed and metadata columns and for watermarks.
pub(super) fn stored_columns(def: &TableDef) -> Result<Vec<(&ColumnDef, &LogicalType)>> {
    let mut columns = Vec::with_capacity(def.columns.len());
    for column in &def.columns {
        let ty = match (&column.kind, &column.ty) {
            (ColumnKind::Physical, Some(ty)) => ty,
            (ColumnKind::Physical, None) => {
                return Err(Error::validation(format!("column `{}` has no type", column.name)));
            }
            (ColumnKind::Computed(e), _) => {
                return Err(elsewhere(format!("the computed column `{}`", column.name)).at(e.location));
            }
            (ColumnKind::Metadata { .. }, _) => {
                return Err(elsewhere(format!("the metadata column `{}`", column.name)));
            }
        };
        columns.push((column, ty));
    }
    if columns.is_empty() {
        return Err(Error::validation("an Iceberg table needs at least one column"));
    }
    if let Some(w) = &def.watermark {
        return Err(elsewhere(format!("the watermark of `{}`", w.column)).at(w.expr.location));
    }
    Ok(columns)
}

fn elsewhere(what: String) -> Error {
    Error::unsupported(format!("{what} cannot be stored in an Iceberg table")).hint(
        "create the table with its physical columns only, then \
         CREATE TABLE default_catalog.default_database.t (… AS …, WATERMARK FOR …) LIKE the Iceberg table",
    )
}

/// The ids of the columns of a key.
///
/// # Errors
/// Unsupported for columns that Iceberg does not take into one.
pub(super) fn identifier_ids(key: Option<&PrimaryKey>, fields: &[NestedFieldRef]) -> Result<Vec<i32>> {
    let Some(key) = key else { return Ok(Vec::new()) };
    key.columns
        .iter()
        .map(|name| {
            let field = fields.iter().find(|f| f.name == *name).ok_or_else(|| {
                Error::validation(format!("the PRIMARY KEY column `{name}` is not a column of the table"))
            })?;
            match field.field_type.as_ref() {
                Type::Primitive(PrimitiveType::Float | PrimitiveType::Double) => {
                    Err(Error::unsupported(format!(
                        "the PRIMARY KEY column `{name}` is a floating-point number, which Iceberg does not allow"
                    )))
                }
                Type::Primitive(_) => Ok(field.id),
                _ => Err(Error::unsupported(format!(
                    "the PRIMARY KEY column `{name}` is nested, which Iceberg does not allow"
                ))),
            }
        })
        .collect()
}

/// The Iceberg type of an Arrow field of a sink, its ids provisional.
///
/// # Errors
/// As [`to_schema`].
pub(super) fn to_iceberg(field: &FieldRef) -> Result<Type> {
    to_type(&LogicalType::from_field(field)?.root, &mut 0, field.name())
}

/// The Iceberg type of a SQL type, its ids provisional.
///
/// # Errors
/// As [`to_schema`].
pub(super) fn type_of(ty: &LogicalType, path: &str) -> Result<Type> {
    to_type(&ty.root, &mut 0, path)
}

fn to_type(root: &TypeRoot, ids: &mut i32, path: &str) -> Result<Type> {
    let mut next = || {
        *ids += 1;
        *ids
    };
    Ok(Type::Primitive(match root {
        TypeRoot::Char(_) | TypeRoot::Varchar(_) => PrimitiveType::String,
        TypeRoot::Binary(n) => PrimitiveType::Fixed(u64::from(*n)),
        TypeRoot::Varbinary(_) => PrimitiveType::Binary,
        TypeRoot::Boolean => PrimitiveType::Boolean,
        TypeRoot::TinyInt | TypeRoot::SmallInt | TypeRoot::Int => PrimitiveType::Int,
        TypeRoot::BigInt => PrimitiveType::Long,
        TypeRoot::Float => PrimitiveType::Float,
        TypeRoot::Double => PrimitiveType::Double,
        TypeRoot::Decimal(p, s) => PrimitiveType::Decimal { precision: u32::from(*p), scale: u32::from(*s) },
        TypeRoot::Date => PrimitiveType::Date,
        TypeRoot::Time(_) => PrimitiveType::Time,
        TypeRoot::Timestamp(p) | TypeRoot::TimestampLtz(p) if *p > 6 => return Err(too_fine(path, root)),
        TypeRoot::Timestamp(_) => PrimitiveType::Timestamp,
        TypeRoot::TimestampLtz(_) => PrimitiveType::Timestamptz,
        TypeRoot::Array(t) => {
            let id = next();
            let element = to_type(&t.root, ids, &format!("{path}[]"))?;
            return Ok(Type::List(ListType::new(Arc::new(NestedField::list_element(
                id,
                element,
                !t.nullable,
            )))));
        }
        TypeRoot::Map(k, v) => return map_type(k, v, ids, path),
        TypeRoot::Multiset(t) => return map_type(t, &LogicalType::not_null(TypeRoot::Int), ids, path),
        TypeRoot::Row(fields) => {
            let numbered: Vec<(i32, &RowField)> = fields.iter().map(|f| (next(), f)).collect();
            let nested = numbered
                .into_iter()
                .map(|(id, f)| {
                    let ty = to_type(&f.ty.root, ids, &format!("{path}.{}", f.name))?;
                    let mut field = NestedField::new(id, &f.name, ty, !f.ty.nullable);
                    if let Some(c) = &f.comment {
                        field = field.with_doc(c);
                    }
                    Ok(Arc::new(field))
                })
                .collect::<Result<Vec<_>>>()?;
            return Ok(Type::Struct(StructType::new(nested)));
        }
        TypeRoot::IntervalYearMonth
        | TypeRoot::IntervalDayTime
        | TypeRoot::Variant
        | TypeRoot::Bitmap
        | TypeRoot::Null => {
            return Err(Error::unsupported(format!(
                "column `{path}`: an Iceberg table cannot hold the type {}",
                LogicalType::nullable(root.clone())
            ))
            .hint("CAST it to a number or a STRING"));
        }
    }))
}

/// The error for fraction digits beyond microseconds.
fn too_fine(path: &str, root: &TypeRoot) -> Error {
    let six = match root {
        TypeRoot::TimestampLtz(_) => TypeRoot::TimestampLtz(6),
        _ => TypeRoot::Timestamp(6),
    };
    Error::unsupported(format!(
        "column `{path}`: an Iceberg table holds microseconds and would lose digits of {}",
        LogicalType::nullable(root.clone())
    ))
    .hint(format!("declare it {0}, and write CAST(x AS {0})", LogicalType::nullable(six)))
}

/// Refuses to write nanoseconds into a column of microseconds, also inside of collections and rows.
///
/// # Errors
/// Unsupported, naming the column.
pub(super) fn check_digits(field: &NestedField, ty: &DataType, path: &str) -> Result<()> {
    match (field.field_type.as_ref(), ty) {
        (Type::Primitive(PrimitiveType::Timestamp), DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
            Err(too_fine(path, &TypeRoot::Timestamp(9)))
        }
        (Type::Primitive(PrimitiveType::Timestamptz), DataType::Timestamp(TimeUnit::Nanosecond, _)) => {
            Err(too_fine(path, &TypeRoot::TimestampLtz(9)))
        }
        (Type::Struct(s), DataType::Struct(fields)) => s
            .fields()
            .iter()
            .zip(fields)
            .try_for_each(|(f, own)| check_digits(f, own.data_type(), &format!("{path}.{}", f.name))),
        (Type::List(l), DataType::List(own)) => {
            check_digits(&l.element_field, own.data_type(), &format!("{path}[]"))
        }
        (Type::Map(m), DataType::Map(own, _)) => match own.data_type() {
            DataType::Struct(entries) => {
                [(&m.key_field, "key"), (&m.value_field, "value")].into_iter().zip(entries).try_for_each(
                    |((f, part), own)| check_digits(f, own.data_type(), &format!("{path}{{{part}}}")),
                )
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn map_type(key: &LogicalType, value: &LogicalType, ids: &mut i32, path: &str) -> Result<Type> {
    let (key_id, value_id) = (*ids + 1, *ids + 2);
    *ids += 2;
    let key = to_type(&key.root, ids, &format!("{path}{{key}}"))?;
    let value_type = to_type(&value.root, ids, &format!("{path}{{value}}"))?;
    Ok(Type::Map(MapType::new(
        Arc::new(NestedField::map_key_element(key_id, key)),
        Arc::new(NestedField::map_value_element(value_id, value_type, !value.nullable)),
    )))
}

/// The columns of an Iceberg schema.
///
/// # Errors
/// Unsupported, naming the column.
pub(super) fn to_columns(schema: &Schema) -> Result<Vec<ColumnDef>> {
    schema
        .as_struct()
        .fields()
        .iter()
        .map(|f| {
            Ok(ColumnDef {
                name: f.name.clone(),
                ty: Some(to_logical(f)?),
                kind: ColumnKind::Physical,
                comment: f.doc.clone(),
            })
        })
        .collect()
}

/// The PRIMARY KEY that the identifier fields of a schema stand for.
pub(super) fn to_primary_key(schema: &Schema) -> Option<PrimaryKey> {
    let ids: Vec<i32> = schema.identifier_field_ids().collect();
    let columns: Vec<String> =
        schema.as_struct().fields().iter().filter(|f| ids.contains(&f.id)).map(|f| f.name.clone()).collect();
    // Identifiers inside a struct have no SQL counterpart: then there is no key to speak of.
    (!columns.is_empty() && columns.len() == ids.len()).then_some(PrimaryKey { name: None, columns })
}

pub(super) fn to_logical(field: &NestedField) -> Result<LogicalType> {
    let root = match field.field_type.as_ref() {
        Type::Primitive(p) => match p {
            PrimitiveType::Boolean => TypeRoot::Boolean,
            PrimitiveType::Int => TypeRoot::Int,
            PrimitiveType::Long => TypeRoot::BigInt,
            PrimitiveType::Float => TypeRoot::Float,
            PrimitiveType::Double => TypeRoot::Double,
            PrimitiveType::Decimal { precision, scale } => {
                match (u8::try_from(*precision), u8::try_from(*scale)) {
                    (Ok(p), Ok(s)) if p <= 38 && s <= p => TypeRoot::Decimal(p, s),
                    _ => return Err(no_sql_type(field)),
                }
            }
            PrimitiveType::Date => TypeRoot::Date,
            // Time32(ms) carries it.
            PrimitiveType::Time => TypeRoot::Time(3),
            PrimitiveType::Timestamp => TypeRoot::Timestamp(6),
            PrimitiveType::Timestamptz => TypeRoot::TimestampLtz(6),
            PrimitiveType::TimestampNs => TypeRoot::Timestamp(9),
            PrimitiveType::TimestamptzNs => TypeRoot::TimestampLtz(9),
            PrimitiveType::String => TypeRoot::Varchar(MAX_LENGTH),
            PrimitiveType::Uuid => TypeRoot::Binary(16),
            PrimitiveType::Fixed(n) => match u32::try_from(*n) {
                Ok(n) if n <= MAX_LENGTH => TypeRoot::Binary(n),
                _ => return Err(no_sql_type(field)),
            },
            PrimitiveType::Binary => TypeRoot::Varbinary(MAX_LENGTH),
        },
        Type::Struct(s) => TypeRoot::Row(
            s.fields()
                .iter()
                .map(|f| Ok(RowField { name: f.name.clone(), ty: to_logical(f)?, comment: f.doc.clone() }))
                .collect::<Result<_>>()?,
        ),
        Type::List(l) => TypeRoot::Array(Box::new(to_logical(&l.element_field)?)),
        Type::Map(m) => {
            TypeRoot::Map(Box::new(to_logical(&m.key_field)?), Box::new(to_logical(&m.value_field)?))
        }
    };
    Ok(LogicalType { root, nullable: !field.required })
}

fn no_sql_type(field: &NestedField) -> Error {
    Error::unsupported(format!(
        "column `{}`: the Iceberg type {} has no SQL type",
        field.name, field.field_type
    ))
}
