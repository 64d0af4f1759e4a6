//! Columns as the schemas of a registry say them, and what fields were called before.
//!
//! ```text
//!  versions of the subject TOPIC-value ─► columns of the newest, and of schemas that were met in records
//!                                    └──► identities: Protobuf's numbers, Avro's aliases ─► old name → new name
//! ```
//!
//! A field that was renamed keeps its column: the table gives it the new name with the first rows, and records of older
//! schemas are read into it. Nothing of that is kept here: the registry knows all versions.

use std::collections::BTreeSet;

use super::config::{RecordFormat, TableflowConfig};
use super::infer::{Column, extend};
use crate::error::{Error, Result, ResultExt};
use crate::formats::{SchemaColumn, schema_columns};
use crate::registry::{RegisteredSchema, SchemaKind};
use crate::types::{LogicalType, RowField, TypeRoot};

/// What a registry knows of the records of a topic.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Registered {
    /// Their columns, under the newest names.
    pub columns: Vec<Column>,
    /// Earlier names of fields, and the newest.
    pub renamed: Vec<(String, String)>,
}

/// The columns of the newest schema of a subject of `topic`, and of the schemas `met` in records. `part` is `key` or `value`; the
/// fields of keys are what they are called.
///
/// # Errors
/// Of the registry.
pub(super) async fn registered(
    config: &TableflowConfig,
    topic: &str,
    part: &str,
    met: &[u32],
) -> Result<Registered> {
    let Some(registry) = &config.registry else {
        return Err(Error::validation("it is not said where the schemas are").hint("--registry URL"));
    };
    let client = registry.client()?;
    let subject = format!("{topic}-{part}");
    let latest = client.latest(&subject).await?;
    let mut versions = Vec::new();
    if part == "value" && latest.as_ref().is_some_and(|l| l.version > 1 || l.schema.kind == SchemaKind::Avro)
    {
        let all = match &latest {
            Some(only) if only.version == 1 => vec![only.clone()],
            _ => client.versions(&subject).await?,
        };
        for version in &all {
            // An old one that cannot be understood says nothing of the names.
            versions.extend(schema_columns(&version.schema, None).ok().map(|found| found.columns));
        }
    }
    let renamed = renames(&versions).context(|| format!("subject {subject}"))?;
    let mut schemas = Vec::new();
    for id in met {
        schemas.push(client.schema(*id).await?);
    }
    schemas.extend(latest.map(|latest| latest.schema));
    let mut columns = Vec::new();
    for schema in schemas {
        columns = extend(&columns, &under_new_names(&of_schema(&schema)?, &renamed));
    }
    Ok(Registered { columns, renamed })
}

/// Earlier names of the fields of a topic's values, for those who read a table that is there.
///
/// # Errors
/// Of the registry.
pub(super) async fn earlier_names(config: &TableflowConfig, topic: &str) -> Result<Vec<(String, String)>> {
    match config.format {
        RecordFormat::Registered(SchemaKind::Avro | SchemaKind::Protobuf) if config.registry.is_some() => {
            Ok(registered(config, topic, "value", &[]).await?.renamed)
        }
        _ => Ok(Vec::new()),
    }
}

fn of_schema(schema: &RegisteredSchema) -> Result<Vec<Column>> {
    let columns = schema_columns(schema, None)?.columns.into_iter();
    Ok(columns.map(|c| Column { name: c.name, ty: relaxed(c.ty) }).collect())
}

/// Columns, those that were renamed under their new names, unless both are there.
pub(super) fn under_new_names(columns: &[Column], renamed: &[(String, String)]) -> Vec<Column> {
    let has = |columns: &[Column], name: &str| columns.iter().any(|c| c.name == name);
    let mut all = columns.to_vec();
    for (from, to) in renamed {
        if !has(&all, to)
            && let Some(old) = all.iter_mut().find(|c| c.name == *from)
        {
            old.name.clone_from(to);
        }
    }
    all
}

