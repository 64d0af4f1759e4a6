//! The rows of `SHOW …` and `DESCRIBE`, as Flink prints them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use regex::RegexBuilder;

use super::define::is_proctime;
use super::manager::CatalogManager;
use super::{CatalogObject, TableDef, ViewDef, ddl_text};
use crate::error::{Error, Result};
use crate::functions::undescribed_function;
use crate::options::redact;
use crate::sql::ast::ColumnKind;
use crate::sql::ast::{Name, NamePattern, Show};
use crate::sql::format_expr;
use crate::types::{LogicalType, TimeAttribute};

/// A column of a view's query.
#[derive(Debug)]
pub struct ViewColumn {
    /// Name in the query.
    pub name: String,
    /// Type.
    pub ty: LogicalType,
    /// The time attribute that it is.
    pub time: Option<TimeAttribute>,
}

/// What only the planner knows about columns.
#[async_trait]
pub trait InferColumns: Send + Sync {
    /// Types of the computed columns of a table, by name.
    ///
    /// # Errors
    /// Validation if an expression does not plan.
    async fn computed_columns(&self, table: &Arc<TableDef>) -> Result<BTreeMap<String, LogicalType>>;

    /// Names (before the view's own column list is applied) and types of the columns of a view's query.
    ///
    /// # Errors
    /// Validation if the query does not plan.
    async fn view_columns(&self, view: &Arc<ViewDef>) -> Result<Vec<ViewColumn>>;
}

impl CatalogManager {
    /// The rows of `SHOW …`. `functions` are the names of the built-in functions.
    ///
    /// # Errors
    /// Validation for unknown names; External if a catalog fails.
    pub async fn show(
        &self,
        show: &Show,
        functions: &[String],
        infer: &dyn InferColumns,
    ) -> Result<RecordBatch> {
        let current = self.current();
        match show {
            Show::Catalogs(p) => names("catalog name", self.list_catalogs(), p.as_ref()),
            Show::CurrentCatalog => names("current catalog name", vec![current.0], None),
            Show::Databases(from, p) => {
                let catalog = match from {
                    None => self.catalog(&current.0)?,
                    Some(n) => self
                        .catalog(n.parts.last().map_or("", String::as_str))
                        .map_err(|e| e.at(n.location))?,
                };
                names("database name", catalog.list_databases().await?, p.as_ref())
            }
            Show::CurrentDatabase => names("current database name", vec![current.1], None),
            Show::Tables(from, p) => {
                let all = self.objects(from.as_ref()).await?;
                names("table name", all.into_iter().map(|(n, _)| n).collect(), p.as_ref())
            }
            Show::Views(from, p) => {
                let all = self.objects(from.as_ref()).await?;
                names("view name", all.into_iter().filter(|(_, v)| *v).map(|(n, _)| n).collect(), p.as_ref())
            }
            Show::Columns(table, p) => self.columns(table, p.as_ref(), infer).await,
            Show::Functions(p) => {
                let mut all = functions.to_vec();
                all.extend(self.function_names());
                all.sort_unstable();
                all.dedup();
                names("function name", all, p.as_ref())
            }
            Show::UserFunctions(p) => names("function name", self.function_names(), p.as_ref()),
            Show::CreateTable(name) => match self.get(name).await? {
                CatalogObject::Table(def) => result(ddl_text::table(&def)),
                CatalogObject::View(v) => Err(Error::validation(format!("{} is a view", v.path))
                    .at(name.location)
                    .hint("write SHOW CREATE VIEW")),
            },
            Show::CreateView(name) => match self.get(name).await? {
                CatalogObject::View(def) => result(ddl_text::view(&def)),
                CatalogObject::Table(t) => Err(Error::validation(format!("{} is a table", t.path))
                    .at(name.location)
                    .hint("write SHOW CREATE TABLE")),
            },
            Show::CreateFunction(name) => match self.function(&name.parts, None) {
                Some(f) => match &f.text {
                    Some(text) => result(text.clone()),
                    None => Err(Error::validation(format!("{} was made by the program", f.signature.name))
                        .at(name.location)
                        .hint("DESCRIBE FUNCTION shows it")),
                },
                None => {
                    let own = name.parts.join(".");
                    Err(undescribed_function(&own, &self.function_names()).at(name.location))
                }
            },
            Show::CreateCatalog(name) => {
                let catalog_name = name.parts.last().map_or("", String::as_str);
                let catalog = self.catalog(catalog_name).map_err(|e| e.at(name.location))?;
                let comment = self.catalog_comment(catalog_name)?;
                result(ddl_text::catalog(catalog_name, comment.as_deref(), catalog.kind(), catalog.options()))
            }
        }
    }

