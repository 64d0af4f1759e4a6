//! `SHOW CREATE …`: definitions as the statements that make them. Secrets are masked.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::altered::constraint_name;
use super::{TableDef, ViewDef};
use crate::options::{hides_secret, redact};
use crate::sql::ast::{ColumnKind, SqlExpr};
use crate::sql::{format_expr, quote_ident};
use crate::types::{LogicalType, MAX_LENGTH, RowField, TypeRoot};

fn string(s: &str) -> String {
    format!("'{}'", s.replace('\'', "''"))
}

fn path(catalog: &str, database: &str, object: &str) -> String {
    format!("{}.{}.{}", quote_ident(catalog), quote_ident(database), quote_ident(object))
}

fn with(out: &mut String, options: &BTreeMap<String, String>) {
    if options.is_empty() {
        return;
    }
    let items: Vec<String> =
        options.iter().map(|(k, v)| format!("  {} = {}", string(k), string(redact(k, v)))).collect();
    let _ = write!(out, "WITH (\n{}\n)\n", items.join(",\n"));
}

fn comment(out: &mut String, comment: Option<&str>) {
    if let Some(c) = comment {
        let _ = writeln!(out, "COMMENT {}", string(c));
    }
}

/// The type as Flink writes it where it has to be read again: `VARCHAR(2147483647)`, not `STRING`.
pub(super) fn type_text(ty: &LogicalType) -> String {
    let root = match &ty.root {
        TypeRoot::Varchar(MAX_LENGTH) => format!("VARCHAR({MAX_LENGTH})"),
        TypeRoot::Varbinary(MAX_LENGTH) => format!("VARBINARY({MAX_LENGTH})"),
        TypeRoot::TimestampLtz(p) => format!("TIMESTAMP({p}) WITH LOCAL TIME ZONE"),
        TypeRoot::Array(t) => format!("ARRAY<{}>", type_text(t)),
        TypeRoot::Multiset(t) => format!("MULTISET<{}>", type_text(t)),
        TypeRoot::Map(k, v) => format!("MAP<{}, {}>", type_text(k), type_text(v)),
        TypeRoot::Row(fields) => {
            let field = |f: &RowField| {
                let comment = f.comment.as_ref().map(|c| format!(" {}", string(c))).unwrap_or_default();
                format!("{} {}{comment}", quote_ident(&f.name), type_text(&f.ty))
            };
            format!("ROW<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        root => LogicalType::nullable(root.clone()).to_string(),
    };
    if ty.nullable { root } else { format!("{root} NOT NULL") }
}

/// `SHOW CREATE TABLE`.
pub(super) fn table(def: &TableDef) -> String {
    let mut items: Vec<String> = Vec::new();
    for column in &def.columns {
        let mut item = quote_ident(&column.name);
        match (&column.kind, &column.ty) {
            (ColumnKind::Computed(expr), _) => {
                let _ = write!(item, " AS {}", format_expr(&expr.text));
            }
            (kind, ty) => {
                if let Some(ty) = ty {
                    let _ = write!(item, " {}", type_text(ty));
                }
                item.push_str(&metadata(&column.name, kind));
            }
        }
        if let Some(c) = &column.comment {
            let _ = write!(item, " COMMENT {}", string(c));
        }
        items.push(item);
    }
    if let Some(w) = &def.watermark {
        items.push(format!("WATERMARK FOR {} AS {}", quote_ident(&w.column), format_expr(&w.expr.text)));
    }
    if let Some(key) = &def.primary_key {
        let name = constraint_name(key);
        let columns: Vec<String> = key.columns.iter().map(|c| quote_ident(c)).collect();
        items.push(format!(
            "CONSTRAINT {} PRIMARY KEY ({}) NOT ENFORCED",
            quote_ident(&name),
            columns.join(", ")
        ));
    }
    let mut out = format!(
        "CREATE {}TABLE {} (\n  {}\n)\n",
        if def.temporary { "TEMPORARY " } else { "" },
        path(&def.path.catalog, &def.path.database, &def.path.object),
        items.join(",\n  ")
    );
    comment(&mut out, def.comment.as_deref());
    if !def.partitioned_by.is_empty() {
        let items: Vec<String> = def.partitioned_by.iter().map(partition).collect();
        let _ = writeln!(out, "PARTITIONED BY ({})", items.join(", "));
    }
    with(&mut out, &def.options);
    out
}

fn partition(expr: &SqlExpr) -> String {
    match &expr.expr {
        datafusion::sql::sqlparser::ast::Expr::Identifier(i) => quote_ident(&i.value),
        _ => expr.text.clone(),
    }
}

/// ` METADATA [FROM 'key'] [VIRTUAL]`, or nothing.
pub(super) fn metadata(name: &str, kind: &ColumnKind) -> String {
    match kind {
        ColumnKind::Metadata { key, read_only } => {
            let from = if key == name { String::new() } else { format!(" FROM {}", string(key)) };
            format!(" METADATA{from}{}", if *read_only { " VIRTUAL" } else { "" })
        }
        _ => String::new(),
    }
}

/// `SHOW CREATE VIEW`. The query as it was written, values of secret options in its hints masked.
pub(super) fn view(def: &ViewDef) -> String {
    let mut out = format!(
        "CREATE {}VIEW {}",
        if def.temporary { "TEMPORARY " } else { "" },
        path(&def.path.catalog, &def.path.database, &def.path.object)
    );
    if !def.columns.is_empty() {
        let columns: Vec<String> = def.columns.iter().map(|c| format!("  {}", quote_ident(c))).collect();
        let _ = write!(out, " (\n{}\n)", columns.join(",\n"));
    }
    out.push('\n');
    comment(&mut out, def.comment.as_deref());
    let mut text = def.query.text.clone();
    for (key, value) in def.query.table_hints.iter().flatten() {
        if hides_secret(key, value) {
            text = text.replace(&string(value), "'******'");
        }
    }
    let _ = writeln!(out, "AS {text}");
    out
}

/// `SHOW CREATE CATALOG`.
pub(super) fn catalog(
    name: &str,
    about: Option<&str>,
    kind: &str,
    options: &BTreeMap<String, String>,
) -> String {
    let mut out = format!("CREATE CATALOG {}\n", quote_ident(name));
    comment(&mut out, about);
    let mut options = options.clone();
    options.entry("type".to_owned()).or_insert_with(|| kind.to_owned());
    with(&mut out, &options);
    out
}
