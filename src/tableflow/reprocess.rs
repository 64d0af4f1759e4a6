//! Bad records that were rescued, read again: with a schema that is there by now, or a column that has become wider.
//!
//! ```text
//!  rows with _error ─► _bad_value ─► the decoder of the flow ─┬─ good: UPDATE … SET columns, _error = NULL, _bad_value = NULL
//!                                                             └─ bad: stays as it is
//! ```
//!
//! A row is changed where it is, in one snapshot with all others: nothing is there twice, whenever the process dies.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::{Field, Fields, Schema, SchemaRef};

use super::config::{Layout, REST, Route, TableflowConfig};
use super::layout::columns_of;
use super::registered::earlier_names;
use super::verify::at;
use crate::catalog::{CatalogObject, ObjectPath, TableDef};
use crate::connectors::iceberg::kept_positions;
use crate::error::{Error, Result, ResultExt};
use crate::formats::{RecordDecoder, RecordPlace, message_format};
use crate::functions::user::UserFunction;
use crate::options::Options;
use crate::session::{Session, StatementResult};
use crate::sql::ast::ColumnKind;
use crate::sql::quote_ident;

/// The function that reads a record.
const READ: &str = "tableflow_read_record";

/// What has become of the bad records of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reprocessed {
    /// The topic and its table.
    pub route: Route,
    /// Records that are rows by now.
    pub good: u64,
    /// Those that are still bad.
    pub bad: u64,
}

/// Reads the bad records of the tables of a namespace again, or those of the topics for which `wanted` says so.
///
/// # Errors
/// Of the catalog and of the registry.
pub async fn reprocess(config: &TableflowConfig, wanted: impl Fn(&str) -> bool) -> Result<Vec<Reprocessed>> {
    let mut session = super::session(config).await?;
    session.set("execution.runtime-mode", "batch")?;
    let mut all = Vec::new();
    for (table, _) in session.catalogs().list_objects("tableflow", &config.namespace).await? {
        let path = ObjectPath {
            catalog: "tableflow".to_owned(),
            database: config.namespace.clone(),
            object: table.clone(),
        };
        let Some(CatalogObject::Table(def)) = session.catalogs().find(&path).await? else { continue };
        let base = std::env::current_dir()?;
        let kept = kept_positions("tableflow", &config.catalog, &base, &config.namespace, &table).await?;
        let Some(first) = kept.as_ref().and_then(|k| k.now.values().next()) else { continue };
        let route = Route { topic: at(first)?.topic, namespace: config.namespace.clone(), table };
        let is_rescued = ["_error", "_bad_value"].iter().all(|c| def.columns.iter().any(|d| d.name == *c));
        if wanted(&route.topic) && is_rescued {
            let shown = route.to_string();
            all.push(one(&mut session, config, route, &def).await.context(|| shown)?);
        }
    }
    Ok(all)
}

async fn one(
    session: &mut Session,
    config: &TableflowConfig,
    route: Route,
    def: &TableDef,
) -> Result<Reprocessed> {
    let table = format!("tableflow.{}.{}", quote_ident(&route.namespace), quote_ident(&route.table));
    let count = format!("SELECT COUNT(*) FROM {table} WHERE _error IS NOT NULL");
    let before = number(session, &count).await?;
    if before > 0 {
        let config = config.of_table(&def.options);
        let renamed = earlier_names(&config, &route.topic).await?;
        let layout = Layout { columns: columns_of(def, &config)?, renamed, ..Layout::default() };
        let reader = Arc::new(Reader::new(&config, &route, &layout, def)?);
        let fields: Vec<String> = reader.schema.fields().iter().map(|f| quote_ident(f.name())).collect();
        session.register_function(function(&reader, def)?)?;
        let set: Vec<String> =
            fields.iter().map(|name| format!("{name} = {READ}(_bad_value).{name}")).collect();
        let update = format!(
            "UPDATE {table} SET {}, _error = CAST(NULL AS STRING), _bad_value = CAST(NULL AS BYTES) \
             WHERE _error IS NOT NULL AND {READ}(_bad_value) IS NOT NULL",
            set.join(", ")
        );
        super::execute(session, &update).await?;
    }
    let bad = if before > 0 { number(session, &count).await? } else { 0 };
    Ok(Reprocessed { route, good: before.saturating_sub(bad), bad })
}

