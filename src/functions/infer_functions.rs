//! What Flink says of the results of functions, where Arrow knows less.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

use super::infer::{element, length, missing, unify};
use crate::error::Result;
use crate::types::{LogicalType, MAX_LENGTH, RowField, TypeRoot};

/// NULL exactly when an argument is, though their columns here can be NULL for other reasons.
const STRICT: &[&str] = &[
    "array_contains",
    "array_join",
    "array_max",
    "array_min",
    "array_position",
    "cardinality",
    "from_base64",
    "json_string",
    "lpad",
    "regexp",
    "regexp_replace",
    "rpad",
];

/// Always able to be NULL.
const NULLABLE: &[&str] = &["chr", "reverse", "str_to_map", "typeof", "__typeof", "url_encode", "url_decode"];

/// The result type of a call; `None` where Arrow's is right.
pub(super) fn function_type(name: &str, args: &[LogicalType], exprs: &[Expr]) -> Result<Option<LogicalType>> {
    let any = args.iter().any(|a| a.nullable);
    let first = args.first();
    let of = |root: TypeRoot, nullable: bool| Ok(Some(LogicalType { root, nullable }));
    let same = |nullable: bool| match first {
        Some(a) => Ok(Some(LogicalType { root: a.root.clone(), nullable })),
        None => Err(missing(name)),
    };
    let text = |i: usize| args.get(i).and_then(|a| length(&a.root));
    match name {
        "__char" | "__varchar" | "__binary" | "__varbinary" | "__precision" => {
            same(first.is_some_and(|a| a.nullable))
        }
        "upper" | "lower" | "initcap" => same(any),
        "__trim" | "ltrim" | "rtrim" => match text(0) {
            Some(n) => of(TypeRoot::Varchar(n), any),
            None => Ok(None),
        },
        "substring" | "left" | "right" => match text(0) {
            Some(n) => of(TypeRoot::Varchar(n), true),
            None => Ok(None),
        },
        "overlay" => match (text(0), text(1)) {
            (Some(a), Some(b)) => of(TypeRoot::Varchar(a.saturating_add(b).min(MAX_LENGTH)), any),
            _ => Ok(None),
        },
        "__concat" | "__concat_bytes" => Ok(joined(args).map(|root| LogicalType { root, nullable: any })),
        "current_time" | "localtime" => of(TypeRoot::Time(0), false),
        "md5" => of(TypeRoot::Char(32), any),
        "sha1" => of(TypeRoot::Char(40), any),
        "sha224" => of(TypeRoot::Char(56), any),
        "sha256" => of(TypeRoot::Char(64), any),
        "sha384" => of(TypeRoot::Char(96), any),
        "sha512" => of(TypeRoot::Char(128), any),
        "sha2" => of(TypeRoot::Varchar(128), any),
        "uuid" => of(TypeRoot::Char(36), false),
        "elt" => of(unify(name, args.get(1..).unwrap_or_default())?, true),
        "greatest" | "least" => of(unify(name, args)?, any),
        "coalesce" => {
            let root = if has_days(args) { TypeRoot::Date } else { unify(name, args)? };
            of(root, args.iter().all(|a| a.nullable))
        }
        "floor" | "ceil" if args.len() == 2 => same(any),
        "timestampadd" => match args.get(2) {
            Some(t)
                if matches!(
                    t.root,
                    TypeRoot::Time(_) | TypeRoot::Timestamp(_) | TypeRoot::TimestampLtz(_)
                ) =>
            {
                of(t.root.clone(), any)
            }
            _ => Ok(None),
        },
        "__time_plus" | "__time_minus" => same(any),
        "row" => {
            of(TypeRoot::Row(fields(args.iter().enumerate().map(|(i, a)| (format!("EXPR${i}"), a)))), false)
        }
        "object_of" => {
            let named = exprs.iter().zip(args).skip(1).collect::<Vec<_>>();
            let pairs = named.chunks_exact(2).filter_map(|pair| match pair {
                [(Expr::Literal(ScalarValue::Utf8(Some(name)), _), _), (_, ty)] => Some((name.clone(), *ty)),
                _ => None,
            });
            of(TypeRoot::Row(fields(pairs)), true)
        }
        "__json_value" => match exprs.get(2) {
            Some(Expr::Literal(ScalarValue::Utf8(Some(text)), _)) => {
                of(crate::sql::parse_type(text.trim_matches('`'))?.root, true)
            }
            _ => Ok(None),
        },
        "__field" => match (first.map(|a| &a.root), exprs.get(1)) {
            (Some(TypeRoot::Row(fields)), Some(Expr::Literal(ScalarValue::Utf8(Some(name)), _))) => {
                Ok(fields
                    .iter()
                    .find(|f| f.name == *name)
                    .map(|f| LogicalType { root: f.ty.root.clone(), nullable: f.ty.nullable || any }))
            }
            _ => Ok(None),
        },
        "item" => match first.map(|a| &a.root) {
            Some(TypeRoot::Array(e)) => of(e.root.clone(), true),
            Some(TypeRoot::Map(_, v)) => of(v.root.clone(), true),
            _ => Ok(None),
        },
        _ => match collection(name, args, any)? {
            Some(ty) => Ok(Some(ty)),
            None => nullability(name, args, any),
        },
    }
}

