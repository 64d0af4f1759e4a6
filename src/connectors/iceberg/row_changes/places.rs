//! Places that rows leave, by data file: what writers gather and hand over.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roaring::RoaringTreemap;

use crate::error::{Error, Result};

/// Row numbers by path.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, RoaringTreemap>);

impl Places {
    /// Takes the first two columns of a batch: files and rows.
    ///
    /// # Errors
    /// Internal if they are something else.
    pub fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let wrong = || Error::internal("rows that do not say where they are stored");
        let files = batch.columns().first().and_then(|c| c.as_string_opt::<i32>()).ok_or_else(wrong)?;
        let rows =
            batch.columns().get(1).and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(wrong)?;
        let mut of: Option<(&str, RoaringTreemap)> = None;
        for (file, row) in files.iter().zip(rows.values()) {
            let file = file.ok_or_else(wrong)?;
            if of.as_ref().is_none_or(|(known, _)| *known != file) {
                self.add(of.take());
                of = Some((file, RoaringTreemap::new()));
            }
            if let Some((_, places)) = &mut of {
                places.insert(u64::try_from(*row).map_err(|_| wrong())?);
            }
        }
        self.add(of);
        Ok(())
    }

    fn add(&mut self, of: Option<(&str, RoaringTreemap)>) {
        let Some((file, places)) = of else { return };
        match self.0.get_mut(file) {
            Some(known) => *known |= places,
            None => {
                self.0.insert(file.to_owned(), places);
            }
        }
    }

    /// Takes what another writer has handed over.
    ///
    /// # Errors
    /// Internal if it is damaged.
    pub fn take_over(&mut self, stored: BTreeMap<String, String>) -> Result<()> {
        let damaged = |e: &dyn std::fmt::Display| Error::internal(format!("damaged places of rows: {e}"));
        for (file, places) in stored {
            let bytes = STANDARD.decode(places).map_err(|e| damaged(&e))?;
            let places = RoaringTreemap::deserialize_from(bytes.as_slice()).map_err(|e| damaged(&e))?;
            self.add(Some((&file, places)));
        }
        Ok(())
    }

    /// To be handed over.
    ///
    /// # Errors
    /// Internal.
    pub fn store(self) -> Result<BTreeMap<String, String>> {
        let stored = self.0.into_iter().map(|(file, places)| {
            let mut bytes = Vec::with_capacity(places.serialized_size());
            places.serialize_into(&mut bytes).map_err(|e| Error::internal(e.to_string()))?;
            Ok((file, STANDARD.encode(bytes)))
        });
        stored.collect()
    }

    /// No row leaves its place.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows of a file.
    pub fn of(&self, file: &str) -> Option<&RoaringTreemap> {
        self.0.get(file)
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.0.len()
    }
}