async fn number(session: &mut Session, sql: &str) -> Result<u64> {
    let StatementResult::Query(query) = session.execute_sql(sql).await? else {
        return Err(Error::internal("a query without rows"));
    };
    let rows = query.collect().await?;
    let column = rows.first().and_then(|b| b.rows.columns().first().cloned());
    let value = column.as_ref().and_then(|c| c.as_primitive_opt::<arrow::datatypes::Int64Type>());
    let value = value.filter(|v| !v.is_empty()).map(|v| v.value(0));
    value.and_then(|n| u64::try_from(n).ok()).ok_or_else(|| Error::internal("a count that is no number"))
}

/// Reads records as the flow of a topic does.
struct Reader {
    /// The columns of a record.
    schema: SchemaRef,
    decoder: Mutex<Box<dyn RecordDecoder>>,
}

impl Reader {
    fn new(config: &TableflowConfig, route: &Route, layout: &Layout, def: &TableDef) -> Result<Self> {
        let rest = config.has_rest().then_some(REST);
        let has = |name: &str| def.columns.iter().any(|c| c.name == name);
        let names = layout.columns.iter().map(|c| c.name.as_str()).chain(rest.filter(|rest| has(rest)));
        let fields: Vec<Field> = names
            .filter_map(|name| def.columns.iter().find(|c| c.name == name))
            .filter(|c| matches!(c.kind, ColumnKind::Physical))
            .filter_map(|c| c.ty.as_ref().map(|ty| ty.to_field(&c.name).with_nullable(true)))
            .collect();
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        // Keys of options are those of the source of the flow.
        let (format, prefix, mut all) = config.value_options(layout);
        all.remove(&format!("{prefix}ignore-parse-errors"));
        let options = Options::new(&route.table, "tableflow", &all);
        let place = RecordPlace { topic: Some(route.topic.clone()), key: false };
        let format = message_format(format, &options, &prefix, Arc::clone(&schema), &place)?;
        let columns: Vec<usize> = (0..schema.fields().len()).collect();
        let mut decoder = format.record_decoder(&columns, &[])?;
        decoder.list_bad();
        Ok(Reader { schema, decoder: Mutex::new(decoder) })
    }

    /// A row for each value; NULL for those that are still bad, and for those that are no record of one row.
    fn read(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let bytes =
            values.as_binary_opt::<i32>().ok_or_else(|| Error::internal("records that are no bytes"))?;
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pushed: Vec<usize> = Vec::with_capacity(bytes.len());
        for (i, value) in bytes.iter().enumerate() {
            if let Some(value) = value {
                decoder.push(value);
                pushed.push(i);
            }
        }
        let decoded = decoder.flush().map_err(|bad| bad.error)?;
        let mut rows: Vec<Option<u32>> = vec![None; bytes.len()];
        let mut twice = Vec::new();
        for row in 0..decoded.rows.num_rows() {
            let record = match &decoded.records {
                Some(records) => records.get(row).map_or(row, |r| *r as usize),
                None => row,
            };
            let place = pushed.get(record).and_then(|i| rows.get_mut(*i));
            let place = place.ok_or_else(|| Error::internal("a row of no record"))?;
            let number = u32::try_from(row).map_err(|_| Error::internal("too many rows"))?;
            if place.replace(number).is_some() {
                twice.push(record);
            }
        }
        for place in twice.iter().filter_map(|record| pushed.get(*record)) {
            if let Some(row) = rows.get_mut(*place) {
                *row = None;
            }
        }
        structs(&decoded.rows, rows)
    }
}

/// The chosen rows as values, NULL where there is none.
fn structs(batch: &RecordBatch, rows: Vec<Option<u32>>) -> Result<ArrayRef> {
    let is_there: NullBuffer = rows.iter().map(Option::is_some).collect();
    let rows = UInt32Array::from(rows);
    let columns = batch.columns().iter().map(|c| take(c, &rows, None)).collect::<Result<Vec<_>, _>>()?;
    let fields: Fields =
        batch.schema().fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Ok(Arc::new(StructArray::try_new(fields, columns, Some(is_there))?))
}

