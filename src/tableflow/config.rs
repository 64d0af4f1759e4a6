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

/// Table properties that say how the keys and the changes of a topic are read.
const KEY_FORMAT: &str = "tidelake.key-format";
const CHANGE_FORMAT: &str = "tidelake.change-format";

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
    fn name(self) -> &'static str {
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
fn registered(kind: SchemaKind) -> &'static str {
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
}

/// What the job of a topic is in SQL.
pub(super) struct Job {
    /// Statements that declare its tables.
    pub tables: Vec<String>,
    /// What it runs.
    pub insert: String,
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

/// A text literal.
pub(super) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The clause for a key, behind the columns.
fn primary_key(key: &[String]) -> String {
    match key {
        [] => String::new(),
        key => {
            let names: Vec<String> = key.iter().map(|k| quote_ident(k)).collect();
            format!(",\n  PRIMARY KEY ({}) NOT ENFORCED", names.join(", "))
        }
    }
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
            RecordFormat::Json | RecordFormat::Registered(_) | RecordFormat::Changes(_) => None,
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

    /// Table `name` of the raw keys `k` and values `v` of a topic as it is now, for a sample.
    pub fn sample_table(&self, name: &str, topic: &str) -> String {
        let mut options = self.kafka_options("raw");
        options.remove("format");
        for (key, value) in [
            ("value.format", "raw"),
            ("key.format", "raw"),
            ("key.fields", "k"),
            ("value.fields-include", "EXCEPT_KEY"),
            ("topic", topic),
            ("scan.startup.mode", "earliest-offset"),
            ("scan.bounded.mode", "latest-offset"),
        ] {
            options.insert(key.to_owned(), value.to_owned());
        }
        format!("CREATE TEMPORARY TABLE {} (k BYTES, v BYTES) {}", quote_ident(name), with(&options))
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
        if let RowMode::Upsert(key) = self.mode
            && key.is_column()
        {
            include.remove(&Metadata::Key);
            let ty = if key == KeyFormat::Text { "STRING NOT NULL" } else { "BYTES NOT NULL" };
            columns.push(("_key", ty, None));
        }
        columns.extend(include.into_iter().map(Metadata::column));
        columns
    }

    /// Names of the columns that are not of the values of records.
    pub(super) fn further_names(&self) -> impl Iterator<Item = String> {
        self.further_columns().into_iter().map(|(name, ..)| name.to_owned())
    }

    /// Table `name` of the records of a topic with these columns. `bounds` are further options that say where reading begins
    /// and ends.
    pub(super) fn source_table(
        &self,
        name: &str,
        topic: &str,
        layout: &Layout,
        bounds: &BTreeMap<String, String>,
    ) -> String {
        let format = match self.format {
            RecordFormat::Json => "json",
            RecordFormat::Raw | RecordFormat::Text => "raw",
            RecordFormat::Registered(kind) => registered(kind),
            RecordFormat::Changes(changes) => changes.name(),
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
        if layout.has_envelope {
            options.insert(format!("{prefix}schema-include"), "true".to_owned());
        }
        if let RowMode::Upsert(key) = self.mode {
            options.insert("connector".to_owned(), "upsert-kafka".to_owned());
            options.insert("key.format".to_owned(), key.name().to_owned());
            if let (KeyFormat::Registered(_), Some(registry)) = (key, &self.registry) {
                options.extend(registry.all(&format!("key.{}.", key.name())));
            }
            if key.is_column() {
                options.insert("value.fields-include".to_owned(), "EXCEPT_KEY".to_owned());
            }
        } else if self.include.contains(&Metadata::Key) {
            options.insert("key.format".to_owned(), "raw".to_owned());
            options.insert("key.fields".to_owned(), "_key".to_owned());
            options.insert("value.fields-include".to_owned(), "EXCEPT_KEY".to_owned());
        }
        options.extend(bounds.clone());
        if matches!(self.mode, RowMode::Upsert(_)) {
            // What keys say is what the whole topic says.
            options.remove("scan.startup.mode");
        }
        let mut text = format!("CREATE TEMPORARY TABLE {} (\n", quote_ident(name));
        for c in &layout.columns {
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
        let _ = write!(text, "{}{}\n) {}", further.join(",\n"), primary_key(&layout.key), with(&options));
        text
    }

    /// The same for the source of a job that sends bad records elsewhere: it reads all that a record is made of.
    fn with_whole_records(&self) -> TableflowConfig {
        let mut whole = self.clone();
        whole.on_error = OnError::Rescue;
        whole.include.extend([Metadata::Topic, Metadata::Key, Metadata::Headers]);
        whole
    }

    /// The statements of the job of a topic: tables of the names that are given, and what is written from the source.
    pub(super) fn job(&self, route: &Route, layout: &Layout, names: [&str; 3]) -> Job {
        let [source, sink, dead] = names;
        let mut tables = vec![self.sink_table(sink, route, layout)];
        let (from, to) = (quote_ident(source), quote_ident(sink));
        if self.on_error != OnError::DeadLetters {
            tables.push(self.source_table(source, &route.topic, layout, &self.bounds()));
            return Job { tables, insert: format!("INSERT INTO {to} SELECT * FROM {from}") };
        }
        let whole = self.with_whole_records();
        tables.push(whole.source_table(source, &route.topic, layout, &self.bounds()));
        let mut options = self.kafka_options("raw");
        options.remove("format");
        let topic = self.dead_letters.replace("{topic}", &route.topic);
        for (key, value) in [
            ("topic", topic.as_str()),
            ("value.format", "raw"),
            ("key.format", "raw"),
            ("key.fields", "k"),
            ("value.fields-include", "EXCEPT_KEY"),
        ] {
            options.insert(key.to_owned(), value.to_owned());
        }
        tables.push(format!(
            "CREATE TEMPORARY TABLE {} (k BYTES, v BYTES, h MAP<STRING, BYTES> METADATA FROM 'headers') {}",
            quote_ident(dead),
            with(&options)
        ));
        let own = layout.columns.iter().map(|c| c.name.as_str());
        let columns: Vec<String> =
            own.chain(self.further_columns().into_iter().map(|c| c.0)).map(quote_ident).collect();
        let header = |name: &str, value: &str| format!("'{name}', ENCODE({value}, 'UTF-8')");
        let headers = [
            header("__connect.errors.topic", "_topic"),
            header("__connect.errors.partition", "CAST(_partition AS STRING)"),
            header("__connect.errors.offset", "CAST(_offset AS STRING)"),
            header("__connect.errors.exception.message", "_error"),
        ];
        let insert = format!(
            "EXECUTE STATEMENT SET BEGIN\n\
             INSERT INTO {to} SELECT {} FROM {from} WHERE _error IS NULL;\n\
             INSERT INTO {} SELECT _key, _bad_value, MAP_UNION(_headers, MAP[{}]) FROM {from} WHERE _error IS NOT NULL;\n\
             END",
            columns.join(", "),
            quote_ident(dead),
            headers.join(", ")
        );
        Job { tables, insert }
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
    pub(super) fn sink_table(&self, name: &str, route: &Route, layout: &Layout) -> String {
        let mut options = self.catalog.clone();
        // Of a table that is made: every commit is a metadata file.
        options.insert("write.metadata.delete-after-commit.enabled".to_owned(), "true".to_owned());
        options.extend(self.table_properties.clone());
        options.extend(
            [
                ("connector", "iceberg"),
                ("catalog-name", "tableflow"),
                ("catalog-database", &route.namespace),
                ("catalog-table", &route.table),
                ("source-positions", "table"),
                ("schema-evolution", "full"),
                // Whose it is, from the moment that it is there.
                (TOPIC, &route.topic),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        for (key, value) in self.told() {
            options.insert(key.to_owned(), value);
        }
        if self.resume_rollback {
            options.insert("source-positions.on-rollback".to_owned(), "resume".to_owned());
        }
        let mut all: Vec<String> =
            layout.columns.iter().map(|c| format!("  {} {}", quote_ident(&c.name), c.ty)).collect();
        all.extend(self.further_columns().iter().map(|(name, ty, _)| {
            // What an Iceberg table keeps of milliseconds is microseconds.
            format!("  {} {}", quote_ident(name), ty.replace("_LTZ(3)", "_LTZ(6)"))
        }));
        let partitioned = match self.partition_by.as_slice() {
            [] => String::new(),
            by => format!(" PARTITIONED BY ({})", by.join(", ")),
        };
        format!(
            "CREATE TEMPORARY TABLE {} (\n{}{}\n){partitioned} {}",
            quote_ident(name),
            all.join(",\n"),
            primary_key(&layout.key),
            with(&options)
        )
    }

    /// Properties of a table of keys that say how its records are read, for those who verify it.
    fn told(&self) -> Vec<(&'static str, String)> {
        let mut told = Vec::new();
        if let RowMode::Upsert(key) = self.mode {
            let text = if key == KeyFormat::Text { "text" } else { key.name() };
            told.push((KEY_FORMAT, text.to_owned()));
        }
        if let RecordFormat::Changes(changes) = self.format {
            told.push((CHANGE_FORMAT, changes.name().to_owned()));
        }
        told
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

    /// The catalog, under the name `tableflow`.
    pub fn create_catalog(&self) -> String {
        self.create_catalog_named("tableflow")
    }

    /// The catalog, under another name.
    pub(super) fn create_catalog_named(&self, name: &str) -> String {
        let mut options = self.catalog.clone();
        options.insert("type".to_owned(), "iceberg".to_owned());
        // Under which a catalog in a database has its tables.
        options.entry("catalog-name".to_owned()).or_insert_with(|| "tableflow".to_owned());
        format!("CREATE CATALOG {} {}", quote_ident(name), with(&options))
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
