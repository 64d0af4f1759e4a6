//! What stands inside of columns: the names of a row's fields, and which field of an object is which.

use std::collections::HashMap;

use arrow::datatypes::{DataType, FieldRef};

use super::fail::Fail;
use super::scan::Scanner;

/// Names of a row's fields and where to find them.
pub(crate) struct RowShape {
    pub(super) fields: Vec<FieldShape>,
    /// Only for rows of many fields.
    index: HashMap<String, usize>,
    /// `"name":` of the fields in the order in which the first record had them, with the field each one is (`None`: not
    /// read). Producers keep an order, so nearly every lookup ends here with one comparison.
    order: Vec<(Vec<u8>, Option<usize>)>,
}

/// A field: its name, and what is inside of it.
pub(crate) struct FieldShape {
    pub(super) name: String,
    pub(super) shape: Shape,
}

/// What is inside of a type.
pub(crate) enum Shape {
    Leaf,
    /// ARRAY
    List(Box<Shape>),
    /// MAP, MULTISET: the shape of the values, and whether they are NOT NULL
    Map(Box<Shape>, bool),
    Row(RowShape),
}

impl Shape {
    /// The inside of an Arrow type.
    pub(crate) fn new(ty: &DataType) -> Self {
        match ty {
            DataType::List(item) => Shape::List(Box::new(Shape::new(item.data_type()))),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(kv) => {
                    let value = kv.get(1);
                    let shape = value.map_or(Shape::Leaf, |v| Shape::new(v.data_type()));
                    Shape::Map(Box::new(shape), value.is_some_and(|v| !v.is_nullable()))
                }
                _ => Shape::Leaf,
            },
            DataType::Struct(fields) => Shape::Row(RowShape::new(fields)),
            _ => Shape::Leaf,
        }
    }
}

/// Above this many fields names are looked up by hash.
const LINEAR_FIELDS: usize = 8;
/// Longest remembered order of fields.
const MAX_ORDER: usize = 1024;

impl RowShape {
    pub(super) fn new(fields: &[FieldRef]) -> Self {
        let mut index = HashMap::new();
        if fields.len() > LINEAR_FIELDS {
            for (i, f) in fields.iter().enumerate() {
                index.entry(f.name().clone()).or_insert(i);
            }
        }
        let fields = fields
            .iter()
            .map(|f| FieldShape { name: f.name().clone(), shape: Shape::new(f.data_type()) })
            .collect();
        RowShape { fields, index, order: Vec::new() }
    }

    fn lookup(&self, name: &str) -> Option<usize> {
        if self.index.is_empty() {
            self.fields.iter().position(|f| f.name == name)
        } else {
            self.index.get(name).copied()
        }
    }

    /// Takes the name of the `nth` field of an object and the colon behind it; gives the field that it is.
    #[inline]
    pub(super) fn field(&mut self, s: &mut Scanner<'_>, nth: usize) -> Result<Option<usize>, Fail> {
        if let Some((token, target)) = self.order.get(nth)
            && s.take(token)
        {
            return Ok(*target);
        }
        self.unexpected_field(s, nth)
    }

    #[inline(never)]
    fn unexpected_field(&mut self, s: &mut Scanner<'_>, nth: usize) -> Result<Option<usize>, Fail> {
        if s.peek() != b'"' {
            return Err(Fail::Syntax("an object has a field without a name"));
        }
        let start = s.pos;
        let name = s.string()?;
        let quoted = s.slice(start, s.pos);
        s.skip_blanks();
        s.expect(b':', "a field name is not followed by ':'")?;
        let target = self.lookup(&name);
        // Only names without escapes can be compared with the raw text.
        if nth == self.order.len() && nth < MAX_ORDER && quoted.len() == name.len() + 2 {
            self.order.push((format!("{quoted}:").into_bytes(), target));
        }
        Ok(target)
    }
}
