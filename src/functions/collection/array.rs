//! Functions over arrays. Positions are 1-based.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Int32Array, ListArray, ListBuilder, StringBuilder,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::logical_expr::ScalarUDF;

use super::{common, element, list_of, pick, rows_of, rows_of_two};
use crate::error::{Error, Result};
use crate::functions::room::{check_column, check_room};
use crate::functions::strings::push;
use crate::functions::udf::{Builtin, Call, Nulls, Ret, build_prims, build_strings};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let own = || Ret::Arg(0);
    let int = || Ret::Type(DataType::Int32);
    let item = || {
        Ret::Of(|types, _| {
            Ok(types.first().and_then(element).map_or(DataType::Null, |f| f.data_type().clone()))
        })
    };
    vec![
        Builtin::new("cardinality", "A|M", int(), |c| {
            let a = c.full(0)?;
            if let Some(m) = a.as_map_opt() {
                return build_prims::<Int32Type>(c.rows, |i| Ok(m.is_valid(i).then(|| m.value_length(i))));
            }
            if *a.data_type() == DataType::Null {
                return Ok(new_null_array(&DataType::Int32, c.rows));
            }
            let l = a.as_list::<i32>();
            build_prims::<Int32Type>(c.rows, |i| Ok(l.is_valid(i).then(|| l.value_length(i))))
        }),
        Builtin::new("element", "A", item(), |c| {
            let l = list(c, 0)?;
            at(&l, |i, (from, to)| match to - from {
                0 => Ok(None),
                1 => Ok(Some(from)),
                n => Err(Error::data(format!("ELEMENT: the array in row {i} has {n} elements, not one"))),
            })
        })
        .nulls(Nulls::May),
        Builtin::new("array_append", "A a", Ret::Of(with_element), |c| {
            let (l, e) = with_value(c)?;
            build(&l, &e, |i, (from, to), base| {
                let mut out: Vec<u32> = (from..to).collect();
                out.push(base + i as u32);
                Some(out)
            })
        })
        .nulls(Nulls::May),
        Builtin::new("array_prepend", "A a", Ret::Of(with_element), |c| {
            let (l, e) = with_value(c)?;
            build(&l, &e, |i, (from, to), base| {
                Some(std::iter::once(base + i as u32).chain(from..to).collect())
            })
        })
        .nulls(Nulls::May),
        Builtin::new("array_contains", "A a", Ret::Type(DataType::Boolean), |c| {
            let (l, e) = with_value(c)?;
            let (values, wanted) = rows_of_two(l.values(), &e)?;
            let mut out = BooleanBuilder::with_capacity(l.len());
            for i in 0..l.len() {
                let found =
                    range(&l, i).map(|(a, b)| (a..b).any(|k| values.row(k as usize) == wanted.row(i)));
                out.append_option(found);
            }
            Ok(Arc::new(out.finish()))
        }),
        Builtin::new("array_position", "A a", int(), |c| {
            let (l, e) = with_value(c)?;
            let (values, wanted) = rows_of_two(l.values(), &e)?;
            build_prims::<Int32Type>(c.rows, |i| {
                let Some((a, b)) = range(&l, i).filter(|_| e.is_valid(i)) else { return Ok(None) };
                let found = (a..b).find(|k| values.row(*k as usize) == wanted.row(i));
                Ok(Some(found.map_or(0, |k| (k - a) as i32 + 1)))
            })
        })
        .nulls(Nulls::May),
        Builtin::new("array_remove", "A a", Ret::Of(with_element), |c| {
            let (l, e) = with_value(c)?;
            let (values, unwanted) = rows_of_two(l.values(), &e)?;
            select(&l, |i, (a, b)| {
                Some((a..b).filter(|k| values.row(*k as usize) != unwanted.row(i)).collect())
            })
        }),
        Builtin::new("array_distinct", "A", own(), |c| {
            let l = list(c, 0)?;
            let values = rows_of(l.values())?;
            select(&l, |_, (a, b)| {
                let mut seen = HashSet::new();
                Some((a..b).filter(|k| seen.insert(values.row(*k as usize))).collect())
            })
        }),
        Builtin::new("array_reverse", "A", own(), |c| {
            let l = list(c, 0)?;
            select(&l, |_, (a, b)| Some((a..b).rev().collect()))
        }),
        Builtin::new("array_slice", "A l l?", own(), |c| {
            let l = list(c, 0)?;
            let from = c.prim::<Int64Type>(1)?;
            let to = if c.has(2) { Some(c.prim::<Int64Type>(2)?) } else { None };
            select(&l, |i, (a, b)| {
                let n = i64::from(b - a);
                let from = from.get(i)?;
                let to = to.as_ref().map_or(Some(n), |t| t.get(i))?;
                let place = |p: i64| if p < 0 { n + p + 1 } else { p };
                let (from, to) = (place(from).max(1), place(to).min(n));
                Some(if from > to { Vec::new() } else { (a + from as u32 - 1..a + to as u32).collect() })
            })
        })
        .nulls(Nulls::May),
        Builtin::new("array_sort", "A b? b?", own(), |c| {
            let l = list(c, 0)?;
            let ascending = if c.has(1) { Some(c.bool(1)?) } else { None };
            let first = if c.has(2) { Some(c.bool(2)?) } else { None };
            let values = rows_of(l.values())?;
            let nulls = l.values().logical_nulls();
            let null = |k: u32| nulls.as_ref().is_some_and(|n| n.is_null(k as usize));
            select(&l, |i, (a, b)| {
                let ascending = ascending.as_ref().map_or(Some(true), |x| x.get(i))?;
                let nulls_first = first.as_ref().map_or(Some(ascending), |x| x.get(i))?;
                let mut out: Vec<u32> = (a..b).collect();
                out.sort_by(|x, y| match (null(*x), null(*y)) {
                    (true, true) => Ordering::Equal,
                    (true, false) if nulls_first => Ordering::Less,
                    (true, false) => Ordering::Greater,
                    (false, true) if nulls_first => Ordering::Greater,
                    (false, true) => Ordering::Less,
                    (false, false) => {
                        let o = values.row(*x as usize).cmp(&values.row(*y as usize));
                        if ascending { o } else { o.reverse() }
                    }
                });
                Some(out)
            })
        })
        .nulls(Nulls::May),
        Builtin::new("array_max", "A", item(), |c| extreme(c, Ordering::Greater)).nulls(Nulls::May),
        Builtin::new("array_min", "A", item(), |c| extreme(c, Ordering::Less)).nulls(Nulls::May),
        Builtin::new("array_union", "A A", Ret::Of(common_list), |c| {
            sets(c, |a, b| {
                let mut seen = HashSet::new();
                a.iter().chain(b).filter(|(_, r)| seen.insert(*r)).map(|(k, _)| *k).collect()
            })
        })
        .nulls(Nulls::May),
        Builtin::new("array_except", "A A", Ret::Of(common_list), |c| {
            sets(c, |a, b| {
                let mut seen: HashSet<_> = b.iter().map(|(_, r)| *r).collect();
                a.iter().filter(|(_, r)| seen.insert(*r)).map(|(k, _)| *k).collect()
            })
        })
        .nulls(Nulls::May),
        Builtin::new("array_intersect", "A A", Ret::Of(common_list), |c| {
            sets(c, |a, b| {
                let there: HashSet<_> = b.iter().map(|(_, r)| *r).collect();
                let mut seen = HashSet::new();
                a.iter().filter(|(_, r)| there.contains(r) && seen.insert(*r)).map(|(k, _)| *k).collect()
            })
        })
        .nulls(Nulls::May),
        Builtin::new("array_concat", "A A*", Ret::Of(common_list), |c| {
            let lists =
                (0..c.len()).map(|k| cast_list(&c.full(k)?, c.return_type)).collect::<Result<Vec<_>>>()?;
            let all: Vec<&dyn Array> = lists.iter().map(|l| l.values().as_ref()).collect();
            let values = arrow::compute::concat(&all)?;
            let mut base = 0;
            let bases: Vec<u32> = lists
                .iter()
                .map(|l| {
                    let b = base;
                    base += l.values().len() as u32;
                    b
                })
                .collect();
            assemble(c.rows, c.return_type, &values, |i| {
                let mut out = Vec::new();
                for (l, base) in lists.iter().zip(&bases) {
                    let (a, b) = range(l, i)?;
                    out.extend(base + a..base + b);
                }
                Some(out)
            })
        })
        .nulls(Nulls::May),
        Builtin::new("array_join", "A s s?", Ret::Type(DataType::Utf8), |c| {
            let l = list(c, 0)?;
            let values = arrow::compute::cast(l.values(), &DataType::Utf8)?;
            let values = values.as_string::<i32>();
            let separator = c.str(1)?;
            let null = if c.has(2) { Some(c.str(2)?) } else { None };
            build_strings(c.rows, |i, out| {
                let (Some((a, b)), Some(separator)) = (range(&l, i), separator.get(i)) else {
                    return Ok(false);
                };
                let null = match null.as_ref().map(|n| n.get(i)) {
                    None => None,
                    Some(Some(text)) => Some(text),
                    Some(None) => return Ok(false),
                };
                let (from, mut any) = (out.len(), false);
                for k in a as usize..b as usize {
                    let Some(text) = (if values.is_null(k) { null } else { Some(values.value(k)) }) else {
                        continue;
                    };
                    if any {
                        push(out, from, separator)?;
                    }
                    push(out, from, text)?;
                    any = true;
                }
                Ok(true)
            })
        })
        .nulls(Nulls::May),
        Builtin::new("split", "s s", Ret::Type(list_of(DataType::Utf8)), |c| {
            let (s, d) = (c.str(0)?, c.str(1)?);
            let mut out = ListBuilder::new(StringBuilder::new());
            for i in 0..c.rows {
                check_room(out.values().values_slice().len(), s.get(i).map_or(0, str::len))?;
                match (s.get(i), d.get(i)) {
                    // No text has no parts.
                    (Some(""), Some(_)) => out.append(true),
                    (Some(s), Some("")) => {
                        let mut one = [0; 4];
                        s.chars().for_each(|ch| out.values().append_value(ch.encode_utf8(&mut one)));
                        out.append(true);
                    }
                    (Some(s), Some(d)) => {
                        s.split(d).for_each(|p| out.values().append_value(p));
                        out.append(true);
                    }
                    _ => out.append(false),
                }
            }
            Ok(Arc::new(out.finish()))
        }),
    ]
    .into_iter()
    .map(Builtin::build)
    .collect()
}