/// Texts, or bytes, one behind the other: of a fixed length if all are.
fn joined(parts: &[LogicalType]) -> Option<TypeRoot> {
    let (mut length, mut fixed, mut bytes) = (0u32, true, false);
    for part in parts.iter().filter(|p| p.root != TypeRoot::Null) {
        let (n, is_fixed, is_bytes) = match part.root {
            TypeRoot::Char(n) => (n, true, false),
            TypeRoot::Varchar(n) => (n, false, false),
            TypeRoot::Binary(n) => (n, true, true),
            TypeRoot::Varbinary(n) => (n, false, true),
            _ => return None,
        };
        length = length.saturating_add(n).min(MAX_LENGTH);
        fixed &= is_fixed;
        bytes = is_bytes;
    }
    Some(match (bytes, fixed) {
        (false, true) => TypeRoot::Char(length),
        (false, false) => TypeRoot::Varchar(length),
        (true, true) => TypeRoot::Binary(length),
        (true, false) => TypeRoot::Varbinary(length),
    })
}

/// Whether a type is that of days, and others are those of days or timestamps.
fn has_days(parts: &[LogicalType]) -> bool {
    let known = || parts.iter().map(|p| &p.root).filter(|r| **r != TypeRoot::Null);
    known().all(|r| matches!(r, TypeRoot::Date | TypeRoot::Timestamp(_)))
        && known().any(|r| *r == TypeRoot::Date)
}

/// Only whether it can be NULL is another matter than Arrow says; the type is found by those who ask.
fn nullability(name: &str, args: &[LogicalType], any: bool) -> Result<Option<LogicalType>> {
    let text = |nullable: bool| Ok(Some(LogicalType { root: TypeRoot::Varchar(MAX_LENGTH), nullable }));
    match name {
        "str_to_map" => {
            let string = || Box::new(LogicalType::string());
            Ok(Some(LogicalType::nullable(TypeRoot::Map(string(), string()))))
        }
        "translate" => text(args.first().is_none_or(|a| a.nullable)),
        _ if NULLABLE.contains(&name) => text(true),
        _ if !STRICT.contains(&name) => Ok(None),
        "array_contains" => {
            let nullable = args.first().is_none_or(|a| a.nullable);
            Ok(Some(LogicalType { root: TypeRoot::Boolean, nullable }))
        }
        "regexp" => Ok(Some(LogicalType { root: TypeRoot::Boolean, nullable: any })),
        "array_position" | "cardinality" => Ok(Some(LogicalType { root: TypeRoot::Int, nullable: any })),
        "array_max" | "array_min" => {
            Ok(args.first().and_then(element).map(|e| LogicalType::nullable(e.root.clone())))
        }
        "array_join" => text(any),
        "from_base64" | "json_string" | "lpad" | "regexp_replace" | "rpad" => text(any),
        _ => Ok(None),
    }
}

fn fields<'t>(named: impl Iterator<Item = (String, &'t LogicalType)>) -> Vec<RowField> {
    named.map(|(name, ty)| RowField { name, ty: ty.clone(), comment: None }).collect()
}

/// Arrays and maps: whether their elements can be NULL.
fn collection(name: &str, args: &[LogicalType], any: bool) -> Result<Option<LogicalType>> {
    let array = |e: LogicalType, nullable: bool| {
        Ok(Some(LogicalType { root: TypeRoot::Array(Box::new(e)), nullable }))
    };
    let first = args.first();
    let elements = || args.iter().map(|a| element(a).cloned()).collect::<Option<Vec<LogicalType>>>();
    let joined = |of: Vec<LogicalType>| -> Result<LogicalType> {
        let nullable = of.iter().any(|e| e.nullable);
        Ok(LogicalType { root: unify(name, &of)?, nullable })
    };
    match (name, first.map(|a| &a.root)) {
        ("make_array", _) if !args.is_empty() => array(joined(args.to_vec())?, false),
        ("map", _) if !args.is_empty() => {
            let every = |n: usize| args.iter().skip(n).step_by(2).cloned().collect::<Vec<_>>();
            let (key, value) = (joined(every(0))?, joined(every(1))?);
            Ok(Some(LogicalType::not_null(TypeRoot::Map(Box::new(key), Box::new(value)))))
        }
        ("map_keys", Some(TypeRoot::Map(k, _))) => array((**k).clone(), any),
        ("map_values", Some(TypeRoot::Map(_, v))) => array((**v).clone(), any),
        ("map_entries", Some(TypeRoot::Map(k, v))) => {
            let row = fields([("key".to_owned(), &**k), ("value".to_owned(), &**v)].into_iter());
            array(LogicalType::nullable(TypeRoot::Row(row)), any)
        }
        ("map_union", Some(root)) if args.iter().all(|a| a.root == *root) => {
            Ok(Some(LogicalType { root: root.clone(), nullable: any }))
        }
        ("map_from_arrays", Some(TypeRoot::Array(k))) => Ok(args.get(1).and_then(element).map(|v| {
            let root = TypeRoot::Map(k.clone(), Box::new(v.clone()));
            LogicalType { root, nullable: any }
        })),
        (
            "array_distinct" | "array_reverse" | "array_slice" | "array_sort",
            Some(root @ TypeRoot::Array(_)),
        ) => Ok(Some(LogicalType { root: root.clone(), nullable: any })),
        ("array_remove", Some(root @ TypeRoot::Array(_))) => {
            let nullable = first.is_none_or(|a| a.nullable);
            Ok(Some(LogicalType { root: root.clone(), nullable }))
        }
        ("array_union" | "array_concat" | "array_except" | "array_intersect", _) => match elements() {
            Some(of) => array(joined(of)?, any),
            None => Ok(None),
        },
        ("array_append" | "array_prepend", Some(TypeRoot::Array(e))) => {
            let added = args.get(1).is_none_or(|a| a.nullable);
            array(LogicalType { root: e.root.clone(), nullable: e.nullable || added }, any)
        }
        ("element", Some(TypeRoot::Array(e))) => {
            Ok(Some(LogicalType { root: e.root.clone(), nullable: e.nullable || any }))
        }
        _ => Ok(None),
    }
}
