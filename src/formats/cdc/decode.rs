//! Messages to rows with kinds.

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use regex::Regex;

use super::metadata::{Metadata, find_fields};
use super::{CdcFormat, Dialect, Op};
use crate::error::{Error, Result};
use crate::formats::column::Batch;
use crate::formats::json::fail::{Fail, clip, describe};
use crate::formats::json::object::ObjectReader;
use crate::formats::json::rest::Rest;
use crate::formats::json::scan::{Scanner, Syntax};
use crate::formats::json::shape::Shape;
use crate::formats::record::RowDecoder;
use crate::stream::{RowKind, RowKinds};

/// Why a message gives no rows.
enum Bad {
    /// What its JSON lacks.
    Json(Fail),
    /// It is JSON that says nothing.
    Message(String),
}

impl From<Fail> for Bad {
    fn from(fail: Fail) -> Self {
        Bad::Json(fail)
    }
}

impl From<Syntax> for Bad {
    fn from(what: Syntax) -> Self {
        Bad::Json(Fail::Syntax(what))
    }
}

fn bad<T>(message: impl Into<String>) -> Result<T, Bad> {
    Err(Bad::Message(message.into()))
}

/// A metadata column.
struct MetadataColumn {
    metadata: &'static Metadata,
    /// Its place among the fields looked for.
    root: usize,
    shape: Shape,
}

/// Places of the fields that hold the new row, the old row and the operation.
const NEW: usize = 0;
const OLD: usize = 1;
const OP: usize = 2;

/// Decoder of change messages.
pub(super) struct CdcDecoder {
    dialect: Dialect,
    schema_include: bool,
    /// Databases and tables to read, with the places of the fields that name them.
    filters: Vec<(usize, Regex)>,
    reader: ObjectReader,
    rest: Option<Rest>,
    /// Columns of the rows, before those of metadata.
    physical: usize,
    metadata: Vec<MetadataColumn>,
    /// The columns that are wanted of those that are read; all of them if not said.
    output: Option<Vec<usize>>,
    /// Fields of a message to look for, and where they are in the current one.
    names: Vec<&'static str>,
    at: Vec<Option<usize>>,
    batch: Batch,
    kinds: Vec<u8>,
    finished: Option<RowKinds>,
}

