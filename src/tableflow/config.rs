//! What a user asks of tableflow.
//!
//! Names: topic `a.b` becomes table `default.a_b`; `--namespace` and `--table-name` say otherwise, with `{topic}` for the topic
//! so written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::infer::Column;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::registry::{self, RegistryClient, SchemaKind};
use crate::types::{LogicalType, TypeRoot};

/// The column for all of a record that has no column.
pub const REST: &str = "_rest";

/// The table property that names the topic of a table that tableflow has made.
pub(super) const TOPIC: &str = "tidelake.topic";

/// Table properties that say how the keys and the changes of a topic are read.
pub(super) const KEY_FORMAT: &str = "tidelake.key-format";
pub(super) const CHANGE_FORMAT: &str = "tidelake.change-format";

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
    /// Changes of a table, as a tool of change data capture tells them: they are made to the table of the topic.
    Changes(ChangeFormat),
}

/// A format of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeFormat {
    /// `debezium-json`, with or without the schema in each message.
    Debezium,
    /// `canal-json`.
    Canal,
    /// `maxwell-json`.
    Maxwell,
    /// `ogg-json`.
    Ogg,
}

impl ChangeFormat {
    /// Name of the format in SQL.
    pub fn name(self) -> &'static str {
        match self {
            ChangeFormat::Debezium => "debezium-json",
            ChangeFormat::Canal => "canal-json",
            ChangeFormat::Maxwell => "maxwell-json",
            ChangeFormat::Ogg => "ogg-json",
        }
    }

    /// Fields of a message that hold rows.
    pub(super) fn images(self) -> &'static [&'static str] {
        match self {
            ChangeFormat::Debezium | ChangeFormat::Ogg => &["after", "before"],
            ChangeFormat::Canal | ChangeFormat::Maxwell => &["data"],
        }
    }
}

/// What the rows of a table are to the records of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowMode {
    /// Each record is a row.
    Append,
    /// A record sets the row of its key, and one without a value deletes it.
    Upsert(KeyFormat),
}

/// How keys are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// The bytes, in the column `_key`.
    Raw,
    /// Text, in the column `_key`.
    Text,
    /// A JSON object, in a column per field.
    Json,
    /// As the schemas of the registry say, in a column per field.
    Registered(SchemaKind),
}

impl KeyFormat {
    /// Name of the format in SQL.
    pub(super) fn name(self) -> &'static str {
        match self {
            KeyFormat::Raw | KeyFormat::Text => "raw",
            KeyFormat::Json => "json",
            KeyFormat::Registered(kind) => registered(kind),
        }
    }

    /// Whether it is the column `_key`.
    pub(super) fn is_column(self) -> bool {
        matches!(self, KeyFormat::Raw | KeyFormat::Text)
    }
}

/// The format of values or keys with the id of their schema.
pub(super) fn registered(kind: SchemaKind) -> &'static str {
    match kind {
        SchemaKind::Avro => "avro-confluent",
        SchemaKind::Protobuf => "protobuf-confluent",
        SchemaKind::Json => "json-confluent",
    }
}

