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
use crate::error::{Error, Result};
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
    let renamed = renames(&versions);
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

/// From the columns of all versions of a schema, oldest first: names that the newest one has no more, and what they are there.
fn renames(versions: &[Vec<SchemaColumn>]) -> Vec<(String, String)> {
    let Some(newest) = versions.last() else { return Vec::new() };
    let current: BTreeSet<&str> = newest.iter().map(|c| c.name.as_str()).collect();
    let of_column =
        |c: &'_ SchemaColumn| std::iter::once(c.name.clone()).chain(c.aliases.clone()).collect::<Vec<_>>();
    let old: BTreeSet<String> =
        versions.iter().flatten().flat_map(of_column).filter(|n| !current.contains(n.as_str())).collect();
    let mut pairs = Vec::new();
    for name in old {
        let last = versions.iter().rev().find_map(|v| v.iter().find(|c| c.name == name));
        let by_number = || {
            let number = last?.number?;
            newest.iter().find(|c| c.number == Some(number))
        };
        let by_alias = || {
            let mut now = name.as_str();
            for version in versions {
                let has = version.iter().any(|c| c.name == now);
                let next = version.iter().find(|c| !has && c.aliases.iter().any(|a| a == now));
                now = next.map_or(now, |c| c.name.as_str());
            }
            newest.iter().find(|c| c.name == now)
        };
        let Some(new) = by_number().or_else(by_alias) else { continue };
        // A number that was taken for something else is another field.
        if last.is_none_or(|last| fits(&last.ty, &new.ty)) {
            pairs.push((name, new.name.clone()));
        }
    }
    pairs
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
        renames(versions).iter().map(|(a, b)| format!("{a}:{b}")).collect::<Vec<_>>().join(" ")
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
        assert_eq!(shown(&twice), "a:c b:c");
        assert_eq!(shown(&[of(&[("a", 1), ("b", 2)]), of(&[("b", 2)])]), "", "it is gone");
        assert_eq!(shown(&[of(&[("a", 1), ("b", 2)]), of(&[("b", 1), ("a", 2)])]), "", "both are there");
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
        assert_eq!(shown(&chain), "a:c b:c");
        assert_eq!(shown(&[of(&[("a", &[])]), of(&[("a", &[]), ("b", &["a"])])]), "", "both are there");
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
