//! Writing a table: append and upsert, from batch and from a stream.
//!
//! ```text
//!  rows ─► IcebergWriter (per subtask) ─► at each barrier: closed data files ─► IcebergCommitter: one snapshot per epoch
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use iceberg::TableIdent;
use iceberg::spec::{FormatVersion, TableMetadata, Transform};
use iceberg::table::Table;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use super::catalog::create;
use super::claim;
use super::commit::{IcebergCommitter, Target};
use super::connection::Connection;
use super::evolution::{Evolution, EvolutionMode};
use super::lake::Lake;
use super::row_changes::OverwriteCommitter;
use super::types::{check_digits, to_primary_key};
use super::upsert::{KeyColumns, UpsertWriter};
use super::writer::{IcebergWriter, WriteSetup};
use crate::catalog::TableDef;
use crate::edges::{
    Claim, Notices, OpenedSink, Sink, SinkChangelog, SinkCommitter, SinkContext, SinkIdentity, SinkWriter,
    WriteMode,
};
use crate::error::{Error, Result, ResultExt};
use crate::formats::renamed::parse as parse_renames;
use crate::options::{Options, parse_bytes};

/// The table property that makes inserts replace rows.
const UPSERTS: &str = "write.upsert.enabled";
const TARGET_FILE_SIZE: u64 = 512 << 20;
const ROW_GROUP_SIZE: u64 = 128 << 20;

/// Write options of a statement or table; they win over the properties of the Iceberg table.
#[derive(Debug, Clone, Default)]
pub(super) struct WriteOptions {
    target_file_size: Option<u64>,
    compression: Option<String>,
    distribution: Option<&'static str>,
    /// `source-positions` = `table`.
    keeps_positions: bool,
    /// `source-positions.on-rollback` = `resume`.
    resumes_rollback: bool,
    /// `schema-evolution`.
    evolution: EvolutionMode,
    /// `schema-evolution.renames`.
    renames: Vec<(String, String)>,
    /// `upsert-enabled`: an insert replaces the row of its key.
    upserts: bool,
}

/// Options of writes that say how a job and its table belong together.
pub(super) const JOB_OPTIONS: &[&str] =
    &["source-positions", "source-positions.on-rollback", "schema-evolution", "schema-evolution.renames"];

impl WriteOptions {
    /// Takes the write options.
    ///
    /// # Errors
    /// Validation, or Unsupported for what this sink cannot do.
    pub fn parse(options: &Options) -> Result<Self> {
        let upserts =
            options.bool("upsert-enabled", false)? || options.bool("write.upsert.enabled", false)?;
        if options.bool("overwrite-enabled", false)? {
            return Err(
                Error::unsupported("'overwrite-enabled' is not supported").hint("write INSERT OVERWRITE")
            );
        }
        options.one_of("write-format", &["parquet"])?;
        if let Some(branch) = options.take("branch").filter(|b| b != "main") {
            return Err(Error::unsupported(format!("writing to the branch '{branch}' is not supported"))
                .hint("write to main, or create the branch afterwards with another tool"));
        }
        let [positions, on_rollback, evolution, renames] = JOB_OPTIONS else {
            return Err(Error::internal("four options"));
        };
        let keeps_positions = options.one_of(positions, &["none", "table"])? == Some("table");
        let on_rollback = options.one_of(on_rollback, &["fail", "resume"])?;
        if on_rollback.is_some() && !keeps_positions {
            return Err(Error::validation(
                "'source-positions.on-rollback' is for 'source-positions' = 'table'",
            ));
        }
        let evolution = match options.one_of(evolution, &["none", "add-columns", "full"])? {
            Some("add-columns") => EvolutionMode::AddColumns,
            Some("full") => EvolutionMode::Full,
            _ => EvolutionMode::None,
        };
        let renames = match options.take(renames) {
            None => Vec::new(),
            Some(_) if evolution != EvolutionMode::Full => {
                return Err(Error::validation(format!("'{renames}' is for 'schema-evolution' = 'full'")));
            }
            Some(text) => {
                parse_renames(&text).ok_or_else(|| options.invalid(renames, &text, "old:new;old:new"))?
            }
        };
        Ok(WriteOptions {
            renames,
            keeps_positions,
            resumes_rollback: on_rollback == Some("resume"),
            evolution,
            upserts,
            target_file_size: options.bytes("target-file-size-bytes")?,
            compression: options.take("compression-codec"),
            distribution: options.one_of("distribution-mode", &["none", "hash"])?,
        })
    }
}

