//! Values of columns as values of JavaScript, and back.
//!
//! | SQL | JavaScript | back |
//! |---|---|---|
//! | BOOLEAN | boolean | boolean |
//! | TINYINT, SMALLINT, INT | number | number or BigInt, whole and in range |
//! | BIGINT | BigInt, or a number by the option 'bigint' | BigInt, or a number that is whole and safe |
//! | FLOAT, DOUBLE | number | number or BigInt |
//! | STRING | string | string |
//! | DECIMAL, DATE, TIME, TIMESTAMP | string | string; for DECIMAL also number and BigInt |
//! | BYTES | Uint8Array | Uint8Array |
//! | ARRAY | array | array or anything iterable |
//! | MAP | object, or Map if its keys are no strings | object or Map |
//! | ROW | object | object, or array by position |
//! | NULL | null | null or undefined |

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, StringArray,
    StructArray,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use rquickjs::function::Function;
use rquickjs::object::Property;
use rquickjs::{Array as JsArray, Coerced, Ctx, Object, TypedArray, Value};

use crate::error::{Error, Result};
use crate::functions::room::append;
use crate::functions::user::values::{Builder, Kind};
use crate::types::sql_name;

/// What goes wrong with a value.
pub(super) enum Failed {
    /// An exception, or no memory.
    Script(rquickjs::Error),
    /// A value that is none of the type.
    Value(Error),
    /// An argument that the script cannot take.
    Argument(Error),
}

impl From<rquickjs::Error> for Failed {
    fn from(e: rquickjs::Error) -> Self {
        Failed::Script(e)
    }
}

impl From<Error> for Failed {
    fn from(e: Error) -> Self {
        Failed::Value(e)
    }
}

/// A column that gives values, its type known once for all rows.
pub(super) enum Column<'a> {
    Null,
    Bool(&'a BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    /// BIGINT as a number.
    Whole(&'a PrimitiveArray<Int64Type>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    List(&'a ListArray, Box<Column<'a>>),
    Map(&'a MapArray, Box<Column<'a>>, Box<Column<'a>>),
    Row(&'a StructArray, Vec<(&'a str, Column<'a>)>),
}

impl<'a> Column<'a> {
    /// BIGINT gives numbers if `numbers` holds.
    ///
    /// # Errors
    /// Internal for types that are not those of the wire.
    pub(super) fn of(a: &'a ArrayRef, numbers: bool) -> Result<Self> {
        Ok(match a.data_type() {
            DataType::Null => Column::Null,
            DataType::Boolean => Column::Bool(a.as_boolean()),
            DataType::Int8 => Column::Int8(a.as_primitive()),
            DataType::Int16 => Column::Int16(a.as_primitive()),
            DataType::Int32 => Column::Int32(a.as_primitive()),
            DataType::Int64 if numbers => Column::Whole(a.as_primitive()),
            DataType::Int64 => Column::Int64(a.as_primitive()),
            DataType::Float32 => Column::Float32(a.as_primitive()),
            DataType::Float64 => Column::Float64(a.as_primitive()),
            DataType::Utf8 => Column::Text(a.as_string()),
            DataType::Binary => Column::Bytes(a.as_binary()),
            DataType::List(_) => {
                let l = a.as_list();
                Column::List(l, Box::new(Column::of(l.values(), numbers)?))
            }
            DataType::Map(..) => {
                let m = a.as_map();
                let (keys, values) = (Column::of(m.keys(), numbers)?, Column::of(m.values(), numbers)?);
                Column::Map(m, Box::new(keys), Box::new(values))
            }
            DataType::Struct(fields) => {
                let s = a.as_struct();
                let columns = s.columns().iter().zip(fields);
                Column::Row(
                    s,
                    columns
                        .map(|(c, f)| Ok((f.name().as_str(), Column::of(c, numbers)?)))
                        .collect::<Result<_>>()?,
                )
            }
            other => return Err(Error::internal(format!("{other} as an argument of a script"))),
        })
    }

    /// The value of a row.
    ///
    /// # Errors
    /// Exceptions; a BIGINT that is no number of JavaScript's.
    pub(super) fn value<'js>(&self, ctx: &Ctx<'js>, row: usize) -> Result<Value<'js>, Failed> {
        fn get<T: ArrowPrimitiveType>(a: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
            a.is_valid(row).then(|| a.value(row))
        }
        let int = |v: Option<i32>| v.map(|v| Value::new_int(ctx.clone(), v));
        let float = |v: Option<f64>| v.map(|v| Value::new_float(ctx.clone(), v));
        let value = match self {
            Column::Null => None,
            Column::Bool(a) => a.is_valid(row).then(|| Value::new_bool(ctx.clone(), a.value(row))),
            Column::Int8(a) => int(get(a, row).map(i32::from)),
            Column::Int16(a) => int(get(a, row).map(i32::from)),
            Column::Int32(a) => int(get(a, row)),
            Column::Int64(a) => match get(a, row) {
                Some(v) => Some(Value::new_big_int(ctx.clone(), v)?),
                None => None,
            },
            Column::Whole(a) => get(a, row).map(|v| safe(ctx, v)).transpose()?,
            Column::Float32(a) => float(get(a, row).map(f64::from)),
            Column::Float64(a) => float(get(a, row)),
            Column::Text(a) if a.is_valid(row) => {
                Some(rquickjs::String::from_str(ctx.clone(), a.value(row))?.into_value())
            }
            Column::Bytes(a) if a.is_valid(row) => {
                Some(TypedArray::<u8>::new_copy(ctx.clone(), a.value(row))?.into_value())
            }
            Column::List(a, items) if a.is_valid(row) => {
                let array = JsArray::new(ctx.clone())?;
                for (i, k) in range(a.value_offsets(), row).enumerate() {
                    array.set(i, items.value(ctx, k)?)?;
                }
                Some(array.into_value())
            }
            Column::Map(a, keys, values) if a.is_valid(row) => {
                Some(map(ctx, range(a.value_offsets(), row), keys, values)?)
            }
            Column::Row(a, fields) if a.is_valid(row) => {
                let object = Object::new(ctx.clone())?;
                for (name, column) in fields {
                    define(&object, name, column.value(ctx, row)?)?;
                }
                Some(object.into_value())
            }
            Column::Text(_) | Column::Bytes(_) | Column::List(..) | Column::Map(..) | Column::Row(..) => None,
        };
        Ok(value.unwrap_or_else(|| Value::new_null(ctx.clone())))
    }
}

/// The largest whole number of which every smaller one is a number of JavaScript's, too: `Number.MAX_SAFE_INTEGER`.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// A BIGINT as a number.
fn safe<'js>(ctx: &Ctx<'js>, v: i64) -> Result<Value<'js>, Failed> {
    if v.unsigned_abs() > MAX_SAFE {
        return Err(Failed::Argument(
            Error::data(format!("the BIGINT {v} is no number of JavaScript's"))
                .hint("leave the option 'bigint' = 'number' out: BIGINT comes as BigInt then"),
        ));
    }
    Ok(match i32::try_from(v) {
        Ok(small) => Value::new_int(ctx.clone(), small),
        Err(_) => Value::new_float(ctx.clone(), v as f64),
    })
}

fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    let at = |i: usize| offsets.get(i).copied().unwrap_or(0) as usize;
    at(row)..at(row + 1)
}

/// A property whatever its name: `__proto__` would be a setter.
fn define<'js>(object: &Object<'js>, name: &str, value: Value<'js>) -> rquickjs::Result<()> {
    if name == "__proto__" {
        return object.prop(name, Property::from(value).writable().enumerable().configurable());
    }
    object.set(name, value)
}

fn map<'js>(
    ctx: &Ctx<'js>,
    entries: std::ops::Range<usize>,
    keys: &Column<'_>,
    values: &Column<'_>,
) -> Result<Value<'js>, Failed> {
    if let Column::Text(names) = keys {
        let object = Object::new(ctx.clone())?;
        for k in entries {
            define(&object, names.value(k), values.value(ctx, k)?)?;
        }
        return Ok(object.into_value());
    }
    let map: Object<'js> = ctx.eval("new Map()")?;
    let set: Function<'js> = map.get("set")?;
    for k in entries {
        let pair = (rquickjs::function::This(map.clone()), keys.value(ctx, k)?, values.value(ctx, k)?);
        let () = set.call::<_, Value<'js>>(pair).map(drop)?;
    }
    Ok(map.into_value())
}

/// Functions of the prelude that reading values needs.
pub(super) struct Helpers<'js> {
    pub(super) rows: Function<'js>,
    pub(super) fits: Function<'js>,
    pub(super) latin: Function<'js>,
    pub(super) entries: Function<'js>,
}

/// A value as a short text, for messages.
fn shown(value: &Value<'_>) -> String {
    let text = match value.get::<Coerced<std::string::String>>() {
        Ok(Coerced(text)) => text,
        Err(_) => {
            // What could not be shown is no failure of its own.
            let _ = value.ctx().catch();
            return format!("a {}", value.type_name());
        }
    };
    let short: std::string::String = text.chars().take(60).collect();
    let cut = if short.len() < text.len() { "…" } else { "" };
    if value.is_string() {
        format!("'{short}{cut}'")
    } else {
        format!("{short}{cut} (a {})", value.type_name())
    }
}

