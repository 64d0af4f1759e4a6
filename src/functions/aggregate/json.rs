//! `JSON_ARRAYAGG` and `JSON_OBJECTAGG` of texts that are JSON already. Keys of objects are in order.

use crate::error::{Error, Result};
use crate::text::{Escapes, write_json_string};

/// Writes an array; a missing text is `null`.
pub(crate) fn write_array<'a>(items: impl Iterator<Item = Option<&'a str>>, out: &mut String) {
    out.push('[');
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(item.unwrap_or("null"));
    }
    out.push(']');
}

/// An object; a missing text is `null`.
///
/// # Errors
/// Validation, if a key comes twice.
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
        out.push_str(value.unwrap_or("null"));
    }
    out.push('}');
    Ok(out)
}
