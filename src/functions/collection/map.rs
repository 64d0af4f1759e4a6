//! Functions over maps, `MAP[…]`, and subscripts of arrays and maps.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, MapArray, MapBuilder, MapFieldNames, StringBuilder, StructArray,
    UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ScalarUDF;
use regex::Regex;

use super::array::{list, range, subscript};
use super::{common, element, list_of, pick, rows_of, rows_of_two};
use crate::error::{Error, Result};
use crate::functions::json::variant;
use crate::functions::room::{check_column, check_room};
use crate::functions::udf::{Builtin, Call, Nulls, Ret};
use crate::types::is_variant;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Builtin::new("map_keys", "M", Ret::Of(|t, _| Ok(list_of(entry(t.first())?.0))), |c| part(c, 0)),
        Builtin::new("map_values", "M", Ret::Of(|t, _| Ok(list_of(entry(t.first())?.1))), |c| part(c, 1)),
        Builtin::new(
            "map_entries",
            "M",
            Ret::Of(|t, _| {
                let (k, v) = entry(t.first())?;
                Ok(list_of(DataType::Struct(entry_fields(k, v))))
            }),
            entries,
        ),
        Builtin::new("map_union", "M M*", Ret::Arg(0), union).nulls(Nulls::May),
        Builtin::new(
            "map_from_arrays",
            "A A",
            Ret::Of(|t, _| {
                let item =
                    |i: usize| t.get(i).and_then(element).map_or(DataType::Null, |f| f.data_type().clone());
                Ok(map_type(item(0), item(1)))
            }),
            from_arrays,
        ),
        Builtin::new(
            "str_to_map",
            "s s? s?",
            Ret::Type(map_type(DataType::Utf8, DataType::Utf8)),
            str_to_map,
        ),
        Builtin::new("item", "A i|M a|V i|V s", Ret::Of(item_type), item).nulls(Nulls::May),
    ]
    .into_iter()
    .map(Builtin::build)
    .collect()
}

/// A map type in the shape of [`crate::types`].
fn map_type(key: DataType, value: DataType) -> DataType {
    let fields = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
}

fn entry(t: Option<&DataType>) -> Result<(DataType, DataType)> {
    if let Some(DataType::Map(f, _)) = t
        && let DataType::Struct(kv) = f.data_type()
        && let [k, v] = kv.iter().as_slice()
    {
        return Ok((k.data_type().clone(), v.data_type().clone()));
    }
    Err(Error::validation("a MAP is needed here"))
}

fn entry_fields(k: DataType, v: DataType) -> Fields {
    Fields::from(vec![Field::new("key", k, true), Field::new("value", v, true)])
}

fn map(c: &Call<'_>, i: usize) -> Result<MapArray> {
    let a = c.full(i)?;
    a.as_map_opt()
        .cloned()
        .ok_or_else(|| Error::validation(format!("{} is no MAP", crate::types::sql_name(a.data_type()))))
}

fn bounds(m: &MapArray, i: usize) -> Option<(u32, u32)> {
    if m.is_null(i) {
        return None;
    }
    let o = m.value_offsets();
    Some((*o.get(i)? as u32, *o.get(i + 1)? as u32))
}

fn part(c: &Call<'_>, column: usize) -> Result<ArrayRef> {
    let m = map(c, 0)?;
    let values = if column == 0 { m.keys() } else { m.values() };
    let Some(field) = element(c.return_type) else { return Err(Error::internal("an array type is needed")) };
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(field),
        m.offsets().clone(),
        Arc::clone(values),
        m.nulls().cloned(),
    )?))
}

fn entries(c: &Call<'_>) -> Result<ArrayRef> {
    let m = map(c, 0)?;
    let fields = entry_fields(m.keys().data_type().clone(), m.values().data_type().clone());
    let rows = StructArray::try_new(fields, vec![Arc::clone(m.keys()), Arc::clone(m.values())], None)?;
    let Some(field) = element(c.return_type) else { return Err(Error::internal("an array type is needed")) };
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(field),
        m.offsets().clone(),
        Arc::new(rows),
        m.nulls().cloned(),
    )?))
}

