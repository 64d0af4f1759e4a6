//! Division, remainder and DECIMAL arithmetic with Flink's result types: integers wrap and truncate, a DECIMAL that
//! does not fit becomes NULL, an exact zero divisor fails.

use std::sync::{Arc, LazyLock};

use arrow::array::cast::AsArray;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BooleanBufferBuilder, Decimal128Array, PrimitiveArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowNativeTypeOp, DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, i256,
};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ScalarUDF;

use crate::error::{Error, Result};
use crate::functions::udf::{Builtin, Call, Nulls, Ret};

/// An arithmetic operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

static FUNCTIONS: LazyLock<[Arc<ScalarUDF>; 5]> = LazyLock::new(|| {
    [
        build("__add", Arith::Add),
        build("__subtract", Arith::Sub),
        build("__multiply", Arith::Mul),
        build("__divide", Arith::Div),
        build("__mod", Arith::Rem),
    ]
});

/// The function of an operator.
pub(crate) fn function(op: Arith) -> Arc<ScalarUDF> {
    let [add, sub, mul, div, rem] = &*FUNCTIONS;
    Arc::clone(match op {
        Arith::Add => add,
        Arith::Sub => sub,
        Arith::Mul => mul,
        Arith::Div => div,
        Arith::Rem => rem,
    })
}

fn build(name: &'static str, op: Arith) -> Arc<ScalarUDF> {
    let ret: fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType> = match op {
        Arith::Add => |t, _| result_type(Arith::Add, t),
        Arith::Sub => |t, _| result_type(Arith::Sub, t),
        Arith::Mul => |t, _| result_type(Arith::Mul, t),
        Arith::Div => |t, _| result_type(Arith::Div, t),
        Arith::Rem => |t, _| result_type(Arith::Rem, t),
    };
    Builtin::new(name, "n n", Ret::Of(ret), move |c| evaluate(op, c)).nulls(Nulls::May).build()
}

/// Precision and scale with which a type enters DECIMAL arithmetic.
pub(crate) fn decimal_of(t: &DataType) -> Option<(u8, u8)> {
    match t {
        DataType::Int8 => Some((3, 0)),
        DataType::Int16 => Some((5, 0)),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::Decimal128(p, s) => Some((*p, *s as u8)),
        _ => None,
    }
}

/// Precision and scale of a result before the cap of 38 digits.
fn exact_type(op: Arith, (p1, s1): (u8, u8), (p2, s2): (u8, u8)) -> (u32, u32) {
    let (p1, s1, p2, s2) = (u32::from(p1), u32::from(s1), u32::from(p2), u32::from(s2));
    match op {
        Arith::Add | Arith::Sub => {
            let s = s1.max(s2);
            ((p1 - s1).max(p2 - s2) + s + 1, s)
        }
        Arith::Mul => (p1 + p2 + 1, s1 + s2),
        Arith::Div => {
            let s = 6.max(s1 + p2 + 1);
            (p1 - s1 + s2 + s, s)
        }
        Arith::Rem => {
            let s = s1.max(s2);
            ((p1 - s1).min(p2 - s2) + s, s)
        }
    }
}

fn capped((p, s): (u32, u32)) -> (u8, i8) {
    if p <= 38 {
        return (p.max(1) as u8, s as i8);
    }
    // Integral digits win; the scale shrinks, but not below 6.
    let whole = p - s;
    let scale = 38u32.saturating_sub(whole).max(s.min(6));
    (38, scale as i8)
}

/// Whether Arrow's own DECIMAL kernel gives Flink's type and cannot overflow.
pub(crate) fn native_decimal(op: Arith, lt: &DataType, rt: &DataType) -> bool {
    match (decimal_of(lt), decimal_of(rt)) {
        (Some(l), Some(r)) => exact_type(op, l, r).0 <= 38,
        _ => false,
    }
}

fn result_type(op: Arith, types: &[DataType]) -> Result<DataType> {
    let [l, r] = types else { return Err(Error::internal("arithmetic takes two arguments")) };
    if l.is_floating() || r.is_floating() {
        let single = |t: &DataType| *t == DataType::Float32 || t.is_integer();
        return Ok(if single(l) && single(r) { DataType::Float32 } else { DataType::Float64 });
    }
    if l.is_integer() && r.is_integer() {
        // The remainder has the type of the divisor, everything else the wider one.
        let wider = if width(l) >= width(r) { l } else { r };
        return Ok(if op == Arith::Rem { r.clone() } else { wider.clone() });
    }
    match (decimal_of(l), decimal_of(r)) {
        (Some(l), Some(r)) => {
            let (p, s) = capped(exact_type(op, l, r));
            Ok(DataType::Decimal128(p, s))
        }
        _ => Err(Error::validation(format!("no arithmetic between {l} and {r}"))),
    }
}

fn width(t: &DataType) -> usize {
    t.primitive_width().unwrap_or(0)
}