/// What a field was called.
struct Earlier<'a> {
    /// The last version that has it under that name.
    last: Option<usize>,
    /// The version that has it under another one.
    until: usize,
    name: &'a str,
    /// The name in the newest version.
    now: &'a str,
}

/// From the columns of all versions of a schema, oldest first: names that fields had before, and what they are now; of those of
/// one field the one that it had last comes first. A name may have been taken for another field since.
///
/// # Errors
/// Validation where a name or a number means several fields, so that their values would be in one column.
fn renames(versions: &[Vec<SchemaColumn>]) -> Result<Vec<(String, String)>> {
    let Some(newest) = versions.last() else { return Ok(Vec::new()) };
    numbers_are_kept(versions, newest)?;
    let of_column =
        |c: &'_ SchemaColumn| std::iter::once(c.name.clone()).chain(c.aliases.clone()).collect::<Vec<_>>();
    let names: BTreeSet<String> = versions.iter().flatten().flat_map(of_column).collect();
    let found =
        names.iter().filter_map(|n| by_number(versions, newest, n).or_else(|| by_alias(versions, newest, n)));
    let mut all: Vec<Earlier<'_>> = found.collect();
    all.sort_by_key(|e| std::cmp::Reverse(e.last));
    for e in &all {
        told_apart(versions, &all, e)?;
    }
    Ok(all.into_iter().map(|e| (e.name.to_owned(), e.now.to_owned())).collect())
}

fn has(columns: &[SchemaColumn], name: &str) -> bool {
    columns.iter().any(|c| c.name == name)
}

/// The last of some versions that has a name, and what it has.
fn last_with<'a>(versions: &'a [Vec<SchemaColumn>], name: &str) -> Option<(usize, &'a SchemaColumn)> {
    let found = |(i, v): (usize, &'a Vec<SchemaColumn>)| Some((i, v.iter().find(|c| c.name == name)?));
    versions.iter().enumerate().rev().find_map(found)
}

/// That no name has another number than before: the values of two fields would be in one column.
fn numbers_are_kept(versions: &[Vec<SchemaColumn>], newest: &[SchemaColumn]) -> Result<()> {
    for column in newest {
        let mut before = versions.iter().flatten().filter(|c| c.name == column.name);
        if let Some(other) = before.find(|c| c.number != column.number)
            && let (Some(old), Some(new)) = (other.number, column.number)
        {
            return Err(Error::validation(format!(
                "the field `{}` has the number {new} in the newest schema and {old} in an earlier one: its column would have the values of two fields",
                column.name
            ))
            .hint("give the field a name that no earlier schema has; or delete the versions from the registry that do not count any more"));
        }
    }
    Ok(())
}

/// By the number of a Protobuf field, if it has been there ever since: one that was away is another field's.
fn by_number<'a>(
    versions: &[Vec<SchemaColumn>],
    newest: &'a [SchemaColumn],
    name: &'a str,
) -> Option<Earlier<'a>> {
    if has(newest, name) {
        return None;
    }
    let (last, old) = last_with(versions, name)?;
    let number = Some(old.number?);
    let mut later = versions.iter().skip(last + 1);
    let is_kept = later.all(|v| v.iter().any(|c| c.number == number));
    let new = newest.iter().find(|c| c.number == number && is_kept)?;
    // A number that was taken for something else is another field.
    fits(&old.ty, &new.ty).then_some(Earlier { last: Some(last), until: last + 1, name, now: &new.name })
}

