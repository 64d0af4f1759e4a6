//! The arguments of `tidelake tableflow`, and what they mean together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::args::Format;
use crate::cli::catalog_args::CatalogArgs;
use crate::cli::{duration, parse_setting};
use crate::error::{Error, Result};
use crate::registry::SchemaKind;
use crate::tableflow::{
    ChangeFormat, KeyFormat, Metadata, OnError, RecordFormat, RegistryOptions, RowMode, StartAt,
    TableflowConfig,
};

/// Turn Kafka topics into Iceberg tables, exactly once.
///
/// Topic `a.b` becomes table `default.a_b`. Where it stands is in the table: the same command, started again, goes on.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct TableflowArgs {
    #[command(subcommand)]
    pub(super) command: Option<TableflowCommand>,
    #[command(flatten)]
    pub(super) run: RunFlow,
}

#[derive(Debug, Subcommand)]
pub(super) enum TableflowCommand {
    /// Prove that tables are their topics: nothing missing, nothing twice. Exit 0 only if all agree.
    Verify(VerifyArgs),
    /// Read the bad records again that --on-error rescue has kept, and make rows of those that are good by now.
    Reprocess(ReprocessArgs),
    /// Say where the tables are: rows, commits, files.
    Status(StatusArgs),
}

/// Where topics and tables are.
#[derive(Debug, Args)]
pub(super) struct Ends {
    /// Kafka: host:port,…; `embedded` is the broker inside the process.
    #[arg(long, value_name = "SERVERS", required_unless_present = "config")]
    bootstrap_servers: Option<String>,
    /// A property of the Kafka client, such as security.protocol=SASL_SSL. May be repeated.
    #[arg(long = "kafka-property", value_name = "KEY=VALUE", value_parser = parse_setting)]
    kafka_properties: Vec<(String, String)>,
    #[command(flatten)]
    catalog: CatalogArgs,
    /// The schema registry; schemas are those of the subject TOPIC-value.
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// An option of the registry, such as basic-auth.user-info. May be repeated.
    #[arg(long = "registry-option", value_name = "KEY=VALUE", value_parser = parse_setting)]
    registry_options: Vec<(String, String)>,
    /// How records are read [default: json].
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Namespace of the tables; {topic} stands for the topic.
    #[arg(long, default_value = "default", value_name = "NAME")]
    namespace: String,
    /// Sets an option of the session. May be repeated.
    #[arg(short = 's', long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(super) struct RunFlow {
    #[command(flatten)]
    ends: Ends,
    /// Name of a topic, or a regular expression of whole names. May be repeated; new topics are picked up.
    #[arg(long = "topic", value_name = "PATTERN", required_unless_present = "config")]
    pub(super) topics: Vec<String>,
    /// A file of flows, each with arguments of its own: TOML, see docs/tableflow.md.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topics", "bootstrap_servers"])]
    pub(super) config: Option<PathBuf>,
    /// What rows are to records. Formats of changes make them to the table in any case.
    #[arg(long, value_enum, default_value_t = ModeArg::Append)]
    mode: ModeArg,
    /// How keys are read with --mode upsert.
    #[arg(long, value_enum, default_value_t = KeyFormatArg::Raw)]
    key_format: KeyFormatArg,
    /// Fields by which rows replace each other [default: those of the record's key]. May be repeated.
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    primary_key: Vec<String>,
    /// Name of the tables; {topic} stands for the topic.
    #[arg(long, default_value = "{topic}", value_name = "NAME")]
    table_name: String,
    /// Partitioning of tables that are made: hours(_timestamp), bucket(16, id), a column. May be repeated.
    #[arg(long, value_name = "TRANSFORM")]
    partition_by: Vec<String>,
    /// Order of rows in the files of tables that are made: id, "_timestamp DESC". May be repeated.
    #[arg(long, value_name = "COLUMN")]
    sort_by: Vec<String>,
    /// Metadata columns besides _partition, _offset and _timestamp.
    #[arg(long, value_enum, value_delimiter = ',')]
    include: Vec<MetadataArg>,
    /// A property of tables that are made, such as write.target-file-size-bytes=134217728. May be repeated.
    #[arg(long = "table-property", value_name = "KEY=VALUE", value_parser = parse_setting)]
    table_properties: Vec<(String, String)>,
    /// What becomes of records that cannot be decoded.
    #[arg(long, value_enum, default_value_t = OnErrorArg::Suspend)]
    on_error: OnErrorArg,
    /// Where bad records go with --on-error dlq; {topic} stands for their topic.
    #[arg(long, value_name = "TOPIC", default_value = "{topic}.dlq")]
    dlq_topic: String,
    /// Where a topic without a table begins.
    #[arg(long, value_enum, default_value_t = StartArg::Earliest)]
    start_at: StartArg,
    /// Time between commits.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    commit_interval: Duration,
    /// Stop when what is there now is committed.
    #[arg(long)]
    pub(super) once: bool,
    /// How often tables are kept small: files put together, old snapshots and files that nothing names removed; 0 for never.
    #[arg(long, value_name = "DURATION", default_value = "15min", value_parser = duration)]
    maintain_every: Duration,
    /// Serve metrics for Prometheus at http://ADDRESS/metrics, and the state of the flows at /status.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) metrics_addr: Option<SocketAddr>,
    /// Append to tables that tableflow has not made.
    #[arg(long)]
    adopt: bool,
    /// A table that was rolled back: stop, or read again what was taken back.
    #[arg(long, value_enum, default_value_t = RollbackArg::Fail)]
    on_rollback: RollbackArg,
    /// Tasks per topic.
    #[arg(long, value_name = "N", default_value_t = 1)]
    parallelism: usize,
    /// Memory of the process, e.g. 2GB.
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// Fill a topic of the embedded broker with the lines of a file first. May be repeated.
    #[arg(long, value_name = "TOPIC=FILE", value_parser = parse_setting)]
    pub(super) load: Vec<(String, String)>,
    /// Print the SQL that it would run, with the columns that it has found, and stop.
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    pub(super) ends: Ends,
    /// Only the tables of these topics. May be repeated.
    #[arg(long = "topic", value_name = "PATTERN")]
    pub(super) topics: Vec<String>,
    /// Read the topics again and compare every row with its record.
    #[arg(long)]
    pub(super) deep: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
}