/// An Iceberg table as a sink.
#[derive(Debug)]
pub(super) struct IcebergSink {
    connection: Connection,
    ident: TableIdent,
    schema: SchemaRef,
    options: WriteOptions,
    distribute_by: Option<Vec<usize>>,
    /// Columns of its PRIMARY KEY.
    primary_key: Option<Vec<usize>>,
    /// An insert replaces the row of its key.
    upserts: bool,
    /// What to create if the table does not exist.
    template: Option<Box<TableDef>>,
    notices: Notices,
}

/// What is known of the table before it is opened.
pub(super) enum Known<'a> {
    /// It was found in its catalog.
    Metadata(&'a TableMetadata),
    /// It was declared elsewhere, and is created so if it does not exist.
    Template(Box<TableDef>),
}

impl IcebergSink {
    /// A sink for rows of `schema`.
    pub fn new(
        connection: Connection,
        ident: TableIdent,
        schema: SchemaRef,
        options: WriteOptions,
        known: Known<'_>,
        notices: Notices,
    ) -> Self {
        let is_set = |v: Option<&String>| v.is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let (distribute_by, template, key, upserts) = match known {
            Known::Metadata(m) => {
                let key = to_primary_key(m.current_schema());
                (
                    distribution(m, &schema, options.distribution),
                    None,
                    key,
                    is_set(m.properties().get(UPSERTS)),
                )
            }
            Known::Template(def) => {
                let (key, upserts) = (def.primary_key.clone(), is_set(def.options.get(UPSERTS)));
                (None, Some(def), key, upserts)
            }
        };
        let column = |name: &String| schema.index_of(name).ok();
        let primary_key = key.and_then(|k| k.columns.iter().map(column).collect::<Option<Vec<_>>>());
        let upserts = upserts || options.upserts;
        // Rows of a key belong together first.
        let distribute_by = distribute_by.filter(|_| !upserts);
        IcebergSink {
            connection,
            ident,
            schema,
            options,
            distribute_by,
            primary_key,
            upserts,
            template,
            notices,
        }
    }

    /// Whether changes come by key, and those of what key.
    fn by_key(&self, table: &Table, is_updating: bool) -> Result<Option<KeyColumns>> {
        if !is_updating && !self.upserts {
            return Ok(None);
        }
        let metadata = table.metadata();
        let Some(columns) = KeyColumns::of(metadata.current_schema())? else {
            return Err(Error::validation(
                "the table has no PRIMARY KEY, by which its rows could be replaced",
            )
            .hint(
                "CREATE TABLE … (…, PRIMARY KEY (…) NOT ENFORCED); its columns become the identifier fields",
            ));
        };
        match metadata.format_version() {
            FormatVersion::V2 => Ok(Some(columns)),
            version => Err(Error::unsupported(format!(
                "rows of a table of format version {} cannot be replaced or taken away",
                version as u8
            ))
            .hint("create the table with 'format-version' = '2'")),
        }
    }

    fn target(&self, lake: &Arc<Lake>) -> Target {
        Target { lake: Arc::clone(lake), ident: self.ident.clone(), notices: self.notices.clone() }
    }

    /// The table, made if it may be.
    async fn find(&self, lake: &Lake) -> Result<Table> {
        match (lake.find(&self.ident).await?, &self.template) {
            (Some(t), _) => Ok(t),
            (None, Some(def)) => {
                // As Flink's connector does.
                lake.ensure_namespace(self.ident.namespace()).await?;
                // Whoever creates it: it is there.
                create(lake, &self.ident, def, true).await?;
                lake.load(&self.ident).await
            }
            (None, None) => lake.load(&self.ident).await,
        }
    }
}

/// Rows of one identity partition go to one writer, so that few partitions make few files. Not for other transforms:
/// distributing by `ts` would not bring the rows of one `days(ts)` together.
fn distribution(metadata: &TableMetadata, schema: &SchemaRef, option: Option<&str>) -> Option<Vec<usize>> {
    let mode = option.or_else(|| metadata.properties().get("write.distribution-mode").map(String::as_str));
    let spec = metadata.default_partition_spec();
    if mode == Some("none") || spec.is_unpartitioned() {
        return None;
    }
    spec.fields()
        .iter()
        .map(|f| {
            let name = metadata.current_schema().name_by_field_id(f.source_id)?;
            if f.transform == Transform::Identity { schema.index_of(name).ok() } else { None }
        })
        .collect()
}

#[async_trait]
impl Sink for IcebergSink {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn changelog(&self) -> SinkChangelog {
        if self.primary_key.is_some() { SinkChangelog::Upsert } else { SinkChangelog::AppendOnly }
    }

    fn primary_key(&self) -> Option<Vec<usize>> {
        self.primary_key.clone()
    }

    fn always_upserts(&self) -> bool {
        self.upserts && self.primary_key.is_some()
    }

