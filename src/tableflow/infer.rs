//! Columns out of JSON records that no schema describes.
//!
//! ```text
//!  records ─► Shape of each (what it is made of) ─► merged ─► columns
//!             null · boolean · integer · number · text · array · object
//! ```
//!
//! | seen | column |
//! |---|---|
//! | `true`, `false` | BOOLEAN |
//! | integers; some beyond 64 bits signed | BIGINT; DECIMAL(20, 0) |
//! | other numbers, or some of both | DOUBLE |
//! | texts, or values of several kinds | STRING (JSON text where it is no string) |
//! | arrays | ARRAY of what their elements are |
//! | objects | ROW of their fields; STRING beyond 200 fields or 16 levels |
//! | nothing but `null`, `{}` or `[]` | no column yet |
//!
//! Names that differ in case only, names with a dot, and those that the table has for itself get no column: readers of
//! tables could not tell them apart. Whatever has no column stands in the one for the rest.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::types::{LogicalType, RowField, TypeRoot};

/// Fields of one object that are still columns of their own.
const MAX_FIELDS: usize = 200;
/// Columns of a table.
const MAX_COLUMNS: usize = 1_000;
/// Levels of objects and arrays that are still types of their own.
const MAX_DEPTH: usize = 16;

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: LogicalType,
}

/// What values are made of.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    /// Nothing is known.
    Null,
    Boolean,
    Integer,
    /// Beyond 64 bits signed.
    Unsigned,
    Number,
    Text,
    Array(Box<Shape>),
    /// In the order in which the fields were seen.
    Object(Vec<(String, Shape)>),
}

impl Shape {
    /// What values of either are made of.
    fn merge(self, other: Shape) -> Shape {
        use Shape::{Array, Boolean, Integer, Null, Number, Object, Text, Unsigned};
        match (self, other) {
            (Null, shape) | (shape, Null) => shape,
            (Boolean, Boolean) => Boolean,
            (Integer, Integer) => Integer,
            (Integer | Unsigned, Integer | Unsigned) => Unsigned,
            (Integer | Unsigned | Number, Integer | Unsigned | Number) => Number,
            (Array(a), Array(b)) => Array(Box::new(a.merge(*b))),
            (Object(mut a), Object(b)) => {
                for (name, shape) in b {
                    match a.iter_mut().find(|(n, _)| *n == name) {
                        Some((_, known)) => *known = std::mem::replace(known, Null).merge(shape),
                        None => a.push((name, shape)),
                    }
                }
                Object(a)
            }
            _ => Text,
        }
    }

    /// The type of a column of it; `None` if nothing is known.
    fn to_type(&self) -> Option<LogicalType> {
        Some(LogicalType::nullable(match self {
            Shape::Null => return None,
            Shape::Boolean => TypeRoot::Boolean,
            Shape::Integer => TypeRoot::BigInt,
            Shape::Unsigned => TypeRoot::Decimal(20, 0),
            Shape::Number => TypeRoot::Double,
            Shape::Text => return Some(LogicalType::string()),
            Shape::Array(items) => TypeRoot::Array(Box::new(items.to_type()?)),
            Shape::Object(fields) if fields.len() > MAX_FIELDS => return Some(LogicalType::string()),
            Shape::Object(fields) => {
                let fields = columns_of(fields, &BTreeSet::new(), MAX_FIELDS);
                if fields.is_empty() {
                    return None;
                }
                let field = |c: Column| RowField { name: c.name, ty: c.ty, comment: None };
                TypeRoot::Row(fields.into_iter().map(field).collect())
            }
        }))
    }
}

/// Reads the shape of a value that stands so deep; fields keep their order.
struct Seen(usize);