impl CdcDecoder {
    /// A decoder of the columns of `schema`, then of `metadata`.
    /// `rest` is the one for all that has no column.
    pub(super) fn new(
        format: &CdcFormat,
        schema: &Schema,
        rest: Option<usize>,
        metadata: &[&'static Metadata],
    ) -> Result<Self> {
        let mut names = format.dialect.fields().to_vec();
        let mut place = |name: &'static str| {
            names.iter().position(|n| *n == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            })
        };
        let mut filters = Vec::new();
        for (name, pattern) in [("database", &format.database), ("table", &format.table)] {
            if let Some(pattern) = pattern {
                filters.push((place(name), pattern.clone()));
            }
        }
        let fields: Vec<Field> = metadata.iter().map(|m| m.field()).collect();
        let metadata: Vec<MetadataColumn> = metadata
            .iter()
            .zip(&fields)
            .map(|(m, field)| MetadataColumn {
                metadata: m,
                root: place(m.root),
                shape: Shape::new(field.data_type()),
            })
            .collect();
        let mut all: Vec<_> = schema.fields().iter().cloned().collect();
        let mut read = all.clone();
        if let Some(rest) = rest {
            Rest::hide(rest, &mut read);
        }
        all.extend(fields.into_iter().map(std::sync::Arc::new));
        Ok(CdcDecoder {
            dialect: format.dialect,
            schema_include: format.schema_include,
            filters,
            reader: ObjectReader::new(&read, format.json),
            rest: rest.map(Rest::new),
            physical: schema.fields().len(),
            metadata,
            output: None,
            at: vec![None; names.len()],
            names,
            batch: Batch::new(std::sync::Arc::new(Schema::new(all)))?,
            kinds: Vec::new(),
            finished: None,
        })
    }

    /// Gives only the columns `physical` of its rows, and all of metadata.
    pub(super) fn only(mut self, physical: &[usize]) -> Self {
        let metadata = self.physical..self.physical + self.metadata.len();
        self.output = Some(physical.iter().copied().chain(metadata).collect());
        self
    }

    fn at(&self, place: usize) -> Option<usize> {
        self.at.get(place).copied().flatten()
    }

    fn message(&mut self, s: &mut Scanner<'_>) -> Result<(), Bad> {
        s.skip_blanks();
        if s.at_end() {
            return Ok(());
        }
        if s.peek() != b'{' {
            return bad("a message has to be an object");
        }
        self.envelope(s)?;
        s.skip_blanks();
        if !s.at_end() {
            return Err(Bad::Json(Fail::Syntax("there is more text after the object")));
        }
        for (place, pattern) in &self.filters {
            let Some(pos) = self.at(*place) else {
                let name = self.names.get(*place).copied().unwrap_or_default();
                return bad(format!("it has no field \"{name}\", by which it would be chosen"));
            };
            s.pos = pos;
            if s.peek() != b'"' || !pattern.is_match(&s.string()?) {
                return Ok(());
            }
        }
        let name = self.dialect.fields()[OP];
        let Some(pos) = self.at(OP) else { return bad(format!("it has no field \"{name}\"")) };
        s.pos = pos;
        let text = if s.peek() == b'"' { s.string()? } else { return bad(format!("\"{name}\" is no text")) };
        match self.dialect.op(&text) {
            None => bad(format!("Unknown \"{name}\" value \"{text}\".")),
            Some(Op::Definition) => Ok(()),
            Some(op) => match self.dialect {
                Dialect::Debezium | Dialect::Ogg => self.whole_images(s, op),
                Dialect::Maxwell => {
                    let new = self.needed(NEW)?;
                    let old = if op == Op::Update { Some(self.needed(OLD)?) } else { None };
                    self.partial_image(s, op, new, old)
                }
                Dialect::Canal => self.row_lists(s, op),
            },
        }
    }

    /// Finds the fields of interest.
    fn envelope(&mut self, s: &mut Scanner<'_>) -> Result<(), Bad> {
        if !self.schema_include {
            return Ok(find_fields(s, &self.names, &mut self.at)?);
        }
        // {"schema": …, "payload": {"before": …}}
        let mut outer = [None; 2];
        find_fields(s, &["payload", "schema"], &mut outer)?;
        let end = s.pos;
        let [Some(payload), schema] = outer else { return bad("it has no \"payload\"") };
        s.pos = payload;
        if s.peek() != b'{' {
            return bad("\"payload\" is no object");
        }
        find_fields(s, &self.names, &mut self.at)?;
        if let Some(i) = self.names.iter().position(|n| *n == "schema")
            && let Some(place) = self.at.get_mut(i)
        {
            *place = schema;
        }
        s.pos = end;
        Ok(())
    }

    fn needed(&self, place: usize) -> Result<usize, Bad> {
        match self.at(place) {
            Some(pos) => Ok(pos),
            None => bad(format!("its \"{}\" is null", self.dialect.fields().get(place).unwrap_or(&""))),
        }
    }

    /// Debezium, GoldenGate: both images are whole rows.
    fn whole_images(&mut self, s: &mut Scanner<'_>, op: Op) -> Result<(), Bad> {
        if op != Op::Insert {
            let Some(before) = self.at(OLD) else {
                let what = if op == Op::Update { "UPDATE" } else { "DELETE" };
                return bad(format!(
                    "The \"before\" field of {what} message is null, if you are using Debezium Postgres Connector, please check the Postgres table has been set REPLICA IDENTITY to FULL level."
                ));
            };
            let kind = if op == Op::Update { RowKind::UpdateBefore } else { RowKind::Delete };
            self.row(s, &[before], kind)?;
        }
        if op != Op::Delete {
            let kind = if op == Op::Update { RowKind::UpdateAfter } else { RowKind::Insert };
            let after = self.needed(NEW)?;
            self.row(s, &[after], kind)?;
        }
        Ok(())
    }

    /// Maxwell, Canal: the old image has the changed fields only, the rest is as in the new one.
    fn partial_image(
        &mut self,
        s: &mut Scanner<'_>,
        op: Op,
        new: usize,
        old: Option<usize>,
    ) -> Result<(), Bad> {
        match (op, old) {
            (Op::Update, Some(old)) => {
                self.row(s, &[new, old], RowKind::UpdateBefore)?;
                self.row(s, &[new], RowKind::UpdateAfter)
            }
            (Op::Delete, _) => self.row(s, &[new], RowKind::Delete),
            _ => self.row(s, &[new], RowKind::Insert),
        }
    }

    /// Canal: lists of rows.
    fn row_lists(&mut self, s: &mut Scanner<'_>, op: Op) -> Result<(), Bad> {
        s.pos = self.needed(NEW)?;
        let data = items(s)?;
        let old = if op == Op::Update {
            s.pos = self.needed(OLD)?;
            items(s)?
        } else {
            Vec::new()
        };
        for (i, new) in data.into_iter().enumerate() {
            let old = old.get(i).copied();
            if op == Op::Update && old.is_none() {
                return bad("\"old\" has fewer rows than \"data\"");
            }
            self.partial_image(s, op, new, old)?;
        }
        Ok(())
    }

    /// A row of the objects at `images`, later ones over earlier ones.
    fn row(&mut self, s: &mut Scanner<'_>, images: &[usize], kind: RowKind) -> Result<(), Bad> {
        let rows = self.batch.rows();
        for pos in images {
            s.pos = *pos;
            if s.peek() != b'{' {
                return bad("a row is no object");
            }
            let columns = &mut self.batch.columns;
            match &mut self.rest {
                None => self.reader.object(s, columns, rows)?,
                Some(rest) => {
                    if let Some(column) = columns.get_mut(rest.column()) {
                        // Of the image before.
                        column.truncate(rows);
                    }
                    rest.object(&mut self.reader, s, columns, rows)?;
                }
            }
        }
        for (i, column) in self.metadata.iter_mut().enumerate() {
            let Some(values) = self.batch.columns.get_mut(self.physical + i) else { continue };
            match self.at.get(column.root).copied().flatten() {
                None => values.push_null(),
                Some(pos) => {
                    s.pos = pos;
                    match column.metadata.read(s, &mut self.reader, &mut column.shape, values) {
                        Err(Fail::Mismatch) if self.reader.ignores_errors() => {
                            values.truncate(rows);
                            values.push_null();
                        }
                        Err(Fail::Mismatch) => {
                            s.pos = pos;
                            s.skip_value(0)?;
                            let name = column.metadata.field().name().clone();
                            let value = clip(s.slice(pos, s.pos));
                            return bad(format!("metadata '{name}' cannot be read from {value}"));
                        }
                        other => other?,
                    }
                }
            }
        }
        self.reader.close_row(&mut self.batch)?;
        self.kinds.push(kind as u8);
        Ok(())
    }
}

