//! Parameter forms of the built-in functions: which argument types fit, what they are cast to, and Flink's words
//! when none fits. The notation is told in [`super::udf`].

use arrow::datatypes::DataType;

use crate::error::Error;
use crate::types::{bitmap_type, is_bitmap, is_variant, sql_name};

/// What one parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Str,
    Bytes,
    Int,
    Long,
    Double,
    Number,
    Bool,
    Time,
    Interval,
    Any,
    Array,
    Map,
    Variant,
    Bitmap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    One,
    Optional,
    Many,
}

/// One way to call a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form {
    params: Vec<(Kind, Times)>,
}

/// Reads the notation; it is part of the program, so an unknown letter means "anything".
pub(crate) fn parse_forms(text: &str) -> Vec<Form> {
    text.split('|')
        .map(|form| Form {
            params: form
                .split_whitespace()
                .map(|p| {
                    let kind = match p.chars().next() {
                        Some('s') => Kind::Str,
                        Some('x') => Kind::Bytes,
                        Some('i') => Kind::Int,
                        Some('l') => Kind::Long,
                        Some('d') => Kind::Double,
                        Some('n') => Kind::Number,
                        Some('b') => Kind::Bool,
                        Some('t') => Kind::Time,
                        Some('I') => Kind::Interval,
                        Some('A') => Kind::Array,
                        Some('M') => Kind::Map,
                        Some('V') => Kind::Variant,
                        Some('B') => Kind::Bitmap,
                        _ => Kind::Any,
                    };
                    let times = match p.chars().last() {
                        Some('?') => Times::Optional,
                        Some('*') => Times::Many,
                        _ => Times::One,
                    };
                    (kind, times)
                })
                .collect(),
        })
        .collect()
}

impl Form {
    fn coerce(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let mut out = Vec::with_capacity(types.len());
        let mut types = types.iter().peekable();
        for (kind, times) in &self.params {
            match times {
                Times::One => out.push(kind.coerce(types.next()?)?),
                Times::Optional => {
                    if let Some(t) = types.next() {
                        out.push(kind.coerce(t)?);
                    }
                }
                Times::Many => {
                    for t in types.by_ref() {
                        out.push(kind.coerce(t)?);
                    }
                }
            }
        }
        if types.next().is_some() { None } else { Some(out) }
    }

    fn describe(&self, name: &str) -> String {
        let params: Vec<String> = self
            .params
            .iter()
            .map(|(k, t)| match t {
                Times::One => format!("<{}>", k.family()),
                Times::Optional => format!("[<{}>]", k.family()),
                Times::Many => format!("<{}>...", k.family()),
            })
            .collect();
        format!("{}({})", name.to_uppercase(), params.join(", "))
    }
}

impl Kind {
    fn coerce(self, t: &DataType) -> Option<DataType> {
        use DataType as D;
        let integer = t.is_signed_integer() || t.is_unsigned_integer();
        let null = matches!(t, D::Null);
        match self {
            Kind::Str if null || matches!(t, D::Utf8 | D::LargeUtf8 | D::Utf8View) => Some(D::Utf8),
            Kind::Bytes
                if null
                    || matches!(t, D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_)) =>
            {
                Some(D::Binary)
            }
            Kind::Int if null || integer => Some(D::Int32),
            Kind::Long if null || integer => Some(D::Int64),
            Kind::Double if null || t.is_numeric() => Some(D::Float64),
            Kind::Number if null => Some(D::Int32),
            Kind::Number if t.is_numeric() => Some(t.clone()),
            Kind::Bool if null || matches!(t, D::Boolean) => Some(D::Boolean),
            Kind::Time if null => Some(D::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None)),
            Kind::Time if matches!(t, D::Date32 | D::Time32(_) | D::Timestamp(_, _)) => Some(t.clone()),
            Kind::Interval if matches!(t, D::Interval(_)) => Some(t.clone()),
            Kind::Any => Some(t.clone()),
            Kind::Array if null || matches!(t, D::List(_)) => Some(t.clone()),
            Kind::Array => match t {
                D::LargeList(f) | D::FixedSizeList(f, _) | D::ListView(f) => Some(D::List(f.clone())),
                _ => None,
            },
            Kind::Map if null || matches!(t, D::Map(_, _)) => Some(t.clone()),
            Kind::Variant if is_variant(t) => Some(t.clone()),
            Kind::Bitmap if null => Some(bitmap_type()),
            Kind::Bitmap if is_bitmap(t) => Some(t.clone()),
            _ => None,
        }
    }

    fn family(self) -> &'static str {
        match self {
            Kind::Str => "CHARACTER",
            Kind::Bytes => "BINARY",
            Kind::Int => "INTEGER",
            Kind::Long => "BIGINT",
            Kind::Double | Kind::Number => "NUMERIC",
            Kind::Bool => "BOOLEAN",
            Kind::Time => "DATETIME",
            Kind::Interval => "INTERVAL",
            Kind::Any => "ANY",
            Kind::Array => "ARRAY",
            Kind::Map => "MAP",
            Kind::Variant => "VARIANT",
            Kind::Bitmap => "BITMAP",
        }
    }
}

/// Types to cast the arguments to, by the first form that takes them.
pub(crate) fn coerce(forms: &[Form], types: &[DataType]) -> Option<Vec<DataType>> {
    forms.iter().find_map(|f| f.coerce(types))
}

/// `F(<INT>, <STRING>)`.
pub(crate) fn call_text(name: &str, types: &[DataType]) -> String {
    let args: Vec<String> = types.iter().map(|t| format!("<{}>", sql_name(t))).collect();
    format!("{}({})", name.to_uppercase(), args.join(", "))
}

/// `1 argument`, `2 arguments`.
pub(crate) fn arguments(n: usize) -> String {
    format!("{n} argument{}", if n == 1 { "" } else { "s" })
}

/// No form takes these arguments.
pub(crate) fn mismatch(name: &str, forms: &[Form], types: &[DataType]) -> Error {
    let name = name.to_uppercase();
    if let ("ITEM", [of, key]) = (name.as_str(), types) {
        return Error::validation(format!("cannot take an element of {} by {}", sql_name(of), sql_name(key)))
            .hint("an ARRAY has elements by INT, from 1 on, a MAP by its keys");
    }
    let supported: Vec<String> = forms.iter().map(|f| f.describe(&name)).collect();
    Error::validation(format!("cannot apply {name} to arguments of type {}", call_text(&name, types)))
        .hint(format!("supported: {}", supported.join(", ")))
}
