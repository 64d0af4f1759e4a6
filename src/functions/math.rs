//! Mathematics: the argument's type is kept where Flink keeps it (ABS, CEIL, FLOOR, ROUND, SIGN, TRUNCATE), DOUBLE
//! everywhere else; out of domain is NaN, never an error.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type,
};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ScalarUDF, Volatility};

use crate::error::{Error, Result};
use crate::functions::cast::number::rescale;
use crate::functions::context::FunctionContext;
use crate::functions::temporal;
use crate::functions::udf::{Builtin, Call, Nulls, Ret, build_bytes, build_prims, build_strings};

/// All of them.
pub(crate) fn functions(context: &FunctionContext) -> Vec<Arc<ScalarUDF>> {
    let mut out = vec![
        Builtin::new("abs", "n", Ret::Arg(0), |c| {
            keep(c, |v| v.wrapping_abs(), f64::abs, |v, s| (v.abs(), s))
        }),
        Builtin::new("sign", "n", Ret::Arg(0), |c| {
            let sign = |v: f64| if v == 0.0 || v.is_nan() { v } else { v.signum() };
            keep(c, i64::signum, sign, |v, s| (v.signum() * 10i128.pow(u32::from(s)), s))
        }),
        Builtin::new("round", "n i?", Ret::Of(rounded_type), |c| round(c, true)),
        Builtin::new("truncate", "n i?", Ret::Of(rounded_type), |c| round(c, false)),
        Builtin::new("power", "d d", double(), |c| {
            let (a, b) = (c.prim::<Float64Type>(0)?, c.prim::<Float64Type>(1)?);
            build_prims::<Float64Type>(c.rows, |i| Ok(a.get(i).zip(b.get(i)).map(|(a, b)| java_pow(a, b))))
        }),
        Builtin::new("atan2", "d d", double(), |c| {
            let (a, b) = (c.prim::<Float64Type>(0)?, c.prim::<Float64Type>(1)?);
            build_prims::<Float64Type>(c.rows, |i| Ok(a.get(i).zip(b.get(i)).map(|(a, b)| a.atan2(b))))
        }),
        Builtin::new("log", "d d?", double(), |c| {
            let a = c.prim::<Float64Type>(0)?;
            if c.len() == 1 {
                return build_prims::<Float64Type>(c.rows, |i| Ok(a.get(i).map(f64::ln)));
            }
            let b = c.prim::<Float64Type>(1)?;
            build_prims::<Float64Type>(c.rows, |i| {
                Ok(a.get(i).zip(b.get(i)).map(|(base, x)| x.ln() / base.ln()))
            })
        }),
        constant("pi", std::f64::consts::PI),
        constant("e", std::f64::consts::E),
        Builtin::new("bin", "l", Ret::Type(DataType::Utf8), |c| {
            let a = c.prim::<Int64Type>(0)?;
            build_strings(c.rows, |i, out| Ok(a.get(i).map(|v| push_digits(v as u64, 1, out)).is_some()))
        }),
        Builtin::new("hex", "l|s", Ret::Type(DataType::Utf8), |c| {
            if c.ty(0) == &DataType::Utf8 {
                let a = c.str(0)?;
                return build_strings(c.rows, |i, out| {
                    let pair = |b: u8| [HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]];
                    let digits = |s: &str| out.extend(s.bytes().flat_map(pair).map(char::from));
                    Ok(a.get(i).map(digits).is_some())
                });
            }
            let a = c.prim::<Int64Type>(0)?;
            build_strings(c.rows, |i, out| Ok(a.get(i).map(|v| push_digits(v as u64, 4, out)).is_some()))
        }),
        Builtin::new("unhex", "s", Ret::Type(DataType::Binary), |c| {
            let a = c.str(0)?;
            build_bytes(c.rows, |i, out| Ok(a.get(i).is_some_and(|s| unhex(s, out))))
        })
        .nulls(Nulls::May),
        Builtin::new("uuid", "", Ret::Type(DataType::Utf8), |c| {
            build_strings(c.rows, |_, out| {
                #[allow(clippy::disallowed_methods, reason = "UUID() is random by definition")]
                out.push_str(&uuid::Uuid::new_v4().to_string());
                Ok(true)
            })
        })
        .volatility(Volatility::Volatile)
        .nulls(Nulls::Never),
    ];
    type Unary = (&'static str, fn(f64) -> f64);
    let unary: [Unary; 19] = [
        ("sqrt", f64::sqrt),
        ("ln", f64::ln),
        ("log10", f64::log10),
        ("log2", f64::log2),
        ("exp", f64::exp),
        ("sin", f64::sin),
        ("sinh", f64::sinh),
        ("cos", f64::cos),
        ("cosh", f64::cosh),
        ("tan", f64::tan),
        ("tanh", f64::tanh),
        ("cot", |x| 1.0 / x.tan()),
        ("asin", f64::asin),
        ("acos", f64::acos),
        ("atan", f64::atan),
        ("degrees", f64::to_degrees),
        ("radians", f64::to_radians),
        ("cbrt", f64::cbrt),
        ("asinh", f64::asinh),
    ];
    for (name, f) in unary {
        out.push(Builtin::new(name, "d", double(), move |c| {
            let a = c.full(0)?;
            Ok(Arc::new(a.as_primitive::<Float64Type>().unary::<_, Float64Type>(f)))
        }));
    }
    for (name, up) in [("ceil", true), ("floor", false)] {
        let context = context.clone();
        out.push(Builtin::new(name, "n|t s", Ret::Of(whole_type), move |c| {
            if c.len() == 2 {
                return temporal::round(c, up, &context);
            }
            keep(
                c,
                |v| v,
                if up { f64::ceil } else { f64::floor },
                |v, s| {
                    let factor = 10i128.pow(u32::from(s));
                    let floor = v.div_euclid(factor);
                    (floor + i128::from(up && v.rem_euclid(factor) != 0), 0)
                },
            )
        }));
    }
    out.into_iter().map(Builtin::build).collect()
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Appends a number in digits of so many bits, 1 or 4.
fn push_digits(v: u64, bits: u32, out: &mut String) {
    let mut text = [b'0'; 64];
    let (mut at, mut rest) = (text.len(), v);
    loop {
        at -= 1;
        text[at] = HEX[(rest & ((1 << bits) - 1)) as usize];
        rest >>= bits;
        if rest == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&text[at..]).unwrap_or_default());
}