/// Places of the items of the array at the scanner's position.
fn items(s: &mut Scanner<'_>) -> Result<Vec<usize>, Bad> {
    if s.peek() != b'[' {
        return bad("the rows are no array");
    }
    let mut places = Vec::new();
    s.pos += 1;
    s.skip_blanks();
    if s.peek() == b']' {
        return Ok(places);
    }
    loop {
        s.skip_blanks();
        places.push(s.pos);
        s.skip_value(0)?;
        if !s.more(b']')? {
            return Ok(places);
        }
    }
}

impl RowDecoder for CdcDecoder {
    fn decode(&mut self, record: &[u8]) -> Result<()> {
        let rows = self.batch.rows();
        let record = record.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(record);
        let error = match std::str::from_utf8(record) {
            Ok(text) => {
                let mut scanner = Scanner::new(text);
                match self.message(&mut scanner) {
                    Ok(()) => return Ok(()),
                    Err(_) if self.reader.ignores_errors() => None,
                    Err(Bad::Json(fail)) => Some(describe(fail, scanner.pos, text, self.dialect.format())),
                    Err(Bad::Message(what)) => {
                        Some(Error::data(format!("{what} The message is {}", clip(text))).hint(format!(
                            "set '{}.ignore-parse-errors' = 'true' to skip such messages",
                            self.dialect.format()
                        )))
                    }
                }
            }
            Err(_) if self.reader.ignores_errors() => None,
            Err(e) => Some(Error::data(format!("byte {} is not UTF-8", e.valid_up_to() + 1))),
        };
        self.batch.truncate(rows);
        self.kinds.truncate(rows);
        self.reader.skip();
        let title = self.dialect.title();
        error.map_or(Ok(()), |e| Err(e.context(format!("Corrupt {title} JSON message"))))
    }

    fn rows(&self) -> usize {
        self.batch.rows()
    }

    fn bytes(&self) -> usize {
        self.batch.bytes()
    }

    fn take_skipped(&mut self) -> u64 {
        self.reader.take_skipped()
    }

    fn take_nulled(&mut self) -> u64 {
        self.reader.take_nulled()
    }

    fn take_rested(&mut self) -> u64 {
        self.rest.as_mut().map_or(0, Rest::take_rows)
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let next = Vec::with_capacity(self.kinds.len());
        let kinds = RowKinds::new(std::mem::replace(&mut self.kinds, next));
        self.finished = (!kinds.all_insert()).then_some(kinds);
        let batch = self.batch.finish()?;
        Ok(match &self.output {
            Some(output) => batch.project(output)?,
            None => batch,
        })
    }

    fn take_kinds(&mut self) -> Option<RowKinds> {
        self.finished.take()
    }
}