/// Builds maps from positions in `keys` and `values`; later duplicates of a key win, in the place of the first.
fn assemble(
    to: &DataType,
    keys: &ArrayRef,
    values: &ArrayRef,
    rows: usize,
    mut f: impl FnMut(usize) -> Result<Option<Vec<(u32, u32)>>>,
) -> Result<ArrayRef> {
    let known = rows_of(keys)?;
    let (mut key_at, mut value_at) = (Vec::new(), Vec::new());
    let (mut lengths, mut valid) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for i in 0..rows {
        let pairs = f(i)?;
        valid.push(pairs.is_some());
        let mut place: HashMap<arrow::row::Row<'_>, usize> = HashMap::new();
        let start = key_at.len();
        for (k, v) in pairs.unwrap_or_default() {
            if keys.is_null(k as usize) {
                return Err(Error::data("a MAP key is NULL").hint("filter such keys out"));
            }
            match place.get(&known.row(k as usize)) {
                Some(at) => {
                    if let Some(slot) = value_at.get_mut(*at) {
                        *slot = v;
                    }
                }
                None => {
                    place.insert(known.row(k as usize), key_at.len());
                    key_at.push(k);
                    value_at.push(v);
                }
            }
        }
        lengths.push(key_at.len() - start);
    }
    check_column(key_at.len())?;
    let DataType::Map(field, _) = to else { return Err(Error::internal("a map type is needed")) };
    let DataType::Struct(fields) = field.data_type() else {
        return Err(Error::internal("a map type is needed"));
    };
    let columns = vec![pick(keys, key_at)?, pick(values, value_at)?];
    let entries = StructArray::try_new(fields.clone(), columns, None)?;
    Ok(Arc::new(MapArray::try_new(
        Arc::clone(field),
        OffsetBuffer::from_lengths(lengths),
        entries,
        Some(NullBuffer::from(valid)),
        false,
    )?))
}

fn union(c: &Call<'_>) -> Result<ArrayRef> {
    let maps = (0..c.len())
        .map(|i| Ok(arrow::compute::cast(&c.full(i)?, c.return_type)?.as_map().clone()))
        .collect::<Result<Vec<_>>>()?;
    let keys: Vec<&dyn Array> = maps.iter().map(|m| m.keys().as_ref()).collect();
    let values: Vec<&dyn Array> = maps.iter().map(|m| m.values().as_ref()).collect();
    let (keys, values) = (arrow::compute::concat(&keys)?, arrow::compute::concat(&values)?);
    assemble(c.return_type, &keys, &values, c.rows, |i| {
        let (mut out, mut base) = (Vec::new(), 0);
        for m in &maps {
            let Some((a, b)) = bounds(m, i) else { return Ok(None) };
            out.extend((base + a..base + b).map(|k| (k, k)));
            base += m.keys().len() as u32;
        }
        Ok(Some(out))
    })
}

fn from_arrays(c: &Call<'_>) -> Result<ArrayRef> {
    let (k, v) = (list(c, 0)?, list(c, 1)?);
    assemble(c.return_type, k.values(), v.values(), c.rows, |i| {
        let (Some((k1, k2)), Some((v1, v2))) = (range(&k, i), range(&v, i)) else { return Ok(None) };
        if k2 - k1 != v2 - v1 {
            return Err(Error::data(format!("MAP_FROM_ARRAYS: {} keys and {} values", k2 - k1, v2 - v1)));
        }
        Ok(Some((k1..k2).zip(v1..v2).collect()))
    })
}

