//! Whether the pages of a column chunk say that they hold all of its values. Decoders take pages that they do not know for
//! none, and a chunk that ends early for one that has fewer rows.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use parquet::column::page::PageReader;
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use crate::error::guard::guarded;
use crate::error::{Error, Result};

/// Looks at the headers of the pages of a chunk, whose bytes these are.
///
/// # Errors
/// Data if values are missing or a header cannot be read.
pub(crate) fn check_pages(chunk: &ColumnChunkMetaData, bytes: &Bytes) -> Result<()> {
    let (base, _) = chunk.byte_range();
    let values = u64::try_from(chunk.num_values()).unwrap_or(0);
    let input = Arc::new(ChunkBytes { base, bytes: bytes.clone() });
    let found = guarded(|| {
        let rows = usize::try_from(values).unwrap_or(usize::MAX);
        let mut pages = SerializedPageReader::new(input, chunk, rows, None)?;
        let mut found = 0;
        while let Some(page) = pages.peek_next_page()? {
            found += page.num_levels.filter(|_| !page.is_dict).unwrap_or(0) as u64;
            pages.skip_next_page()?;
        }
        Ok(found)
    })?;
    if found < values {
        return Err(Error::data(format!("damaged data: {} values are missing", values - found)));
    }
    Ok(())
}

/// A part of a file, in its place.
struct ChunkBytes {
    base: u64,
    bytes: Bytes,
}

impl ChunkBytes {
    fn from(&self, start: u64) -> Bytes {
        let start = usize::try_from(start.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.bytes.slice(start.min(self.bytes.len())..)
    }
}

impl Length for ChunkBytes {
    fn len(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }
}

impl ChunkReader for ChunkBytes {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let rest = self.from(start);
        Ok(rest.slice(..length.min(rest.len())))
    }
}