/// Takes a value into a column.
///
/// # Errors
/// Data for values that are none of the type; exceptions of getters and iterators.
pub(super) fn push<'js>(
    out: &mut Builder,
    value: &Value<'js>,
    ty: &DataType,
    with: &Helpers<'js>,
) -> Result<(), Failed> {
    if value.is_null() || value.is_undefined() {
        return Ok(out.null()?);
    }
    let wrong = |hint: &str| {
        let e = Error::data(format!("{} is no {}", shown(value), sql_name(ty)));
        Failed::Value(if hint.is_empty() { e } else { e.hint(hint.to_owned()) })
    };
    match &mut out.kind {
        Kind::Bool(b) => b.append_value(value.as_bool().ok_or_else(|| wrong("write !!x"))?),
        Kind::Int8(b) => b.append_value(whole(value, with)?.ok_or_else(|| wrong(""))?),
        Kind::Int16(b) => b.append_value(whole(value, with)?.ok_or_else(|| wrong(""))?),
        Kind::Int32(b) => b.append_value(whole(value, with)?.ok_or_else(|| wrong("write Math.trunc(x)"))?),
        Kind::Int64(b) => {
            b.append_value(whole(value, with)?.ok_or_else(|| wrong("write BigInt(x) for large numbers"))?)
        }
        Kind::Float32(b) => b.append_value(number(value)?.ok_or_else(|| wrong("write Number(x)"))? as f32),
        Kind::Float64(b) => b.append_value(number(value)?.ok_or_else(|| wrong("write Number(x)"))?),
        Kind::Text(b) => {
            // A number is a text only on the way to a DECIMAL, which the caller knows by the type.
            let text = match value.as_string() {
                Some(text) => text.to_string(),
                None if value.is_number() || value.is_big_int() => {
                    value.get::<Coerced<std::string::String>>().map(|c| c.0)
                }
                None => return Err(wrong("write String(x)")),
            };
            match text {
                Ok(text) => append(b, text)?,
                Err(rquickjs::Error::Utf8(_)) => {
                    return Err(Failed::Value(Error::data(
                        "a text with half of a surrogate pair is no STRING",
                    )));
                }
                Err(e) => return Err(e.into()),
            }
        }
        Kind::Bytes(b) => {
            let bytes = value.as_object().is_some_and(|o| o.is_typed_array::<u8>());
            if !bytes {
                return Err(wrong("write new Uint8Array([…])"));
            }
            let latin: std::string::String = with.latin.call((value.clone(),))?;
            let bytes: Vec<u8> = latin.chars().map(|c| c as u8).collect();
            append(b, bytes)?;
        }
        Kind::List(b) => {
            let DataType::List(item) = ty else { return Err(wrong("")) };
            let items: JsArray<'js> = match value.as_array() {
                Some(array) => array.clone(),
                None if value.is_object() => with.rows.call((value.clone(),))?,
                None => return Err(wrong("")),
            };
            for i in 0..items.len() {
                push(&mut b.item, &items.get(i)?, item.data_type(), with)?;
            }
            b.end(true)?;
        }
        Kind::Map(b, _) => {
            let DataType::Map(entries, _) = ty else { return Err(wrong("")) };
            if !value.is_object() || value.is_array() {
                return Err(wrong("an object or a Map is one"));
            }
            let pairs: JsArray<'js> = with.entries.call((value.clone(),))?;
            for i in 0..pairs.len() {
                push(&mut b.item, &pairs.get(i)?, entries.data_type(), with)?;
            }
            b.end(true)?;
        }
        Kind::Row(b) => {
            let Some(object) = value.as_object() else {
                return Err(wrong("an object with its fields is one"));
            };
            let array = value.as_array();
            if array.is_some_and(|a| a.len() != b.fields.len()) {
                return Err(wrong("an array has a value for each field"));
            }
            for (i, field) in b.fields.iter().enumerate() {
                let part: Value<'js> = match array {
                    Some(array) => array.get(i)?,
                    None => object.get(field.name().as_str())?,
                };
                if part.is_undefined() {
                    return Err(Failed::Value(
                        Error::data(format!("the row {} has no field {}", shown(value), field.name()))
                            .hint("a field without a value is null"),
                    ));
                }
                if let Some(column) = b.columns.get_mut(i) {
                    push(column, &part, field.data_type(), with)?;
                }
            }
            b.end(true);
        }
    }
    Ok(())
}

fn number(value: &Value<'_>) -> Result<Option<f64>, Failed> {
    if value.is_big_int() {
        return Ok(value.get::<Coerced<f64>>().map(|n| Some(n.0))?);
    }
    Ok(value.as_number())
}

/// A whole number in range.
fn whole<'js, T: TryFrom<i64>>(value: &Value<'js>, with: &Helpers<'js>) -> Result<Option<T>, Failed> {
    if let Some(v) = value.as_int() {
        return Ok(T::try_from(i64::from(v)).ok());
    }
    if let Some(v) = value.as_float() {
        let safe = v.fract() == 0.0 && v.abs() <= 9_007_199_254_740_991.0;
        return Ok(if safe { T::try_from(v as i64).ok() } else { None });
    }
    let Some(big) = value.as_big_int() else { return Ok(None) };
    let fits: bool = with.fits.call((value.clone(),))?;
    Ok(if fits { T::try_from(big.clone().to_i64()?).ok() } else { None })
}
