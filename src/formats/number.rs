//! Numbers as text, read and written as Java does it for Flink.
//!
//! Decimals are exact: they never pass through a float.

use std::io::Write;

/// Java's `parseDouble` without its hexadecimal form: blanks around, `NaN`, `Infinity`, digits, exponent.
pub(crate) fn parse_f64(text: &str) -> Option<f64> {
    let t = text.trim();
    let unsigned = t.strip_prefix(['+', '-']).unwrap_or(t);
    match unsigned.as_bytes().first()? {
        b'0'..=b'9' | b'.' => t.parse().ok(),
        b'N' if unsigned == "NaN" => Some(f64::NAN),
        b'I' if unsigned == "Infinity" => {
            Some(if t.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY })
        }
        _ => None,
    }
}

/// [`parse_f64`] rounded once to 32 bits.
pub(crate) fn parse_f32(text: &str) -> Option<f32> {
    let t = text.trim();
    let unsigned = t.strip_prefix(['+', '-']).unwrap_or(t);
    match unsigned.as_bytes().first()? {
        b'0'..=b'9' | b'.' => t.parse().ok(),
        _ => parse_f64(t).map(|v| v as f32),
    }
}

/// What became of the text of a decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParsedDecimal {
    /// The unscaled value, rounded half up.
    Value(i128),
    /// A number with too many digits before the point: NULL in Flink.
    TooLarge,
    /// Not a number.
    Invalid,
}

/// `new BigDecimal(text)` fitted to `DECIMAL(precision, scale)`.
pub(crate) fn parse_decimal(text: &str, precision: u8, scale: u8) -> ParsedDecimal {
    let b = text.as_bytes();
    let (negative, b) = match b.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, b),
    };
    let mantissa_end = b.iter().position(|c| matches!(c, b'e' | b'E')).unwrap_or(b.len());
    let (mantissa, exponent) = b.split_at(mantissa_end);
    let exponent = match exponent.split_first() {
        None => 0i64,
        Some((_, digits)) => {
            let Some(e) = std::str::from_utf8(digits).ok().filter(|t| t.len() <= 11) else {
                return ParsedDecimal::Invalid;
            };
            match e.parse::<i32>() {
                Ok(e) => i64::from(e),
                Err(_) => return ParsedDecimal::Invalid,
            }
        }
    };
    let (mut digits, mut point) = (0i64, None);
    for c in mantissa {
        match c {
            b'0'..=b'9' => digits += 1,
            b'.' if point.is_none() => point = Some(digits),
            _ => return ParsedDecimal::Invalid,
        }
    }
    if digits == 0 {
        return ParsedDecimal::Invalid;
    }
    // Digits of the mantissa that stay: those before the point moved by exponent and scale.
    let keep = point.unwrap_or(digits) + exponent + i64::from(scale);
    let mut value = 0i128;
    let mut significant = 0u32;
    let mut round_up = false;
    for (seen, c) in mantissa.iter().filter(|c| **c != b'.').enumerate() {
        let seen = seen as i64;
        if seen >= keep {
            round_up = seen == keep && *c >= b'5';
            break;
        }
        if significant > 0 || *c != b'0' {
            significant += 1;
            if significant > 38 {
                return ParsedDecimal::TooLarge;
            }
            value = value * 10 + i128::from(c - b'0');
        }
    }
    if value != 0 && keep > digits {
        let zeros = keep - digits;
        let Some(scaled) =
            u32::try_from(zeros).ok().and_then(|z| 10i128.checked_pow(z)).and_then(|f| value.checked_mul(f))
        else {
            return ParsedDecimal::TooLarge;
        };
        value = scaled;
    }
    if round_up {
        value += 1;
    }
    if value >= 10i128.pow(u32::from(precision.min(38))) {
        return ParsedDecimal::TooLarge;
    }
    ParsedDecimal::Value(if negative { -value } else { value })
}

/// Appends an unscaled decimal in plain notation.
pub(crate) fn write_decimal(out: &mut Vec<u8>, value: i128, scale: u8) {
    let digits = value.unsigned_abs().to_string();
    let scale = usize::from(scale);
    if value < 0 {
        out.push(b'-');
    }
    if scale == 0 {
        out.extend_from_slice(digits.as_bytes());
        return;
    }
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole.as_bytes() });
    out.push(b'.');
    out.extend(std::iter::repeat_n(b'0', scale - fraction.len()));
    out.extend_from_slice(fraction.as_bytes());
}

/// Appends a decimal as Flink's default does: stripped of trailing zeros, then Java's `BigDecimal.toString`, which
/// takes scientific notation for a negative scale (`1E+6`) and below `1E-6`.
pub(crate) fn write_decimal_scientific(out: &mut Vec<u8>, value: i128, scale: u8) {
    if value == 0 {
        out.push(b'0');
        return;
    }
    let (mut v, mut s) = (value, i32::from(scale));
    while v % 10 == 0 {
        v /= 10;
        s -= 1;
    }
    let digits = v.unsigned_abs().to_string();
    let exponent = digits.len() as i32 - 1 - s;
    if s >= 0 && exponent >= -6 {
        return write_decimal(out, v, s as u8);
    }
    if v < 0 {
        out.push(b'-');
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let _ = write!(out, "{first}{point}{rest}E{exponent:+}");
}

/// Appends a float as Java's `Double.toString` and `Float.toString`: `1.0`, `1.0E10`, `NaN`, `Infinity`.
/// `shortest` is Rust's `{:e}` form of it, which has the fewest digits that read back to the same value.
fn write_java_float(out: &mut Vec<u8>, shortest: &str, magnitude: f64) {
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(m) => (true, m),
        None => (false, mantissa),
    };
    if negative {
        out.push(b'-');
    }
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if magnitude != 0.0 && !(1e-3..1e7).contains(&magnitude) {
        let _ = write!(out, "{first}.{}E{exponent}", if rest.is_empty() { "0" } else { rest });
        return;
    }
    let digits = format!("{first}{rest}");
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', exponent.unsigned_abs() as usize - 1));
        out.extend_from_slice(digits.as_bytes());
    } else {
        let whole = exponent as usize + 1;
        if digits.len() <= whole {
            out.extend_from_slice(digits.as_bytes());
            out.extend(std::iter::repeat_n(b'0', whole - digits.len()));
            out.extend_from_slice(b".0");
        } else {
            let (w, f) = digits.split_at(whole);
            let _ = write!(out, "{w}.{f}");
        }
    }
}

