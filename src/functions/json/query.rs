//! `JSON_VALUE`, `JSON_QUERY`, `JSON_EXISTS` and `IS JSON`. What they do with what a path finds is Flink's:
//!
//! | | error | nothing | scalar | array, object, several |
//! |---|---|---|---|---|
//! | JSON_VALUE | ON ERROR | `lax` ON EMPTY, `strict` ON ERROR | the value | as nothing |
//! | JSON_QUERY | ON ERROR | `lax` ON EMPTY, `strict` ON ERROR | wrapped, or `lax` ON EMPTY, `strict` ON ERROR | JSON, keys in order |
//! | JSON_EXISTS | ON ERROR | FALSE | TRUE | TRUE |
//!
//! All are NULL where the document is, but IS JSON, which is FALSE.
//! JSON_VALUE and JSON_QUERY by a `lax` path are NULL for the document `null`, too, whatever ON EMPTY says.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ScalarUDF;

use super::Paths;
use super::path::{Found, Path};
use super::value::Json;
use crate::error::{Error, Result};
use crate::functions::cast::{Mode, cast_array};
use crate::functions::udf::{Builtin, Call, Nulls, Ret, build_bools, build_prims, build_strings};
use crate::sql::parse_type;
use crate::types::TypeRoot;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let text = || Ret::Type(DataType::Utf8);
    let bool = || Ret::Type(DataType::Boolean);
    vec![
        Builtin::new("json_value", "s s", text(), |c| {
            each(c, |path, document, out| match path.look(document) {
                Found::One(one) if one.is_scalar() => {
                    one.write_scalar(out);
                    Ok(true)
                }
                _ => Ok(false),
            })
        })
        .nulls(Nulls::May),
        Builtin::new("__json_value", "s s s s a s a", Ret::Of(value_type), value).nulls(Nulls::May),
        Builtin::new("json_query", "s s", text(), |c| {
            each(c, |path, document, out| match queried(path, document, Wrapper::Without) {
                Queried::Json(j) => {
                    j.write(out);
                    Ok(true)
                }
                _ => Ok(false),
            })
        })
        .nulls(Nulls::May),
        Builtin::new("__json_query", "s s s s s s", Ret::Of(query_type), query).nulls(Nulls::May),
        Builtin::new("json_exists", "s s", bool(), |c| exists(c, Some(false))).nulls(Nulls::May),
        Builtin::new("__json_exists", "s s s", bool(), |c| match constant(c, 2)? {
            "TRUE" => exists(c, Some(true)),
            "FALSE" => exists(c, Some(false)),
            "UNKNOWN" => exists(c, None),
            _ => {
                let (s, mut paths) = (c.str(0)?, Paths::new(c));
                build_bools(c.rows, |i| {
                    let Some(s) = s.get(i) else { return Ok(None) };
                    let Some(path) = paths.get(i)? else { return Ok(None) };
                    match path.look(Json::parse(s).as_ref()) {
                        Found::Error => Err(no_result("JSON_EXISTS", s)),
                        found => Ok(Some(found != Found::Nothing)),
                    }
                })
            }
        })
        .nulls(Nulls::May),
        Builtin::new("__is_json", "s s", bool(), |c| {
            let (s, kind) = (c.str(0)?, constant(c, 1)?);
            build_bools(c.rows, |i| {
                Ok(Some(s.get(i).and_then(Json::parse).is_some_and(|j| match (kind, j) {
                    ("ARRAY", j) => matches!(j, Json::Array(_)),
                    ("OBJECT", j) => matches!(j, Json::Object(_)),
                    ("SCALAR", j) => j.is_scalar(),
                    _ => true,
                })))
            })
        })
        .nulls(Nulls::Never),
    ]
    .into_iter()
    .map(Builtin::build)
    .collect()
}

/// Text for each row from its path and its document, which is `None` where it is no JSON.
fn each(c: &Call<'_>, f: impl Fn(&Path, Option<&Json>, &mut String) -> Result<bool>) -> Result<ArrayRef> {
    let (s, mut paths) = (c.str(0)?, Paths::new(c));
    build_strings(c.rows, |i, out| {
        let Some(s) = s.get(i) else { return Ok(false) };
        let Some(path) = paths.get(i)? else { return Ok(false) };
        f(path, Json::parse(s).as_ref(), out)
    })
}

fn exists(c: &Call<'_>, on_error: Option<bool>) -> Result<ArrayRef> {
    let (s, mut paths) = (c.str(0)?, Paths::new(c));
    build_bools(c.rows, |i| {
        let Some(s) = s.get(i) else { return Ok(None) };
        let Some(path) = paths.get(i)? else { return Ok(None) };
        Ok(match path.look(Json::parse(s).as_ref()) {
            Found::Error => on_error,
            found => Some(found != Found::Nothing),
        })
    })
}

/// A clause of the call, which the parser wrote.
fn constant<'a>(c: &'a Call<'_>, i: usize) -> Result<&'a str> {
    let s = c.strings(i)?;
    if s.is_empty() || s.is_null(0) { Ok("NULL") } else { Ok(s.value(0)) }
}

