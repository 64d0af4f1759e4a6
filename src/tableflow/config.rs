//! What a user asks of tableflow, and the SQL that it means.
//!
//! Names: topic `a.b` becomes table `default.a_b`; `--namespace` and `--table-name` say otherwise, with `{topic}` for the topic
//! so written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::infer::Column;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::registry::{self, RegistryClient, SchemaKind};
use crate::sql::quote_ident;
use crate::types::{LogicalType, TypeRoot};

/// The column for all of a record that has no column.
pub const REST: &str = "_rest";

/// The table property that names the topic of a table that tableflow has made.
pub(super) const TOPIC: &str = "tidelake.topic";

/// How records are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFormat {
    /// JSON objects that no schema describes: columns are inferred.
    Json,
    /// The bytes of the value as they are.
    Raw,
    /// The bytes of the value as text.
    Text,
    /// As the schemas of the registry say.
    Registered(SchemaKind),
}

/// A schema registry.
#[derive(Clone)]
pub struct RegistryOptions {
    /// Its URLs.
    pub url: String,
    /// Further options, as those of the formats: `basic-auth.user-info`, …
    pub options: BTreeMap<String, String>,
}

impl std::fmt::Debug for RegistryOptions {
    /// URLs may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryOptions").finish_non_exhaustive()
    }
}

impl RegistryOptions {
    fn all(&self, prefix: &str) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> =
            self.options.iter().map(|(k, v)| (format!("{prefix}{k}"), v.clone())).collect();
        all.insert(format!("{prefix}url"), self.url.clone());
        all
    }

    /// A client of it.
    ///
    /// # Errors
    /// Validation for bad options.
    pub fn client(&self) -> Result<RegistryClient> {
        let options = Options::new("tableflow", "registry", &self.all("registry."));
        let parsed = registry::RegistryConfig::from_options(&options, "registry.")?;
        options.finish()?;
        RegistryClient::new(parsed.config)
    }
}

/// What becomes of records that cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The topic stops before it; others go on.
    Suspend,
    /// It is left out and counted.
    Skip,
    /// It is a row with its bytes and the error (`_error`, `_bad_value`), in the same commit as the others.
    Rescue,
}

/// Where a topic without a table is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// The oldest record.
    Earliest,
    /// The records to come.
    Latest,
}

/// A metadata column of every table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metadata {
    /// `_topic`.
    Topic,
    /// `_key`: the bytes of the key.
    Key,
    /// `_headers`.
    Headers,
    /// `_partition`.
    Partition,
    /// `_offset`.
    Offset,
    /// `_timestamp`.
    Timestamp,
}

impl Metadata {
    /// Name, SQL type and the connector's key; the record's key is no metadata to it.
    fn column(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Metadata::Topic => ("_topic", "STRING", Some("topic")),
            Metadata::Key => ("_key", "BYTES", None),
            Metadata::Headers => ("_headers", "MAP<STRING, BYTES>", Some("headers")),
            Metadata::Partition => ("_partition", "INT", Some("partition")),
            Metadata::Offset => ("_offset", "BIGINT", Some("offset")),
            Metadata::Timestamp => ("_timestamp", "TIMESTAMP_LTZ(3)", Some("timestamp")),
        }
    }
}

/// Everything a user can say.
#[derive(Debug, Clone)]
pub struct TableflowConfig {
    /// `bootstrap.servers`, or `embedded`.
    pub servers: String,
    /// Further properties of the Kafka client, without `properties.`.
    pub kafka: BTreeMap<String, String>,
    /// Options of the catalog: `warehouse`, `uri`, `catalog-type`, `s3.*`, …
    pub catalog: BTreeMap<String, String>,
    /// Namespace of the tables.
    pub namespace: String,
    /// Name of the tables.
    pub table_name: String,
    /// Properties of tables that are made.
    pub table_properties: BTreeMap<String, String>,
    /// Partitioning of tables that are made: `hours(_timestamp)`, …
    pub partition_by: Vec<String>,
    /// How records are read.
    pub format: RecordFormat,
    /// Where their schemas are.
    pub registry: Option<RegistryOptions>,
    /// What becomes of bad ones.
    pub on_error: OnError,
    /// Where a new topic begins.
    pub start_at: StartAt,
    /// Metadata columns besides `_partition`, `_offset` and `_timestamp`.
    pub include: BTreeSet<Metadata>,
    /// Time between commits.
    pub commit_interval: Duration,
    /// Stop when what was there at the start is committed.
    pub once: bool,
    /// Write to tables that tableflow has not made.
    pub adopt: bool,
    /// What a table that was rolled back means: read again what was taken back.
    pub resume_rollback: bool,
    /// Tasks per topic.
    pub parallelism: usize,
    /// Options of the session.
    pub set: Vec<(String, String)>,
}

