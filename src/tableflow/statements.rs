//! The SQL that flows mean: tables of topics, tables of the lake, and what is written from one to the other.
//!
//! ```text
//!  TableflowConfig, Route, Layout ─► CREATE TEMPORARY TABLE source, sink[, dead letters]; INSERT INTO sink SELECT … FROM source
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::config::{
    CHANGE_FORMAT, KEY_FORMAT, KeyFormat, Layout, Metadata, OnError, REST, RecordFormat, Route, RowMode,
    StartAt, TOPIC, TableflowConfig, registered,
};
use super::infer::Column;
use crate::registry::SchemaKind;
use crate::sql::quote_ident;

/// What the job of a topic is in SQL.
pub(super) struct Job {
    /// Statements that declare its tables.
    pub tables: Vec<String>,
    /// What it runs.
    pub insert: String,
}

/// A text literal.
pub(super) fn quote_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Old and new names in one option.
fn pairs(renamed: &[(String, String)]) -> String {
    renamed.iter().map(|(from, to)| format!("{from}:{to}")).collect::<Vec<_>>().join(";")
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

fn kafka_options(
    servers: &str,
    properties: &BTreeMap<String, String>,
    format: &str,
) -> BTreeMap<String, String> {
    let mut options = BTreeMap::from([
        ("connector".to_owned(), "kafka".to_owned()),
        ("properties.bootstrap.servers".to_owned(), servers.to_owned()),
        ("format".to_owned(), format.to_owned()),
    ]);
    options.extend(properties.iter().map(|(k, v)| (format!("properties.{k}"), v.clone())));
    options
}

/// Table `name` of the values of topics that match a pattern, to ask for the topics.
pub(super) fn pattern_table(
    servers: &str,
    properties: &BTreeMap<String, String>,
    name: &str,
    pattern: &str,
) -> String {
    let mut options = kafka_options(servers, properties, "raw");
    options.insert("topic-pattern".to_owned(), pattern.to_owned());
    format!("CREATE TEMPORARY TABLE {} (v BYTES) {}", quote_ident(name), with(&options))
}

impl TableflowConfig {
    /// Options of a Kafka table.
    fn kafka_options(&self, format: &str) -> BTreeMap<String, String> {
        kafka_options(&self.servers, &self.kafka, format)
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

    /// Whether records that cannot be decoded are left out.
    pub(super) fn skips(&self) -> bool {
        self.has_rest() && self.on_error == OnError::Skip
    }

    /// Names of the columns that are not of the values of records.
    pub(super) fn further_names(&self) -> impl Iterator<Item = String> {
        self.further_columns().into_iter().map(|(name, ..)| name.to_owned())
    }

    /// The format of values, the prefix of its options and those options.
    pub(super) fn value_options(&self, layout: &Layout) -> (&'static str, String, BTreeMap<String, String>) {
        let format = match self.format {
            RecordFormat::Json => "json",
            RecordFormat::Raw | RecordFormat::Text => "raw",
            RecordFormat::Registered(kind) => registered(kind),
            RecordFormat::Changes(changes) => changes.name(),
        };
        let (mut options, prefix) = (BTreeMap::new(), format!("value.{format}."));
        if let (RecordFormat::Registered(kind), Some(registry)) = (self.format, &self.registry) {
            options.extend(registry.all(&prefix));
            if kind != SchemaKind::Json && !layout.renamed.is_empty() {
                options.insert(format!("{prefix}renamed-fields"), pairs(&layout.renamed));
            }
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
        (format, prefix, options)
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
        let (format, _, of_value) = self.value_options(layout);
        let mut options = self.kafka_options(format);
        options.remove("format");
        options.extend(of_value);
        options.insert("value.format".to_owned(), format.to_owned());
        options.insert("topic".to_owned(), topic.to_owned());
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

    /// Table `name` of the keys of the records of a topic, with where they are.
    pub(super) fn keys_table(
        &self,
        name: &str,
        topic: &str,
        key: &[Column],
        format: KeyFormat,
        bounds: &BTreeMap<String, String>,
    ) -> String {
        let mut options = self.kafka_options("raw");
        options.remove("format");
        let names: Vec<&str> = key.iter().map(|c| c.name.as_str()).collect();
        for (key, value) in [
            ("topic", topic),
            ("value.format", "raw"),
            ("key.format", format.name()),
            ("key.fields", &names.join(";")),
            ("value.fields-include", "EXCEPT_KEY"),
        ] {
            options.insert(key.to_owned(), value.to_owned());
        }
        if let (KeyFormat::Registered(_), Some(registry)) = (format, &self.registry) {
            options.extend(registry.all(&format!("key.{}.", format.name())));
        }
        options.extend(bounds.clone());
        let columns: Vec<String> =
            key.iter().map(|c| format!("  {} {},\n", quote_ident(&c.name), c.ty)).collect();
        format!(
            "CREATE TEMPORARY TABLE {} (\n{}  _tail_value BYTES,\n  _partition INT METADATA FROM 'partition' VIRTUAL,\n  _offset BIGINT METADATA FROM 'offset' VIRTUAL,\n  _timestamp TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL\n) {}",
            quote_ident(name),
            columns.concat(),
            with(&options)
        )
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
        if !self.sort_by.is_empty() {
            options.insert("sort-order".to_owned(), self.sort_by.join(", "));
        }
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
        if !layout.renamed.is_empty() {
            options.insert("schema-evolution.renames".to_owned(), pairs(&layout.renamed));
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
    pub(super) fn told(&self) -> Vec<(&'static str, String)> {
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
