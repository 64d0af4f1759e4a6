mod define;
mod objects;
mod rows;

use crate::sql::ast::{ColumnDef, ColumnKind};
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use async_trait::async_trait;

use super::*;
use crate::error::Error;
use crate::sql::ast::Statement;
use crate::sql::parse_script;
use crate::types::{LogicalType, TypeRoot};

/// Computed columns are INT, except PROCTIME(); views have the two columns `a` INT and `b` STRING.
struct Fixed;

#[async_trait]
impl InferColumns for Fixed {
    async fn computed_columns(&self, table: &Arc<TableDef>) -> Result<BTreeMap<String, LogicalType>> {
        let ty = |c: &ColumnDef| match &c.kind {
            ColumnKind::Computed(e) if e.text == "PROCTIME()" => {
                LogicalType::not_null(TypeRoot::TimestampLtz(3))
            }
            _ => LogicalType::nullable(TypeRoot::Int),
        };
        Ok(table.columns.iter().map(|c| (c.name.clone(), ty(c))).collect())
    }

    async fn view_columns(&self, _: &Arc<ViewDef>) -> Result<Vec<ViewColumn>> {
        let column = |name: &str, ty| ViewColumn { name: name.into(), ty, time: None };
        Ok(vec![column("a", LogicalType::not_null(TypeRoot::Int)), column("b", LogicalType::string())])
    }
}

/// What a session does with DDL; the query of CREATE TABLE … AS yields `id` INT NOT NULL and `b` STRING.
async fn execute(m: &CatalogManager, statement: &Statement) -> Result<Option<RecordBatch>> {
    match statement {
        Statement::CreateTable(t) => {
            let query = [
                ("id".to_owned(), LogicalType::not_null(TypeRoot::Int)),
                ("b".to_owned(), LogicalType::string()),
            ];
            let def = m.define_table(t, t.query.as_ref().map(|_| query.as_slice())).await?;
            m.create_table(def, t.if_not_exists).await?;
        }
        Statement::CreateView(v) => {
            let def = m.define_view(v)?;
            m.create_view(def, v.if_not_exists, v.name.location).await?;
        }
        Statement::CreateCatalog { name, comment, options, .. } => {
            let catalog = Arc::new(MemoryCatalog::new(name, options.clone())?);
            m.register_with_comment(name, catalog, comment.clone())?;
        }
        Statement::CreateDatabase { name, if_not_exists, comment, options } => {
            m.create_database(name, *if_not_exists, comment.as_deref(), options.clone()).await?;
        }
        Statement::Drop { kind, name, if_exists, temporary, cascade } => {
            m.drop_named(*kind, name, *if_exists, *temporary, *cascade).await?;
        }
        Statement::UseCatalog(n) => m.use_catalog(n)?,
        Statement::UseDatabase(n) => m.use_database(n).await?,
        Statement::Show(s) => return m.show(s, &["SUM".into(), "AVG".into()], &Fixed).await.map(Some),
        Statement::DescribeTable(n) => return m.describe_table(n, &Fixed).await.map(Some),
        Statement::DescribeCatalog(n) => return m.describe_catalog(n).map(Some),
        Statement::DescribeDatabase(n) => return m.describe_database(n).await.map(Some),
        other => panic!("{other:?}"),
    }
    Ok(None)
}

/// Runs a script; gives the rows of its last statement, cells joined by `|`.
fn run(m: &CatalogManager, sql: &str) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut rows = Vec::new();
    for s in parse_script(sql).unwrap_or_else(|e| panic!("{sql}: {e}")) {
        rows = runtime.block_on(execute(m, &s.statement))?.map(|b| cells(&b)).unwrap_or_default();
    }
    Ok(rows)
}

fn cells(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("-");
    let columns: Vec<_> =
        batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
    (0..batch.num_rows())
        .map(|i| columns.iter().map(|c| c.value(i).to_string()).collect::<Vec<_>>().join("|"))
        .collect()
}

fn manager() -> CatalogManager {
    CatalogManager::new().unwrap()
}

fn ok(m: &CatalogManager, sql: &str) -> Vec<String> {
    run(m, sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
}

fn fails(m: &CatalogManager, sql: &str, parts: &[&str]) -> Error {
    let e = match run(m, sql) {
        Ok(_) => panic!("should fail: {sql}"),
        Err(e) => e,
    };
    for part in parts {
        assert!(e.to_string().contains(part), "{sql}\nno `{part}` in {e}");
    }
    e
}