/// The function of a reader.
fn function(reader: &Arc<Reader>, def: &TableDef) -> Result<UserFunction> {
    let mut fields = Vec::new();
    for field in reader.schema.fields() {
        let column = def.columns.iter().find(|c| c.name == *field.name());
        let ty =
            column.and_then(|c| c.ty.clone()).ok_or_else(|| Error::internal("a column without a type"))?;
        fields.push(format!("{} {}", quote_ident(field.name()), ty));
    }
    let reader = Arc::clone(reader);
    UserFunction::builder(READ).parameter("record", "BYTES").scalar(
        &format!("ROW<{}>", fields.join(", ")),
        move |arguments, rows| {
            let values = arguments.first().ok_or_else(|| Error::internal("a call without its argument"))?;
            debug_assert_eq!(values.len(), rows);
            reader.read(values)
        },
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tempfile::TempDir;

    use super::super::config::tests::config;
    use super::super::{Deaf, OnError, RecordFormat, Topics, run};
    use super::*;
    use crate::runtime::job::StopHandle;
    use crate::session::SessionOptions;

    #[tokio::test(flavor = "multi_thread")]
    async fn records_that_have_become_good_are_rows_and_others_stay() {
        let folder = TempDir::new().unwrap();
        let servers = format!("embedded://reprocess-{}", std::process::id());
        let config = TableflowConfig {
            servers: servers.clone(),
            catalog: BTreeMap::from([
                ("catalog-type".to_owned(), "sql".to_owned()),
                ("warehouse".to_owned(), folder.path().display().to_string()),
            ]),
            once: true,
            on_error: OnError::Rescue,
            format: RecordFormat::Json,
            ..config()
        };
        let batch = || SessionOptions {
            config: vec![("execution.runtime-mode".to_owned(), "batch".to_owned())],
            ..SessionOptions::default()
        };
        let mut writer = Session::new(batch()).unwrap();
        for sql in [
            format!("CREATE TABLE records (v STRING) WITH ('connector' = 'kafka', 'topic' = 'numbers', 'properties.bootstrap.servers' = '{servers}', 'embedded.partitions' = '1', 'format' = 'raw')"),
            "INSERT INTO records VALUES ('{\"id\": 1, \"s\": \"ü\"}'), ('{\"id\": 2'), ('no'), ('{\"id\": 3}')".to_owned(),
        ] {
            super::super::execute(&mut writer, &sql).await.unwrap();
        }
        let topics = Topics::new(&["numbers".to_owned()]).unwrap();
        assert_eq!(run(config.clone(), &topics, StopHandle::new(), Arc::new(Deaf)).await.unwrap(), 0);
        let all = |_: &str| true;
        let done = reprocess(&config, all).await.unwrap();
        assert_eq!(done.iter().map(|d| (d.good, d.bad)).collect::<Vec<_>>(), [(0, 2)]);
        // Somebody mends one where it is.
        let mut session = super::super::session(&config).await.unwrap();
        session.set("execution.runtime-mode", "batch").unwrap();
        let mend = "UPDATE tableflow.`default`.numbers SET _bad_value = ENCODE('{\"id\": 2, \"new\": [1]}', 'UTF-8') WHERE _bad_value = ENCODE('{\"id\": 2', 'UTF-8')";
        super::super::execute(&mut session, mend).await.unwrap();
        let done = reprocess(&config, all).await.unwrap();
        assert_eq!(done.iter().map(|d| (d.good, d.bad)).collect::<Vec<_>>(), [(1, 1)]);
        let rows = "SELECT COUNT(*) FROM tableflow.`default`.numbers WHERE id = 2 AND s IS NULL AND _error IS NULL AND _bad_value IS NULL AND _offset = 1 AND _rest LIKE '%new%'";
        assert_eq!(number(&mut session, rows).await.unwrap(), 1);
        assert_eq!(
            number(&mut session, "SELECT COUNT(*) FROM tableflow.`default`.numbers").await.unwrap(),
            4
        );
        assert!(reprocess(&config, |_| false).await.unwrap().is_empty());
    }
}
