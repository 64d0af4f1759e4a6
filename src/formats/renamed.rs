//! Fields that have been renamed since a record was written: `renamed-fields` = `old:new;…`.
//!
//! A schema registry keeps what a field was called before: Protobuf by its number, Avro by its aliases. A table has one
//! column for all of its names. Of a record whose schema has the old name, and not the new one, the value goes there. A column
//! of the old name, which is another field's by now, has nothing of such a record.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::Fields;

use crate::error::Result;
use crate::options::Options;

/// Old and new names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Renamed(Vec<(String, String)>);

impl Renamed {
    /// Takes the option.
    ///
    /// # Errors
    /// Validation for what is no list of pairs.
    pub(crate) fn take(options: &Options, key: &str) -> Result<Self> {
        let Some(text) = options.take(key) else { return Ok(Renamed::default()) };
        match parse(&text) {
            Some(pairs) => Ok(Renamed(pairs)),
            None => Err(options.invalid(key, &text, "old:new;old:new")),
        }
    }

    /// What `columns` are called in a schema whose fields `has` knows. Of several old names the first one counts.
    pub(crate) fn in_schema<'a>(&self, columns: &'a Fields, has: impl Fn(&str) -> bool) -> Cow<'a, Fields> {
        let old = |new: &str| {
            let mut older = self.0.iter().filter(|(_, to)| to == new).map(|(from, _)| from);
            older.find(|from| has(from) && !has(new))
        };
        let moved: Vec<&String> = columns.iter().filter_map(|c| old(c.name())).collect();
        if moved.is_empty() {
            return Cow::Borrowed(columns);
        }
        let named = columns.iter().map(|c| match old(c.name()) {
            Some(from) => Arc::new(c.as_ref().clone().with_name(from)),
            // No field of any schema is called so.
            None if moved.contains(&c.name()) => {
                Arc::new(c.as_ref().clone().with_name(format!(":{}", c.name())))
            }
            None => Arc::clone(c),
        });
        Cow::Owned(named.collect())
    }
}

/// `old:new;old:new`; `None` for anything else.
pub(crate) fn parse(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |pair: &str| {
        let (from, to) = pair.split_once(':')?;
        let (from, to) = (from.trim(), to.trim());
        (!from.is_empty() && !to.is_empty() && from != to && !to.contains(':'))
            .then(|| (from.to_owned(), to.to_owned()))
    };
    let pairs: Option<Vec<_>> = text.split(';').map(str::trim).filter(|p| !p.is_empty()).map(pair).collect();
    pairs.filter(|p| !p.is_empty())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn pairs() {
        assert_eq!(parse("a:b; c : d ;").unwrap().len(), 2);
        for bad in ["", ";", "a", "a:", ":b", "a:a", "a:b:c", "a:b;c"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_column_has_the_name_that_the_schema_knows() {
        let renamed = Renamed(parse("a:c;b:c;x:y").unwrap());
        let of = |columns: &[&str], schema: &[&str]| {
            let columns: Fields = columns.iter().map(|c| Field::new(*c, DataType::Int32, true)).collect();
            let named = renamed.in_schema(&columns, |name| schema.contains(&name));
            named.iter().map(|f| f.name().clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of(&["c", "y"], &["c", "y"]), "c y");
        assert_eq!(of(&["c", "y"], &["a", "y"]), "a y");
        assert_eq!(of(&["c", "y"], &["b", "x"]), "b x");
        assert_eq!(of(&["c"], &["a", "c"]), "c", "the new one is there");
        assert_eq!(of(&["a", "c"], &["a"]), ":a a", "another field has the old name");
        assert_eq!(of(&["c"], &["a", "b"]), "a", "the first one");
        assert_eq!(of(&["z"], &["a"]), "z");
    }
}