/// A topic and its table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The topic.
    pub topic: String,
    /// Namespace of the table.
    pub namespace: String,
    /// Its name.
    pub table: String,
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} → {}.{}", self.topic, self.namespace, self.table)
    }
}

/// Letters, digits and `_` of a topic's name; everything else is `_`.
fn as_name(topic: &str) -> String {
    topic.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// A text literal.
pub(super) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `'key' = 'value', …` of a WITH clause.
fn with(options: &BTreeMap<String, String>) -> String {
    let all: Vec<String> =
        options.iter().map(|(k, v)| format!("  {} = {}", quote_text(k), quote_text(v))).collect();
    format!("WITH (\n{}\n)", all.join(",\n"))
}

impl TableflowConfig {
    /// The table of a topic.
    pub fn route(&self, topic: &str) -> Route {
        let named = |template: &str| template.replace("{topic}", &as_name(topic));
        Route { topic: topic.to_owned(), namespace: named(&self.namespace), table: named(&self.table_name) }
    }

    /// The tables of topics; two topics of one table are refused.
    ///
    /// # Errors
    /// Validation.
    pub fn routes(&self, topics: &[String]) -> Result<Vec<Route>> {
        let routes: Vec<Route> = topics.iter().map(|t| self.route(t)).collect();
        let mut tables = BTreeMap::new();
        for route in &routes {
            let table = (route.namespace.to_lowercase(), route.table.to_lowercase());
            if let Some(other) = tables.insert(table, &route.topic) {
                return Err(Error::validation(format!(
                    "the topics {other} and {} would become the same table {}.{}",
                    route.topic, route.namespace, route.table
                ))
                .hint("--table-name with {topic} in it gives each its own; run two processes for two name rules"));
            }
        }
        Ok(routes)
    }

    /// Names of the columns that a table has besides those of the records.
    pub fn reserved(&self) -> BTreeSet<String> {
        let all = [
            Metadata::Topic,
            Metadata::Key,
            Metadata::Headers,
            Metadata::Partition,
            Metadata::Offset,
            Metadata::Timestamp,
        ];
        let metadata = all.iter().map(|m| m.column().0.to_owned());
        metadata.chain([REST, "_error", "_bad_value"].map(str::to_owned)).collect()
    }

    /// Columns of the values of records, for those formats that need no look at them.
    pub fn fixed_columns(&self) -> Option<Vec<Column>> {
        let column = |root| vec![Column { name: "value".to_owned(), ty: LogicalType::nullable(root) }];
        match self.format {
            RecordFormat::Json | RecordFormat::Registered(_) => None,
            RecordFormat::Raw => Some(column(TypeRoot::Varbinary(crate::types::MAX_LENGTH))),
            RecordFormat::Text => Some(column(TypeRoot::Varchar(crate::types::MAX_LENGTH))),
        }
    }

    /// Options of a Kafka table of `topic`.
    fn kafka_options(&self, format: &str) -> BTreeMap<String, String> {
        let mut options = BTreeMap::from([
            ("connector".to_owned(), "kafka".to_owned()),
            ("properties.bootstrap.servers".to_owned(), self.servers.clone()),
            ("format".to_owned(), format.to_owned()),
        ]);
        options.extend(self.kafka.iter().map(|(k, v)| (format!("properties.{k}"), v.clone())));
        options
    }

    /// Options of a table whose topics match a pattern.
    pub fn pattern_options(&self, pattern: &str) -> BTreeMap<String, String> {
        let mut options = self.kafka_options("raw");
        options.insert("topic-pattern".to_owned(), pattern.to_owned());
        options
    }

    /// Table `name` of the raw values of a topic as it is now, for a sample.
    pub fn sample_table(&self, name: &str, topic: &str) -> String {
        let mut options = self.kafka_options("raw");
        options.insert("topic".to_owned(), topic.to_owned());
        options.insert("scan.startup.mode".to_owned(), "earliest-offset".to_owned());
        options.insert("scan.bounded.mode".to_owned(), "latest-offset".to_owned());
        format!("CREATE TEMPORARY TABLE {} (v BYTES) {}", quote_ident(name), with(&options))
    }

    /// Whether there is a column for all that has none.
    pub fn has_rest(&self) -> bool {
        matches!(self.format, RecordFormat::Json | RecordFormat::Registered(SchemaKind::Json))
    }

    /// The further columns of every table, in their order: name, SQL type, metadata key of the connector.
    fn further_columns(&self) -> Vec<(&'static str, &'static str, Option<&'static str>)> {
        let mut columns = Vec::new();
        if self.has_rest() {
            columns.push((REST, "STRING", None));
        }
        if self.on_error == OnError::Rescue {
            columns.push(("_error", "STRING", Some("decode-error")));
            columns.push(("_bad_value", "BYTES", Some("bad-value")));
        }
        let mut include = self.include.clone();
        include.extend([Metadata::Partition, Metadata::Offset, Metadata::Timestamp]);
        columns.extend(include.into_iter().map(Metadata::column));
        columns
    }

    /// Table `name` of the records of a topic with these columns of its values. `bounds` are further options that say
    /// where reading begins and ends.
    pub fn source_table(
        &self,
        name: &str,
        topic: &str,
        columns: &[Column],
        bounds: &BTreeMap<String, String>,
    ) -> String {
        let format = match self.format {
            RecordFormat::Json => "json",
            RecordFormat::Raw | RecordFormat::Text => "raw",
            RecordFormat::Registered(SchemaKind::Avro) => "avro-confluent",
            RecordFormat::Registered(SchemaKind::Protobuf) => "protobuf-confluent",
            RecordFormat::Registered(SchemaKind::Json) => "json-confluent",
        };
        let mut options = self.kafka_options(format);
        options.remove("format");
        options.insert("value.format".to_owned(), format.to_owned());
        options.insert("topic".to_owned(), topic.to_owned());
        let prefix = format!("value.{format}.");
        if let (RecordFormat::Registered(kind), Some(registry)) = (self.format, &self.registry) {
            options.extend(registry.all(&prefix));
            let (key, value) = match kind {
                SchemaKind::Json => ("timestamp-format.standard", "ISO-8601"),
                SchemaKind::Avro | SchemaKind::Protobuf => ("unknown-fields", "error"),
            };
            options.insert(format!("{prefix}{key}"), value.to_owned());
        }
        if self.has_rest() {
            options.insert(format!("{prefix}rest-column"), REST.to_owned());
            if self.on_error == OnError::Skip {
                options.insert(format!("{prefix}ignore-parse-errors"), "true".to_owned());
            }
        }
        if self.include.contains(&Metadata::Key) {
            options.insert("key.format".to_owned(), "raw".to_owned());
            options.insert("key.fields".to_owned(), "_key".to_owned());
            options.insert("value.fields-include".to_owned(), "EXCEPT_KEY".to_owned());
        }
        options.extend(bounds.clone());
        let mut text = format!("CREATE TEMPORARY TABLE {} (\n", quote_ident(name));
        for c in columns {
            let _ = writeln!(text, "  {} {},", quote_ident(&c.name), c.ty);
        }
        let further: Vec<String> = self
            .further_columns()
            .into_iter()
            .map(|(name, ty, key)| match key {
                Some(key) => {
                    format!("  {} {ty} METADATA FROM {} VIRTUAL", quote_ident(name), quote_text(key))
                }
                None => format!("  {} {ty}", quote_ident(name)),
            })
            .collect();
        let _ = write!(text, "{}\n) {}", further.join(",\n"), with(&options));
        text
    }

    /// Where the records of a topic begin and end in a run.
    pub fn bounds(&self) -> BTreeMap<String, String> {
        let start = match self.start_at {
            StartAt::Earliest => "earliest-offset",
            StartAt::Latest => "latest-offset",
        };
        let mut bounds = BTreeMap::from([("scan.startup.mode".to_owned(), start.to_owned())]);
        if self.once {
            bounds.insert("scan.bounded.mode".to_owned(), "latest-offset".to_owned());
        }
        bounds
    }

    /// Table `name` that stands for the Iceberg table of a topic: it is made if it does not exist, gets the columns that
    /// it lacks, and says where its job goes on.
    pub fn sink_table(&self, name: &str, route: &Route, columns: &[Column]) -> String {
        let mut options = self.catalog.clone();
        options.extend(self.table_properties.clone());
        options.extend(
            [
                ("connector", "iceberg"),
                ("catalog-name", "tableflow"),
                ("catalog-database", &route.namespace),
                ("catalog-table", &route.table),
                ("source-positions", "table"),
                ("schema-evolution", "add-columns"),
                // Whose it is, from the moment that it is there.
                (TOPIC, &route.topic),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        if self.resume_rollback {
            options.insert("source-positions.on-rollback".to_owned(), "resume".to_owned());
        }
        let mut all: Vec<String> =
            columns.iter().map(|c| format!("  {} {}", quote_ident(&c.name), c.ty)).collect();
        all.extend(self.further_columns().iter().map(|(name, ty, _)| {
            // What an Iceberg table keeps of milliseconds is microseconds.
            format!("  {} {}", quote_ident(name), ty.replace("_LTZ(3)", "_LTZ(6)"))
        }));
        let partitioned = match self.partition_by.as_slice() {
            [] => String::new(),
            by => format!(" PARTITIONED BY ({})", by.join(", ")),
        };
        format!(
            "CREATE TEMPORARY TABLE {} (\n{}\n){partitioned} {}",
            quote_ident(name),
            all.join(",\n"),
            with(&options)
        )
    }

    /// The catalog, under the name `tableflow`.
    pub fn create_catalog(&self) -> String {
        let mut options = self.catalog.clone();
        options.insert("type".to_owned(), "iceberg".to_owned());
        format!("CREATE CATALOG tableflow {}", with(&options))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::tableflow) fn config() -> TableflowConfig {
        TableflowConfig {
            servers: "embedded".to_owned(),
            kafka: BTreeMap::new(),
            catalog: BTreeMap::from([("warehouse".to_owned(), "wh".to_owned())]),
            namespace: "default".to_owned(),
            table_name: "{topic}".to_owned(),
            table_properties: BTreeMap::new(),
            partition_by: Vec::new(),
            format: RecordFormat::Json,
            registry: None,
            on_error: OnError::Suspend,
            start_at: StartAt::Earliest,
            include: BTreeSet::new(),
            commit_interval: Duration::from_secs(1),
            once: true,
            adopt: false,
            resume_rollback: false,
            parallelism: 1,
            set: Vec::new(),
        }
    }

    #[test]
    fn topics_become_tables() {
        let config =
            TableflowConfig { namespace: "raw_{topic}".into(), table_name: "t_{topic}".into(), ..config() };
        assert_eq!(config.route("a.b-c").to_string(), "a.b-c → raw_a_b_c.t_a_b_c");
        assert!(config.routes(&["x.y".into(), "x-z".into()]).is_ok());
        let e = config.routes(&["x.y".into(), "X-Y".into()]).unwrap_err().to_string();
        assert!(e.contains("x.y") && e.contains("X-Y"), "{e}");
    }

    #[test]
    fn tables_are_sql() {
        let config = TableflowConfig {
            include: BTreeSet::from([Metadata::Key, Metadata::Headers]),
            on_error: OnError::Rescue,
            partition_by: vec!["hours(_timestamp)".into()],
            ..config()
        };
        let columns = [Column { name: "a`b".into(), ty: LogicalType::string() }];
        let sql = config.source_table("s", "it's", &columns, &config.bounds());
        assert!(sql.contains("`a``b` STRING") && sql.contains("'topic' = 'it''s'"), "{sql}");
        assert!(sql.contains("'key.fields' = '_key'") && sql.contains("`_error` STRING METADATA"), "{sql}");
        for sql in [sql, config.sink_table("t", &config.route("x"), &columns), config.create_catalog()] {
            assert_eq!(crate::sql::parse_script(&sql).map(|s| s.len()).unwrap(), 1, "{sql}");
        }
    }
}