fn evaluate(op: Arith, c: &Call<'_>) -> Result<ArrayRef> {
    let (l, r) = (c.full(0)?, c.full(1)?);
    match c.return_type {
        DataType::Float32 | DataType::Float64 => floats(op, &l, &r, c.return_type),
        DataType::Decimal128(p, s) => decimals(op, &l, &r, *p, *s),
        _ => {
            let wider =
                if width(l.data_type()) >= width(r.data_type()) { l.data_type() } else { r.data_type() };
            let (a, b) = (arrow::compute::cast(&l, wider)?, arrow::compute::cast(&r, wider)?);
            let out = match wider {
                DataType::Int8 => integers::<Int8Type>(op, &a, &b)?,
                DataType::Int16 => integers::<Int16Type>(op, &a, &b)?,
                DataType::Int32 => integers::<Int32Type>(op, &a, &b)?,
                _ => integers::<Int64Type>(op, &a, &b)?,
            };
            // A remainder is smaller than its divisor, so this narrowing is exact.
            Ok(if wider == c.return_type { out } else { arrow::compute::cast(&out, c.return_type)? })
        }
    }
}

fn integers<T: ArrowPrimitiveType>(op: Arith, l: &ArrayRef, r: &ArrayRef) -> Result<ArrayRef> {
    let (l, r) = (l.as_primitive::<T>(), r.as_primitive::<T>());
    let out: PrimitiveArray<T> = match op {
        Arith::Div => arrow::compute::try_binary(l, r, |a, b| {
            if b.is_zero() { Err(arrow::error::ArrowError::DivideByZero) } else { Ok(a.div_wrapping(b)) }
        })?,
        Arith::Rem => arrow::compute::try_binary(l, r, |a, b| {
            if b.is_zero() { Err(arrow::error::ArrowError::DivideByZero) } else { Ok(a.mod_wrapping(b)) }
        })?,
        Arith::Add => arrow::compute::binary(l, r, |a, b| a.add_wrapping(b))?,
        Arith::Sub => arrow::compute::binary(l, r, |a, b| a.sub_wrapping(b))?,
        Arith::Mul => arrow::compute::binary(l, r, |a, b| a.mul_wrapping(b))?,
    };
    Ok(Arc::new(out))
}

fn floats(op: Arith, l: &ArrayRef, r: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let (l, r) = (arrow::compute::cast(l, to)?, arrow::compute::cast(r, to)?);
    macro_rules! apply {
        ($t:ty) => {{
            let (l, r) = (l.as_primitive::<$t>(), r.as_primitive::<$t>());
            let out: PrimitiveArray<$t> = match op {
                Arith::Add => arrow::compute::binary(l, r, |a, b| a + b)?,
                Arith::Sub => arrow::compute::binary(l, r, |a, b| a - b)?,
                Arith::Mul => arrow::compute::binary(l, r, |a, b| a * b)?,
                Arith::Div => arrow::compute::binary(l, r, |a, b| a / b)?,
                Arith::Rem => arrow::compute::binary(l, r, |a, b| a % b)?,
            };
            Ok(Arc::new(out))
        }};
    }
    if *to == DataType::Float32 { apply!(Float32Type) } else { apply!(Float64Type) }
}

fn as_decimal(a: &ArrayRef) -> Result<(Decimal128Array, u8)> {
    let (p, s) = decimal_of(a.data_type())
        .ok_or_else(|| Error::internal(format!("{} is no DECIMAL", a.data_type())))?;
    let d = arrow::compute::cast(a, &DataType::Decimal128(p, s as i8))?;
    Ok((d.as_primitive::<arrow::datatypes::Decimal128Type>().clone(), s))
}

fn decimals(op: Arith, l: &ArrayRef, r: &ArrayRef, p: u8, s: i8) -> Result<ArrayRef> {
    let ((l, ls), (r, rs)) = (as_decimal(l)?, as_decimal(r)?);
    let (ls, rs, scale) = (u32::from(ls), u32::from(rs), u32::from(s as u8));
    let nulls = NullBuffer::union(l.nulls(), r.nulls());
    let is_valid = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
    let (limit, common) = (10u128.pow(u32::from(p.min(38))), ls.max(rs));
    // Factors of the sides, if they are small.
    let (lf, rf) = (power(common - ls), power(common - rs));
    let mut values = Vec::with_capacity(l.len());
    let mut lost = Vec::new();
    for (row, (a, b)) in l.values().iter().zip(r.values()).enumerate() {
        let (a, b) = (*a, *b);
        // What fits 128 bits on its way, which is nearly everything.
        let quick = match op {
            Arith::Mul if scale == ls + rs => multiply(a, b),
            Arith::Add if scale == common => add_scaled(a, lf, b, rf, 1),
            Arith::Sub if scale == common => add_scaled(a, lf, b, rf, -1),
            _ => None,
        };
        let value = match quick {
            Some(value) => Some(value),
            None if !is_valid(row) => Some(0),
            None => wide(op, (a, ls), (b, rs), scale)?,
        };
        match value.filter(|v| v.unsigned_abs() < limit) {
            Some(value) => values.push(value),
            None => {
                values.push(0);
                lost.push(row);
            }
        }
    }
    let nulls = without(nulls, &lost, values.len());
    let out = Decimal128Array::new(values.into(), nulls).with_precision_and_scale(p, s)?;
    Ok(Arc::new(out))
}

