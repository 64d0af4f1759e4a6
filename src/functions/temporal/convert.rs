//! Between text, numbers and times: `TO_TIMESTAMP`, `TO_TIMESTAMP_LTZ`, `TO_DATE`, `DATE_FORMAT`, `FROM_UNIXTIME`,
//! `UNIX_TIMESTAMP`, `CONVERT_TZ`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMillisecondType,
};
use chrono_tz::Tz;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{ScalarUDF, Volatility};

use super::calendar;
use super::java_zone::JavaZone;
use super::pattern::{Parsed, Pattern, Style};
use crate::error::{Error, Result};
use crate::functions::cast::time::Times;
use crate::functions::context::{Clock, FunctionContext, instant_to_wall, parse_zone, wall_to_instant};
use crate::functions::udf::{Builtin, Call, Col, Nulls, Ret, build_prims, build_strings};
use crate::text::units_per_second;

const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";

pub(super) fn functions(context: &FunctionContext) -> Vec<Arc<ScalarUDF>> {
    let zone = context.time_zone;
    let now = context.clock.clone();
    let (century, clock) = (now.clone(), now.clone());
    vec![
        Builtin::new(
            "to_timestamp",
            "s s?",
            Ret::Of(|_, constants| {
                check_pattern("TO_TIMESTAMP", constants, Style::Strict)?;
                Ok(DataType::Timestamp(TimeUnit::Millisecond, None))
            }),
            to_timestamp,
        )
        .nulls(Nulls::May)
        .build(),
        Builtin::new("to_timestamp_ltz", "n i?|s s? s?", Ret::Of(ltz_type), to_timestamp_ltz)
            .nulls(Nulls::May)
            .build(),
        Builtin::new("to_date", "s s?", Ret::Of(to_date_type), move |c| to_date(c, century.as_ref()))
            .nulls(Nulls::May)
            .build(),
        Builtin::new("date_format", "t s|s s", Ret::Of(date_format_type), move |c| date_format(c, zone))
            .nulls(Nulls::May)
            .build(),
        Builtin::new("from_unixtime", "l s?", Ret::Of(from_unixtime_type), move |c| from_unixtime(c, zone))
            .nulls(Nulls::May)
            .build(),
        Builtin::new("unix_timestamp", "s s?", Ret::Of(unix_timestamp_type), move |c| {
            unix_timestamp(c, zone, clock.as_ref())
        })
        .build(),
        Builtin::new("__unix_timestamp_now", "", Ret::Type(DataType::Int64), move |c| {
            let seconds = now.now_millis().div_euclid(1000);
            Ok(Arc::new(arrow::array::Int64Array::from_value(seconds, c.rows)))
        })
        .volatility(Volatility::Volatile)
        .nulls(Nulls::Never)
        .build(),
        Builtin::new("convert_tz", "s s s", Ret::Type(DataType::Utf8), convert_tz).nulls(Nulls::May).build(),
    ]
}

/// Refuses a literal pattern that is not valid.
fn check_pattern(name: &str, constants: &[Option<&ScalarValue>], style: Style) -> Result<Option<Pattern>> {
    let literal = constants.get(1).copied().flatten().and_then(|c| c.try_as_str().flatten());
    literal.map(|text| compile(name, text, style)).transpose()
}

fn compile(name: &str, text: &str, style: Style) -> Result<Pattern> {
    Pattern::compile(text, style).map_err(|why| bad_pattern(name, text, style, &why))
}

fn bad_pattern(name: &str, text: &str, style: Style, why: &str) -> Error {
    let (class, letters) = match style {
        Style::Strict => (
            "DateTimeFormatter",
            "y M d H m s S, also u Y Q q L w W D F g E e c G a B h K k n A N V v z O X x Z p",
        ),
        Style::Lenient => ("SimpleDateFormat", "y M d H m s S, also G Y L w W D F E u a h K k z Z X"),
    };
    Error::validation(format!("{name}: the pattern '{text}' is not valid: {why}")).hint(format!(
        "its letters are those of Java's {class}: {letters}; other text stands in quotes, such as ''T''"
    ))
}

fn to_date_type(_: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    check_pattern("TO_DATE", constants, Style::Lenient)?;
    Ok(DataType::Date32)
}

fn from_unixtime_type(_: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    check_pattern("FROM_UNIXTIME", constants, Style::Lenient)?;
    Ok(DataType::Utf8)
}