fn double() -> Ret {
    Ret::Type(DataType::Float64)
}

fn constant(name: &'static str, value: f64) -> Builtin {
    Builtin::new(name, "", double(), move |c| Ok(Arc::new(Float64Array::from_value(value, c.rows))))
}

fn java_pow(a: f64, b: f64) -> f64 {
    // IEEE gives 1 for these two, Java NaN.
    if b.is_nan() || (a.abs() == 1.0 && b.is_infinite()) { f64::NAN } else { a.powf(b) }
}

fn whole_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(match types.first() {
        Some(DataType::Decimal128(p, _)) => DataType::Decimal128(*p, 0),
        Some(t) => t.clone(),
        None => DataType::Null,
    })
}

/// Applies the function that fits the type; DECIMAL results come with their own scale.
fn keep(
    c: &Call<'_>,
    int: impl Fn(i64) -> i64,
    float: impl Fn(f64) -> f64,
    decimal: impl Fn(i128, u8) -> (i128, u8),
) -> Result<ArrayRef> {
    let a = c.full(0)?;
    fn ints<T: ArrowPrimitiveType>(a: &ArrayRef, f: impl Fn(T::Native) -> T::Native) -> ArrayRef {
        Arc::new(a.as_primitive::<T>().unary::<_, T>(f))
    }
    Ok(match a.data_type() {
        DataType::Int8 => ints::<Int8Type>(&a, |v| int(i64::from(v)) as i8),
        DataType::Int16 => ints::<Int16Type>(&a, |v| int(i64::from(v)) as i16),
        DataType::Int32 => ints::<Int32Type>(&a, |v| int(i64::from(v)) as i32),
        DataType::Int64 => ints::<Int64Type>(&a, int),
        DataType::Float32 => ints::<Float32Type>(&a, |v| float(f64::from(v)) as f32),
        DataType::Float64 => ints::<Float64Type>(&a, float),
        DataType::Decimal128(_, s) => {
            let s = *s as u8;
            let out: Decimal128Array = a.as_primitive::<Decimal128Type>().unary(|v| decimal(v, s).0);
            Arc::new(out.with_data_type(c.return_type.clone()))
        }
        other => return Err(Error::internal(format!("no arithmetic on {other}"))),
    })
}

fn digits(constants: &[Option<&ScalarValue>]) -> Option<i64> {
    match constants.get(1) {
        None => Some(0),
        Some(Some(ScalarValue::Int64(v))) => *v,
        Some(Some(ScalarValue::Int32(v))) => v.map(i64::from),
        Some(Some(_) | None) => None,
    }
}

/// DECIMAL(p, s) rounded to n digits is DECIMAL(1 + p - s + n, n).
fn rounded_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(match types.first() {
        Some(DataType::Decimal128(p, s)) => match digits(constants) {
            Some(n) if n < i64::from(*s) => {
                let n = n.max(0) as u8;
                DataType::Decimal128((1 + p - *s as u8 + n).min(38), n as i8)
            }
            _ => DataType::Decimal128(*p, *s),
        },
        Some(t) => t.clone(),
        None => DataType::Null,
    })
}

