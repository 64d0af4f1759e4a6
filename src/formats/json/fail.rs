//! Why records are not decoded, and how that is told.

use super::scan::Syntax;
use crate::error::Error;

/// Why a value was not decoded.
pub(crate) enum Fail {
    /// The text is no JSON.
    Syntax(Syntax),
    /// JSON, but not of the column's type. Becomes NULL or [`Fail::Field`].
    Mismatch,
    /// A mismatch with its place, when errors count.
    Field(Box<FieldError>),
}

/// What is wrong with a field.
pub(crate) struct FieldError {
    pub(super) path: String,
    pub(super) reason: String,
}

impl From<Syntax> for Fail {
    fn from(e: Syntax) -> Self {
        Fail::Syntax(e)
    }
}

/// The failure of a value, as that of the field `name` that holds it.
pub(super) fn at_field(e: Fail, name: &str) -> Fail {
    match e {
        Fail::Field(mut e) => {
            e.path = if e.path.is_empty() { name.to_owned() } else { format!("{name}.{}", e.path) };
            Fail::Field(e)
        }
        other => other,
    }
}

/// The error for a record of `format` that could not be decoded; the scanner stands at `pos`.
pub(crate) fn describe(fail: Fail, pos: usize, text: &str, format: &str) -> Error {
    let way_out = format!("set '{format}.ignore-parse-errors' = 'true' to skip such records");
    match fail {
        Fail::Syntax(what) => {
            let column = text.get(..pos.min(text.len())).map_or(pos, |t| t.chars().count()) + 1;
            Error::data(format!(
                "cannot parse the record as JSON: {what} (character {column} of {})",
                clip(text)
            ))
            .hint(way_out)
        }
        Fail::Mismatch => Error::internal("a mismatch without a field"),
        Fail::Field(e) => Error::data(format!("field `{}`: {}", e.path, e.reason)).hint(way_out),
    }
}

/// A text short enough for a message.
pub(crate) fn clip(text: &str) -> String {
    const MAX: usize = 120;
    match text.char_indices().nth(MAX) {
        None => format!("'{text}'"),
        Some((end, _)) => format!("'{}…'", text.get(..end).unwrap_or_default()),
    }
}
