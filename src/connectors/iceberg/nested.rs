//! Files from before a column or a field inside of a row was added: the crate's reader fills missing columns of a few types
//! only, and no fields of rows.
//!
//! ```text
//!  table's schema ─┬─ without the fields that the file lacks ─► the crate's reader ─► rows without them
//!  ids of the file ┘                                                                     └─► NULLs where they belong
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array};
use arrow::datatypes::DataType;
use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, Schema, SchemaRef, StructType, Type};
use parquet::schema::types::{SchemaDescriptor, Type as ParquetType};

use crate::error::Result;

/// The field ids of a file, at every level; empty for one that has none.
pub(super) fn ids_of(file: &SchemaDescriptor) -> BTreeSet<i32> {
    fn walk(ty: &ParquetType, ids: &mut BTreeSet<i32>) {
        let info = ty.get_basic_info();
        if info.has_id() {
            ids.insert(info.id());
        }
        if ty.is_group() {
            ty.get_fields().iter().for_each(|f| walk(f, ids));
        }
    }
    let mut ids = BTreeSet::new();
    walk(file.root_schema(), &mut ids);
    ids
}

/// Which of the columns `wanted` can be asked for: the crate has NULLs for few types of columns that a file lacks.
pub(super) fn columns_there(schema: &Schema, wanted: &[i32], ids: &BTreeSet<i32>) -> Vec<bool> {
    let is_there = |id: &i32| {
        let has_default = schema.field_by_id(*id).is_none_or(|f| f.initial_default.is_some());
        has_default || ids.is_empty() || ids.contains(id)
    };
    wanted.iter().map(is_there).collect()
}

/// The schema without the fields of rows that a file lacks; `None` if it lacks none.
pub(super) fn without_missing(schema: &SchemaRef, ids: &BTreeSet<i32>) -> Option<SchemaRef> {
    if ids.is_empty() {
        return None;
    }
    let mut changed = false;
    let fields: Vec<NestedFieldRef> =
        schema.as_struct().fields().iter().map(|f| prune(f, ids, &mut changed)).collect();
    if !changed {
        return None;
    }
    let built = Schema::builder()
        .with_schema_id(schema.schema_id())
        .with_fields(fields)
        .with_identifier_field_ids(schema.identifier_field_ids())
        .build();
    built.ok().map(Arc::new)
}

fn prune(field: &NestedFieldRef, ids: &BTreeSet<i32>, changed: &mut bool) -> NestedFieldRef {
    let ty = match field.field_type.as_ref() {
        Type::Primitive(_) => return Arc::clone(field),
        Type::Struct(s) => {
            let kept: Vec<NestedFieldRef> =
                s.fields().iter().filter(|f| ids.contains(&f.id)).map(|f| prune(f, ids, changed)).collect();
            // A row of nothing could not be read, and a column that is missing altogether is the crate's to fill.
            if kept.is_empty() {
                return Arc::clone(field);
            }
            *changed |= kept.len() < s.fields().len();
            Type::Struct(StructType::new(kept))
        }
        Type::List(l) => Type::List(ListType::new(prune(&l.element_field, ids, changed))),
        Type::Map(m) => {
            Type::Map(MapType::new(Arc::clone(&m.key_field), prune(&m.value_field, ids, changed)))
        }
    };
    let NestedField { id, name, required, doc, initial_default, write_default, .. } = field.as_ref().clone();
    let mut pruned = NestedField::new(id, name, ty, required);
    (pruned.doc, pruned.initial_default, pruned.write_default) = (doc, initial_default, write_default);
    Arc::new(pruned)
}

/// An array with NULLs where `target` has fields that it lacks. Fields are found by name: the reader has given them those
/// of the table.
///
/// # Errors
/// From Arrow.
pub(super) fn fill(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    match (array.data_type(), target) {
        (DataType::Struct(have), DataType::Struct(wanted)) => {
            let from = array.as_struct();
            let mut fields = Vec::with_capacity(wanted.len());
            let mut columns = Vec::with_capacity(wanted.len());
            for field in wanted {
                let column = match have.iter().position(|f| f.name() == field.name()) {
                    Some(i) => fill(from.column(i), field.data_type())?,
                    None => new_null_array(field.data_type(), from.len()),
                };
                let has_nulls = column.null_count() > 0;
                let declared = field.as_ref().clone().with_data_type(column.data_type().clone());
                fields.push(declared.with_nullable(field.is_nullable() || has_nulls));
                columns.push(column);
            }
            Ok(Arc::new(StructArray::try_new(fields.into(), columns, from.nulls().cloned())?))
        }
        (DataType::List(item), DataType::List(wanted)) => {
            let from = array.as_list::<i32>();
            let values = fill(from.values(), wanted.data_type())?;
            let item = Arc::new(item.as_ref().clone().with_data_type(values.data_type().clone()));
            Ok(Arc::new(ListArray::try_new(item, from.offsets().clone(), values, from.nulls().cloned())?))
        }
        (DataType::Map(entries, sorted), DataType::Map(wanted, _)) => {
            let from = array.as_map();
            let pairs: ArrayRef = Arc::new(from.entries().clone());
            let pairs = match (pairs.data_type(), wanted.data_type()) {
                // Keys and values have other names in other places.
                (DataType::Struct(have), DataType::Struct(want)) if have.len() == 2 && want.len() == 2 => {
                    let entry = pairs.as_struct();
                    let values = match want.get(1) {
                        Some(value) => fill(entry.column(1), value.data_type())?,
                        None => Arc::clone(entry.column(1)),
                    };
                    let fields: Vec<_> = have
                        .iter()
                        .zip([entry.column(0), &values])
                        .map(|(f, c)| f.as_ref().clone().with_data_type(c.data_type().clone()))
                        .collect();
                    StructArray::try_new(fields.into(), vec![Arc::clone(entry.column(0)), values], None)?
                }
                _ => from.entries().clone(),
            };
            let entries = Arc::new(entries.as_ref().clone().with_data_type(pairs.data_type().clone()));
            let (offsets, nulls) = (from.offsets().clone(), from.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(entries, offsets, pairs, nulls, *sorted)?))
        }
        _ => Ok(Arc::clone(array)),
    }
}
