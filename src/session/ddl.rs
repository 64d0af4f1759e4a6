//! Statements about catalogs, databases, tables and views: CREATE, DROP, USE, SHOW, DESCRIBE; ALTER is in [`super::alter`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;

use super::keys::FUNCTION_LANGUAGES;
use super::{Session, StatementResult};
use crate::catalog::{
    Catalog, InferColumns, MemoryCatalog, ObjectPath, RehearsalCatalog, Scope, TableDef, ViewColumn, ViewDef,
    info,
};
use crate::connectors::iceberg;
use crate::error::{Error, ErrorKind, Location, Result};
use crate::functions::user::UserFunction;
use crate::functions::{describe, undescribed_function};
use crate::plan::output_types::output_types;
use crate::plan::planner::Planner;
use crate::plan::time_attribute::column_attribute;
use crate::sql::ast::ColumnKind;
use crate::sql::ast::{CreateFunction, CreateTable, CreateView, Insert, Name, Query, Statement};
use crate::sql::{parse_name, parse_query, quote_ident};
use crate::types::LogicalType;

impl Session {
    pub(super) async fn execute_ddl(&mut self, statement: &Statement) -> Result<StatementResult> {
        match statement {
            Statement::CreateTable(table) => match &table.query {
                Some(query) => return self.create_table_as(table, query).await,
                None => {
                    let def = self.catalogs.define_table(table, None).await?;
                    self.catalogs.create_table(def, table.if_not_exists).await?;
                }
            },
            Statement::CreateView(view) => self.create_view(view).await?,
            Statement::CreateCatalog { name, if_not_exists, comment, options, location } => {
                if !(*if_not_exists && self.catalogs.has_catalog(name)) {
                    let mut catalog = self.open_catalog(name, options).await.map_err(|e| e.at(*location))?;
                    if self.rehearsal && catalog.kind() != MemoryCatalog::KIND {
                        catalog = Arc::new(RehearsalCatalog::new(name, catalog));
                    }
                    self.catalogs
                        .register_with_comment(name, catalog, comment.clone())
                        .map_err(|e| e.at(*location))?;
                }
            }
            Statement::CreateDatabase { name, if_not_exists, comment, options } => {
                self.catalogs
                    .create_database(name, *if_not_exists, comment.as_deref(), options.clone())
                    .await?;
            }
            Statement::Drop { kind, name, if_exists, temporary, cascade } => {
                self.catalogs.drop_named(*kind, name, *if_exists, *temporary, *cascade).await?;
            }
            Statement::Alter(alter) => return self.alter(alter).await,
            Statement::Analyze(analyze) => return self.analyze_table(analyze).await,
            Statement::UseCatalog(name) => self.catalogs.use_catalog(name)?,
            Statement::UseDatabase(name) => self.catalogs.use_database(name).await?,
            Statement::Show(show) => {
                let functions = self.prepare(false)?.env.functions.names();
                return Ok(rows(self.catalogs.show(show, &functions, &Columns(self)).await?));
            }
            Statement::DescribeTable(name) => {
                return Ok(rows(self.catalogs.describe_table(name, &Columns(self)).await?));
            }
            Statement::CreateBuiltinFunction { class, function } => {
                let notice = format!("{function} is built in; the class {class} is not loaded");
                return Ok(StatementResult::Done { notice: Some(notice) });
            }
            Statement::CreateFunction(create) => return self.create_function(create).await,
            Statement::DropFunction { name, if_exists, temporary, system } => {
                self.catalogs.drop_function(name, Scope::new(*temporary, *system), *if_exists)?;
            }
            Statement::DescribeCatalog(name) => return Ok(rows(self.catalogs.describe_catalog(name)?)),
            Statement::DescribeDatabase(name) => {
                return Ok(rows(self.catalogs.describe_database(name).await?));
            }
            Statement::DescribeFunction { name, extended } => {
                return Ok(rows(match self.catalogs.function(&name.parts, None) {
                    Some(function) => describe_user_function(&function, *extended)?,
                    None => describe_function(name, *extended, &self.catalogs.function_names())?,
                }));
            }
            Statement::Query(_)
            | Statement::Insert(_)
            | Statement::StatementSet(_)
            | Statement::RowChange(_)
            | Statement::Truncate(_)
            | Statement::Explain { .. }
            | Statement::Set(_)
            | Statement::Reset(_) => return Err(Error::internal("a statement that is no DDL")),
        }
        Ok(StatementResult::Done { notice: None })
    }

