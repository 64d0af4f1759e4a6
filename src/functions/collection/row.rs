//! Fields of rows: `x.f` behind something that is no column, and structured values, `OBJECT_OF('class', 'f', v, …)`.
//!
//! A structured value is a row whose fields have the names that it was made with; its class is a name and nothing more.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ScalarUDF;

use crate::error::{Error, Result};
use crate::functions::udf::{Builtin, Call, Nulls, Ret};
use crate::sql::nearest_name;
use crate::types::{is_bitmap, is_variant, sql_name};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Builtin::new("__field", "a s", Ret::Of(field_type), |c| {
            let row = c.full(0)?;
            let at = find(row.data_type(), c.str(1)?.get(0))?;
            let row = row.as_struct();
            let nulls = NullBuffer::union(row.nulls(), row.column(at).nulls());
            let data = row.column(at).to_data().into_builder().nulls(nulls).build()?;
            Ok(arrow::array::make_array(data))
        })
        .nulls(Nulls::May),
        Builtin::new("object_of", "s a*", Ret::Of(object_type), |c| {
            let DataType::Struct(fields) = c.return_type else {
                return Err(Error::internal("OBJECT_OF makes a row"));
            };
            let values = (2..c.len()).step_by(2).map(|i| c.full(i)).collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), values, None, c.rows)?))
        })
        .nulls(Nulls::Never),
        Builtin::new("object_update", "a a*", Ret::Of(update_type), update),
    ]
    .into_iter()
    .map(Builtin::build)
    .collect()
}

/// The position of a field.
fn find(row: &DataType, name: Option<&str>) -> Result<usize> {
    let fields = match row {
        DataType::Struct(fields) if !is_variant(row) && !is_bitmap(row) => fields,
        other => {
            let e = Error::validation(format!("{} has no fields", sql_name(other)));
            return Err(if is_variant(other) { e.hint("a VARIANT has members: v['name']") } else { e });
        }
    };
    let name = name.unwrap_or("");
    fields.iter().position(|f| f.name() == name).ok_or_else(|| {
        let names = || fields.iter().map(|f| f.name().as_str());
        let e = Error::validation(format!("there is no field '{name}' in {}", sql_name(row)));
        match nearest_name(name, names()) {
            Some(near) => e.hint(format!("did you mean {near}?")),
            None => e.hint(format!("it has {}", names().collect::<Vec<_>>().join(", "))),
        }
    })
}

/// The text of a constant argument.
fn text<'a>(constants: &[Option<&'a ScalarValue>], i: usize) -> Option<&'a str> {
    constants.get(i).copied().flatten().and_then(|v| v.try_as_str().flatten())
}

fn field_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let row = types.first().unwrap_or(&DataType::Null);
    let Some(name) = text(constants, 1) else { return Ok(DataType::Null) };
    let at = find(row, Some(name))?;
    Ok(match row {
        DataType::Struct(fields) => fields.get(at).map_or(DataType::Null, |f| f.data_type().clone()),
        _ => DataType::Null,
    })
}

fn object_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    if types.len().is_multiple_of(2) {
        return Err(Error::validation("OBJECT_OF takes a class and pairs of names and values")
            .hint("write OBJECT_OF('class', 'name', value, …)"));
    }
    let mut fields: Vec<Field> = Vec::with_capacity(types.len() / 2);
    for (i, ty) in types.iter().enumerate().skip(2).step_by(2) {
        let name = text(constants, i - 1).ok_or_else(|| {
            Error::validation("the name of a field in OBJECT_OF has to be a string literal")
        })?;
        if fields.iter().any(|f| f.name() == name) {
            return Err(Error::validation(format!("the field '{name}' is twice in OBJECT_OF")));
        }
        fields.push(Field::new(name, ty.clone(), true));
    }
    Ok(DataType::Struct(Fields::from(fields)))
}

/// The places of the fields that change.
fn places(row: &DataType, names: impl Iterator<Item = Option<String>>) -> Result<Vec<usize>> {
    let mut places = Vec::new();
    for name in names {
        let name = name.ok_or_else(|| {
            Error::validation("the name of a field in OBJECT_UPDATE has to be a string literal")
        })?;
        let at = find(row, Some(&name))?;
        if places.contains(&at) {
            return Err(Error::validation(format!("the field '{name}' is twice in OBJECT_UPDATE")));
        }
        places.push(at);
    }
    Ok(places)
}

fn update_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let (Some(row), true) = (types.first(), !types.len().is_multiple_of(2) && types.len() > 1) else {
        return Err(Error::validation("OBJECT_UPDATE takes an object and pairs of names and values")
            .hint("write OBJECT_UPDATE(object, 'name', value, …)"));
    };
    let names = (1..types.len()).step_by(2).map(|i| text(constants, i).map(str::to_owned));
    let places = places(row, names)?;
    let DataType::Struct(fields) = row else { return Ok(row.clone()) };
    let changed = |at: usize| places.iter().position(|p| *p == at).and_then(|n| types.get(2 * n + 2));
    Ok(DataType::Struct(
        fields
            .iter()
            .enumerate()
            .map(|(at, f)| match changed(at) {
                Some(ty) => Field::new(f.name(), ty.clone(), true),
                None => f.as_ref().clone(),
            })
            .collect(),
    ))
}

fn update(c: &Call<'_>) -> Result<ArrayRef> {
    let row = c.full(0)?;
    let names = (1..c.len()).step_by(2).map(|i| Ok(c.str(i)?.get(0).map(str::to_owned)));
    let names: Vec<Option<String>> = names.collect::<Result<_>>()?;
    let places = places(row.data_type(), names.into_iter())?;
    let DataType::Struct(fields) = c.return_type else {
        return Err(Error::internal("OBJECT_UPDATE gives a row"));
    };
    let row = row.as_struct();
    let columns = (0..row.num_columns())
        .map(|at| match places.iter().position(|p| *p == at) {
            Some(n) => c.full(2 * n + 2),
            None => Ok(Arc::clone(row.column(at))),
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, row.nulls().cloned(), c.rows)?))
}