fn unix_timestamp_type(_: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    check_pattern("UNIX_TIMESTAMP", constants, Style::Lenient)?;
    Ok(DataType::Int64)
}

fn date_format_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let style = if types.first() == Some(&DataType::Utf8) { Style::Lenient } else { Style::Strict };
    if let Some(pattern) = check_pattern("DATE_FORMAT", constants, style)?
        && let Some(why) = pattern.unprintable()
        && let Some(Some(text)) = constants.get(1)
    {
        return Err(bad_pattern("DATE_FORMAT", text.try_as_str().flatten().unwrap_or_default(), style, &why));
    }
    Ok(DataType::Utf8)
}

/// The first of the hundred years that two digits mean: the last ones before are 80 years ago.
fn first_year(clock: &dyn Clock) -> i64 {
    calendar::civil(clock.now_millis().div_euclid(86_400_000)).0 - 80
}

/// The pattern of a row, compiled again only when it changes.
struct Patterns<'a> {
    name: &'static str,
    texts: Option<Col<'a, StringArray>>,
    style: Style,
    known: Option<(String, Pattern)>,
    last: Printed,
}

/// What was printed last. Times of neighbours are often the same day or minute, which is all that a pattern may show.
#[derive(Default)]
struct Printed {
    /// Wall clocks, in seconds, that look the same.
    of: std::ops::Range<i64>,
    text: String,
}

impl<'a> Patterns<'a> {
    fn new(name: &'static str, c: &'a Call<'_>, i: usize, style: Style) -> Result<Self> {
        let texts = if c.has(i) { Some(c.str(i)?) } else { None };
        Ok(Patterns { name, texts, style, known: None, last: Printed::default() })
    }

    /// `None` for a NULL pattern.
    fn get(&mut self, row: usize) -> Result<Option<&Pattern>> {
        let text = match &self.texts {
            Some(t) => match t.get(row) {
                Some(text) => text,
                None => return Ok(None),
            },
            None => DEFAULT,
        };
        if self.known.as_ref().is_none_or(|(k, _)| k != text) {
            self.known = Some((text.to_owned(), compile(self.name, text, self.style)?));
            self.last.of = 0..0;
        }
        Ok(self.known.as_ref().map(|(_, p)| p))
    }

    /// Prints by the pattern that [`Patterns::get`] gave last.
    fn format(&mut self, out: &mut String, seconds: i64, nanos: i64, zone: Tz) -> Result<()> {
        if self.last.of.contains(&seconds) {
            out.push_str(&self.last.text);
            return Ok(());
        }
        let Some((text, pattern)) = &self.known else { return Ok(()) };
        let from = out.len();
        let printed = pattern.format(out, seconds, nanos, zone);
        printed.map_err(|why| bad_pattern(self.name, text, self.style, &why))?;
        if let Some(grain) = pattern.grain()
            && let Some(printed) = out.get(from..)
        {
            let start = seconds - seconds.rem_euclid(grain);
            self.last.of = start..start.saturating_add(grain);
            self.last.text.clear();
            self.last.text.push_str(printed);
        }
        Ok(())
    }
}

/// Reads a text by a pattern, falling back to `y-M-d[ H:m:s]` as Flink does; in the default form without a pattern.
fn read(s: &str, pattern: &Pattern, given: bool) -> Option<Parsed> {
    let default = if given {
        if let Some(p) = pattern.parse(s) {
            return Some(p);
        }
        calendar::parse_rolling(s)
    } else {
        calendar::parse_timestamp(s)
    };
    default.map(|(seconds, nanos)| Parsed { seconds, nanos, offset: None })
}

fn to_timestamp(c: &Call<'_>) -> Result<ArrayRef> {
    let s = c.str(0)?;
    let given = c.has(1);
    let mut patterns = Patterns::new("TO_TIMESTAMP", c, 1, Style::Strict)?;
    build_prims::<TimestampMillisecondType>(c.rows, |i| {
        let (Some(s), Some(p)) = (s.get(i), patterns.get(i)?) else { return Ok(None) };
        Ok(read(s, p, given).map(|p| p.seconds * 1000 + p.nanos / 1_000_000))
    })
}