fn common_list(types: &[DataType], _: &[Option<&datafusion::common::ScalarValue>]) -> Result<DataType> {
    let items: Vec<DataType> = types.iter().filter_map(element).map(|f| f.data_type().clone()).collect();
    Ok(list_of(common("ARRAY", &items)?))
}

fn with_element(types: &[DataType], _: &[Option<&datafusion::common::ScalarValue>]) -> Result<DataType> {
    let item = types.first().and_then(element).map_or(DataType::Null, |f| f.data_type().clone());
    let value = types.get(1).cloned().unwrap_or(DataType::Null);
    Ok(list_of(common("ARRAY", &[item, value])?))
}

/// Argument `i` as an array of arrays.
pub(super) fn list(c: &Call<'_>, i: usize) -> Result<ListArray> {
    let a = c.full(i)?;
    a.as_list_opt::<i32>()
        .cloned()
        .ok_or_else(|| Error::validation(format!("{} is no ARRAY", crate::types::sql_name(a.data_type()))))
}

fn cast_list(a: &ArrayRef, to: &DataType) -> Result<ListArray> {
    Ok(arrow::compute::cast(a, to)?.as_list::<i32>().clone())
}

/// An array and a value of its element type; where they differ both take the common type.
fn with_value(c: &Call<'_>) -> Result<(ListArray, ArrayRef)> {
    let (l, e) = (list(c, 0)?, c.full(1)?);
    let t = common("ARRAY", &[l.values().data_type().clone(), e.data_type().clone()])?;
    let l = if *l.values().data_type() == t {
        l
    } else {
        let a: ArrayRef = Arc::new(l);
        cast_list(&a, &list_of(t.clone()))?
    };
    Ok((l, arrow::compute::cast(&e, &t)?))
}

