//! Numbers as java.util.Formatter writes them.

use super::printf::Flags;

/// A number and what is known of its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Number {
    Int(i64),
    /// Without a sign, for `%o` and `%x`.
    Bits(u64),
    Double(f64),
}

impl Number {
    /// Appends it with sign, groups and zeros; blanks are the caller's.
    pub(super) fn write(
        self,
        conversion: char,
        flags: Flags,
        width: Option<usize>,
        precision: Option<usize>,
        out: &mut String,
    ) {
        let (negative, mut body, zeros) = match self {
            Number::Int(v) => (v < 0, v.unsigned_abs().to_string(), true),
            Number::Bits(v) => {
                let prefix = match (flags.alternate, conversion) {
                    (true, 'x') => "0x",
                    (true, _) => "0",
                    _ => "",
                };
                let body = if conversion == 'x' { format!("{v:x}") } else { format!("{v:o}") };
                out.push_str(prefix);
                if flags.zero {
                    let missing = width.unwrap_or(0).saturating_sub(prefix.len() + body.len());
                    out.extend(std::iter::repeat_n('0', missing));
                }
                out.push_str(&body);
                return;
            }
            Number::Double(v) if v.is_nan() => {
                out.push_str("NaN");
                return;
            }
            Number::Double(v) => {
                let negative = v.is_sign_negative();
                let size = v.abs();
                if size.is_infinite() {
                    (negative, "Infinity".to_owned(), false)
                } else {
                    (negative, magnitude(size, conversion, precision.unwrap_or(6), flags.alternate), true)
                }
            }
        };
        if flags.group && zeros {
            body = grouped(&body);
        }
        let (prefix, suffix) = match negative {
            true if flags.parentheses => ("(", ")"),
            true => ("-", ""),
            false if flags.plus => ("+", ""),
            false if flags.space => (" ", ""),
            false => ("", ""),
        };
        out.push_str(prefix);
        if flags.zero && zeros {
            let missing = width.unwrap_or(0).saturating_sub(prefix.len() + body.len() + suffix.len());
            out.extend(std::iter::repeat_n('0', missing));
        }
        out.push_str(&body);
        out.push_str(suffix);
    }
}