    fn distribute_by(&self) -> Option<Vec<usize>> {
        self.distribute_by.clone()
    }

    fn keeps_positions(&self) -> bool {
        self.options.keeps_positions
    }

    async fn claim(&self) -> Result<Claim> {
        let lake = self.connection.open().await?;
        let table = self.find(&lake).await?;
        let target = self.target(&lake);
        claim::claim(&target, table, self.options.resumes_rollback).await
    }

    async fn open(&self, context: &SinkContext) -> Result<OpenedSink> {
        let (mode, parallelism) = (context.mode, context.parallelism);
        let lake = self.connection.open().await?;
        let shown = lake.shown(&self.ident);
        if mode == WriteMode::Overwrite && self.upserts {
            return Err(Error::unsupported("INSERT OVERWRITE by key is not supported")
                .hint("'upsert-enabled' = 'false' for this statement: INSERT OVERWRITE t /*+ OPTIONS(…) */")
                .context(shown));
        }
        if self.options.keeps_positions && context.claim.is_none() {
            return Err(Error::unsupported("'source-positions' = 'table' is for INSERT in streaming mode")
                .hint("SET 'execution.runtime-mode' = 'streaming'; a bounded source ends there, too")
                .context(shown));
        }
        let mut table = self.find(&lake).await?;
        let mut evolution = None;
        let planned = {
            let WriteOptions { evolution, renames, .. } = &self.options;
            Evolution::plan(&lake, &self.ident, &self.schema, *evolution, renames).await?
        };
        if planned.is_some() && mode == WriteMode::Overwrite {
            return Err(Error::unsupported("INSERT OVERWRITE does not change the columns of a table")
                .hint("INSERT INTO it once, which does ('schema-evolution')")
                .context(shown));
        }
        if let Some((planned, evolved)) = planned {
            (evolution, table) = (Some(planned), evolved);
        }
        let kept = match &context.claim {
            Some(claim) => Some(claim::taken(&table, claim).context(|| shown.clone())?),
            None => None,
        };
        let run = Uuid::now_v7();
        let pipeline = match &kept {
            Some(kept) => kept.at.pipeline,
            None => context.identity.as_ref().map_or(run, SinkIdentity::pipeline),
        };
        let setup = write_setup(Arc::clone(&lake), table, &self.schema, &self.options, pipeline, run)?;
        let setup = Arc::new(setup);
        let writers = (0..parallelism.max(1))
            .map(|i| {
                let writer = IcebergWriter::new(Arc::clone(&setup), i)?;
                Ok(match self.by_key(&setup.table, context.is_updating).context(|| shown.clone())? {
                    None => Box::new(writer.sorted()) as Box<dyn SinkWriter>,
                    Some(columns) => {
                        let key = key_places(&setup, &columns).context(|| shown.clone())?;
                        Box::new(UpsertWriter::new(writer, columns, key))
                    }
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let target = self.target(&lake);
        let committer: Box<dyn SinkCommitter> = match mode {
            WriteMode::Append => Box::new(IcebergCommitter::new(target, kept, evolution)),
            WriteMode::Overwrite => {
                let metadata = setup.table.metadata();
                if metadata.format_version() == FormatVersion::V3 {
                    return Err(Error::unsupported(
                        "rows of a table of format version 3 cannot be taken away",
                    )
                    .hint("create the table with 'format-version' = '2'")
                    .context(shown));
                }
                Box::new(OverwriteCommitter::new(target, pipeline, metadata))
            }
        };
        Ok(OpenedSink { writers, committer })
    }
}

/// What the writers of rows of `schema` share.
///
/// # Errors
/// Validation if the rows do not fit the table, or its properties make no sense.
pub(super) fn write_setup(
    lake: Arc<Lake>,
    table: Table,
    schema: &SchemaRef,
    options: &WriteOptions,
    pipeline: Uuid,
    run: Uuid,
) -> Result<WriteSetup> {
    let shown = lake.shown(table.identifier());
    let metadata = table.metadata();
    let (properties, target_file_size) =
        writer_properties(options, metadata.properties()).context(|| shown.clone())?;
    let mapping = map_columns(metadata, schema).context(|| shown)?;
    Ok(WriteSetup { lake, table, pipeline, run, properties, target_file_size, mapping })
}

/// Where key columns stand in the rows that come.
fn key_places(setup: &WriteSetup, columns: &KeyColumns) -> Result<Vec<usize>> {
    let fields = setup.table.metadata().current_schema().as_struct().fields();
    let place = |id: &i32| {
        let at =
            fields.iter().position(|f| f.id == *id).and_then(|at| setup.mapping.get(at).copied().flatten());
        at.ok_or_else(|| Error::validation("a column of the PRIMARY KEY of the table is not declared here"))
    };
    columns.ids().iter().map(place).collect()
}

/// For each column of the table the index of the declared column.
fn map_columns(metadata: &TableMetadata, schema: &SchemaRef) -> Result<Vec<Option<usize>>> {
    let fields = metadata.current_schema().as_struct().fields();
    for declared in schema.fields() {
        if !fields.iter().any(|f| f.name == *declared.name()) {
            let names: Vec<&str> = fields.iter().map(|f| f.name.as_str()).collect();
            return Err(Error::validation(format!("there is no column `{}`", declared.name()))
                .hint(format!("its columns: {}", names.join(", "))));
        }
    }
    fields
        .iter()
        .map(|f| match schema.index_of(&f.name) {
            Ok(i) => {
                check_digits(f, schema.field(i).data_type(), &f.name)?;
                Ok(Some(i))
            }
            Err(_) if !f.required => Ok(None),
            Err(_) => Err(Error::validation(format!(
                "the column `{}` is required in the Iceberg table and is not declared here",
                f.name
            ))),
        })
        .collect()
}

/// Parquet settings from the statement's options and the table's `write.*` properties, and the target file size.
///
/// # Errors
/// Validation for values that make no sense, Unsupported for tables in other formats.
pub(super) fn writer_properties(
    options: &WriteOptions,
    properties: &HashMap<String, String>,
) -> Result<(WriterProperties, usize)> {
    let size = |key: &str, default: u64| match properties.get(key) {
        None => Ok(default),
        Some(v) => parse_bytes(v).filter(|n| *n > 0).ok_or_else(|| bad_property(key, v, "a number of bytes")),
    };
    if let Some(format) = properties.get("write.format.default")
        && !format.eq_ignore_ascii_case("parquet")
    {
        return Err(Error::unsupported(format!(
            "the table is written as {format}, and only Parquet is supported"
        ))
        .hint("set its property 'write.format.default' = 'parquet'"));
    }
    let level = properties.get("write.parquet.compression-level");
    let codec = options
        .compression
        .clone()
        .or_else(|| properties.get("write.parquet.compression-codec").cloned())
        .unwrap_or_else(|| "zstd".to_owned());
    let compression = compression(&codec, level.map(String::as_str))?;
    let row_group = size("write.parquet.row-group-size-bytes", ROW_GROUP_SIZE)?;
    let target = match options.target_file_size {
        Some(n) => n,
        None => size("write.target-file-size-bytes", TARGET_FILE_SIZE)?,
    };
    let built = WriterProperties::builder()
        .set_created_by(format!("tidelake {}", env!("CARGO_PKG_VERSION")))
        .set_compression(compression)
        .set_max_row_group_bytes(usize::try_from(row_group).ok())
        .set_data_page_size_limit(
            usize::try_from(size("write.parquet.page-size-bytes", 1 << 20)?).unwrap_or(1 << 20),
        )
        .set_dictionary_page_size_limit(
            usize::try_from(size("write.parquet.dict-size-bytes", 2 << 20)?).unwrap_or(2 << 20),
        )
        .build();
    Ok((built, usize::try_from(target).unwrap_or(usize::MAX)))
}

fn compression(codec: &str, level: Option<&str>) -> Result<Compression> {
    let key = "write.parquet.compression-level";
    let number = |default: i32| match level {
        None => Ok(default),
        Some(l) => l.trim().parse::<i32>().map_err(|_| bad_property(key, l, "a number")),
    };
    let range =
        |e: parquet::errors::ParquetError| bad_property(key, level.unwrap_or_default(), &e.to_string());
    Ok(match codec.trim().to_ascii_lowercase().as_str() {
        // The level parquet-rs takes by default: writing is bound by the CPU.
        "zstd" => Compression::ZSTD(ZstdLevel::try_new(number(1)?).map_err(range)?),
        "snappy" => Compression::SNAPPY,
        "gzip" => {
            let n = u32::try_from(number(6)?)
                .map_err(|_| bad_property(key, level.unwrap_or_default(), "0 to 9"))?;
            Compression::GZIP(GzipLevel::try_new(n).map_err(range)?)
        }
        "lz4" | "lz4_raw" => Compression::LZ4_RAW,
        "uncompressed" | "none" => Compression::UNCOMPRESSED,
        other => {
            return Err(bad_property(
                "write.parquet.compression-codec",
                other,
                "one of zstd, snappy, gzip, lz4, uncompressed",
            ));
        }
    })
}

fn bad_property(key: &str, value: &str, expected: &str) -> Error {
    Error::validation(format!("invalid value '{value}' for the table property '{key}'"))
        .hint(format!("expected {expected}"))
}