fn ltz_type(types: &[DataType], constants: &[Option<&ScalarValue>]) -> Result<DataType> {
    let precision = match (types.first(), constants.get(1)) {
        (Some(DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8), Some(_)) => {
            check_pattern("TO_TIMESTAMP_LTZ", constants, Style::Strict)?
                .map_or(3, |p| p.fraction_digits().clamp(3, 9) as i64)
        }
        (_, Some(Some(ScalarValue::Int64(Some(p))))) => *p,
        (_, Some(Some(ScalarValue::Int32(Some(p))))) => i64::from(*p),
        _ => 3,
    };
    if !(0..=9).contains(&precision) {
        return Err(Error::validation(format!(
            "TO_TIMESTAMP_LTZ: the precision {precision} is out of range"
        ))
        .hint("it can be 0 to 9"));
    }
    Ok(DataType::Timestamp(crate::types::timestamp_unit(precision as u8), Some("UTC".into())))
}

/// Years 0 to 9999 in seconds since the epoch.
const RANGE: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

fn to_timestamp_ltz(c: &Call<'_>) -> Result<ArrayRef> {
    let DataType::Timestamp(unit, _) = c.return_type else {
        return Err(Error::internal("TO_TIMESTAMP_LTZ gives a TIMESTAMP_LTZ"));
    };
    let per_second = units_per_second(*unit);
    let keep = |units: Option<i128>| {
        units
            .filter(|u| i64::try_from(u.div_euclid(i128::from(per_second))).is_ok_and(|s| RANGE.contains(&s)))
            .and_then(|u| i64::try_from(u).ok())
    };
    let out = if *c.ty(0) == DataType::Utf8 {
        let s = c.str(0)?;
        let given = c.has(1);
        let mut patterns = Patterns::new("TO_TIMESTAMP_LTZ", c, 1, Style::Strict)?;
        let zones = if c.has(2) { Some(c.str(2)?) } else { None };
        build_prims::<Int64Type>(c.rows, |i| {
            let (Some(s), Some(p)) = (s.get(i), patterns.get(i)?) else { return Ok(None) };
            let zone = match &zones {
                None => Tz::UTC,
                Some(z) => match z.get(i).and_then(parse_zone) {
                    Some(z) => z,
                    None => return Ok(None),
                },
            };
            Ok(read(s, p, given).and_then(|p| {
                let seconds = match p.offset {
                    Some(o) => p.seconds - o,
                    None => wall_to_instant(p.seconds.checked_mul(1_000_000)?, zone) / 1_000_000,
                };
                keep(Some(
                    i128::from(seconds) * i128::from(per_second)
                        + i128::from(p.nanos * per_second / 1_000_000_000),
                ))
            }))
        })?
    } else {
        let p = if c.has(1) { c.prim::<arrow::datatypes::Int32Type>(1)?.get(0).unwrap_or(3) } else { 3 };
        let scale = 10i128.pow(p.clamp(0, 9) as u32);
        let convert = |n: i128| Some((n * i128::from(per_second)).div_euclid(scale));
        let a = c.full(0)?;
        match a.data_type() {
            DataType::Float32 | DataType::Float64 => {
                let a = arrow::compute::cast(&a, &DataType::Float64)?;
                let a = a.as_primitive::<Float64Type>();
                build_prims::<Int64Type>(c.rows, |i| {
                    Ok(if a.is_null(i) || !a.value(i).is_finite() {
                        None
                    } else {
                        keep(Some((a.value(i) * per_second as f64 / scale as f64) as i128))
                    })
                })?
            }
            DataType::Decimal128(_, s) => {
                let factor = 10i128.pow(*s as u32);
                let a = a.as_primitive::<Decimal128Type>();
                build_prims::<Int64Type>(c.rows, |i| {
                    Ok(if a.is_null(i) { None } else { keep(convert(a.value(i) / factor)) })
                })?
            }
            _ => {
                let a = arrow::compute::cast(&a, &DataType::Int64)?;
                let a = a.as_primitive::<Int64Type>();
                build_prims::<Int64Type>(c.rows, |i| {
                    Ok(if a.is_null(i) { None } else { keep(convert(i128::from(a.value(i)))) })
                })?
            }
        }
    };
    Ok(arrow::compute::cast(&out, c.return_type)?)
}

fn to_date(c: &Call<'_>, clock: &dyn Clock) -> Result<ArrayRef> {
    let s = c.str(0)?;
    if !c.has(1) {
        return build_prims::<Date32Type>(c.rows, |i| {
            Ok(s.get(i).and_then(calendar::parse_date).and_then(|d| d.try_into().ok()))
        });
    }
    let first_year = first_year(clock);
    // A text of which nothing is read is no date.
    let names = c.str(1)?;
    let mut patterns = Patterns::new("TO_DATE", c, 1, Style::Lenient)?;
    build_prims::<Date32Type>(c.rows, |i| {
        let (Some(s), Some(pattern)) = (s.get(i), names.get(i)) else { return Ok(None) };
        let Some(p) = patterns.get(i)?.filter(|_| !pattern.is_empty()) else { return Ok(None) };
        Ok(p.parse_since(s, first_year).and_then(|p| p.seconds.div_euclid(86_400).try_into().ok()))
    })
}

