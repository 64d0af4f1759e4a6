//! The order of rows in files: `'sort-order' = 'city, ts DESC NULLS LAST'` of a table that is made, and what it means for
//! those who write.
//!
//! ```text
//!  option ─► sort order of the table's metadata ─► Sorting ─► runs of rows in order, in every file
//! ```
//!
//! Readers skip files and pages by the least and greatest values of columns, which say little where rows are in no order. NULLs
//! come first, and last where the order is descending, unless it is said otherwise. Orders of others may use transforms;
//! rows are sorted by the columns before the first of those.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch};
use iceberg::spec::{NullOrder, Schema, SortDirection, SortField, SortOrder, TableMetadata, Transform};

use crate::error::{Error, Result};

/// The option.
pub(super) const SORT_ORDER: &str = "sort-order";

const EXPECTED: &str = "columns as in ORDER BY: city, ts DESC NULLS LAST";

fn invalid(text: &str, why: &str) -> Error {
    Error::validation(format!("invalid value '{text}' for option '{SORT_ORDER}': {why}"))
        .hint(format!("expected {EXPECTED}"))
}

/// Parts of a text between commas, which may stand in `quoted` names.
fn parts(text: &str) -> Vec<String> {
    let (mut all, mut part, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        quoted ^= c == '`';
        if c == ',' && !quoted {
            all.push(std::mem::take(&mut part));
        } else {
            part.push(c);
        }
    }
    all.push(part);
    all.iter().map(|p| p.trim().to_owned()).collect()
}

/// A name, perhaps quoted, and what comes behind it.
fn name(part: &str) -> Option<(String, &str)> {
    if !part.starts_with('`') {
        let (name, rest) = part.split_once(char::is_whitespace).unwrap_or((part, ""));
        return (!name.is_empty()).then(|| (name.to_owned(), rest));
    }
    let mut name = String::new();
    let mut chars = part.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match (c, chars.peek()) {
            ('`', Some((_, '`'))) => {
                chars.next();
                name.push('`');
            }
            ('`', _) => return part.get(at + 1..).filter(|_| !name.is_empty()).map(|rest| (name, rest)),
            _ => name.push(c),
        }
    }
    None
}

/// What a text says of the columns of `schema`.
///
/// # Errors
/// Validation for other texts, and for columns that cannot be sorted by.
pub(super) fn parse(text: &str, schema: &Schema) -> Result<SortOrder> {
    let mut fields = Vec::new();
    for part in parts(text) {
        let (column, rest) = name(&part).ok_or_else(|| invalid(text, "a column has no name"))?;
        let field = schema.as_struct().fields().iter().find(|f| f.name == column);
        let field = field.ok_or_else(|| invalid(text, &format!("there is no column `{column}`")))?;
        if !field.field_type.is_primitive() {
            return Err(invalid(text, &format!("`{column}` has fields or items of its own")));
        }
        let words = rest.split_whitespace().map(str::to_ascii_uppercase).collect::<Vec<_>>();
        let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
        let direction = match words.first() {
            Some(&"DESC") => SortDirection::Descending,
            _ => SortDirection::Ascending,
        };
        if matches!(words.first(), Some(&("ASC" | "DESC"))) {
            words.remove(0);
        }
        let null_order = match words.as_slice() {
            [] if direction == SortDirection::Ascending => NullOrder::First,
            [] => NullOrder::Last,
            ["NULLS", "FIRST"] => NullOrder::First,
            ["NULLS", "LAST"] => NullOrder::Last,
            _ => return Err(invalid(text, &format!("`{column}` is followed by `{}`", rest.trim()))),
        };
        if fields.iter().any(|f: &SortField| f.source_id == field.id) {
            return Err(invalid(text, &format!("`{column}` comes twice")));
        }
        fields.push(SortField { source_id: field.id, transform: Transform::Identity, direction, null_order });
    }
    Ok(SortOrder { order_id: 1, fields })
}

/// The option of a table that is there; `None` if it has no order, or one that the option cannot say.
pub(super) fn to_text(metadata: &TableMetadata) -> Option<String> {
    let (order, schema) = (metadata.default_sort_order(), metadata.current_schema());
    let shown = |field: &SortField| {
        let own = schema.as_struct().fields().iter().find(|f| f.id == field.source_id);
        let name = crate::sql::quote_ident(&own.filter(|_| field.transform == Transform::Identity)?.name);
        let direction = if field.direction == SortDirection::Descending { " DESC" } else { "" };
        let nulls = if field.null_order == NullOrder::First { "FIRST" } else { "LAST" };
        Some(format!("{name}{direction} NULLS {nulls}"))
    };
    let fields: Option<Vec<String>> = order.fields.iter().map(shown).collect();
    fields.filter(|f| !f.is_empty()).map(|f| f.join(", "))
}