impl<'de> DeserializeSeed<'de> for Seen {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seen {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Boolean)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Integer)
    }

    fn visit_u64<E>(self, n: u64) -> Result<Shape, E> {
        Ok(if i64::try_from(n).is_ok() { Shape::Integer } else { Shape::Unsigned })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Number)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        if self.0 >= MAX_DEPTH {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Shape::Text);
        }
        let mut all = Shape::Null;
        while let Some(item) = items.next_element_seed(Seen(self.0 + 1))? {
            all = all.merge(item);
        }
        Ok(Shape::Array(Box::new(all)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Shape, A::Error> {
        if self.0 >= MAX_DEPTH {
            while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Shape::Text);
        }
        let mut all = Shape::Object(Vec::new());
        while let Some(name) = fields.next_key::<String>()? {
            let shape = fields.next_value_seed(Seen(self.0 + 1))?;
            all = all.merge(Shape::Object(vec![(name, shape)]));
        }
        Ok(all)
    }
}

/// The shape of a record; `None` if it is no JSON.
fn shape_of(record: &[u8]) -> Option<Shape> {
    let mut deserializer = serde_json::Deserializer::from_slice(record);
    let shape = Seen(0).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok().map(|()| shape)
}

fn columns_of(fields: &[(String, Shape)], reserved: &BTreeSet<String>, most: usize) -> Vec<Column> {
    let mut taken: BTreeSet<String> = reserved.iter().map(|n| n.to_lowercase()).collect();
    let mut columns = Vec::new();
    for (name, shape) in fields {
        let is_usable = !name.is_empty() && !name.contains(['.', '\0']) && columns.len() < most;
        if let Some(ty) = shape.to_type().filter(|_| is_usable && taken.insert(name.to_lowercase())) {
            columns.push(Column { name: name.clone(), ty });
        }
    }
    columns
}

/// The columns of records, of which those that are no objects say nothing. `reserved` are names that the table has for
/// itself.
pub fn infer<'a>(records: impl IntoIterator<Item = &'a [u8]>, reserved: &BTreeSet<String>) -> Vec<Column> {
    let shape = records
        .into_iter()
        .filter_map(shape_of)
        .map(|shape| match shape {
            Shape::Array(items) => *items,
            shape => shape,
        })
        .filter(|shape| matches!(shape, Shape::Object(_)))
        .fold(Shape::Null, Shape::merge);
    match shape {
        Shape::Object(fields) => columns_of(&fields, reserved, MAX_COLUMNS),
        _ => Vec::new(),
    }
}

/// The columns of the rows in messages of changes: of the objects, or lists of objects, in the fields `images`. Gives whether
/// the messages are in an envelope with their schema, too.
pub fn infer_images<'a>(
    records: impl IntoIterator<Item = &'a [u8]>,
    images: &[&str],
    reserved: &BTreeSet<String>,
) -> (Vec<Column>, bool) {
    let (mut all, mut has_envelope) = (Shape::Null, false);
    for shape in records.into_iter().filter_map(shape_of) {
        let (fields, is_inside) = unwrapped(shape);
        has_envelope |= is_inside;
        for (_, shape) in fields.into_iter().filter(|(name, _)| images.contains(&name.as_str())) {
            let row = match shape {
                Shape::Array(items) => *items,
                shape => shape,
            };
            if let Shape::Object(_) = row {
                all = all.merge(row);
            }
        }
    }
    match all {
        Shape::Object(fields) => (columns_of(&fields, reserved, MAX_COLUMNS), has_envelope),
        _ => (Vec::new(), has_envelope),
    }
}

/// The columns of keys that are JSON objects, perhaps in an envelope with their schema.
pub fn infer_keys<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Vec<Column> {
    let objects = records.into_iter().filter_map(shape_of).map(|shape| Shape::Object(unwrapped(shape).0));
    match objects.fold(Shape::Null, Shape::merge) {
        Shape::Object(fields) => columns_of(&fields, &BTreeSet::new(), MAX_COLUMNS),
        _ => Vec::new(),
    }
}