fn no_result(name: &str, document: &str) -> Error {
    let shown: String = document.chars().take(100).collect();
    Error::data(format!("{name}: the path leads to no value of the kind that is asked for in '{shown}'"))
        .hint("ON EMPTY and ON ERROR say what to answer instead")
}

/// The type behind RETURNING.
fn returned(constants: &[Option<&ScalarValue>], allowed: &[DataType], name: &str) -> Result<DataType> {
    let text = constants.get(2).copied().flatten().and_then(|v| v.try_as_str().flatten()).unwrap_or("STRING");
    let declared = parse_type(text)?;
    let ty = declared.to_arrow();
    if allowed.contains(&ty) && !matches!(declared.root, TypeRoot::Char(_)) {
        return Ok(ty);
    }
    let names: Vec<String> = allowed.iter().map(crate::types::sql_name).collect();
    Err(Error::validation(format!("{name} does not return {text}"))
        .hint(format!("RETURNING takes {}", names.join(", "))))
}

fn value_type(_: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    use DataType::{Boolean, Float64, Int32, Utf8};
    returned(constants, &[Utf8, Boolean, Int32, Float64], "JSON_VALUE")
}

fn query_type(_: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    returned(constants, &[DataType::Utf8, strings()], "JSON_QUERY")
}

/// `ARRAY<STRING>`.
fn strings() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

/// What JSON_VALUE has found for a row.
enum Cell {
    Null,
    Empty,
    Error,
    Scalar(Json),
}

/// Which of the arrays a row is taken from.
#[derive(Clone, Copy)]
enum From {
    Value = 0,
    OnEmpty = 1,
    OnError = 2,
}

/// `JSON_VALUE(document, path RETURNING 2 [3: kind, 4: value] ON EMPTY [5: kind, 6: value] ON ERROR)`.
fn value(c: &Call<'_>) -> Result<ArrayRef> {
    let (s, mut paths) = (c.str(0)?, Paths::new(c));
    let mut cells = Vec::with_capacity(c.rows);
    for i in 0..c.rows {
        let cell = match (s.get(i), paths.get(i)?) {
            (Some(s), Some(path)) => {
                let document = Json::parse(s);
                match path.look(document.as_ref()) {
                    _ if is_null(path, document.as_ref()) => Cell::Null,
                    Found::Error => Cell::Error,
                    Found::One(one) if one.is_scalar() => Cell::Scalar(one.into_owned()),
                    _ if path.is_lax() => Cell::Empty,
                    _ => Cell::Error,
                }
            }
            _ => Cell::Null,
        };
        cells.push(cell);
    }
    let length = match parse_type(constant(c, 2)?)?.root {
        TypeRoot::Varchar(n) => n as usize,
        _ => usize::MAX,
    };
    let values = typed(&mut cells, c.return_type, length)?;
    let mode = Mode { lenient: false, zone: chrono_tz::Tz::UTC };
    let default = |i: usize| -> Result<ArrayRef> {
        let value = c.full(i)?;
        match (value.as_boolean_opt(), c.return_type) {
            // As JSON has them, and not as CAST does.
            (Some(b), DataType::Utf8) => {
                let texts = b.iter().map(|b| b.map(|b| if b { "true" } else { "false" }));
                Ok(Arc::new(texts.collect::<StringArray>()))
            }
            _ => cast_array(&value, c.return_type, mode),
        }
    };
    let (on_empty, on_error) = (default(4)?, default(6)?);
    let (refuse_empty, refuse_error) = (constant(c, 3)? == "ERROR", constant(c, 5)? == "ERROR");
    let mut from = Vec::with_capacity(c.rows);
    for (i, cell) in cells.iter().enumerate() {
        let array = match cell {
            Cell::Null | Cell::Scalar(_) => From::Value,
            Cell::Empty if refuse_empty => return Err(no_result("JSON_VALUE", s.get(i).unwrap_or(""))),
            Cell::Error if refuse_error => return Err(no_result("JSON_VALUE", s.get(i).unwrap_or(""))),
            Cell::Empty => From::OnEmpty,
            Cell::Error => From::OnError,
        };
        from.push((array as usize, i));
    }
    Ok(arrow::compute::interleave(&[values.as_ref(), on_empty.as_ref(), on_error.as_ref()], &from)?)
}

/// The scalars as a column, texts cut to a length; those that do not have its type become errors.
fn typed(cells: &mut [Cell], to: &DataType, length: usize) -> Result<ArrayRef> {
    fn convert<T>(cell: &mut Cell, f: impl Fn(&Json) -> Option<T>) -> Option<T> {
        let Cell::Scalar(j) = cell else { return None };
        let value = f(j);
        if value.is_none() {
            *cell = Cell::Error;
        }
        value
    }
    let rows = cells.len();
    match to {
        DataType::Boolean => build_bools(rows, |i| Ok(cells.get_mut(i).and_then(|c| convert(c, boolean)))),
        DataType::Int32 => {
            build_prims::<Int32Type>(rows, |i| Ok(cells.get_mut(i).and_then(|c| convert(c, integer))))
        }
        DataType::Float64 => {
            build_prims::<Float64Type>(rows, |i| Ok(cells.get_mut(i).and_then(|c| convert(c, double))))
        }
        _ => build_strings(rows, |i, out| match cells.get(i) {
            Some(Cell::Scalar(j)) => {
                let from = out.len();
                j.write_scalar(out);
                let cut = out.get(from..).and_then(|s| s.char_indices().nth(length));
                if let Some((at, _)) = cut {
                    out.truncate(from + at);
                }
                Ok(true)
            }
            _ => Ok(false),
        }),
    }
}

