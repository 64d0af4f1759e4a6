//! Decimals. They never pass through a float.

use super::integer::write_int;
use super::sink::Sink;

/// How a decimal looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecimalStyle {
    /// All digits of the scale: `1.50`, `0.00000100`.
    Full,
    /// `BigDecimal.toString`: like [`DecimalStyle::Full`], with an exponent below 1e-6: `1.50`, `1.00E-7`.
    Java,
    /// Without the fraction's trailing zeros: `1.5`, `0.0000001`.
    Trimmed,
    /// `BigDecimal.stripTrailingZeros().toString()`: `1.5`, `1E-7`, `1E+6`.
    JavaTrimmed,
}

/// Appends the decimal `unscaled` · 10^-`scale`.
pub(crate) fn write_decimal<S: Sink>(unscaled: i128, scale: i8, style: DecimalStyle, out: &mut S) {
    use DecimalStyle as D;
    let scale = i64::from(scale);
    let (unscaled, scale) = match style {
        D::Full | D::Java => (unscaled, scale),
        D::Trimmed => trim(unscaled, scale, 0),
        D::JavaTrimmed => trim(unscaled, scale, i64::MIN),
    };
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs());
    match style {
        D::Full | D::Trimmed => write_plain(unscaled < 0, digits, scale, out),
        D::Java | D::JavaTrimmed => write_big_decimal(unscaled < 0, digits, scale, out),
    }
}

/// Takes trailing zeros off as long as the scale is above `least`.
fn trim(mut unscaled: i128, mut scale: i64, least: i64) -> (i128, i64) {
    if unscaled == 0 {
        return (0, 0);
    }
    while scale > least && unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    (unscaled, scale)
}

/// Appends the number `digits` · 10^-`scale` as `BigDecimal.toString` does.
pub(crate) fn write_big_decimal<S: Sink>(negative: bool, digits: &str, scale: i64, out: &mut S) {
    let exponent = digits.len() as i64 - 1 - scale;
    if scale >= 0 && exponent >= -6 {
        return write_plain(negative, digits, scale, out);
    }
    if negative {
        out.push_byte(b'-');
    }
    let (first, rest) = digits.split_at(1.min(digits.len()));
    out.push_str(first);
    if !rest.is_empty() {
        out.push_byte(b'.');
        out.push_str(rest);
    }
    out.push_str(if exponent < 0 { "E" } else { "E+" });
    write_int(exponent, out);
}

fn write_plain<S: Sink>(negative: bool, digits: &str, scale: i64, out: &mut S) {
    if negative {
        out.push_byte(b'-');
    }
    let Ok(scale @ 1..) = usize::try_from(scale) else {
        out.push_str(digits);
        out.push_zeros(usize::try_from(-scale).unwrap_or(0));
        return;
    };
    if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.push_str(whole);
        out.push_byte(b'.');
        out.push_str(fraction);
    } else {
        out.push_str("0.");
        out.push_zeros(scale - digits.len());
        out.push_str(digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles() {
        let all = |v, scale| {
            use DecimalStyle as D;
            [D::Full, D::Java, D::Trimmed, D::JavaTrimmed].map(|style| {
                let (mut bytes, mut string) = (Vec::new(), String::new());
                write_decimal(v, scale, style, &mut bytes);
                write_decimal(v, scale, style, &mut string);
                assert_eq!(string.as_bytes(), bytes);
                string
            })
        };
        assert_eq!(all(-1, 2), ["-0.01", "-0.01", "-0.01", "-0.01"]);
        assert_eq!(all(100, 2), ["1.00", "1.00", "1", "1"]);
        assert_eq!(all(110, 2), ["1.10", "1.10", "1.1", "1.1"]);
        assert_eq!(all(100_000_000, 2), ["1000000.00", "1000000.00", "1000000", "1E+6"]);
        assert_eq!(all(-15, 10), ["-0.0000000015", "-1.5E-9", "-0.0000000015", "-1.5E-9"]);
        assert_eq!(all(0, 8), ["0.00000000", "0E-8", "0", "0"]);
        assert_eq!(all(0, 0), ["0", "0", "0", "0"]);
        assert_eq!(all(120, 0), ["120", "120", "120", "1.2E+2"]);
        assert_eq!(all(12, -1), ["120", "1.2E+2", "120", "1.2E+2"]);
    }
}