/// The fields of an object, or of what it carries as `payload` beside its `schema`.
fn unwrapped(shape: Shape) -> (Vec<(String, Shape)>, bool) {
    let Shape::Object(mut fields) = shape else { return (Vec::new(), false) };
    let has = |name: &str| fields.iter().any(|(n, _)| n == name);
    if fields.len() == 2 && has("schema") && has("payload") {
        fields.retain(|(name, _)| name == "payload");
        return match fields.pop() {
            Some((_, Shape::Object(fields))) => (fields, true),
            _ => (Vec::new(), true),
        };
    }
    (fields, false)
}

/// The columns of `have` with what `seen` adds to them. A column keeps its type or becomes wider, and a row gets further fields
/// at its end.
pub fn extend(have: &[Column], seen: &[Column]) -> Vec<Column> {
    let field = |c: &Column| RowField { name: c.name.clone(), ty: c.ty.clone(), comment: None };
    let both = extend_row(have.iter().map(field).collect(), &seen.iter().map(field).collect::<Vec<_>>());
    both.into_iter().map(|f| Column { name: f.name, ty: f.ty }).collect()
}

fn extend_row(mut have: Vec<RowField>, seen: &[RowField]) -> Vec<RowField> {
    for field in seen {
        match have.iter_mut().find(|f| f.name.to_lowercase() == field.name.to_lowercase()) {
            Some(known) if known.name == field.name => extend_type(&mut known.ty, &field.ty),
            Some(_) => {}
            None => have.push(RowField { ty: LogicalType::nullable(field.ty.root.clone()), ..field.clone() }),
        }
    }
    have
}