fn str_to_map(c: &Call<'_>) -> Result<ArrayRef> {
    let s = c.str(0)?;
    let delimiters = [1usize, 2].map(|k| if c.has(k) { c.str(k).ok() } else { None });
    let mut known: [(String, Option<Regex>); 2] = Default::default();
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut out = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for i in 0..c.rows {
        let taken = out.keys().values_slice().len().max(out.values().values_slice().len());
        check_room(taken, s.get(i).map_or(0, str::len))?;
        let mut missing = s.get(i).is_none();
        for ((column, slot), default) in delimiters.iter().zip(known.iter_mut()).zip([",", "="]) {
            let text = match column {
                Some(t) => t.get(i),
                None => Some(default),
            };
            match text {
                None => missing = true,
                Some(t) if slot.1.is_none() || slot.0 != t => {
                    let r = Regex::new(t).map_err(|_| {
                        Error::validation(format!("STR_TO_MAP: '{t}' is no valid regular expression"))
                    })?;
                    *slot = (t.to_owned(), Some(r));
                }
                Some(_) => {}
            }
        }
        let (Some(s), [(_, Some(pairs)), (_, Some(kv))], false) = (s.get(i), &known, missing) else {
            out.append(false)?;
            continue;
        };
        let mut order: Vec<(&str, Option<&str>)> = Vec::new();
        for pair in pairs.split(s).filter(|_| !s.is_empty()) {
            let mut halves = kv.splitn(pair, 2);
            let (k, v) = (halves.next().unwrap_or(""), halves.next());
            match order.iter_mut().find(|(known, _)| *known == k) {
                Some(slot) => slot.1 = v,
                None => order.push((k, v)),
            }
        }
        for (k, v) in order {
            out.keys().append_value(k);
            out.values().append_option(v);
        }
        out.append(true)?;
    }
    Ok(arrow::compute::cast(&out.finish(), c.return_type)?)
}

fn item_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    match types.first() {
        Some(DataType::List(f)) => {
            if let Some(Some(ScalarValue::Int64(Some(n)))) = constants.get(1)
                && *n < 1
            {
                return Err(Error::validation(format!(
                    "array element access needs an index starting at 1 but was {n}"
                )));
            }
            Ok(f.data_type().clone())
        }
        Some(t) if is_variant(t) => Ok(t.clone()),
        other => Ok(entry(other)?.1),
    }
}

fn item(c: &Call<'_>) -> Result<ArrayRef> {
    if is_variant(c.ty(0)) {
        return variant::item(c);
    }
    if matches!(c.ty(0), DataType::List(_)) {
        return subscript(c);
    }
    let m = map(c, 0)?;
    let key = arrow::compute::cast(&c.full(1)?, m.keys().data_type())?;
    let (keys, wanted) = rows_of_two(m.keys(), &key)?;
    let found: UInt32Array = (0..c.rows)
        .map(|i| {
            let (a, b) = bounds(&m, i)?;
            (a..b).find(|k| keys.row(*k as usize) == wanted.row(i))
        })
        .collect();
    Ok(arrow::compute::take(m.values(), &found, None)?)
}

static MAP: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Builtin::new("map", "a*", Ret::Of(constructed), |c| {
        let halves = |first: usize| -> Result<ArrayRef> {
            let (k, v) = entry(Some(c.return_type))?;
            let to = if first == 0 { k } else { v };
            let parts = (first..c.len())
                .step_by(2)
                .map(|i| Ok(arrow::compute::cast(&c.full(i)?, &to)?))
                .collect::<Result<Vec<_>>>()?;
            if parts.is_empty() {
                return Ok(arrow::array::new_empty_array(&to));
            }
            let refs: Vec<&dyn Array> = parts.iter().map(|p| p.as_ref()).collect();
            Ok(arrow::compute::concat(&refs)?)
        };
        let (keys, values) = (halves(0)?, halves(1)?);
        let n = c.len() / 2;
        assemble(c.return_type, &keys, &values, c.rows, |i| {
            Ok(Some((0..n).map(|k| (k * c.rows + i) as u32).map(|at| (at, at)).collect()))
        })
    })
    .nulls(Nulls::Never)
    .build()
});

fn constructed(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let every = |first: usize| -> Vec<DataType> { types.iter().skip(first).step_by(2).cloned().collect() };
    Ok(map_type(common("MAP", &every(0))?, common("MAP", &every(1))?))
}

/// `MAP[k, v, …]`.
pub(crate) fn map_constructor() -> Arc<ScalarUDF> {
    Arc::clone(&MAP)
}