/// By the aliases of Avro fields, one after the other. Two fields that were there side by side are two.
fn by_alias<'a>(
    versions: &'a [Vec<SchemaColumn>],
    newest: &'a [SchemaColumn],
    name: &'a str,
) -> Option<Earlier<'a>> {
    let (mut now, mut until) = (name, None);
    for (i, version) in versions.iter().enumerate() {
        if has(version, now) {
            continue;
        }
        let next = version.iter().find(|c| c.aliases.iter().any(|a| a == now));
        let before = versions.get(..i).unwrap_or_default();
        if let Some(next) = next.filter(|next| !before.iter().any(|v| has(v, now) && has(v, &next.name))) {
            now = &next.name;
            until.get_or_insert(i);
        }
    }
    let until = until.filter(|_| now != name)?;
    let new = newest.iter().find(|c| c.name == now)?;
    let last = last_with(versions.get(..until)?, name);
    let fits = last.is_none_or(|(_, last)| fits(&last.ty, &new.ty));
    fits.then_some(Earlier { last: last.map(|(i, _)| i), until, name, now })
}

/// That records say which field a name means that was taken again: those of the other one have the renamed field as well.
fn told_apart(versions: &[Vec<SchemaColumn>], all: &[Earlier<'_>], e: &Earlier<'_>) -> Result<()> {
    let others = all.iter().filter(|o| o.now == e.now && o.last > e.last).map(|o| o.name);
    let others: Vec<&str> = others.chain([e.now]).collect();
    let mut later = versions.iter().skip(e.until).filter(|v| has(v, e.name));
    if later.all(|v| others.iter().any(|o| has(v, o))) {
        return Ok(());
    }
    Err(Error::validation(format!(
        "`{}` is what the field `{}` was called, and another field in a schema that does not have that one: its column would have the values of two fields",
        e.name, e.now
    ))
    .hint("give the new field a name that no earlier schema has; or delete the versions from the registry that do not count any more"))
}

/// Whether a column of the first type can hold what the second one says, or become as wide.
fn fits(have: &LogicalType, new: &LogicalType) -> bool {
    match (&have.root, &new.root) {
        (TypeRoot::Row(_), TypeRoot::Row(_)) => true,
        (TypeRoot::Array(a), TypeRoot::Array(b)) => fits(a, b),
        (TypeRoot::Map(k, v), TypeRoot::Map(l, w)) => k.root == l.root && fits(v, w),
        (TypeRoot::Int, TypeRoot::BigInt) | (TypeRoot::Float, TypeRoot::Double) => true,
        (TypeRoot::Decimal(p, s), TypeRoot::Decimal(q, t)) => q >= p && s == t,
        (a, b) => a == b,
    }
}

/// A type that may be NULL at every level: columns are added later, and bad records have none.
pub(super) fn relaxed(ty: LogicalType) -> LogicalType {
    let inner = |t: Box<LogicalType>| Box::new(relaxed(*t));
    LogicalType::nullable(match ty.root {
        TypeRoot::Array(t) => TypeRoot::Array(inner(t)),
        TypeRoot::Map(k, v) => TypeRoot::Map(k, inner(v)),
        TypeRoot::Row(fields) => TypeRoot::Row(
            fields.into_iter().map(|f| RowField { ty: relaxed(f.ty), comment: None, ..f }).collect(),
        ),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, root: TypeRoot, number: Option<u32>, aliases: &[&str]) -> SchemaColumn {
        SchemaColumn {
            name: name.to_owned(),
            ty: LogicalType::nullable(root),
            comment: None,
            number,
            aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
        }
    }

    fn shown(versions: &[Vec<SchemaColumn>]) -> String {
        match renames(versions) {
            Ok(pairs) => pairs.iter().map(|(a, b)| format!("{a}:{b}")).collect::<Vec<_>>().join(" "),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn numbers_say_what_a_field_was_called() {
        let of = |fields: &[(&str, u32)]| {
            fields.iter().map(|(n, i)| column(n, TypeRoot::BigInt, Some(*i), &[])).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[]), "");
        assert_eq!(shown(&[of(&[("a", 1)])]), "");
        assert_eq!(shown(&[of(&[("a", 1), ("b", 2)]), of(&[("c", 1), ("b", 2)])]), "a:c");
        let twice = [of(&[("a", 1)]), of(&[("b", 1)]), of(&[("c", 1)])];
        assert_eq!(shown(&twice), "b:c a:c", "the last one first");
        assert_eq!(shown(&[of(&[("a", 1), ("b", 2)]), of(&[("b", 2)])]), "", "it is gone");
        for mixed in [
            [of(&[("a", 1), ("b", 2)]), of(&[("b", 1), ("a", 2)])],
            [of(&[("a", 1), ("b", 2)]), of(&[("b", 1), ("c", 2)])],
        ] {
            let e = shown(&mixed);
            assert!(e.contains("field `b` has the number 1") && e.contains("2 in an earlier"), "{e}");
        }
        let away = [of(&[("a", 1), ("b", 2)]), of(&[("b", 2)]), of(&[("x", 1), ("b", 2)])];
        assert_eq!(shown(&away), "", "the number was given up");
        let reused = [of(&[("a", 1)]), vec![column("t", TypeRoot::Boolean, Some(1), &[])]];
        assert_eq!(shown(&reused), "", "another type");
        let wider = [vec![column("a", TypeRoot::Int, Some(1), &[])], of(&[("b", 1)])];
        assert_eq!(shown(&wider), "a:b");
    }

    #[test]
    fn aliases_say_it_too() {
        let of = |fields: &[(&str, &[&str])]| {
            fields.iter().map(|(n, a)| column(n, TypeRoot::BigInt, None, a)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[of(&[("b", &["a"])])]), "a:b", "the alias alone");
        assert_eq!(shown(&[of(&[("a", &[])]), of(&[("b", &[])])]), "", "two fields");
        let chain = [of(&[("a", &[])]), of(&[("b", &["a"])]), of(&[("c", &["b"])])];
        assert_eq!(shown(&chain), "b:c a:c");
        let both: [Vec<SchemaColumn>; 2] = [of(&[("a", &[])]), of(&[("a", &[]), ("b", &["a"])])];
        assert_eq!(shown(&both), "", "both are there");
        assert_eq!(shown(&[&both[..], &[of(&[("b", &["a"])])]].concat()), "", "both were there");
        let back = [of(&[("a", &[])]), of(&[("b", &["a"])]), of(&[("a", &["b"])])];
        assert_eq!(shown(&back), "b:a");
    }

    #[test]
    fn an_old_name_is_taken_for_another_field() {
        let of = |fields: &[(&str, TypeRoot, &[&str])]| {
            fields.iter().map(|(n, ty, a)| column(n, ty.clone(), None, a)).collect::<Vec<_>>()
        };
        let text = || LogicalType::string().root;
        let title = |name| (name, text(), &["name"][..]);
        let none: &[&str] = &[];
        let number = ("name", TypeRoot::BigInt, none);
        let begun = [of(&[("name", text(), &[])]), of(&[title("title")])];
        let taken = [&begun[..], &[of(&[title("title"), number.clone()])]].concat();
        assert_eq!(shown(&taken), "name:title");
        let label = ("label", text(), &["title"][..]);
        assert_eq!(shown(&[&taken[..], &[of(&[label, number.clone()])]].concat()), "title:label name:label");
        let alone =
            [&begun[..], &[of(std::slice::from_ref(&number))], &[of(&[title("title"), number])]].concat();
        assert!(shown(&alone).contains("`name` is what the field `title` was called"), "{}", shown(&alone));
    }

    #[test]
    fn columns_get_their_new_names() {
        let of = |names: &[&str]| {
            names.iter().map(|n| Column { name: (*n).into(), ty: LogicalType::string() }).collect::<Vec<_>>()
        };
        let renamed = [("a".to_owned(), "c".to_owned()), ("b".to_owned(), "c".to_owned())];
        assert_eq!(under_new_names(&of(&["a", "x"]), &renamed), of(&["c", "x"]));
        assert_eq!(under_new_names(&of(&["b"]), &renamed), of(&["c"]));
        assert_eq!(under_new_names(&of(&["a", "b"]), &renamed), of(&["c", "b"]));
        assert_eq!(under_new_names(&of(&["a", "c"]), &renamed), of(&["a", "c"]));
    }
}