    /// Tables and views of `from`, or of the current database.
    async fn objects(&self, from: Option<&Name>) -> Result<Vec<(String, bool)>> {
        let (catalog, database) = match from {
            None => self.current(),
            Some(n) => self.resolve_database(n)?,
        };
        let listed = async {
            self.database(&catalog, &database).await?;
            self.list_objects(&catalog, &database).await
        };
        listed.await.map_err(|e| match from {
            Some(n) => e.at(n.location),
            None => e,
        })
    }

    /// The rows of `DESCRIBE t`: name, type, null, key, extras, watermark and, if there is one, comment.
    ///
    /// # Errors
    /// Validation for unknown names and expressions that do not plan.
    pub async fn describe_table(&self, name: &Name, infer: &dyn InferColumns) -> Result<RecordBatch> {
        self.columns(name, None, infer).await
    }

    async fn columns(
        &self,
        name: &Name,
        pattern: Option<&NamePattern>,
        infer: &dyn InferColumns,
    ) -> Result<RecordBatch> {
        let mut rows = match self.get(name).await? {
            CatalogObject::Table(def) => table_rows(&def, infer).await?,
            CatalogObject::View(def) => view_rows(&def, infer).await?,
        };
        let keep = matcher(pattern)?;
        rows.retain(|r| keep(&r.name));
        let text = |f: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
            Arc::new(rows.iter().map(f).collect::<StringArray>())
        };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("name", text(&|r| Some(r.name.clone()))),
            ("type", text(&|r| Some(r.ty.clone()))),
            ("null", Arc::new(rows.iter().map(|r| Some(r.nullable)).collect::<BooleanArray>())),
            ("key", text(&|r| r.key.clone())),
            ("extras", text(&|r| r.extras.clone())),
            ("watermark", text(&|r| r.watermark.clone())),
        ];
        if rows.iter().any(|r| r.comment.is_some()) {
            columns.push(("comment", text(&|r| r.comment.clone())));
        }
        batch(columns)
    }

    /// The rows of `DESCRIBE CATALOG c`.
    ///
    /// # Errors
    /// Validation if there is none of that name.
    pub fn describe_catalog(&self, name: &Name) -> Result<RecordBatch> {
        let catalog_name = name.parts.last().map_or("", String::as_str);
        let catalog = self.catalog(catalog_name).map_err(|e| e.at(name.location))?;
        let mut rows = vec![
            ("name".to_owned(), Some(catalog_name.to_owned())),
            ("type".to_owned(), Some(catalog.kind().to_owned())),
            ("comment".to_owned(), self.catalog_comment(catalog_name)?),
        ];
        for (k, v) in catalog.options().iter().filter(|(k, _)| *k != "type") {
            rows.push((format!("option:{k}"), Some(redact(k, v).to_owned())));
        }
        info("info", rows)
    }

    /// The rows of `DESCRIBE DATABASE d`.
    ///
    /// # Errors
    /// Validation if there is none of that name.
    pub async fn describe_database(&self, name: &Name) -> Result<RecordBatch> {
        let (catalog, database) = self.resolve_database(name)?;
        let def = self.database(&catalog, &database).await.map_err(|e| e.at(name.location))?;
        let mut rows = vec![
            ("catalog".to_owned(), Some(catalog)),
            ("name".to_owned(), Some(database)),
            ("comment".to_owned(), def.comment),
        ];
        rows.extend(def.options.iter().map(|(k, v)| (format!("option:{k}"), Some(redact(k, v).to_owned()))));
        info("info", rows)
    }
}

struct Row {
    name: String,
    ty: String,
    nullable: bool,
    key: Option<String>,
    extras: Option<String>,
    watermark: Option<String>,
    comment: Option<String>,
}

/// The type without NOT NULL, which has a column of its own.
fn bare(ty: &LogicalType) -> String {
    LogicalType::nullable(ty.root.clone()).to_string()
}

