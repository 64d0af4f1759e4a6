//! Where in a row group the data is that cannot be read: which column, and which of its pages.

use std::sync::Arc;

use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::column::page::{Page, PageReader};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

use super::read::ParquetFile;
use crate::error::Result;
use crate::error::guard::guarded;

/// Rows to read at once: more find the place faster and less exactly.
const STEP: usize = 64;

impl<R: ChunkReader + Clone + 'static> ParquetFile<R> {
    /// The column and the page of a row group that cannot be read; `None` if all can be. Reads the columns one after
    /// the other, which takes its time.
    pub(crate) fn damage(&self, group: usize) -> Option<String> {
        let found = self.metadata.metadata().row_groups().get(group)?;
        (0..found.num_columns()).filter(|leaf| self.mask.leaf_included(*leaf)).find_map(|leaf| {
            let path = found.column(leaf).column_path().string();
            let pages = self.pages(found, leaf);
            let page = match &pages {
                // Cannot even be taken apart.
                Err(page) => Some(*page),
                Ok(values) => {
                    let row = self.first_bad_row(group, leaf)?;
                    // Values of nested columns are not rows: only flat ones are followed into their pages.
                    let flat = found.column(leaf).column_descr().max_rep_level() == 0;
                    flat.then(|| values.iter().filter(|end| **end <= row).count())
                }
            };
            Some(match page {
                Some(page) => format!("column `{path}`, page {page}"),
                None => format!("column `{path}`"),
            })
        })
    }

    /// For each data page of a column the number of values up to its end, or the page that cannot be read.
    fn pages(&self, group: &RowGroupMetaData, leaf: usize) -> Result<Vec<u64>, usize> {
        let rows = usize::try_from(group.num_rows()).unwrap_or(usize::MAX);
        let input = Arc::new(self.input.clone());
        let opened = guarded(|| Ok(SerializedPageReader::new(input, group.column(leaf), rows, None)?));
        let mut reader = opened.map_err(|_| 0usize)?;
        let (mut ends, mut values) = (Vec::new(), 0);
        loop {
            match guarded(|| Ok(reader.get_next_page()?)) {
                Ok(None) => return Ok(ends),
                Ok(Some(Page::DictionaryPage { .. })) => {}
                Ok(Some(page)) => {
                    values += u64::from(page.num_values());
                    ends.push(values);
                }
                Err(_) => return Err(ends.len()),
            }
        }
    }

    /// About where the values of a column cannot be decoded.
    fn first_bad_row(&self, group: usize, leaf: usize) -> Option<u64> {
        let mask = ProjectionMask::leaves(self.metadata.parquet_schema(), [leaf]);
        let (input, metadata) = (self.input.clone(), self.metadata.clone());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(input, metadata);
        let builder = builder.with_row_groups(vec![group]).with_batch_size(STEP).with_projection(mask);
        let Ok(mut reader) = guarded(|| Ok(builder.build()?)) else { return Some(0) };
        let mut rows = 0;
        loop {
            match guarded(|| Ok(reader.next().transpose()?)) {
                Ok(None) => {
                    let all = self.metadata.metadata().row_group(group).num_rows();
                    return (rows < u64::try_from(all).unwrap_or(0)).then_some(rows);
                }
                Ok(Some(batch)) => rows += batch.num_rows() as u64,
                Err(_) => return Some(rows),
            }
        }
    }
}
