//! Strings and numbers at the position of a scanner.

use std::borrow::Cow;

use super::fail::Fail;
use super::scan::Scanner;

/// Takes a string or number as text; `None` for anything else.
#[inline]
pub(super) fn text<'a>(s: &mut Scanner<'a>) -> Result<Option<Cow<'a, str>>, Fail> {
    match s.peek() {
        b'"' => Ok(Some(s.string()?)),
        b'-' | b'0'..=b'9' => Ok(Some(Cow::Borrowed(s.number()?.0))),
        _ => other(s),
    }
}

/// Takes a string; `None` for anything else.
#[inline]
pub(super) fn quoted<'a>(s: &mut Scanner<'a>) -> Result<Option<Cow<'a, str>>, Fail> {
    if s.peek() == b'"' { Ok(Some(s.string()?)) } else { other(s) }
}

#[cold]
fn other<'a>(s: &mut Scanner<'a>) -> Result<Option<Cow<'a, str>>, Fail> {
    s.skip_value(0)?;
    Ok(None)
}

/// Takes an integer: a number or a numeric text. A number with a fraction is cut if `cut`, as Jackson does for INT and
/// BIGINT (Flink reads the smaller types from the text, where a fraction is an error).
#[inline]
pub(super) fn integer(s: &mut Scanner<'_>, cut: bool) -> Result<i64, Fail> {
    if let Some(v) = s.take_whole() {
        return Ok(v);
    }
    match s.peek() {
        b'-' | b'0'..=b'9' => {
            let (text, whole) = s.number()?;
            if whole {
                return text.parse().map_err(|_| Fail::Mismatch);
            }
            let v: f64 = text.parse().map_err(|_| Fail::Mismatch)?;
            // 2^63 is the first float beyond BIGINT.
            if cut && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&v) {
                Ok(v as i64)
            } else {
                Err(Fail::Mismatch)
            }
        }
        b'"' => s.string()?.trim().parse().map_err(|_| Fail::Mismatch),
        _ => {
            s.skip_value(0)?;
            Err(Fail::Mismatch)
        }
    }
}

/// An integer of a smaller type.
#[inline]
pub(super) fn narrow<T: TryFrom<i64>>(v: i64) -> Result<T, Fail> {
    T::try_from(v).map_err(|_| Fail::Mismatch)
}