fn extend_type(have: &mut LogicalType, seen: &LogicalType) {
    match (&mut have.root, &seen.root) {
        (TypeRoot::Row(fields), TypeRoot::Row(seen)) => *fields = extend_row(std::mem::take(fields), seen),
        (TypeRoot::Array(item), TypeRoot::Array(seen)) => extend_type(item, seen),
        (TypeRoot::Map(_, value), TypeRoot::Map(_, seen)) => extend_type(value, seen),
        // As far as the rows that are there stay readable.
        (TypeRoot::Int, TypeRoot::BigInt) | (TypeRoot::Float, TypeRoot::Double) => {
            have.root = seen.root.clone()
        }
        (TypeRoot::Decimal(p, s), TypeRoot::Decimal(q, t)) if q > p && s == t => {
            have.root = seen.root.clone()
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inferred(records: &[&str]) -> String {
        let reserved = BTreeSet::from(["_offset".to_owned()]);
        shown(&infer(records.iter().map(|r| r.as_bytes()), &reserved))
    }

    fn shown(columns: &[Column]) -> String {
        columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn kinds_become_types() {
        assert_eq!(
            inferred(&[r#"{"b": true, "i": 1, "u": 18446744073709551615, "n": 1.5, "t": "x", "z": null}"#]),
            "b BOOLEAN, i BIGINT, u DECIMAL(20, 0), n DOUBLE, t STRING"
        );
    }

    #[test]
    fn what_differs_is_widened() {
        let widened =
            |a: &str, b: &str| inferred(&[&format!(r#"{{"x": {a}}}"#), &format!(r#"{{"x": {b}}}"#)]);
        assert_eq!(widened("1", "1.5"), "x DOUBLE");
        assert_eq!(widened("1", "18446744073709551615"), "x DECIMAL(20, 0)");
        assert_eq!(widened("18446744073709551615", "1e3"), "x DOUBLE");
        assert_eq!(widened("1", "\"a\""), "x STRING");
        assert_eq!(widened("true", "0"), "x STRING");
        assert_eq!(widened("null", "3"), "x BIGINT");
        assert_eq!(widened("{}", "{\"a\": 1}"), "x ROW<`a` BIGINT>");
        assert_eq!(widened("[]", "[1, 2.5]"), "x ARRAY<DOUBLE>");
        assert_eq!(widened("[1]", "{\"a\": 1}"), "x STRING");
    }

    #[test]
    fn rows_are_found_in_messages_of_changes() {
        let of = |records: &[&str], images: &[&str]| {
            let (columns, envelope) =
                infer_images(records.iter().map(|r| r.as_bytes()), images, &BTreeSet::new());
            format!("{} {envelope}", shown(&columns))
        };
        let debezium = [
            r#"{"before": null, "after": {"id": 1, "name": "a"}, "op": "c"}"#,
            r#"{"before": {"id": 1, "gone": true}, "after": null, "op": "d"}"#,
        ];
        assert_eq!(of(&debezium, &["after", "before"]), "id BIGINT, name STRING, gone BOOLEAN false");
        let inside = [r#"{"schema": {"type": "struct"}, "payload": {"after": {"id": 1}, "op": "c"}}"#];
        assert_eq!(of(&inside, &["after", "before"]), "id BIGINT true");
        let canal = [r#"{"data": [{"id": 1}, {"id": 2, "x": 1.5}], "type": "INSERT"}"#];
        assert_eq!(of(&canal, &["data"]), "id BIGINT, x DOUBLE false");
        assert_eq!(of(&["null", "", "[]"], &["data"]), " false");
        let keys = |records: &[&str]| shown(&infer_keys(records.iter().map(|r| r.as_bytes())));
        assert_eq!(keys(&[r#"{"schema": {}, "payload": {"id": 1}}"#, r#"{"id": 2}"#]), "id BIGINT");
        assert_eq!(keys(&["7", "text"]), "");
    }

    #[test]
    fn nothing_is_known_of_empty_values() {
        assert_eq!(inferred(&[]), "");
        assert_eq!(inferred(&["", "no json", "12", "[]"]), "");
        assert_eq!(inferred(&[r#"{"a": null, "b": {}, "c": [], "d": {"e": null}}"#]), "");
        assert_eq!(inferred(&[r#"[{"a": 1}, {"b": 2}]"#]), "a BIGINT, b BIGINT");
    }

    #[test]
    fn names_that_readers_could_not_tell_apart_are_left_out() {
        assert_eq!(
            inferred(&[r#"{"a": 1, "A": 2, "_OFFSET": 3, "x.y": 4, "": 5, "ä": {"É": 1, "é": 2}}"#]),
            "a BIGINT, ä ROW<`É` BIGINT>"
        );
    }

    #[test]
    fn deep_and_wide_values_are_texts() {
        let deep = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
        assert!(inferred(&[&deep]).contains("STRING"));
        let wide: Vec<String> = (0..300).map(|i| format!("\"f{i}\":1")).collect();
        assert_eq!(inferred(&[&format!("{{\"x\": {{{}}}}}", wide.join(","))]), "x STRING");
    }

    #[test]
    fn columns_are_added_and_never_changed() {
        let columns = |text: &str| infer([text.as_bytes()], &BTreeSet::new());
        let have = columns(r#"{"id": 1, "a": {"x": 1}, "l": [{"p": 1}]}"#);
        let seen =
            columns(r#"{"new": "n", "id": "text", "a": {"y": true, "X": 1}, "l": [{"q": 1.5}], "ID": 1}"#);
        assert_eq!(
            shown(&extend(&have, &seen)),
            "id BIGINT, a ROW<`x` BIGINT, `y` BOOLEAN>, l ARRAY<ROW<`p` BIGINT, `q` DOUBLE>>, new STRING"
        );
        assert_eq!(extend(&have, &have), have);
        let typed = |roots: [TypeRoot; 3]| {
            let names = ["a", "b", "c"].into_iter().zip(roots);
            names.map(|(n, r)| Column { name: n.into(), ty: LogicalType::nullable(r) }).collect::<Vec<_>>()
        };
        let narrow = typed([TypeRoot::Int, TypeRoot::Float, TypeRoot::Decimal(5, 2)]);
        let wide = typed([TypeRoot::BigInt, TypeRoot::Double, TypeRoot::Decimal(9, 2)]);
        assert_eq!(extend(&narrow, &wide), wide);
        assert_eq!(extend(&wide, &narrow), wide);
    }
}