fn write_special(out: &mut Vec<u8>, v: f64) -> bool {
    if v.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if v.is_infinite() {
        out.extend_from_slice(if v > 0.0 { b"Infinity".as_slice() } else { b"-Infinity" });
    } else {
        return false;
    }
    true
}

/// Appends a double as Java prints it.
pub(crate) fn write_f64(out: &mut Vec<u8>, v: f64) {
    if !write_special(out, v) {
        write_java_float(out, &format!("{v:e}"), v.abs());
    }
}

/// Appends a float as Java prints it.
pub(crate) fn write_f32(out: &mut Vec<u8>, v: f32) {
    if !write_special(out, f64::from(v)) {
        // Compared as f32: 1e-3f32 widened is a little above 1e-3.
        let magnitude = if (1e-3f32..1e7f32).contains(&v.abs()) {
            1.0
        } else if v == 0.0 {
            0.0
        } else {
            1e10
        };
        write_java_float(out, &format!("{v:e}"), magnitude);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_round_half_up() {
        let p = |t: &str| parse_decimal(t, 10, 2);
        assert_eq!(p("1.005"), ParsedDecimal::Value(101));
        assert_eq!(p("-0.005"), ParsedDecimal::Value(-1));
        assert_eq!(p("0.0049999"), ParsedDecimal::Value(0));
        assert_eq!(p("+5"), ParsedDecimal::Value(500));
        assert_eq!(p(".5"), ParsedDecimal::Value(50));
        assert_eq!(p("5."), ParsedDecimal::Value(500));
        assert_eq!(p("1e3"), ParsedDecimal::Value(100_000));
        assert_eq!(p("12345e-4"), ParsedDecimal::Value(123));
        assert_eq!(p("5e-3"), ParsedDecimal::Value(1));
        assert_eq!(p("5e-4"), ParsedDecimal::Value(0));
        assert_eq!(p("0e999999"), ParsedDecimal::Value(0));
        assert_eq!(p("99999999.994"), ParsedDecimal::Value(9_999_999_999));
        assert_eq!(p("99999999.995"), ParsedDecimal::TooLarge);
        assert_eq!(p("1e9999"), ParsedDecimal::TooLarge);
        assert_eq!(
            parse_decimal("0.1234567890123456789012345678901234567891", 38, 38),
            ParsedDecimal::Value(12_345_678_901_234_567_890_123_456_789_012_345_679)
        );
        for bad in ["", "-", ".", "abc", "1.2.3", "1e", "1e5.5", " 1", "NaN", "１"] {
            assert_eq!(p(bad), ParsedDecimal::Invalid, "{bad}");
        }
        // 10^38 overflows DECIMAL(38, 0) but not the accumulator.
        assert_eq!(parse_decimal(&"9".repeat(39), 38, 0), ParsedDecimal::TooLarge);
    }

    fn text(f: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_as_java() {
        let d = |v: f64| text(|o| write_f64(o, v));
        for (v, t) in [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1e7, "1.0E7"),
            (9_999_999.5, "9999999.5"),
            (1e-3, "0.001"),
            (1e-4, "1.0E-4"),
            (123_456_789.125, "1.23456789125E8"),
            (-1.5e300, "-1.5E300"),
            (100.0, "100.0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(d(v), t);
        }
        let f = |v: f32| text(|o| write_f32(o, v));
        for (v, t) in [(1.1, "1.1"), (1e-3, "0.001"), (1e-10, "1.0E-10"), (1e20, "1.0E20"), (0.0, "0.0")] {
            assert_eq!(f(v), t);
        }
    }

    #[test]
    fn decimals_written() {
        assert_eq!(text(|o| write_decimal(o, -1, 2)), "-0.01");
        assert_eq!(text(|o| write_decimal(o, 100, 2)), "1.00");
        assert_eq!(text(|o| write_decimal_scientific(o, 100_000_000, 2)), "1E+6");
        assert_eq!(text(|o| write_decimal_scientific(o, 110, 2)), "1.1");
        assert_eq!(text(|o| write_decimal_scientific(o, -15, 10)), "-1.5E-9");
    }

    #[test]
    fn floats_read_as_java() {
        assert_eq!(parse_f64(" 2.5 "), Some(2.5));
        assert_eq!(parse_f64("1e400"), Some(f64::INFINITY));
        assert!(parse_f64("NaN").is_some_and(f64::is_nan));
        assert_eq!(parse_f64("-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_f32("16777217"), Some(16_777_216.0));
        for bad in ["", "inf", "nan", "infinity", "abc", "1,5", "-"] {
            assert_eq!(parse_f64(bad), None, "{bad}");
        }
    }
}