fn power(digits: u32) -> Option<i128> {
    10i128.checked_pow(digits)
}

#[inline]
fn multiply(a: i128, b: i128) -> Option<i128> {
    match (i64::try_from(a), i64::try_from(b)) {
        // One instruction, which cannot overflow.
        (Ok(a), Ok(b)) => Some(i128::from(a) * i128::from(b)),
        _ => a.checked_mul(b),
    }
}

#[inline]
fn add_scaled(a: i128, lf: Option<i128>, b: i128, rf: Option<i128>, sign: i128) -> Option<i128> {
    let b = multiply(b, rf?)?.checked_mul(sign)?;
    multiply(a, lf?)?.checked_add(b)
}

/// The rows that are valid but for those that are `lost`.
fn without(nulls: Option<NullBuffer>, lost: &[usize], rows: usize) -> Option<NullBuffer> {
    if lost.is_empty() {
        return nulls;
    }
    let mut valid = BooleanBufferBuilder::new(rows);
    match nulls {
        Some(nulls) => valid.append_buffer(nulls.inner()),
        None => valid.append_n(rows, true),
    }
    for row in lost {
        valid.set_bit(*row, false);
    }
    Some(NullBuffer::new(valid.finish()))
}

/// An operation on 256 bits; `None` if its result is beyond 128.
fn wide(op: Arith, (a, ls): (i128, u32), (b, rs): (i128, u32), scale: u32) -> Result<Option<i128>> {
    let common = ls.max(rs);
    let (a, b) = (i256::from_i128(a), i256::from_i128(b));
    let value = match op {
        Arith::Add => shift_up(a, common - ls).wrapping_add(shift_up(b, common - rs)),
        Arith::Sub => shift_up(a, common - ls).wrapping_sub(shift_up(b, common - rs)),
        Arith::Mul => a.wrapping_mul(b),
        Arith::Div => {
            if b == i256::ZERO {
                return Err(Error::data("division by zero"));
            }
            // a / 10^ls ÷ b / 10^rs, with `scale` digits.
            let up = i64::from(scale + rs) - i64::from(ls);
            if up >= 0 { half_up(shift_up(a, up as u32), b) } else { half_up(a, shift_up(b, (-up) as u32)) }
        }
        Arith::Rem => {
            let (a, b) = (shift_up(a, common - ls), shift_up(b, common - rs));
            if b == i256::ZERO {
                return Err(Error::data("division by zero"));
            }
            a.wrapping_rem(b)
        }
    };
    let value = match op {
        Arith::Div => value,
        Arith::Mul => rescale(value, ls + rs, scale),
        _ => rescale(value, common, scale),
    };
    Ok(value.to_i128())
}

fn rescale(v: i256, from: u32, to: u32) -> i256 {
    if to >= from { shift_up(v, to - from) } else { half_up(v, shift_up(i256::ONE, from - to)) }
}

fn shift_up(v: i256, digits: u32) -> i256 {
    if digits == 0 { v } else { v.wrapping_mul(i256::from_i128(10).wrapping_pow(digits)) }
}

pub(crate) fn half_up(a: i256, b: i256) -> i256 {
    let q = a.wrapping_div(b);
    let rest = a.wrapping_rem(b).wrapping_abs();
    let b_abs = b.wrapping_abs();
    if rest.wrapping_mul(i256::from_i128(2)) >= b_abs {
        let negative = (a < i256::ZERO) != (b < i256::ZERO);
        if negative { q.wrapping_sub(i256::ONE) } else { q.wrapping_add(i256::ONE) }
    } else {
        q
    }
}

/// Whether a value has at most `p` digits.
pub(crate) fn fits(v: i128, p: u8) -> bool {
    v.unsigned_abs() < 10u128.pow(u32::from(p.min(38)))
}

/// Functions for what DataFusion's operators do not do: interval × number, TIME ± interval.
pub(crate) fn interval_function(op: Arith, lt: &DataType, rt: &DataType) -> Option<Arc<ScalarUDF>> {
    let interval = |t: &DataType| matches!(t, DataType::Interval(_));
    let time = |t: &DataType| matches!(t, DataType::Time32(_));
    match op {
        Arith::Mul if (interval(lt) && rt.is_numeric()) || (lt.is_numeric() && interval(rt)) => {
            Some(crate::functions::temporal::interval_times())
        }
        Arith::Add if time(lt) && interval(rt) => Some(crate::functions::temporal::time_plus(1)),
        Arith::Sub if time(lt) && interval(rt) => Some(crate::functions::temporal::time_plus(-1)),
        _ => None,
    }
}