fn round(c: &Call<'_>, half_up: bool) -> Result<ArrayRef> {
    let a = c.full(0)?;
    let n: ArrayRef = if c.len() > 1 {
        arrow::compute::cast(&c.full(1)?, &DataType::Int64)?
    } else {
        Arc::new(Int64Array::from_value(0, c.rows))
    };
    let n = n.as_primitive::<Int64Type>();
    let decimal = |v: i128, scale: u8, n: i64| -> i128 {
        // To n digits after (or before) the point, at the same scale.
        let drop = i64::from(scale) - n;
        if drop <= 0 {
            return v;
        }
        if drop > 38 {
            return 0;
        }
        let factor = 10i128.pow(drop as u32);
        let (q, r) = (v / factor, v % factor);
        let q =
            if half_up && r.unsigned_abs() >= factor.unsigned_abs().div_ceil(2) { q + v.signum() } else { q };
        q.saturating_mul(factor)
    };
    macro_rules! rows {
        ($t:ty, $f:expr) => {{
            let a = a.as_primitive::<$t>();
            build_prims::<$t>(c.rows, |i| {
                Ok(if a.is_null(i) || n.is_null(i) { None } else { Some($f(a.value(i), n.value(i))) })
            })
        }};
    }
    match a.data_type() {
        DataType::Int8 => rows!(Int8Type, |v: i8, n| decimal(i128::from(v), 0, n) as i8),
        DataType::Int16 => rows!(Int16Type, |v: i16, n| decimal(i128::from(v), 0, n) as i16),
        DataType::Int32 => rows!(Int32Type, |v: i32, n| decimal(i128::from(v), 0, n) as i32),
        DataType::Int64 => rows!(Int64Type, |v: i64, n| decimal(i128::from(v), 0, n) as i64),
        DataType::Float32 => {
            // BigDecimal knows no negative zero; adding zero takes its sign.
            rows!(Float32Type, |v: f32, n| (round_float(&format!("{v:e}"), n, half_up) + 0.0) as f32)
        }
        DataType::Float64 => rows!(Float64Type, |v: f64, n| round_float(&format!("{v:e}"), n, half_up) + 0.0),
        DataType::Decimal128(_, s) => {
            let scale = *s as u8;
            let DataType::Decimal128(_, to) = c.return_type else {
                return Err(Error::internal("ROUND of a DECIMAL is a DECIMAL"));
            };
            let to = *to as u8;
            let out = rows!(Decimal128Type, |v: i128, n| {
                rescale(decimal(v, scale, n), scale, to).unwrap_or_default()
            })?;
            let out = out.as_primitive::<Decimal128Type>().clone();
            Ok(Arc::new(out.with_data_type(c.return_type.clone())))
        }
        other => Err(Error::internal(format!("ROUND of {other}"))),
    }
}

/// Rounds the decimal text of a float, as BigDecimal does.
fn round_float(scientific: &str, n: i64, half_up: bool) -> f64 {
    let same = scientific.parse::<f64>().unwrap_or(f64::NAN);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return same };
    let Ok(exponent) = exponent.parse::<i64>() else { return same };
    let negative = mantissa.starts_with('-');
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    // Digits to keep: those left of the point and n right of it.
    let kept = exponent + 1 + n;
    if kept >= digits.len() as i64 {
        return same;
    }
    let zero = if negative { -0.0 } else { 0.0 };
    if kept < 0 {
        return zero;
    }
    let (head, tail) = digits.split_at(kept as usize);
    let mut value: u128 = head.parse().unwrap_or(0);
    if half_up && tail.as_bytes().first().is_some_and(|b| *b >= b'5') {
        value += 1;
    }
    format!("{}{value}e{}", if negative { "-" } else { "" }, -n).parse().unwrap_or(zero)
}

fn unhex(s: &str, out: &mut Vec<u8>) -> bool {
    let nibble = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let bytes = s.as_bytes();
    let mut rest = bytes;
    if bytes.len() % 2 == 1 {
        // Flink checks the odd first digit and then takes a zero byte for it.
        match bytes.split_first() {
            Some((first, tail)) if nibble(*first).is_some() => {
                out.push(0);
                rest = tail;
            }
            _ => return false,
        }
    }
    for pair in rest.chunks_exact(2) {
        let [a, b] = pair else { return false };
        match (nibble(*a), nibble(*b)) {
            (Some(a), Some(b)) => out.push(a << 4 | b),
            _ => return false,
        }
    }
    true
}
