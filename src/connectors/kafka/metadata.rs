//! Metadata columns: what a record carries besides key and value.
//!
//! | key | type | sink |
//! |---|---|---|
//! | `topic` | STRING NOT NULL | where the table names several topics or a pattern |
//! | `partition` | INT NOT NULL | |
//! | `headers` | MAP<STRING, BYTES> NOT NULL, the last of several values of a key | yes |
//! | `leader-epoch` | INT | |
//! | `offset` | BIGINT NOT NULL | |
//! | `timestamp` | TIMESTAMP_LTZ(3) NOT NULL | yes |
//! | `timestamp-type` | STRING NOT NULL: NoTimestampType, CreateTime, LogAppendTime | |
//! | `decode-error` | STRING: why the record is no row of the table; ours | |
//! | `bad-value` | BYTES: the key or value that could not be decoded; ours | |
//!
//! With one of the last two, bad records do not end the job: they are rows of NULLs.
//!
//! A column may be declared with another type of the same family; values are cast.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, Int32Array, Int64Array, MapArray, StringArray,
    StringBuilder, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray, UInt32Array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use chrono::{Offset, TimeZone};
use chrono_tz::Tz;
use rdkafka::Timestamp;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

use super::native;
use crate::catalog::MetadataColumn;
use crate::error::{Error, Result};

/// A metadata key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Topic,
    Partition,
    Headers,
    LeaderEpoch,
    Offset,
    Timestamp,
    TimestampType,
    DecodeError,
    BadValue,
}

impl Key {
    /// Whether it makes a bad record a row.
    pub(super) fn tells_of_bad_records(self) -> bool {
        matches!(self, Key::DecodeError | Key::BadValue)
    }
}

/// A key or value that could not be decoded.
#[derive(Debug)]
pub(super) struct BadValue {
    pub(super) error: String,
    pub(super) bytes: Vec<u8>,
}

const KEYS: [(&str, Key); 9] = [
    ("topic", Key::Topic),
    ("partition", Key::Partition),
    ("headers", Key::Headers),
    ("leader-epoch", Key::LeaderEpoch),
    ("offset", Key::Offset),
    ("timestamp", Key::Timestamp),
    ("timestamp-type", Key::TimestampType),
    ("decode-error", Key::DecodeError),
    ("bad-value", Key::BadValue),
];

/// The key of a metadata column, its declared type checked. `writing` tells whether a sink asks, `any_topic` whether
/// rows may choose their topic.
pub(super) fn key_of(table: &str, column: &MetadataColumn, writing: bool, any_topic: bool) -> Result<Key> {
    let name = column.field.name();
    let Some((_, key)) = KEYS.iter().find(|(k, _)| *k == column.key) else {
        return Err(Error::validation(format!(
            "table {table}: Invalid metadata key '{}' in column '{name}'",
            column.key
        ))
        .hint(format!("the kafka connector has: {}", KEYS.map(|(k, _)| k).join(", "))));
    };
    let ty = column.field.data_type();
    let (fits, expected) = match key {
        Key::Topic | Key::TimestampType | Key::DecodeError => (*ty == DataType::Utf8, "STRING"),
        Key::BadValue => (*ty == DataType::Binary, "BYTES"),
        Key::Partition | Key::LeaderEpoch => (is_number(ty), "INT, or another number or STRING"),
        Key::Offset => (is_number(ty), "BIGINT, or another number or STRING"),
        Key::Timestamp => (matches!(ty, DataType::Timestamp(..)), "TIMESTAMP_LTZ(3) or TIMESTAMP(3)"),
        Key::Headers => (header_types(ty).is_some(), "MAP<STRING, BYTES>"),
    };
    if !fits {
        return Err(Error::validation(format!(
            "table {table}: Invalid data type for metadata column '{name}' with metadata key '{}'",
            column.key
        ))
        .hint(format!("declare it {expected} and cast in the query")));
    }
    let writable = match key {
        Key::Headers | Key::Timestamp => true,
        Key::Topic => any_topic,
        _ => false,
    };
    if writing && !writable {
        return Err(Error::validation(format!(
            "table {table}: metadata column '{name}' with metadata key '{}' cannot be written",
            column.key
        ))
        .hint("declare it METADATA VIRTUAL"));
    }
    Ok(*key)
}