/// The columns of a topic and its table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Layout {
    /// Those of the values and keys of records.
    pub columns: Vec<Column>,
    /// Names of those by which rows replace each other; empty if they don't.
    pub key: Vec<String>,
    /// Messages come with their schema, in a `payload`.
    pub has_envelope: bool,
    /// What fields were called before, and what they are called now.
    pub renamed: Vec<(String, String)>,
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
    pub(super) fn all(&self, prefix: &str) -> BTreeMap<String, String> {
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
    /// It goes to another topic ([`TableflowConfig::dead_letters`]) before the commit that passes it, at least once.
    DeadLetters,
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
    pub(super) fn column(self) -> (&'static str, &'static str, Option<&'static str>) {
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
    /// The order of rows in files of tables that are made: `id`, `_timestamp DESC`, …
    pub sort_by: Vec<String>,
    /// How records are read.
    pub format: RecordFormat,
    /// What rows are to records; [changes](RecordFormat::Changes) are made by key in any case.
    pub mode: RowMode,
    /// Columns of the key; empty: those of the record's key.
    pub primary_key: Vec<String>,
    /// Where their schemas are.
    pub registry: Option<RegistryOptions>,
    /// What becomes of bad ones.
    pub on_error: OnError,
    /// The topic of bad ones that go to another topic; `{topic}` stands for the one they come from.
    pub dead_letters: String,
    /// Where a new topic begins.
    pub start_at: StartAt,
    /// Metadata columns besides `_partition`, `_offset` and `_timestamp`.
    pub include: BTreeSet<Metadata>,
    /// Time between commits.
    pub commit_interval: Duration,
    /// How often tables are maintained; `None` for never.
    pub maintain_every: Option<Duration>,
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
            RecordFormat::Json | RecordFormat::Registered(_) | RecordFormat::Changes(_) => None,
            RecordFormat::Raw => Some(column(TypeRoot::Varbinary(crate::types::MAX_LENGTH))),
            RecordFormat::Text => Some(column(TypeRoot::Varchar(crate::types::MAX_LENGTH))),
        }
    }

    /// Whether there is a column for all that has none.
    pub fn has_rest(&self) -> bool {
        matches!(
            self.format,
            RecordFormat::Json | RecordFormat::Registered(SchemaKind::Json) | RecordFormat::Changes(_)
        )
    }

    /// Whether rows replace each other by key.
    pub fn is_keyed(&self) -> bool {
        matches!(self.mode, RowMode::Upsert(_)) || matches!(self.format, RecordFormat::Changes(_))
    }

    /// Whether what a user asks goes together.
    ///
    /// # Errors
    /// Validation or Unsupported.
    pub fn check(&self) -> Result<()> {
        let is_upsert = matches!(self.mode, RowMode::Upsert(_));
        let is_changes = matches!(self.format, RecordFormat::Changes(_));
        if is_upsert && is_changes {
            return Err(Error::validation(
                "messages of changes say themselves which rows they set and delete",
            )
            .hint("leave --mode upsert out"));
        }
        if !self.is_keyed() {
            if self.primary_key.is_empty() {
                return Ok(());
            }
            return Err(Error::validation("--primary-key is for rows that replace each other")
                .hint("--mode upsert, or --format debezium-json"));
        }
        if self.start_at == StartAt::Latest {
            return Err(Error::unsupported(
                "a table of keys is what its whole topic says: it begins with the first record",
            )
            .hint("leave --start-at latest out"));
        }
        if is_changes && self.on_error == OnError::Rescue {
            return Err(Error::unsupported("a bad message of changes has no row to be rescued in")
                .hint("--on-error skip leaves it out"));
        }
        if self.on_error == OnError::DeadLetters {
            return Err(Error::unsupported("--on-error dlq is for rows that are appended")
                .hint("--on-error skip leaves bad records out"));
        }
        if let RowMode::Upsert(key) = self.mode {
            if key.is_column() && !self.primary_key.is_empty() {
                return Err(Error::validation("the key is one column, `_key`")
                    .hint("--key-format json gives a column per field of the key"));
            }
            if !key.is_column() && self.include.contains(&Metadata::Key) {
                return Err(
                    Error::unsupported("the key is in its columns already").hint("leave --include key out")
                );
            }
            if matches!(key, KeyFormat::Registered(_)) && self.registry.is_none() {
                return Err(Error::validation("it is not said where the schemas are").hint("--registry URL"));
            }
        }
        Ok(())
    }

    /// Names of the key columns that need no look at records.
    pub(super) fn known_key(&self) -> Option<Vec<String>> {
        match self.mode {
            RowMode::Upsert(key) if key.is_column() => Some(vec!["_key".to_owned()]),
            _ if !self.primary_key.is_empty() => Some(self.primary_key.clone()),
            _ => None,
        }
    }

    /// The same with how the records of a table are read, as it says itself.
    pub(super) fn of_table(&self, properties: &BTreeMap<String, String>) -> TableflowConfig {
        let mut config = self.clone();
        if let Some(format) = properties.get(KEY_FORMAT) {
            config.mode = RowMode::Upsert(match format.as_str() {
                "text" => KeyFormat::Text,
                "json" => KeyFormat::Json,
                "avro-confluent" => KeyFormat::Registered(SchemaKind::Avro),
                "protobuf-confluent" => KeyFormat::Registered(SchemaKind::Protobuf),
                "json-confluent" => KeyFormat::Registered(SchemaKind::Json),
                _ => KeyFormat::Raw,
            });
        }
        let all = [ChangeFormat::Debezium, ChangeFormat::Canal, ChangeFormat::Maxwell, ChangeFormat::Ogg];
        if let Some(name) = properties.get(CHANGE_FORMAT)
            && let Some(changes) = all.into_iter().find(|c| c.name() == name)
        {
            config.format = RecordFormat::Changes(changes);
        }
        config
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
            sort_by: Vec::new(),
            format: RecordFormat::Json,
            mode: RowMode::Append,
            primary_key: Vec::new(),
            registry: None,
            on_error: OnError::Suspend,
            dead_letters: "{topic}.dlq".to_owned(),
            start_at: StartAt::Earliest,
            include: BTreeSet::new(),
            commit_interval: Duration::from_secs(1),
            maintain_every: None,
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
        let columns = vec![Column { name: "a`b".into(), ty: LogicalType::string() }];
        let columns = Layout { columns, ..Layout::default() };
        let sql = config.source_table("s", "it's", &columns, &config.bounds());
        assert!(sql.contains("`a``b` STRING") && sql.contains("'topic' = 'it''s'"), "{sql}");
        assert!(sql.contains("'key.fields' = '_key'") && sql.contains("`_error` STRING METADATA"), "{sql}");
        for sql in [sql, config.sink_table("t", &config.route("x"), &columns), config.create_catalog()] {
            assert_eq!(crate::sql::parse_script(&sql).map(|s| s.len()).unwrap(), 1, "{sql}");
        }
        let keyed = TableflowConfig {
            mode: RowMode::Upsert(KeyFormat::Text),
            include: BTreeSet::from([Metadata::Key]),
            ..self::config()
        };
        let layout = Layout { key: keyed.known_key().unwrap(), ..columns };
        let sql = keyed.source_table("s", "t", &layout, &keyed.bounds());
        assert!(sql.contains("`_key` STRING NOT NULL") && sql.contains("PRIMARY KEY (`_key`)"), "{sql}");
        assert!(
            sql.contains("'upsert-kafka'") && !sql.contains("startup") && !sql.contains("BYTES"),
            "{sql}"
        );
        let sink = keyed.sink_table("t", &keyed.route("x"), &layout);
        assert!(
            sink.contains("PRIMARY KEY (`_key`)") && sink.contains("'tidelake.key-format' = 'text'"),
            "{sink}"
        );
        let told = keyed.told().into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        assert_eq!(self::config().of_table(&told).mode, keyed.mode);
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let changes = RecordFormat::Changes(ChangeFormat::Debezium);
        let upsert = RowMode::Upsert(KeyFormat::Json);
        let key = vec!["id".to_owned()];
        let bad = [
            (TableflowConfig { mode: upsert, format: changes, ..config() }, "--mode upsert"),
            (TableflowConfig { primary_key: key.clone(), ..config() }, "--mode upsert"),
            (TableflowConfig { mode: upsert, start_at: StartAt::Latest, ..config() }, "--start-at"),
            (TableflowConfig { format: changes, on_error: OnError::Rescue, ..config() }, "skip"),
            (TableflowConfig { mode: RowMode::Upsert(KeyFormat::Raw), primary_key: key, ..config() }, "json"),
            (
                TableflowConfig { mode: upsert, include: BTreeSet::from([Metadata::Key]), ..config() },
                "--include",
            ),
        ];
        for (config, hint) in bad {
            let e = config.check().unwrap_err().to_string();
            assert!(e.contains(hint), "{e}");
        }
        assert!(TableflowConfig { mode: upsert, ..config() }.check().is_ok());
    }
}