/// Commas between groups of three digits before the point.
fn grouped(body: &str) -> String {
    let whole = body.find(|c: char| !c.is_ascii_digit()).unwrap_or(body.len());
    let (digits, rest) = body.split_at(whole);
    let mut out = String::with_capacity(body.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out.push_str(rest);
    out
}

/// The digits of a number that round trip, and the place of its point: 0.00123 is ("123", -2).
fn shortest(v: f64) -> (Vec<u8>, i64) {
    let text = format!("{v:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).map(|d| d - b'0').collect();
    (digits, exponent.parse::<i64>().unwrap_or(0) + 1)
}

/// The first `count` of the digits, the last one rounded half up; the point moves where they become one more.
fn rounded(mut digits: Vec<u8>, point: i64, count: i64) -> (Vec<u8>, i64) {
    let Ok(kept) = usize::try_from(count) else { return (vec![0], point) };
    if kept >= digits.len() {
        return (digits, point);
    }
    let up = digits.get(kept).is_some_and(|d| *d >= 5);
    digits.truncate(kept);
    if !up {
        return if digits.is_empty() { (vec![0], point) } else { (digits, point) };
    }
    for d in digits.iter_mut().rev() {
        if *d < 9 {
            *d += 1;
            return (digits, point);
        }
        *d = 0;
    }
    digits.insert(0, 1);
    (digits, point + 1)
}

fn magnitude(v: f64, conversion: char, precision: usize, alternate: bool) -> String {
    match conversion {
        'e' => scientific(v, precision, alternate),
        'g' => {
            let precision = precision.max(1);
            if v == 0.0 {
                return plain(v, precision - 1, false);
            }
            let (digits, point) = shortest(v);
            let (_, point) = rounded(digits, point, precision as i64);
            if point > -4 && point <= precision as i64 {
                plain(v, (precision as i64 - point).max(0) as usize, false)
            } else {
                scientific(v, precision - 1, false)
            }
        }
        _ => plain(v, precision, alternate),
    }
}

fn plain(v: f64, precision: usize, alternate: bool) -> String {
    let (digits, point) = if v == 0.0 { (vec![0], 1) } else { shortest(v) };
    let (digits, point) = rounded(digits, point, point + precision as i64);
    let digit = |at: i64| {
        let d = usize::try_from(at).ok().and_then(|at| digits.get(at)).copied().unwrap_or(0);
        char::from(b'0' + d)
    };
    let mut out = String::new();
    for at in 0..point.max(1) {
        out.push(digit(at + point.min(1) - 1));
    }
    if precision > 0 || alternate {
        out.push('.');
    }
    out.extend((0..precision as i64).map(|at| digit(at + point)));
    out
}

fn scientific(v: f64, precision: usize, alternate: bool) -> String {
    let (digits, point) = if v == 0.0 { (vec![0], 1) } else { shortest(v) };
    let (digits, point) = rounded(digits, point, precision as i64 + 1);
    let digit = |at: usize| char::from(b'0' + digits.get(at).copied().unwrap_or(0));
    let mut out = String::new();
    out.push(digit(0));
    if precision > 0 || alternate {
        out.push('.');
    }
    out.extend((1..=precision).map(digit));
    let exponent = point - 1;
    out.push('e');
    out.push(if exponent < 0 { '-' } else { '+' });
    out.push_str(&format!("{:02}", exponent.abs()));
    out
}

/// `%a`: `0x1.8p1`.
pub(super) fn write_hex_double(v: f64, flags: Flags, width: Option<usize>, out: &mut String) {
    if v.is_nan() {
        out.push_str("NaN");
        return;
    }
    let sign = match v.is_sign_negative() {
        true => "-",
        false if flags.plus => "+",
        false if flags.space => " ",
        false => "",
    };
    out.push_str(sign);
    let v = v.abs();
    if v.is_infinite() {
        out.push_str("Infinity");
        return;
    }
    let bits = v.to_bits();
    let (exponent, fraction) = ((bits >> 52) as i64, bits & ((1 << 52) - 1));
    let text = format!("{fraction:013x}");
    let text = match text.trim_end_matches('0') {
        "" => "0",
        t => t,
    };
    let body = match (exponent, fraction) {
        (0, 0) => "0.0p0".to_owned(),
        (0, _) => format!("0.{text}p-1022"),
        _ => format!("1.{text}p{}", exponent - 1023),
    };
    out.push_str("0x");
    if flags.zero {
        let missing = width.unwrap_or(0).saturating_sub(sign.len() + 2 + body.len());
        out.extend(std::iter::repeat_n('0', missing));
    }
    out.push_str(&body);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(n: Number, conversion: char, flags: Flags, width: usize, precision: Option<usize>) -> String {
        let mut out = String::new();
        n.write(conversion, flags, (width > 0).then_some(width), precision, &mut out);
        out
    }

    #[test]
    fn doubles() {
        let none = Flags::default();
        for (v, conversion, precision, text) in [
            (3.24159, 'f', Some(2), "3.24"),
            (0.0, 'f', None, "0.000000"),
            (0.5, 'f', Some(0), "1"),
            (0.05, 'f', Some(1), "0.1"),
            (0.04, 'f', Some(1), "0.0"),
            (0.0004, 'f', Some(1), "0.0"),
            (9.99, 'f', Some(1), "10.0"),
            (99.5, 'f', Some(0), "100"),
            (1e20, 'f', Some(1), "100000000000000000000.0"),
            (123.456, 'f', Some(5), "123.45600"),
            (12345.678, 'e', None, "1.234568e+04"),
            (0.0, 'e', Some(2), "0.00e+00"),
            (9.99e-5, 'e', Some(1), "1.0e-04"),
            (0.0001, 'g', None, "0.000100000"),
            (12345.678, 'g', None, "12345.7"),
            (1e10, 'g', None, "1.00000e+10"),
            (0.00001, 'g', None, "1.00000e-05"),
            (0.0, 'g', None, "0.00000"),
        ] {
            assert_eq!(write(Number::Double(v), conversion, none, 0, precision), text, "{v} {conversion}");
        }
    }

    #[test]
    fn flags() {
        let group = Flags { group: true, parentheses: true, ..Flags::default() };
        assert_eq!(write(Number::Double(-1234.5), 'f', group, 0, Some(2)), "(1,234.50)");
        assert_eq!(write(Number::Int(1_234_567), 'd', group, 0, None), "1,234,567");
        let zero = Flags { zero: true, ..Flags::default() };
        assert_eq!(write(Number::Int(-42), 'd', zero, 5, None), "-0042");
        assert_eq!(write(Number::Double(f64::NEG_INFINITY), 'f', zero, 12, None), "-Infinity");
        assert_eq!(write(Number::Bits(255), 'x', Flags { alternate: true, ..zero }, 8, None), "0x0000ff");
        assert_eq!(write(Number::Int(i64::MIN), 'd', Flags::default(), 0, None), "-9223372036854775808");
    }

    #[test]
    fn hex_doubles() {
        for (v, text) in
            [(1.0, "0x1.0p0"), (-3.0, "-0x1.8p1"), (0.0, "0x0.0p0"), (5e-324, "0x0.0000000000001p-1022")]
        {
            let mut out = String::new();
            write_hex_double(v, Flags::default(), None, &mut out);
            assert_eq!(out, text);
        }
    }
}