fn is_number(ty: &DataType) -> bool {
    ty.is_integer() || ty.is_floating() || matches!(ty, DataType::Utf8 | DataType::Decimal128(..))
}

/// Entries field and value type of a headers column, if it is one.
fn header_types(ty: &DataType) -> Option<(&FieldRef, &DataType)> {
    let DataType::Map(entries, _) = ty else { return None };
    let DataType::Struct(fields) = entries.data_type() else { return None };
    match fields.as_ref() {
        [k, v]
            if *k.data_type() == DataType::Utf8
                && matches!(v.data_type(), DataType::Utf8 | DataType::Binary) =>
        {
            Some((entries, v.data_type()))
        }
        _ => None,
    }
}

/// Collects the metadata of records; only what was asked for.
#[derive(Debug)]
pub(super) struct Collector {
    wants: Vec<Key>,
    offsets: Vec<i64>,
    epochs: Vec<Option<i32>>,
    timestamps: Vec<i64>,
    types: Vec<&'static str>,
    header_ends: Vec<i32>,
    header_keys: StringBuilder,
    header_values: BinaryBuilder,
    /// By record: what could not be decoded.
    pub(super) bad: BTreeMap<u32, BadValue>,
    time_zone: Tz,
}

impl Collector {
    /// A collector of `wants`; offsets are always kept, for errors.
    pub(super) fn new(wants: Vec<Key>, time_zone: Tz) -> Self {
        Collector {
            wants,
            offsets: Vec::new(),
            epochs: Vec::new(),
            timestamps: Vec::new(),
            types: Vec::new(),
            header_ends: vec![0],
            header_keys: StringBuilder::new(),
            header_values: BinaryBuilder::new(),
            bad: BTreeMap::new(),
            time_zone,
        }
    }

    /// Takes a record's metadata.
    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>) {
        self.offsets.push(message.offset());
        for i in 0..self.wants.len() {
            match self.wants.get(i) {
                Some(Key::LeaderEpoch) => self.epochs.push(native::leader_epoch(message)),
                Some(Key::Timestamp) => self.timestamps.push(message.timestamp().to_millis().unwrap_or(-1)),
                Some(Key::TimestampType) => self.types.push(match message.timestamp() {
                    Timestamp::NotAvailable => "NoTimestampType",
                    Timestamp::CreateTime(_) => "CreateTime",
                    Timestamp::LogAppendTime(_) => "LogAppendTime",
                }),
                Some(Key::Headers) => self.push_headers(message),
                _ => {}
            }
        }
    }

    fn push_headers(&mut self, message: &BorrowedMessage<'_>) {
        let mut end = self.header_ends.last().copied().unwrap_or(0);
        if let Some(headers) = message.headers() {
            let all: Vec<_> = headers.iter().collect();
            for (i, header) in all.iter().enumerate() {
                // The last of several values of a key wins.
                if all.iter().skip(i + 1).any(|later| later.key == header.key) {
                    continue;
                }
                self.header_keys.append_value(header.key);
                self.header_values.append_option(header.value);
                end += 1;
            }
        }
        self.header_ends.push(end);
    }

    /// Records taken since the last [`Collector::clear`].
    pub(super) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Offset of record `i`.
    pub(super) fn offset(&self, i: usize) -> Option<i64> {
        self.offsets.get(i).copied()
    }

    /// The column of `key` for the given records (`None`: all), with the declared type.
    pub(super) fn column(
        &mut self,
        key: Key,
        field: &Field,
        topic: &str,
        partition: i32,
        records: Option<&UInt32Array>,
    ) -> Result<ArrayRef> {
        let rows = records.map_or(self.len(), Array::len);
        let all: ArrayRef = match key {
            // The same for every record of a split.
            Key::Topic => return Ok(Arc::new(StringArray::from_iter_values((0..rows).map(|_| topic)))),
            Key::Partition => {
                return declared(Arc::new(Int32Array::from(vec![partition; rows])), field, self.time_zone);
            }
            Key::LeaderEpoch => Arc::new(Int32Array::from(self.epochs.clone())),
            Key::Offset => Arc::new(Int64Array::from(self.offsets.clone())),
            Key::Timestamp => {
                Arc::new(TimestampMillisecondArray::from(self.timestamps.clone()).with_timezone("UTC"))
            }
            Key::TimestampType => Arc::new(StringArray::from_iter_values(&self.types)),
            Key::Headers => self.headers(field)?,
            Key::DecodeError => {
                let errors = (0..self.len() as u32).map(|i| self.bad.get(&i).map(|b| b.error.as_str()));
                Arc::new(errors.collect::<StringArray>())
            }
            Key::BadValue => {
                let values = (0..self.len() as u32).map(|i| self.bad.get(&i).map(|b| b.bytes.as_slice()));
                Arc::new(values.collect::<BinaryArray>())
            }
        };
        let chosen = match records {
            Some(records) => take(&all, records, None)?,
            None => all,
        };
        declared(chosen, field, self.time_zone)
    }

    fn headers(&mut self, field: &Field) -> Result<ArrayRef> {
        let Some((entries, value_type)) = header_types(field.data_type()) else {
            return Err(Error::internal("headers of another type"));
        };
        let keys: ArrayRef = Arc::new(self.header_keys.finish_cloned());
        let values = self.header_values.finish_cloned();
        let values: ArrayRef = match value_type {
            DataType::Utf8 => {
                Arc::new(values.iter().map(|v| v.map(String::from_utf8_lossy)).collect::<StringArray>())
            }
            _ => Arc::new(values),
        };
        let DataType::Struct(fields) = entries.data_type() else {
            return Err(Error::internal("headers of another type"));
        };
        let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
        let ends = OffsetBuffer::new(ScalarBuffer::from(self.header_ends.clone()));
        Ok(Arc::new(MapArray::try_new(Arc::clone(entries), ends, pairs, None, false)?))
    }

    /// Forgets the records, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.offsets.clear();
        self.epochs.clear();
        self.timestamps.clear();
        self.types.clear();
        self.bad.clear();
        if self.header_ends.len() > 1 {
            self.header_ends.truncate(1);
            self.header_keys = StringBuilder::new();
            self.header_values = BinaryBuilder::new();
        }
    }
}