fn boolean(j: &Json) -> Option<bool> {
    match j {
        Json::Bool(b) => Some(*b),
        _ => None,
    }
}

fn integer(j: &Json) -> Option<i32> {
    match j {
        Json::Number(n) => n.parse().ok(),
        _ => None,
    }
}

fn double(j: &Json) -> Option<f64> {
    match j {
        Json::Number(n) => n.parse().ok(),
        _ => None,
    }
}

/// How JSON_QUERY puts an array around its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrapper {
    Without,
    Conditional,
    Unconditional,
}

/// What JSON_QUERY has found.
enum Queried<'j> {
    Empty,
    Error,
    Json(Cow<'j, Json>),
}

/// Whether there is no document to look into: `null` is, for a path that is lax, as good as NULL.
fn is_null(path: &Path, document: Option<&Json>) -> bool {
    path.is_lax() && document == Some(&Json::Null)
}

fn queried<'j>(path: &Path, document: Option<&'j Json>, wrapper: Wrapper) -> Queried<'j> {
    let owned = |many: Vec<Cow<'j, Json>>| Json::Array(many.into_iter().map(Cow::into_owned).collect());
    let found = match path.look(document) {
        Found::Error => return Queried::Error,
        Found::Nothing if path.is_lax() => return Queried::Empty,
        Found::Nothing => return Queried::Error,
        Found::One(one) => one,
        Found::Many(many) => Cow::Owned(owned(many)),
    };
    let wrap = match wrapper {
        Wrapper::Without => false,
        Wrapper::Conditional => !matches!(*found, Json::Array(_)),
        Wrapper::Unconditional => true,
    };
    if wrap {
        return Queried::Json(Cow::Owned(Json::Array(vec![found.into_owned()])));
    }
    match found.is_scalar() {
        true if path.is_lax() => Queried::Empty,
        true => Queried::Error,
        false => Queried::Json(found),
    }
}

/// `JSON_QUERY(document, path RETURNING 2, 3: wrapper, 4: ON EMPTY, 5: ON ERROR)`.
fn query(c: &Call<'_>) -> Result<ArrayRef> {
    let wrapper = match constant(c, 3)? {
        "CONDITIONAL" => Wrapper::Conditional,
        "UNCONDITIONAL" => Wrapper::Unconditional,
        _ => Wrapper::Without,
    };
    let (on_empty, on_error) = (constant(c, 4)?, constant(c, 5)?);
    let (array, object) = (Json::Array(Vec::new()), Json::Object(Vec::new()));
    let answer = |kind: &str, document: &str| match kind {
        "EMPTY ARRAY" => Ok(Some(&array)),
        "EMPTY OBJECT" => Ok(Some(&object)),
        "ERROR" => Err(no_result("JSON_QUERY", document)),
        _ => Ok(None),
    };
    let (s, mut paths) = (c.str(0)?, Paths::new(c));
    if *c.return_type == DataType::Utf8 {
        return build_strings(c.rows, |i, out| {
            let (Some(s), Some(path)) = (s.get(i), paths.get(i)?) else { return Ok(false) };
            let document = Json::parse(s);
            if is_null(path, document.as_ref()) {
                return Ok(false);
            }
            let kind = match queried(path, document.as_ref(), wrapper) {
                Queried::Json(j) => {
                    j.write(out);
                    return Ok(true);
                }
                Queried::Empty => on_empty,
                Queried::Error => on_error,
            };
            Ok(answer(kind, s)?.map(|j| j.write(out)).is_some())
        });
    }
    let mut out = ListBuilder::new(StringBuilder::new());
    for i in 0..c.rows {
        let (Some(s), Some(path)) = (s.get(i), paths.get(i)?) else {
            out.append_null();
            continue;
        };
        let document = Json::parse(s);
        if is_null(path, document.as_ref()) {
            out.append_null();
            continue;
        }
        let chosen = match queried(path, document.as_ref(), wrapper) {
            Queried::Json(j) if matches!(*j, Json::Array(_)) => Some(j),
            Queried::Empty => answer(on_empty, s)?.map(Cow::Borrowed),
            Queried::Json(_) | Queried::Error => answer(on_error, s)?.map(Cow::Borrowed),
        };
        let Some(Json::Array(items)) = chosen.as_deref() else {
            out.append_null();
            continue;
        };
        for item in items {
            if *item == Json::Null {
                out.values().append_null();
            } else {
                let mut text = String::new();
                item.write_scalar(&mut text);
                out.values().append_value(text);
            }
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}