fn date_format(c: &Call<'_>, zone: Tz) -> Result<ArrayRef> {
    if *c.ty(0) == DataType::Utf8 {
        let s = c.str(0)?;
        let mut patterns = Patterns::new("DATE_FORMAT", c, 1, Style::Lenient)?;
        let default = Pattern::new(DEFAULT, Style::Lenient);
        return build_strings(c.rows, |i, out| {
            let (Some(s), Some(_)) = (s.get(i), patterns.get(i)?) else { return Ok(false) };
            let Some(t) = default.as_ref().and_then(|d| d.parse(s)) else { return Ok(false) };
            // Flink reads and prints strings in UTC.
            patterns.format(out, t.seconds, t.nanos, Tz::UTC)?;
            Ok(true)
        });
    }
    let a = c.full(0)?;
    let zoned = matches!(a.data_type(), DataType::Timestamp(_, Some(_)));
    let times = Times::new(&a)?;
    let mut patterns = Patterns::new("DATE_FORMAT", c, 1, Style::Strict)?;
    build_strings(c.rows, |i, out| {
        let (Some((mut seconds, nanos)), Some(_)) = (times.get(i), patterns.get(i)?) else {
            return Ok(false);
        };
        if zoned {
            seconds = instant_to_wall(seconds.saturating_mul(1_000_000), zone) / 1_000_000;
        }
        patterns.format(out, seconds, nanos, zone)?;
        Ok(true)
    })
}

fn from_unixtime(c: &Call<'_>, zone: Tz) -> Result<ArrayRef> {
    let n = c.prim::<Int64Type>(0)?;
    let mut patterns = Patterns::new("FROM_UNIXTIME", c, 1, Style::Lenient)?;
    build_strings(c.rows, |i, out| {
        let (Some(n), Some(_)) = (n.get(i), patterns.get(i)?) else { return Ok(false) };
        patterns.format(out, instant_to_wall(n.saturating_mul(1_000_000), zone) / 1_000_000, 0, zone)?;
        Ok(true)
    })
}

fn unix_timestamp(c: &Call<'_>, zone: Tz, clock: &dyn Clock) -> Result<ArrayRef> {
    let s = c.str(0)?;
    let first_year = first_year(clock);
    let mut patterns = Patterns::new("UNIX_TIMESTAMP", c, 1, Style::Lenient)?;
    build_prims::<Int64Type>(c.rows, |i| {
        let (Some(s), Some(p)) = (s.get(i), patterns.get(i)?) else { return Ok(None) };
        let seconds = p.parse_since(s, first_year).and_then(|p| {
            let seconds = match p.offset {
                Some(o) => p.seconds - o,
                None => wall_to_instant(p.seconds.checked_mul(1_000_000)?, zone) / 1_000_000,
            };
            // Java divides milliseconds toward zero.
            Some(if seconds < 0 && p.nanos > 0 { seconds + 1 } else { seconds })
        });
        // What does not parse is Flink's Long.MIN_VALUE, not NULL.
        Ok(Some(seconds.unwrap_or(i64::MIN)))
    })
}

fn convert_tz(c: &Call<'_>) -> Result<ArrayRef> {
    let (s, from, to) = (c.str(0)?, c.str(1)?, c.str(2)?);
    let pattern = compile("CONVERT_TZ", DEFAULT, Style::Lenient)?;
    build_strings(c.rows, |i, out| {
        let (Some(s), Some(from), Some(to)) = (s.get(i), from.get(i), to.get(i)) else { return Ok(false) };
        let Some(t) = pattern.parse(s) else { return Ok(false) };
        let (from, to) = (JavaZone::named(from), JavaZone::named(to));
        let instant = t.seconds.checked_mul(1_000_000).and_then(|micros| from.instant(micros));
        let Some(shown) = instant.and_then(|instant| to.wall(instant)) else { return Ok(false) };
        pattern
            .format(out, shown.div_euclid(1_000_000), 0, to.shown_as())
            .map_err(|why| bad_pattern("CONVERT_TZ", DEFAULT, Style::Lenient, &why))?;
        Ok(true)
    })
}