/// Casts to the declared type.
pub(super) fn declared(array: ArrayRef, field: &Field, tz: Tz) -> Result<ArrayRef> {
    if array.data_type() == field.data_type() {
        return Ok(array);
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    match (array.data_type(), field.data_type()) {
        (DataType::Timestamp(_, Some(_)), DataType::Timestamp(unit, None)) => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
            let instants = cast_with_options(&array, &micros, &strict)?;
            let instants = instants.as_any().downcast_ref::<TimestampMicrosecondArray>();
            let Some(instants) = instants else { return Err(Error::internal("a timestamp in other units")) };
            let local = |us: i64| {
                let millis = us.div_euclid(1000);
                us + (to_wall_clock(millis, tz) - millis) * 1000
            };
            let local = TimestampMicrosecondArray::new(
                instants.values().iter().map(|us| local(*us)).collect(),
                instants.nulls().cloned(),
            );
            Ok(cast_with_options(&local, &DataType::Timestamp(*unit, None), &strict)?)
        }
        (_, ty) => Ok(cast_with_options(&array, ty, &strict)?),
    }
}

/// The wall clock of a zone at an instant, as milliseconds of a clock without zone.
fn to_wall_clock(millis: i64, tz: Tz) -> i64 {
    if tz == Tz::UTC {
        return millis;
    }
    match tz.timestamp_millis_opt(millis) {
        chrono::LocalResult::Single(t) => millis + i64::from(t.offset().fix().local_minus_utc()) * 1000,
        _ => millis,
    }
}

/// The instant of a zone's wall clock; of two the earlier, of none the one after the gap.
fn from_wall_clock(millis: i64, tz: Tz) -> i64 {
    if tz == Tz::UTC {
        return millis;
    }
    let Some(naive) = chrono::DateTime::from_timestamp_millis(millis).map(|t| t.naive_utc()) else {
        return millis;
    };
    match tz.from_local_datetime(&naive) {
        chrono::LocalResult::Single(t) | chrono::LocalResult::Ambiguous(t, _) => t.timestamp_millis(),
        chrono::LocalResult::None => {
            millis - i64::from(tz.offset_from_utc_datetime(&naive).fix().local_minus_utc()) * 1000
        }
    }
}