    pub(super) async fn open_catalog(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn Catalog>> {
        const KINDS: &str = "'generic_in_memory' or 'iceberg'";
        match options.get("type").map(String::as_str) {
            Some("iceberg") => iceberg::create_catalog(name, options, &self.base_dir).await,
            Some("generic_in_memory") => Ok(Arc::new(MemoryCatalog::new(name, options.clone())?)),
            Some(other) => {
                Err(Error::unsupported(format!("catalog `{name}`: the type '{other}' is not supported"))
                    .hint(format!("'type' is {KINDS}")))
            }
            None => Err(Error::validation(format!("catalog `{name}`: the option 'type' is missing"))
                .hint(format!("add 'type' = {KINDS} to the WITH clause"))),
        }
    }

    /// The table is created first, as in Flink, and then filled by a job.
    async fn create_table_as(&self, table: &CreateTable, query: &Query) -> Result<StatementResult> {
        let columns = plan_columns(&self.prepare_query(query)?.1)?;
        let def = self.catalogs.define_table(table, Some(&columns)).await?;
        let path = def.path.clone();
        if !self.catalogs.create_table(def, table.if_not_exists).await? {
            return Ok(StatementResult::Done {
                notice: Some(format!("{path} already exists: it is not created, and nothing is inserted")),
            });
        }
        let insert = Insert {
            table: table.name.clone(),
            options: BTreeMap::new(),
            overwrite: false,
            partition: Vec::new(),
            columns: columns.into_iter().map(|(name, _)| (name, table.name.location)).collect(),
            query: query.clone(),
            on_conflict: None,
        };
        self.run_inserts(&[insert]).await
    }

    /// A function's body has to make sense when it is created; scripts are loaded.
    async fn create_function(&self, create: &CreateFunction) -> Result<StatementResult> {
        let scope = Scope::new(create.temporary, create.system);
        let may_exist = create.if_not_exists || create.replace;
        let free = self.catalogs.is_free_for_function(&create.name, scope, may_exist).await?;
        if free || create.replace {
            self.catalogs.add_function(&create.name, scope, self.make_function(create)?)?;
        }
        Ok(StatementResult::Done { notice: None })
    }

    /// The function that a statement describes, if its language is allowed.
    pub(super) fn make_function(&self, create: &CreateFunction) -> Result<UserFunction> {
        let allowed = self.config.function_languages()?;
        if !allowed.contains(&create.language) {
            let words: Vec<&str> = allowed.iter().map(|l| l.keyword()).collect();
            let words = if words.is_empty() { "none".to_owned() } else { words.join(", ") };
            return Err(Error::validation(format!(
                "functions in {} are not allowed here",
                create.language.keyword()
            ))
            .at(create.name.location)
            .hint(format!("'{FUNCTION_LANGUAGES}' is {words}")));
        }
        let function = tokio::task::block_in_place(|| UserFunction::create(create, self.catalogs.current()))?;
        Planner::check_function(&self.prepare(false)?.env, &function)?;
        Ok(function)
    }

    /// Adds a function of the program: a temporary one of the current database unless `name` says otherwise. It takes the
    /// place of one that was there.
    ///
    /// # Errors
    /// Syntax for a bad name; Validation for that of a built-in function.
    pub fn register_function(&self, function: UserFunction) -> Result<()> {
        let parts = parse_name(&function.signature.name).map_err(|e| e.context("the name of a function"))?;
        let name = Name { parts, location: Location::default() };
        self.catalogs.check_function_name(&name)?;
        self.catalogs.add_function(&name, Scope::Temporary, function)
    }

    /// A view's query has to make sense when the view is created, as in Flink; whether its files and brokers can be
    /// reached is asked when it is used.
    async fn create_view(&self, view: &CreateView) -> Result<()> {
        match self.prepare_query(&view.query) {
            Ok((_, plan)) => {
                let columns = plan.schema().fields().len();
                if !view.columns.is_empty() && view.columns.len() != columns {
                    return Err(Error::validation(format!(
                        "the view lists {} columns, its query yields {columns}",
                        view.columns.len()
                    ))
                    .at(view.name.location)
                    .hint("name every column of the query, or leave the list out"));
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::External | ErrorKind::Data) => {}
            Err(e) => return Err(e),
        }
        let def = self.catalogs.define_view(view)?;
        self.catalogs.create_view(def, view.if_not_exists, view.name.location).await.map(|_| ())
    }
}

/// Names and SQL types of what a query yields.
fn plan_columns(plan: &LogicalPlan) -> Result<Vec<(String, LogicalType)>> {
    let names = plan.schema().fields().iter().map(|f| f.name().clone());
    Ok(names.zip(output_types(plan)?).collect())
}

fn rows(batch: RecordBatch) -> StatementResult {
    StatementResult::Rows(batch.schema(), vec![batch])
}

/// The rows of `DESCRIBE FUNCTION [EXTENDED] f`.
fn describe_function(name: &Name, extended: bool, others: &[String]) -> Result<RecordBatch> {
    let function = name.parts.last().map_or("", String::as_str);
    let known = if name.parts.len() == 1 { describe(function) } else { None };
    let about = known.ok_or_else(|| undescribed_function(function, others).at(name.location))?;
    let mut rows =
        vec![("is system function", Some("true".to_owned())), ("is temporary", Some("false".to_owned()))];
    if extended {
        rows.push(("kind", Some(about.kind.to_owned())));
        rows.push(("is deterministic", Some(about.deterministic.to_string())));
    }
    rows.push(("signature", Some(about.signature)));
    rows.push(("description", Some(about.description)));
    rows.extend(about.example.map(|e| ("example", Some(e))));
    rows.extend(about.note.map(|n| ("note", Some(n))));
    info("info", rows.into_iter().map(|(n, v)| (n.to_owned(), v)).collect())
}

fn describe_user_function(f: &UserFunction, extended: bool) -> Result<RecordBatch> {
    let mut rows =
        vec![("is system function", "false".to_owned()), ("is temporary", f.temporary.to_string())];
    if extended {
        rows.push(("kind", f.kind().to_owned()));
        rows.push(("is deterministic", f.signature.deterministic().to_string()));
        rows.push(("language", f.language.map_or("RUST", |l| l.keyword()).to_owned()));
    }
    rows.push(("signature", f.describe()));
    rows.extend(f.comment.as_ref().map(|c| ("description", c.clone())));
    info("info", rows.into_iter().map(|(n, v)| (n.to_owned(), Some(v))).collect())
}

/// What DESCRIBE and ALTER ask the planner.
pub(super) struct Columns<'a>(pub(super) &'a Session);

#[async_trait]
impl InferColumns for Columns<'_> {
    async fn computed_columns(&self, table: &Arc<TableDef>) -> Result<BTreeMap<String, LogicalType>> {
        let schema = self.0.table_schema(table)?;
        let computed = |name: &str| {
            table.columns.iter().any(|c| c.name == name && matches!(c.kind, ColumnKind::Computed(_)))
        };
        let fields = schema.fields().iter().filter(|f| computed(f.name()));
        fields.map(|f| Ok((f.name().clone(), LogicalType::from_field(f)?))).collect()
    }

    async fn view_columns(&self, view: &Arc<ViewDef>) -> Result<Vec<ViewColumn>> {
        let ObjectPath { catalog, database, object } = &view.path;
        let path = [catalog, database, object].map(|p| quote_ident(p)).join(".");
        let query = parse_query(&format!("SELECT * FROM {path}"))?;
        let plan = self.0.prepare_query(&query)?.1;
        let names = plan.schema().fields().iter().map(|f| f.name().clone());
        let columns = names.zip(output_types(&plan)?).enumerate();
        Ok(columns.map(|(i, (name, ty))| ViewColumn { name, ty, time: column_attribute(&plan, i) }).collect())
    }
}