async fn table_rows(def: &Arc<TableDef>, infer: &dyn InferColumns) -> Result<Vec<Row>> {
    let computed = def.columns.iter().any(|c| matches!(c.kind, ColumnKind::Computed(_)));
    let inferred = if computed { infer.computed_columns(def).await? } else { BTreeMap::new() };
    let mut rows = Vec::with_capacity(def.columns.len());
    for c in &def.columns {
        let ty = c.ty.as_ref().or_else(|| inferred.get(&c.name)).ok_or_else(|| {
            Error::internal(format!("the type of the column `{}` of {} is not known", c.name, def.path))
        })?;
        let watermark = def.watermark.as_ref().filter(|w| w.column == c.name);
        let key = def.primary_key.as_ref().filter(|k| k.columns.contains(&c.name));
        let mut type_text = bare(ty);
        if watermark.is_some() {
            type_text.push_str(" *ROWTIME*");
        }
        let extras = match &c.kind {
            ColumnKind::Physical => None,
            ColumnKind::Metadata { .. } => Some(ddl_text::metadata(&c.name, &c.kind).trim_start().to_owned()),
            ColumnKind::Computed(e) => {
                if is_proctime(e) {
                    type_text.push_str(" *PROCTIME*");
                }
                Some(format!("AS {}", format_expr(&e.text)))
            }
        };
        rows.push(Row {
            name: c.name.clone(),
            ty: type_text,
            nullable: ty.nullable,
            key: key.map(|k| format!("PRI({})", k.columns.join(", "))),
            extras,
            watermark: watermark.map(|w| format_expr(&w.expr.text)),
            comment: c.comment.clone(),
        });
    }
    Ok(rows)
}

async fn view_rows(def: &Arc<ViewDef>, infer: &dyn InferColumns) -> Result<Vec<Row>> {
    let columns = infer.view_columns(def).await?;
    let row = |(i, ViewColumn { name, ty, time }): (usize, ViewColumn)| Row {
        name: def.columns.get(i).cloned().unwrap_or(name),
        ty: bare(&ty)
            + match time {
                Some(TimeAttribute::Row) => " *ROWTIME*",
                Some(TimeAttribute::Processing) => " *PROCTIME*",
                None => "",
            },
        nullable: ty.nullable,
        key: None,
        extras: None,
        watermark: None,
        comment: None,
    };
    Ok(columns.into_iter().enumerate().map(row).collect())
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

fn result(text: String) -> Result<RecordBatch> {
    batch(vec![("result", Arc::new(StringArray::from(vec![text])))])
}

/// Names and values, as `DESCRIBE CATALOG` and its like show them.
///
/// # Errors
/// Internal.
pub(crate) fn info(prefix: &str, rows: Vec<(String, Option<String>)>) -> Result<RecordBatch> {
    let (names, values): (Vec<String>, Vec<Option<String>>) = rows.into_iter().unzip();
    let columns: [ArrayRef; 2] = [Arc::new(StringArray::from(names)), Arc::new(StringArray::from(values))];
    let fields = ["name", "value"].map(|n| Field::new(format!("{prefix} {n}"), DataType::Utf8, true));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns.to_vec())?)
}

/// One column of the names that match.
fn names(column: &str, mut all: Vec<String>, pattern: Option<&NamePattern>) -> Result<RecordBatch> {
    let keep = matcher(pattern)?;
    all.retain(|n| keep(n));
    batch(vec![(column, Arc::new(StringArray::from(all)))])
}

/// Whether a name is shown.
type Matcher = Box<dyn Fn(&str) -> bool + Send>;

/// `[NOT] LIKE|ILIKE`: `%` any characters, `_` one, `\` takes the next one literally.
fn matcher(pattern: Option<&NamePattern>) -> Result<Matcher> {
    let Some(NamePattern { negated, case_insensitive, pattern }) = pattern.cloned() else {
        return Ok(Box::new(|_| true));
    };
    let mut regex = String::from("^");
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '\\' => regex.push_str(&regex::escape(&chars.next().unwrap_or('\\').to_string())),
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    regex.push('$');
    let regex = RegexBuilder::new(&regex)
        .case_insensitive(case_insensitive)
        .dot_matches_new_line(true)
        .build()
        .map_err(|e| Error::validation(format!("the pattern '{pattern}' is too long or broken: {e}")))?;
    Ok(Box::new(move |name| regex.is_match(name) != negated))
}
