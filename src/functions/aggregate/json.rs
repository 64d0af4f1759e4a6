//! `JSON_ARRAYAGG` and `JSON_OBJECTAGG` of texts that are JSON already. Keys of objects are in order.

use crate::error::{Error, Result};
use crate::functions::room::check_value;
use crate::text::{Escapes, write_json_string};

/// Writes an array; a missing text is `null`.
///
/// # Errors
/// Data if it is too long.
pub(crate) fn write_array<'a>(items: impl Iterator<Item = Option<&'a str>>, out: &mut String) -> Result<()> {
    out.push('[');
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        let item = item.unwrap_or("null");
        check_value(out.len() + item.len() + 2)?;
        out.push_str(item);
    }
    out.push(']');
    Ok(())
}

/// An object; a missing text is `null`.
///
/// # Errors
/// Validation, if a key comes twice; Data if it is too long.
pub(crate) fn object(mut fields: Vec<(&str, Option<&str>)>) -> Result<String> {
    fields.sort_by(|a, b| a.0.cmp(b.0));
    if let Some(twice) = fields.windows(2).find(|w| w[0].0 == w[1].0) {
        return Err(Error::validation(format!(
            "key '{}' is twice in the object of JSON_OBJECTAGG",
            twice[0].0
        ))
        .hint("keys have to be unique: group by the key first, or take it into GROUP BY"));
    }
    let mut out = String::from("{");
    for (i, (key, value)) in fields.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_json_string(key, Escapes::JACKSON, &mut out);
        out.push(':');
        let value = value.unwrap_or("null");
        check_value(out.len() + value.len() + 2)?;
        out.push_str(value);
    }
    out.push('}');
    Ok(out)
}