#[derive(Debug, Args)]
pub(super) struct ReprocessArgs {
    #[command(flatten)]
    pub(super) ends: Ends,
    /// Only the tables of these topics. May be repeated.
    #[arg(long = "topic", value_name = "PATTERN")]
    pub(super) topics: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) catalog: CatalogArgs,
    /// Namespace of the tables.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(super) namespace: String,
    /// Ask Kafka there how many records the tables are behind.
    #[arg(long, value_name = "SERVERS")]
    pub(super) bootstrap_servers: Option<String>,
    /// A property of the Kafka client, such as security.protocol=SASL_SSL. May be repeated.
    #[arg(long = "kafka-property", value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub(super) kafka_properties: Vec<(String, String)>,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(super) output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatArg {
    /// Objects without a schema: columns are inferred and added, what has no column is in _rest.
    Json,
    /// The bytes of the value, in one column.
    Raw,
    /// The value as text, in one column.
    Text,
    /// Avro with the id of its schema in the registry.
    Avro,
    /// Protobuf with the id of its schema in the registry.
    Protobuf,
    /// JSON with the id of its JSON Schema in the registry.
    JsonSchema,
    /// Changes as Debezium tells them, with or without their schema: they are made to the table.
    DebeziumJson,
    /// Changes as Canal tells them.
    CanalJson,
    /// Changes as Maxwell tells them.
    MaxwellJson,
    /// Changes as Oracle GoldenGate tells them.
    OggJson,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ModeArg {
    /// Each record is a row.
    Append,
    /// A record sets the row of its key, and one without a value deletes it.
    Upsert,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyFormatArg {
    /// The bytes of the key, in the column _key.
    Raw,
    /// The key as text, in the column _key.
    Text,
    /// A JSON object: a column per field.
    Json,
    /// Avro with the id of its schema in the registry: a column per field.
    Avro,
    /// Protobuf with the id of its schema in the registry: a column per field.
    Protobuf,
    /// JSON with the id of its JSON Schema in the registry: a column per field.
    JsonSchema,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnErrorArg {
    /// The topic stops before it, others go on.
    Suspend,
    /// It is left out and counted.
    Skip,
    /// It is a row with its bytes and the error, in _bad_value and _error.
    Rescue,
    /// It goes to the topic --dlq-topic as it is, with headers that say where it was and what is wrong with it.
    Dlq,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum StartArg {
    Earliest,
    Latest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RollbackArg {
    Fail,
    Resume,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MetadataArg {
    Topic,
    Key,
    Headers,
}

impl Ends {
    pub(super) fn config(self) -> Result<TableflowConfig> {
        let catalog = self.catalog.options()?;
        let is_registered =
            matches!(self.format, Some(FormatArg::Avro | FormatArg::Protobuf | FormatArg::JsonSchema));
        let registry = match self.registry {
            // Keys may have one though values have none.
            Some(url) => Some(RegistryOptions { url, options: self.registry_options.into_iter().collect() }),
            None if is_registered => {
                return Err(Error::validation("it is not said where the schemas are").hint("--registry URL"));
            }
            None => None,
        };
        Ok(TableflowConfig {
            servers: self.bootstrap_servers.unwrap_or_default(),
            kafka: self.kafka_properties.into_iter().collect(),
            catalog,
            namespace: self.namespace,
            table_name: "{topic}".to_owned(),
            table_properties: BTreeMap::new(),
            partition_by: Vec::new(),
            sort_by: Vec::new(),
            format: match self.format {
                None | Some(FormatArg::Json) => RecordFormat::Json,
                Some(FormatArg::Raw) => RecordFormat::Raw,
                Some(FormatArg::Text) => RecordFormat::Text,
                Some(FormatArg::Avro) => RecordFormat::Registered(SchemaKind::Avro),
                Some(FormatArg::Protobuf) => RecordFormat::Registered(SchemaKind::Protobuf),
                Some(FormatArg::JsonSchema) => RecordFormat::Registered(SchemaKind::Json),
                Some(FormatArg::DebeziumJson) => RecordFormat::Changes(ChangeFormat::Debezium),
                Some(FormatArg::CanalJson) => RecordFormat::Changes(ChangeFormat::Canal),
                Some(FormatArg::MaxwellJson) => RecordFormat::Changes(ChangeFormat::Maxwell),
                Some(FormatArg::OggJson) => RecordFormat::Changes(ChangeFormat::Ogg),
            },
            mode: RowMode::Append,
            primary_key: Vec::new(),
            registry,
            on_error: OnError::Suspend,
            dead_letters: String::new(),
            start_at: StartAt::Earliest,
            include: BTreeSet::new(),
            commit_interval: Duration::from_secs(60),
            maintain_every: None,
            once: false,
            adopt: false,
            resume_rollback: false,
            parallelism: 1,
            set: self.set,
        })
    }
}

impl RunFlow {
    pub(super) fn config(self) -> Result<TableflowConfig> {
        let mut config = self.ends.config()?;
        if let Some(size) = self.memory {
            config.set.push((crate::edges::PROCESS_MEMORY.to_owned(), size));
        }
        let has_schema =
            matches!(config.format, RecordFormat::Registered(SchemaKind::Avro | SchemaKind::Protobuf));
        if has_schema && self.on_error == OnErrorArg::Skip {
            return Err(Error::unsupported("--on-error skip is not supported for Avro and Protobuf")
                .hint("--on-error rescue keeps bad records as rows"));
        }
        let key = match self.key_format {
            KeyFormatArg::Raw => KeyFormat::Raw,
            KeyFormatArg::Text => KeyFormat::Text,
            KeyFormatArg::Json => KeyFormat::Json,
            KeyFormatArg::Avro => KeyFormat::Registered(SchemaKind::Avro),
            KeyFormatArg::Protobuf => KeyFormat::Registered(SchemaKind::Protobuf),
            KeyFormatArg::JsonSchema => KeyFormat::Registered(SchemaKind::Json),
        };
        let needs_registry =
            matches!(config.format, RecordFormat::Registered(_)) || matches!(key, KeyFormat::Registered(_));
        if config.registry.is_some() && !needs_registry {
            return Err(Error::validation("--registry is for records with the id of their schema")
                .hint("--format avro, protobuf or json-schema"));
        }
        if self.mode == ModeArg::Append && key != KeyFormat::Raw {
            return Err(Error::validation("--key-format is for --mode upsert")
                .hint("--include key keeps the bytes of keys in appended rows"));
        }
        Ok(TableflowConfig {
            mode: match self.mode {
                ModeArg::Append => RowMode::Append,
                ModeArg::Upsert => RowMode::Upsert(key),
            },
            primary_key: self.primary_key,
            table_name: self.table_name,
            table_properties: self.table_properties.into_iter().collect(),
            partition_by: self.partition_by,
            sort_by: self.sort_by,
            on_error: match self.on_error {
                OnErrorArg::Suspend => OnError::Suspend,
                OnErrorArg::Skip => OnError::Skip,
                OnErrorArg::Rescue => OnError::Rescue,
                OnErrorArg::Dlq => OnError::DeadLetters,
            },
            dead_letters: self.dlq_topic,
            start_at: match self.start_at {
                StartArg::Earliest => StartAt::Earliest,
                StartArg::Latest => StartAt::Latest,
            },
            include: self
                .include
                .iter()
                .map(|m| match m {
                    MetadataArg::Topic => Metadata::Topic,
                    MetadataArg::Key => Metadata::Key,
                    MetadataArg::Headers => Metadata::Headers,
                })
                .collect(),
            commit_interval: self.commit_interval,
            maintain_every: Some(self.maintain_every).filter(|every| !every.is_zero()),
            once: self.once,
            adopt: self.adopt,
            resume_rollback: self.on_rollback == RollbackArg::Resume,
            parallelism: self.parallelism,
            ..config
        })
    }
}
