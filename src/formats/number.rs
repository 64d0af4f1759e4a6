//! Numbers read from text as Java does it for Flink.
//!
//! Decimals are exact: they never pass through a float.

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