/// Where the elements of row `i` lie; `None` for a NULL array.
pub(super) fn range(l: &ListArray, i: usize) -> Option<(u32, u32)> {
    if l.is_null(i) {
        return None;
    }
    let o = l.value_offsets();
    Some((*o.get(i)? as u32, *o.get(i + 1)? as u32))
}

/// Builds arrays whose elements are picked from `values`.
fn assemble(
    rows: usize,
    to: &DataType,
    values: &ArrayRef,
    mut f: impl FnMut(usize) -> Option<Vec<u32>>,
) -> Result<ArrayRef> {
    let mut picked = Vec::new();
    let mut lengths = Vec::with_capacity(rows);
    let mut valid = Vec::with_capacity(rows);
    for i in 0..rows {
        let chosen = f(i);
        valid.push(chosen.is_some());
        let chosen = chosen.unwrap_or_default();
        lengths.push(chosen.len());
        picked.extend(chosen);
    }
    check_column(picked.len())?;
    let Some(field) = element(to) else { return Err(Error::internal(format!("{to} is no array type"))) };
    let values = pick(values, picked)?;
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(field),
        OffsetBuffer::from_lengths(lengths),
        values,
        Some(NullBuffer::from(valid)),
    )?))
}

fn select(l: &ListArray, mut f: impl FnMut(usize, (u32, u32)) -> Option<Vec<u32>>) -> Result<ArrayRef> {
    assemble(l.len(), l.data_type(), l.values(), |i| f(i, range(l, i)?))
}

