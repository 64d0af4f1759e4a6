//! The escapes of `U&'…'` and `E'…'`.

/// Undoes the escapes of a `U&'…'` literal: `\hhhh` and, doubled, the escape character itself.
pub(crate) fn unicode(raw: &str, escape: char) -> Result<String, String> {
    let mut out = String::with_capacity(raw.len());
    let mut units: Vec<u16> = Vec::new();
    let mut chars = raw.chars().peekable();
    while let Some(c) = chars.next() {
        if c != escape {
            flush(&mut units, &mut out)?;
            out.push(c);
        } else if chars.peek() == Some(&escape) {
            chars.next();
            flush(&mut units, &mut out)?;
            out.push(escape);
        } else {
            let hex: String = chars.by_ref().take(4).collect();
            match u16::from_str_radix(&hex, 16) {
                // from_str_radix takes a sign, an escape does not.
                Ok(unit) if hex.chars().count() == 4 && !hex.starts_with('+') => units.push(unit),
                _ => {
                    return Err(format!(
                        "`{escape}{hex}` is no Unicode escape; write {escape}hhhh with four hexadecimal digits"
                    ));
                }
            }
        }
    }
    flush(&mut units, &mut out)?;
    Ok(out)
}

/// Appends collected UTF-16 units: characters beyond the basic plane are written as two escapes.
fn flush(units: &mut Vec<u16>, out: &mut String) -> Result<(), String> {
    if !units.is_empty() {
        out.push_str(
            &String::from_utf16(units)
                .map_err(|_| "a Unicode escape is half of a surrogate pair".to_owned())?,
        );
        units.clear();
    }
    Ok(())
}

/// Undoes the escapes of an `E'…'` literal: `\b \f \n \r \t`, `\ooo`, `\xhh`, `\uhhhh`, `\Uhhhhhhhh`; any other
/// character after a backslash stands for itself.
pub(crate) fn c_style(raw: &str) -> Result<String, String> {
    let mut out = String::with_capacity(raw.len());
    let mut units: Vec<u16> = Vec::new();
    let mut rest = raw.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\\' {
            flush(&mut units, &mut out)?;
            out.push(c);
            continue;
        }
        let kind = match rest.peek() {
            Some(c) => *c,
            None => return Err("a backslash at the end of a string".into()),
        };
        rest.next();
        let mut digits = |max: usize, radix: u32, first: Option<char>| {
            let mut s: String = first.into_iter().collect();
            while s.len() < max
                && let Some(d) = rest.next_if(|c| c.is_digit(radix))
            {
                s.push(d);
            }
            s
        };
        let code = match kind {
            'u' => {
                let hex = digits(4, 16, None);
                match u16::from_str_radix(&hex, 16) {
                    Ok(unit) if hex.len() == 4 => {
                        units.push(unit);
                        continue;
                    }
                    _ => return Err(format!("`\\u{hex}` needs four hexadecimal digits")),
                }
            }
            'U' => {
                let hex = digits(8, 16, None);
                if hex.len() != 8 {
                    return Err(format!("`\\U{hex}` needs eight hexadecimal digits"));
                }
                u32::from_str_radix(&hex, 16).ok()
            }
            'x' => {
                let hex = digits(2, 16, None);
                if hex.is_empty() {
                    return Err("`\\x` needs hexadecimal digits".into());
                }
                u32::from_str_radix(&hex, 16).ok()
            }
            '0'..='7' => u32::from_str_radix(&digits(3, 8, Some(kind)), 8).ok(),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            other => Some(u32::from(other)),
        };
        flush(&mut units, &mut out)?;
        out.push(code.and_then(char::from_u32).ok_or("an escape that is no Unicode character")?);
    }
    flush(&mut units, &mut out)?;
    Ok(out)
}
