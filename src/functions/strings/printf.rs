//! `PRINTF(format, value, …)`: java.util.Formatter, in English.
//!
//! ```text
//!  format ─► pieces: text · %[index$][flags][width][.precision]conversion ─► one text a row
//! ```
//!
//! What Java's Formatter refuses (an unknown conversion, a value of the wrong type, one that is missing) is NULL. DATE and
//! TIME are numbers of days and milliseconds, and a DECIMAL has its text alone, as in Flink. Dates, `%t`, are not supported
//! and NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type, IntervalMonthDayNanoType,
    IntervalUnit, IntervalYearMonthType, Time32MillisecondType,
};
use chrono_tz::Tz;
use datafusion::logical_expr::ScalarUDF;

use super::printf_number::{Number, write_hex_double};
use crate::error::Result;
use crate::functions::cast::text::printer;
use crate::functions::cast::time::Times;
use crate::functions::room::check_room;
use crate::functions::udf::{Builtin, Call, Nulls, Ret, build_strings};
use crate::text::{TimeStyle, write_date};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![Builtin::new("printf", "s a*", Ret::Type(DataType::Utf8), printf).nulls(Nulls::May).build()]
}

/// One part of a format.
#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Spec(Spec),
}

/// Which value a conversion takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Index {
    Next,
    Previous,
    At(usize),
}

/// Flags of a conversion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) left: bool,
    pub(super) alternate: bool,
    pub(super) plus: bool,
    pub(super) space: bool,
    pub(super) zero: bool,
    pub(super) group: bool,
    pub(super) parentheses: bool,
}

/// A conversion.
#[derive(Debug, Clone, PartialEq)]
struct Spec {
    index: Index,
    flags: Flags,
    width: Option<usize>,
    precision: Option<usize>,
    /// In lower case.
    conversion: char,
    upper: bool,
}