/// Milliseconds of a timestamp column to write, `None` for NULL: the broker's clock.
pub(super) fn timestamps_to_write(array: &ArrayRef, tz: Tz) -> Result<Vec<Option<i64>>> {
    let wall_clock = matches!(array.data_type(), DataType::Timestamp(_, None));
    let millis = cast_with_options(
        array,
        &DataType::Timestamp(TimeUnit::Millisecond, None),
        &CastOptions { safe: false, ..CastOptions::default() },
    )?;
    let Some(millis) = millis.as_any().downcast_ref::<TimestampMillisecondArray>() else {
        return Err(Error::internal("a timestamp in other units"));
    };
    millis
        .iter()
        .map(|ms| {
            let ms = ms.map(|ms| if wall_clock { from_wall_clock(ms, tz) } else { ms });
            match ms {
                Some(ms) if ms < 0 => Err(Error::data(format!(
                    "Kafka takes no record timestamps before 1970, and this one is {ms} ms"
                ))),
                // The client reads 0 as "now".
                Some(0) => Err(Error::data(
                    "the Kafka client cannot write a record timestamp of exactly 1970-01-01 00:00:00",
                )
                .hint("write NULL for the time of writing")),
                Some(ms) => Ok(Some(ms)),
                None => Ok(None),
            }
        })
        .collect()
}

/// The headers of row `i` of a headers column to write.
pub(super) fn headers_to_write(array: &ArrayRef, i: usize) -> Result<Option<OwnedHeaders>> {
    let Some(maps) = array.as_any().downcast_ref::<MapArray>() else {
        return Err(Error::internal("headers of another type"));
    };
    if maps.is_null(i) || maps.value_length(i) == 0 {
        return Ok(None);
    }
    let pairs = maps.value(i);
    let keys = pairs.column(0).as_any().downcast_ref::<StringArray>();
    let bytes = pairs.column(1).as_any().downcast_ref::<BinaryArray>();
    let texts = pairs.column(1).as_any().downcast_ref::<StringArray>();
    let Some(keys) = keys else { return Err(Error::internal("headers of another type")) };
    let mut headers = OwnedHeaders::new_with_capacity(pairs.len());
    for row in 0..pairs.len() {
        let value: Option<&[u8]> = match (bytes, texts) {
            _ if pairs.column(1).is_null(row) => None,
            (Some(b), _) => Some(b.value(row)),
            (None, Some(t)) => Some(t.value(row).as_bytes()),
            (None, None) => None,
        };
        headers = headers.insert(Header { key: keys.value(row), value });
    }
    Ok(Some(headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clocks_go_there_and_back() {
        let tz: Tz = "Europe/Berlin".parse().unwrap();
        // 2024-07-01T12:00:00Z is 14:00 in Berlin.
        let utc = 1_719_835_200_000;
        assert_eq!(to_wall_clock(utc, tz), utc + 7_200_000);
        assert_eq!(from_wall_clock(utc + 7_200_000, tz), utc);
        assert_eq!(to_wall_clock(utc, Tz::UTC), utc);
    }

    #[test]
    fn wrong_types_and_keys_are_refused() {
        let column = |key: &str, ty: DataType| MetadataColumn {
            key: key.to_owned(),
            field: Field::new("c", ty, true),
            read_only: false,
        };
        let e = key_of("t", &column("ofset", DataType::Int64), false, false).unwrap_err().to_string();
        assert!(e.contains("ofset") && e.contains("leader-epoch"), "{e}");
        let e = key_of("t", &column("timestamp", DataType::Int64), false, false).unwrap_err().to_string();
        assert!(e.contains("TIMESTAMP_LTZ(3)"), "{e}");
        let e = key_of("t", &column("partition", DataType::Int32), true, false).unwrap_err().to_string();
        assert!(e.contains("VIRTUAL"), "{e}");
        assert!(key_of("t", &column("topic", DataType::Utf8), true, true).is_ok());
    }

    #[test]
    fn timestamps_before_1970_cannot_be_written() {
        let array: ArrayRef =
            Arc::new(TimestampMillisecondArray::from(vec![Some(5), None]).with_timezone("UTC"));
        assert_eq!(timestamps_to_write(&array, Tz::UTC).unwrap(), [Some(5), None]);
        let array: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![-5]).with_timezone("UTC"));
        assert!(timestamps_to_write(&array, Tz::UTC).unwrap_err().to_string().contains("1970"));
    }
}