/// Like [`select`], over the elements followed by one extra value a row (which starts at `base`).
fn build(
    l: &ListArray,
    extra: &ArrayRef,
    mut f: impl FnMut(usize, (u32, u32), u32) -> Option<Vec<u32>>,
) -> Result<ArrayRef> {
    let values = arrow::compute::concat(&[l.values().as_ref(), extra.as_ref()])?;
    let base = l.values().len() as u32;
    assemble(l.len(), &list_of(values.data_type().clone()), &values, |i| f(i, range(l, i)?, base))
}

/// One element a row.
fn at(l: &ListArray, mut f: impl FnMut(usize, (u32, u32)) -> Result<Option<u32>>) -> Result<ArrayRef> {
    let mut picked = Vec::with_capacity(l.len());
    for i in 0..l.len() {
        picked.push(match range(l, i) {
            Some(r) => f(i, r)?,
            None => None,
        });
    }
    let picked: arrow::array::UInt32Array = picked.into_iter().collect();
    Ok(arrow::compute::take(l.values(), &picked, None)?)
}

fn extreme(c: &Call<'_>, wanted: Ordering) -> Result<ArrayRef> {
    let l = list(c, 0)?;
    let values = rows_of(l.values())?;
    let nulls = l.values().logical_nulls();
    at(&l, |_, (a, b)| {
        let mut best: Option<u32> = None;
        for k in (a..b).filter(|k| nulls.as_ref().is_none_or(|n| n.is_valid(*k as usize))) {
            if best.is_none_or(|x| values.row(k as usize).cmp(&values.row(x as usize)) == wanted) {
                best = Some(k);
            }
        }
        Ok(best)
    })
}

fn sets(
    c: &Call<'_>,
    f: impl for<'r> Fn(&[(u32, arrow::row::Row<'r>)], &[(u32, arrow::row::Row<'r>)]) -> Vec<u32>,
) -> Result<ArrayRef> {
    let (a, b) = (cast_list(&c.full(0)?, c.return_type)?, cast_list(&c.full(1)?, c.return_type)?);
    let values = arrow::compute::concat(&[a.values().as_ref(), b.values().as_ref()])?;
    let rows = rows_of(&values)?;
    let base = a.values().len() as u32;
    assemble(c.rows, c.return_type, &values, |i| {
        let ((a1, a2), (b1, b2)) = (range(&a, i)?, range(&b, i)?);
        let left: Vec<_> = (a1..a2).map(|k| (k, rows.row(k as usize))).collect();
        let right: Vec<_> = (base + b1..base + b2).map(|k| (k, rows.row(k as usize))).collect();
        Some(f(&left, &right))
    })
}

/// `a[i]`: out of range is NULL.
pub(super) fn subscript(c: &Call<'_>) -> Result<ArrayRef> {
    let l = list(c, 0)?;
    let at_row = arrow::compute::cast(&c.full(1)?, &DataType::Int32)?;
    let index: &Int32Array = at_row.as_primitive::<Int32Type>();
    at(&l, |i, (a, b)| {
        if index.is_null(i) {
            return Ok(None);
        }
        let k = index.value(i);
        Ok(if k >= 1 && k as u32 <= b - a { Some(a + k as u32 - 1) } else { None })
    })
}