/// By which columns rows are put in order.
#[derive(Debug, Clone)]
pub(super) struct Sorting(Vec<(usize, SortOptions)>);

impl Sorting {
    /// That of a table; `None` if it has none that rows can be put in.
    pub(super) fn of(metadata: &TableMetadata) -> Option<Sorting> {
        let columns = metadata.current_schema().as_struct().fields();
        let by = |field: &SortField| {
            let index = columns.iter().position(|c| c.id == field.source_id)?;
            let options = SortOptions {
                descending: field.direction == SortDirection::Descending,
                nulls_first: field.null_order == NullOrder::First,
            };
            (field.transform == Transform::Identity).then_some((index, options))
        };
        let by: Vec<_> = metadata.default_sort_order().fields.iter().map_while(by).collect();
        (!by.is_empty()).then_some(Sorting(by))
    }

    /// Rows in order. Those that are equal stay as they are to each other.
    ///
    /// # Errors
    /// Internal.
    pub(super) fn sort(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let mut by = Vec::with_capacity(self.0.len() + 1);
        for (index, options) in &self.0 {
            let values =
                rows.columns().get(*index).ok_or_else(|| Error::internal("rows without a column"))?;
            by.push(SortColumn { values: Arc::clone(values), options: Some(*options) });
        }
        let count = u32::try_from(rows.num_rows()).map_err(|_| Error::internal("too many rows"))?;
        let place: ArrayRef = Arc::new(arrow::array::UInt32Array::from_iter_values(0..count));
        by.push(SortColumn { values: place, options: None });
        Ok(take_record_batch(rows, &lexsort_to_indices(&by, None)?)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use iceberg::spec::{NestedField, PrimitiveType, StructType, Type};

    use super::*;

    fn schema() -> Schema {
        let string = Type::Primitive(PrimitiveType::String);
        let inner = Type::Struct(StructType::new(vec![NestedField::optional(4, "x", string.clone()).into()]));
        let fields = vec![
            NestedField::optional(1, "a", Type::Primitive(PrimitiveType::Long)).into(),
            NestedField::optional(2, "b, `c`", string).into(),
            NestedField::optional(3, "r", inner).into(),
        ];
        Schema::builder().with_fields(fields).build().unwrap()
    }

    #[test]
    fn texts_say_an_order() {
        let shown = |text: &str| {
            let order = parse(text, &schema()).unwrap();
            order
                .fields
                .iter()
                .map(|f| format!("{} {} {}", f.source_id, f.direction, f.null_order))
                .collect::<Vec<_>>()
                .join(", ")
        };
        assert_eq!(shown("a"), "1 ascending first");
        assert_eq!(shown(" `b, ``c``` desc , a ASC nulls LAST"), "2 descending last, 1 ascending last");
        for (text, why) in [
            ("", "no name"),
            ("a,", "no name"),
            ("z", "no column `z`"),
            ("r", "of its own"),
            ("a DOWN", "followed by `DOWN`"),
            ("a NULLS", "followed by `NULLS`"),
            ("a, a DESC", "twice"),
            ("`a", "no name"),
        ] {
            let e = parse(text, &schema()).unwrap_err().to_string();
            assert!(e.contains(why) && e.contains("ORDER BY"), "{text}: {e}");
        }
    }

    #[test]
    fn rows_come_in_order_and_equal_ones_stay() {
        let a = Int64Array::from(vec![Some(2), None, Some(1), Some(2), None]);
        let b = StringArray::from(vec![Some("x"), Some("y"), None, Some("w"), Some("a")]);
        let rows =
            RecordBatch::try_from_iter([("a", Arc::new(a) as ArrayRef), ("b", Arc::new(b) as ArrayRef)])
                .unwrap();
        let by = |columns: &[(usize, bool, bool)]| {
            let of = |(i, descending, nulls_first): &(usize, bool, bool)| {
                (*i, SortOptions { descending: *descending, nulls_first: *nulls_first })
            };
            let sorted = Sorting(columns.iter().map(of).collect()).sort(&rows).unwrap();
            let b = sorted.column(1).as_any().downcast_ref::<StringArray>().unwrap().clone();
            b.iter().map(|v| v.unwrap_or("-").to_owned()).collect::<String>()
        };
        assert_eq!(by(&[(0, false, true)]), "ya-xw");
        assert_eq!(by(&[(0, true, false)]), "xw-ya");
        assert_eq!(by(&[(0, false, true), (1, false, true)]), "ay-wx");
        let none = Sorting(vec![(0, SortOptions::default())]).sort(&rows.slice(0, 0)).unwrap();
        assert_eq!(none.num_rows(), 0);
    }
}
