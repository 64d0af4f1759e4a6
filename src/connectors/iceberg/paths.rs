//! Where data files go: `<table>/data/<field>=<value>/…/<file>`, folders named as Iceberg's Java library names them.
//!
//! The folders are for people; readers take partition values from the manifests. (The Iceberg crate's own names are not
//! used: it writes raw ordinals for years, months and hours, and panics on instants before 1970 with a fraction.)
//!
//! State: the paths that were begun and that nobody has taken over yet.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta};
use iceberg::spec::{
    Literal, PartitionKey, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Struct, TableMetadata,
    Transform, Type,
};
use iceberg::writer::file_writer::location_generator::LocationGenerator;

use crate::error::{Error, Result};
use crate::text::{DecimalStyle, write_decimal};

/// Folder names are cut here: file systems allow 255 bytes.
const MAX_NAME: usize = 150;

/// Makes the paths of one writer and remembers them.
#[derive(Debug, Clone)]
pub(super) struct TrackedLocations {
    folder: Arc<str>,
    begun: Arc<Mutex<Vec<String>>>,
}

impl TrackedLocations {
    /// Below the data folder of a table.
    pub fn new(metadata: &TableMetadata) -> Self {
        let properties = metadata.properties();
        let configured =
            properties.get("write.data.path").or_else(|| properties.get("write.folder-storage.path"));
        let folder = match configured {
            Some(path) => path.trim_end_matches('/').to_owned(),
            None => format!("{}/data", metadata.location().trim_end_matches('/')),
        };
        TrackedLocations { folder: folder.into(), begun: Arc::default() }
    }

    /// The paths begun since the last call.
    pub fn take(&self) -> Vec<String> {
        self.begun.lock().map(|mut p| std::mem::take(&mut *p)).unwrap_or_default()
    }
}

impl LocationGenerator for TrackedLocations {
    fn generate_location(&self, key: Option<&PartitionKey>, file_name: &str) -> String {
        let mut path = self.folder.to_string();
        if let Some(key) = key {
            for name in folders(key.spec(), key.schema(), key.data()) {
                path.push('/');
                path.push_str(&name);
            }
        }
        path.push('/');
        path.push_str(file_name);
        if let Ok(mut begun) = self.begun.lock() {
            begun.push(path.clone());
        }
        path
    }
}

fn folders(spec: &PartitionSpec, schema: &Schema, values: &Struct) -> Vec<String> {
    spec.fields()
        .iter()
        .zip(values.iter())
        .filter(|(field, _)| field.transform != Transform::Void)
        .map(|(field, value)| {
            let ty = schema
                .field_by_id(field.source_id)
                .and_then(|f| field.transform.result_type(&f.field_type).ok());
            let shown = match (value, ty) {
                (Some(Literal::Primitive(v)), Some(Type::Primitive(ty))) => shown(field.transform, &ty, v),
                _ => "null".to_owned(),
            };
            format!("{}={}", encode(&field.name), encode(&shown))
        })
        .collect()
}

fn encode(text: &str) -> String {
    let mut encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    if encoded.len() > MAX_NAME {
        // ASCII, so any cut is at a character.
        encoded.truncate(MAX_NAME);
    }
    encoded
}

fn shown(transform: Transform, ty: &PrimitiveType, value: &PrimitiveLiteral) -> String {
    use PrimitiveLiteral as L;
    let day = |n: i64| date(n).map_or_else(|| n.to_string(), |d| d.to_string());
    match (transform, value) {
        (Transform::Year, L::Int(v)) => (1970 + i64::from(*v)).to_string(),
        (Transform::Month, L::Int(v)) => {
            format!("{:04}-{:02}", 1970 + i64::from(*v).div_euclid(12), v.rem_euclid(12) + 1)
        }
        (Transform::Hour, L::Int(v)) => {
            format!("{}-{:02}", day(i64::from(*v).div_euclid(24)), v.rem_euclid(24))
        }
        (Transform::Day, L::Int(v)) => day(i64::from(*v)),
        (_, L::Int(v)) if *ty == PrimitiveType::Date => day(i64::from(*v)),
        (_, L::Long(v)) => match ty {
            PrimitiveType::Time => TimeDelta::microseconds(*v).to_string(),
            PrimitiveType::Timestamp => moment(*v).map_or_else(|| v.to_string(), |t| format!("{t:?}")),
            PrimitiveType::Timestamptz => {
                moment(*v).map_or_else(|| v.to_string(), |t| format!("{t:?}+00:00"))
            }
            _ => v.to_string(),
        },
        (_, L::Boolean(v)) => v.to_string(),
        (_, L::Int(v)) => v.to_string(),
        (_, L::Float(v)) => v.to_string(),
        (_, L::Double(v)) => v.to_string(),
        (_, L::String(v)) => v.clone(),
        (_, L::Binary(v)) => v.iter().map(|b| format!("{b:02x}")).collect(),
        (_, L::Int128(v)) => match ty {
            PrimitiveType::Decimal { scale, .. } => {
                let mut text = String::new();
                write_decimal(*v, i8::try_from(*scale).unwrap_or(i8::MAX), DecimalStyle::Full, &mut text);
                text
            }
            _ => v.to_string(),
        },
        (_, L::UInt128(v)) => v.to_string(),
        (_, L::AboveMax | L::BelowMin) => "null".to_owned(),
    }
}

fn date(days: i64) -> Option<NaiveDate> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let distance = Days::new(days.unsigned_abs());
    if days < 0 { epoch.checked_sub_days(distance) } else { epoch.checked_add_days(distance) }
        .filter(|d| d.year().abs() < 200_000)
}

fn moment(micros: i64) -> Option<chrono::NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|t| t.naive_utc())
}

/// Refuses partition values on which the Iceberg crate panics when it commits them.
///
/// # Errors
/// Data, naming the partition field.
pub(super) fn check_values(spec: &PartitionSpec, schema: &Schema, values: &Struct) -> Result<()> {
    for (field, value) in spec.fields().iter().zip(values.iter()) {
        let ty =
            schema.field_by_id(field.source_id).and_then(|f| field.transform.result_type(&f.field_type).ok());
        let (Some(Literal::Primitive(value)), Some(Type::Primitive(ty))) = (value, ty) else { continue };
        let refused = |why: &str| {
            Err(Error::data(format!(
                "the partition field `{}` cannot hold {}: {why}",
                field.name,
                shown(field.transform, &ty, value)
            ))
            .hint("partition by days(…) or another transform of the column, or leave such rows out"))
        };
        match (&ty, value) {
            (PrimitiveType::Date, PrimitiveLiteral::Int(v)) if date(i64::from(*v)).is_none() => {
                return refused("it is out of range");
            }
            (PrimitiveType::Timestamp | PrimitiveType::Timestamptz, PrimitiveLiteral::Long(v))
                if moment(*v).is_none() =>
            {
                return refused("it is out of range");
            }
            (PrimitiveType::Timestamptz, PrimitiveLiteral::Long(v)) if *v < 0 && v % 1_000_000 != 0 => {
                return refused("it is before 1970 and has a fraction of a second");
            }
            (PrimitiveType::TimestamptzNs, PrimitiveLiteral::Long(v)) if *v < 0 && v % 1_000_000_000 != 0 => {
                return refused("it is before 1970 and has a fraction of a second");
            }
            _ => {}
        }
    }
    Ok(())
}
