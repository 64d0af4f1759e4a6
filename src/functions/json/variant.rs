//! VARIANT: a JSON value with types of its own. `PARSE_JSON`, `TRY_PARSE_JSON`, `v['key']`, `v[1]`, casts from it.
//!
//! A VARIANT is the compact JSON text of its value in a struct of one field ([`crate::types::variant_type`]), with the
//! keys of objects in order: equal values are equal texts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StructArray};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::logical_expr::ScalarUDF;

use super::value::{Bad, Json};
use crate::error::{Error, Result};
use crate::functions::cast::{Mode, cast_array};
use crate::functions::udf::{Builtin, Call, Nulls, Ret, build_strings};
use crate::types::{is_variant, sql_name, variant_type};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let variant = || Ret::Type(variant_type());
    vec![
        Builtin::new("parse_json", "s b?", variant(), |c| parse(c, false)).build(),
        Builtin::new("try_parse_json", "s b?", variant(), |c| parse(c, true)).nulls(Nulls::May).build(),
    ]
}

/// Texts as VARIANTs.
fn of_texts(texts: ArrayRef) -> Result<ArrayRef> {
    let DataType::Struct(fields) = variant_type() else {
        return Err(Error::internal("a VARIANT is a struct"));
    };
    let nulls = texts.nulls().cloned();
    Ok(Arc::new(StructArray::try_new(fields, vec![texts], nulls)?))
}

/// The texts of VARIANTs.
pub(crate) fn texts(a: &dyn Array) -> &StringArray {
    a.as_struct().column(0).as_string::<i32>()
}

/// The text of the VARIANT that a JSON text is; of keys that stand twice the last counts.
pub(crate) fn of_json(text: &str) -> Option<String> {
    let json = Json::read(text, true).ok()?;
    let mut out = String::with_capacity(text.len());
    json.into_variant().write_variant(&mut out);
    Some(out)
}

fn parse(c: &Call<'_>, lenient: bool) -> Result<ArrayRef> {
    let s = c.str(0)?;
    let repeated = if c.has(1) { Some(c.bool(1)?) } else { None };
    let texts = build_strings(c.rows, |i, out| {
        let Some(s) = s.get(i) else { return Ok(false) };
        let Some(repeated) = repeated.as_ref().map_or(Some(false), |r| r.get(i)) else { return Ok(false) };
        match Json::read(s, repeated) {
            Ok(j) => {
                j.into_variant().write_variant(out);
                Ok(true)
            }
            Err(_) if lenient => Ok(false),
            Err(Bad::Twice(key)) => {
                Err(Error::data(format!("PARSE_JSON: the key '{key}' is twice in an object"))
                    .hint("PARSE_JSON(s, TRUE) takes the last of them, TRY_PARSE_JSON gives NULL"))
            }
            Err(Bad::Syntax(at)) => {
                let shown: String = s.chars().take(100).collect();
                Err(Error::data(format!("PARSE_JSON: '{shown}' is no JSON from byte {at} on"))
                    .hint("TRY_PARSE_JSON gives NULL instead"))
            }
        }
    })?;
    of_texts(texts)
}

/// `v['key']` and `v[1]`. A member that is `null` is a VARIANT; one that is missing is NULL.
pub(crate) fn item(c: &Call<'_>) -> Result<ArrayRef> {
    let values = c.full(0)?;
    let texts = texts(&values);
    let by_key = *c.ty(1) == DataType::Utf8;
    let keys = if by_key { Some(c.str(1)?) } else { None };
    let indexes = if by_key { None } else { Some(c.prim::<Int32Type>(1)?) };
    let found = build_strings(c.rows, |i, out| {
        if values.is_null(i) {
            return Ok(false);
        }
        let Some(j) = Json::parse(texts.value(i)) else { return Ok(false) };
        let part = match (&j, &keys, &indexes) {
            (Json::Object(fields), Some(keys), _) => {
                let Some(key) = keys.get(i) else { return Ok(false) };
                fields.iter().find(|(k, _)| k == key).map(|(_, v)| v)
            }
            (Json::Array(items), _, Some(indexes)) => {
                let at = indexes.get(i).and_then(|x| usize::try_from(x).ok());
                at.and_then(|at| items.get(at.checked_sub(1)?))
            }
            _ => {
                let (what, has) = if by_key { ("object", "members") } else { ("array", "elements") };
                let shown: String = texts.value(i).chars().take(100).collect();
                return Err(Error::data(format!("the VARIANT {shown} is no {what} and has no {has}")));
            }
        };
        Ok(part.map(|j| j.write_variant(out)).is_some())
    })?;
    of_texts(found)
}

/// VARIANTs as values of a type.
///
/// # Errors
/// Values of another kind, unless lenient.
pub(crate) fn cast(a: &ArrayRef, to: &DataType, mode: Mode) -> Result<ArrayRef> {
    let texts = texts(a);
    let kind = Kind::of(to).ok_or_else(|| {
        Error::validation(format!("cannot cast VARIANT to {}", sql_name(to)))
            .hint("JSON_STRING(v) gives the text of a VARIANT")
    })?;
    let scalars = build_strings(a.len(), |i, out| {
        if a.is_null(i) {
            return Ok(false);
        }
        let text = texts.value(i);
        match (kind, Json::parse(text)) {
            (_, Some(Json::Null)) => return Ok(false),
            (Kind::Text, Some(Json::Text(s))) => out.push_str(&s),
            (Kind::Number, Some(Json::Number(n))) => out.push_str(&n),
            (Kind::Bool, Some(Json::Bool(b))) => out.push_str(if b { "true" } else { "false" }),
            _ if mode.lenient => return Ok(false),
            _ => {
                let shown: String = text.chars().take(100).collect();
                return Err(Error::data(format!("CAST: the VARIANT {shown} is no {}", sql_name(to)))
                    .hint("TRY_CAST gives NULL instead"));
            }
        }
        Ok(true)
    })?;
    if kind == Kind::Number {
        // Numbers are cast as numbers: they wrap, saturate and lose their fraction.
        let whole = scalars.as_string::<i32>().iter().flatten().all(|n| n.parse::<i64>().is_ok());
        let number = if whole { DataType::Int64 } else { DataType::Float64 };
        let wide = match to {
            DataType::Decimal128(..) => return cast_array(&scalars, to, mode),
            _ => number,
        };
        return cast_array(&cast_array(&scalars, &wide, mode)?, to, mode);
    }
    cast_array(&scalars, to, mode)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Bool,
}

impl Kind {
    fn of(to: &DataType) -> Option<Kind> {
        Some(match to {
            DataType::Utf8 | DataType::Binary | DataType::Date32 | DataType::Timestamp(..) => Kind::Text,
            DataType::Boolean => Kind::Bool,
            t if t.is_numeric() => Kind::Number,
            _ => return None,
        })
    }
}

/// Whether a cast is one of VARIANT.
pub(crate) fn is_cast(from: &DataType, to: &DataType) -> bool {
    is_variant(from) && !is_variant(to)
}