/// The pieces of a format; `None` if Java refuses it whatever the values are.
fn parse(format: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let (spec, after) = spec(from.get(1..)?)?;
        pieces.push(Piece::Spec(spec));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Some(pieces)
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// A conversion behind its `%`, and what is left.
fn spec(text: &str) -> Option<(Spec, &str)> {
    let mut rest = text;
    let mut index = Index::Next;
    let (number, after) = digits(rest);
    if let Some(after) = after.strip_prefix('$')
        && !number.is_empty()
    {
        index = Index::At(number.parse::<usize>().ok()?.checked_sub(1)?);
        rest = after;
    }
    let mut flags = Flags::default();
    loop {
        let mut chars = rest.chars();
        let flag = match chars.next() {
            Some('-') => &mut flags.left,
            Some('#') => &mut flags.alternate,
            Some('+') => &mut flags.plus,
            Some(' ') => &mut flags.space,
            Some('0') => &mut flags.zero,
            Some(',') => &mut flags.group,
            Some('(') => &mut flags.parentheses,
            Some('<') if index != Index::Previous => {
                index = Index::Previous;
                rest = chars.as_str();
                continue;
            }
            _ => break,
        };
        // A flag that is there twice.
        if std::mem::replace(flag, true) {
            return None;
        }
        rest = chars.as_str();
    }
    let (number, after) = digits(rest);
    let width = if number.is_empty() { None } else { Some(number.parse().ok()?) };
    rest = after;
    let mut precision = None;
    if let Some(after) = rest.strip_prefix('.') {
        let (number, after) = digits(after);
        precision = Some(number.parse().ok()?);
        rest = after;
    }
    let mut chars = rest.chars();
    let letter = chars.next()?;
    let upper = letter.is_ascii_uppercase();
    let conversion = letter.to_ascii_lowercase();
    let spec = Spec { index, flags, width, precision, conversion, upper };
    let known = match conversion {
        'b' | 'h' | 's' | 'c' | 'x' | 'e' | 'g' | 'a' => true,
        'd' | 'o' | 'f' | 'n' | '%' => !upper,
        _ => false,
    };
    (known && spec.is_valid()).then_some((spec, chars.as_str()))
}

impl Spec {
    /// Whether flags, width and precision fit the conversion.
    fn is_valid(&self) -> bool {
        let Spec { flags, width, precision, .. } = self;
        let numeric = flags.plus || flags.space || flags.zero || flags.group || flags.parentheses;
        let padded = !(flags.left || flags.zero) || width.is_some();
        let contradictory = flags.left && flags.zero || flags.plus && flags.space;
        match self.conversion {
            'n' => *flags == Flags::default() && width.is_none() && precision.is_none(),
            '%' => precision.is_none() && padded && !numeric && !flags.alternate,
            'b' | 'h' | 's' => padded && !numeric && !flags.alternate,
            'c' => precision.is_none() && padded && !numeric && !flags.alternate,
            'd' => precision.is_none() && padded && !contradictory && !flags.alternate,
            'o' | 'x' => {
                let only_big = flags.plus || flags.space || flags.group || flags.parentheses;
                precision.is_none() && padded && !contradictory && !only_big
            }
            'e' => padded && !contradictory && !flags.group,
            'g' => padded && !contradictory && !flags.alternate,
            'a' => padded && !contradictory && !flags.group && !flags.parentheses && precision.is_none(),
            _ => padded && !contradictory,
        }
    }
}

/// A value by what can be done with it.
enum Values {
    Int { values: Vec<i64>, bits: u32 },
    Double(Vec<f64>),
    Bool,
    Other,
}

/// Writes one value of an array; the row is not null.
type Print = Box<dyn Fn(usize, &mut String)>;

/// A column of values.
struct Argument {
    array: ArrayRef,
    values: Values,
    text: Print,
    single: bool,
}

impl Argument {
    fn new(c: &Call<'_>, i: usize) -> Result<Argument> {
        use DataType as D;
        let array = Arc::clone(c.raw(i)?);
        let ints = |a: &ArrayRef| -> Result<Vec<i64>> {
            Ok(arrow::compute::cast(a, &D::Int64)?.as_primitive::<Int64Type>().values().to_vec())
        };
        let values = match array.data_type() {
            D::Int8 => Values::Int { values: ints(&array)?, bits: 8 },
            D::Int16 => Values::Int { values: ints(&array)?, bits: 16 },
            D::Int32 => Values::Int { values: ints(&array)?, bits: 32 },
            D::Int64 => Values::Int { values: ints(&array)?, bits: 64 },
            D::Date32 => {
                let days = array.as_primitive::<Date32Type>().values();
                Values::Int { values: days.iter().map(|d| i64::from(*d)).collect(), bits: 32 }
            }
            D::Time32(_) => {
                let millis = array.as_primitive::<Time32MillisecondType>().values();
                Values::Int { values: millis.iter().map(|d| i64::from(*d)).collect(), bits: 32 }
            }
            D::Interval(IntervalUnit::YearMonth) => {
                let months = array.as_primitive::<IntervalYearMonthType>().values();
                Values::Int { values: months.iter().map(|d| i64::from(*d)).collect(), bits: 32 }
            }
            D::Interval(IntervalUnit::MonthDayNano) => {
                let all = array.as_primitive::<IntervalMonthDayNanoType>().values();
                // The two kinds of intervals share this type.
                if all.iter().any(|v| v.months != 0) {
                    Values::Int { values: all.iter().map(|v| i64::from(v.months)).collect(), bits: 32 }
                } else {
                    let millis =
                        all.iter().map(|v| i64::from(v.days) * 86_400_000 + v.nanoseconds / 1_000_000);
                    Values::Int { values: millis.collect(), bits: 64 }
                }
            }
            D::Float32 => Values::Double(
                array.as_primitive::<Float32Type>().values().iter().map(|v| (*v).into()).collect(),
            ),
            D::Float64 => Values::Double(array.as_primitive::<Float64Type>().values().to_vec()),
            D::Boolean => Values::Bool,
            _ => Values::Other,
        };
        let text: Print = match array.data_type() {
            D::Boolean => {
                let a = array.as_boolean().clone();
                Box::new(move |i, out| out.push_str(if a.value(i) { "true" } else { "false" }))
            }
            D::Timestamp(..) => {
                let times = Times::new(&array)?;
                Box::new(move |i, out| {
                    if let Some((seconds, nanos)) = times.get(i) {
                        write_local_date_time(seconds, nanos, out);
                    }
                })
            }
            _ if matches!(values, Values::Int { .. }) => Box::new(|_, _| {}),
            _ => printer(&array, Tz::UTC)?,
        };
        Ok(Argument { array, values, text, single: c.is_constant(i) })
    }

    fn row(&self, i: usize) -> usize {
        if self.single { 0 } else { i }
    }
}

/// As Java's LocalDateTime: `2020-01-01T10:00`, with seconds and their digits in threes where they are not zero.
fn write_local_date_time(seconds: i64, nanos: i64, out: &mut String) {
    use std::fmt::Write;
    write_date(seconds.div_euclid(86_400), TimeStyle::CAST, out);
    let clock = seconds.rem_euclid(86_400);
    let _ = write!(out, "T{:02}:{:02}", clock / 3600, clock / 60 % 60);
    if clock % 60 != 0 || nanos != 0 {
        let _ = write!(out, ":{:02}", clock % 60);
    }
    let _ = match nanos {
        0 => Ok(()),
        n if n % 1_000_000 == 0 => write!(out, ".{:03}", n / 1_000_000),
        n if n % 1000 == 0 => write!(out, ".{:06}", n / 1000),
        n => write!(out, ".{n:09}"),
    };
}

fn printf(c: &Call<'_>) -> Result<ArrayRef> {
    let formats = c.str(0)?;
    let arguments = (1..c.len()).map(|i| Argument::new(c, i)).collect::<Result<Vec<_>>>()?;
    let mut known: Option<(String, Option<Vec<Piece>>)> = None;
    let mut value = String::new();
    build_strings(c.rows, |i, out| {
        let Some(format) = formats.get(i) else { return Ok(false) };
        if known.as_ref().is_none_or(|(text, _)| text != format) {
            known = Some((format.to_owned(), parse(format)));
        }
        let Some((_, Some(pieces))) = &known else { return Ok(false) };
        let (mut next, mut last) = (0, None);
        for piece in pieces {
            let spec = match piece {
                Piece::Text(text) => {
                    check_room(out.len(), text.len())?;
                    out.push_str(text);
                    continue;
                }
                Piece::Spec(spec) => spec,
            };
            value.clear();
            match spec.conversion {
                'n' => value.push('\n'),
                '%' => value.push('%'),
                _ => {
                    let at = match spec.index {
                        Index::At(at) => at,
                        Index::Previous => match last {
                            Some(at) => at,
                            None => return Ok(false),
                        },
                        Index::Next => {
                            next += 1;
                            next - 1
                        }
                    };
                    last = Some(at);
                    let Some(argument) = arguments.get(at) else { return Ok(false) };
                    check_room(out.len(), spec.precision.unwrap_or(0).max(spec.width.unwrap_or(0)))?;
                    if convert(spec, argument, argument.row(i), &mut value).is_none() {
                        return Ok(false);
                    }
                }
            }
            let blanks = spec.width.unwrap_or(0).saturating_sub(value.encode_utf16().count());
            check_room(out.len(), value.len() + blanks)?;
            if !spec.flags.left {
                out.extend(std::iter::repeat_n(' ', blanks));
            }
            out.push_str(&value);
            if spec.flags.left {
                out.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        Ok(true)
    })
}

/// Appends a value; `None` if the conversion does not take it.
fn convert(spec: &Spec, argument: &Argument, row: usize, out: &mut String) -> Option<()> {
    let null = argument.array.is_null(row);
    match spec.conversion {
        'b' => out.push_str(match argument.values {
            _ if null => "false",
            Values::Bool if !argument.array.as_boolean().value(row) => "false",
            _ => "true",
        }),
        _ if null => out.push_str("null"),
        's' => match &argument.values {
            Values::Int { values, .. } => crate::text::write_int(*values.get(row)?, out),
            _ => (argument.text)(row, out),
        },
        'h' => {
            let hash = hash(argument, row)?;
            Number::Bits(u64::from(hash as u32)).write('x', Flags::default(), None, None, out);
        }
        'c' => match &argument.values {
            Values::Int { values, bits: ..=32 } => {
                out.push(char::from_u32(u32::try_from(*values.get(row)?).ok()?)?);
            }
            _ => return None,
        },
        'd' => match &argument.values {
            Values::Int { values, .. } => {
                Number::Int(*values.get(row)?).write('d', spec.flags, spec.width, None, out);
            }
            _ => return None,
        },
        'o' | 'x' => match &argument.values {
            Values::Int { values, bits } => {
                let mask = u64::MAX >> (64 - bits);
                let value = *values.get(row)? as u64 & mask;
                Number::Bits(value).write(spec.conversion, spec.flags, spec.width, None, out);
            }
            _ => return None,
        },
        'a' => match &argument.values {
            Values::Double(values) => write_hex_double(*values.get(row)?, spec.flags, spec.width, out),
            _ => return None,
        },
        _ => match &argument.values {
            Values::Double(values) => Number::Double(*values.get(row)?).write(
                spec.conversion,
                spec.flags,
                spec.width,
                spec.precision,
                out,
            ),
            _ => return None,
        },
    }
    if (null || matches!(spec.conversion, 'b' | 'h' | 's'))
        && let Some(most) = spec.precision
        && let Some((at, _)) = out.char_indices().nth(most)
    {
        out.truncate(at);
    }
    if spec.upper {
        *out = out.to_uppercase();
    }
    Some(())
}

/// Java's `hashCode`.
fn hash(argument: &Argument, row: usize) -> Option<i32> {
    let folded = |v: i64| (v ^ ((v as u64) >> 32) as i64) as i32;
    Some(match &argument.values {
        Values::Int { values, bits: 64 } => folded(*values.get(row)?),
        Values::Int { values, .. } => *values.get(row)? as i32,
        Values::Double(values) => match argument.array.data_type() {
            DataType::Float32 => (*values.get(row)? as f32).to_bits() as i32,
            _ => folded(values.get(row)?.to_bits() as i64),
        },
        Values::Bool => {
            if argument.array.as_boolean().value(row) {
                1231
            } else {
                1237
            }
        }
        Values::Other => match argument.array.data_type() {
            DataType::Utf8 => argument
                .array
                .as_string::<i32>()
                .value(row)
                .encode_utf16()
                .fold(0_i32, |h, unit| h.wrapping_mul(31).wrapping_add(i32::from(unit))),
            DataType::Decimal128(_, scale) => {
                let v = i64::try_from(argument.array.as_primitive::<Decimal128Type>().value(row)).ok()?;
                let size = v.unsigned_abs();
                let low = (((size >> 32) as u32).wrapping_mul(31)).wrapping_add(size as u32) as i32;
                31_i32
                    .wrapping_mul(if v < 0 { low.wrapping_neg() } else { low })
                    .wrapping_add((*scale).into())
            }
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_java_refuses() {
        for format in [
            "%", "%q", "%-d", "%0d", "%--5d", "%+ d", "%.2d", "%#s", "%,x", "%.1c", "%5n", "%D", "%F", "%0$s",
        ] {
            assert_eq!(parse(format), None, "{format}");
        }
        for format in ["", "abc", "%%", "%-5%", "%2$-10.3s", "%<s", "%(,.2f", "%+05d"] {
            assert!(parse(format).is_some(), "{format}");
        }
    }

    #[test]
    fn local_date_times() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00"),
            (1, 0, "1970-01-01T00:00:01"),
            (0, 120_000_000, "1970-01-01T00:00:00.120"),
            (-1, 1000, "1969-12-31T23:59:59.000001"),
            (0, 1, "1970-01-01T00:00:00.000000001"),
        ] {
            let mut out = String::new();
            write_local_date_time(seconds, nanos, &mut out);
            assert_eq!(out, text);
        }
    }
}
