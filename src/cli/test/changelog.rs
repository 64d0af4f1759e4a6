//! Queries labelled `changelog`, where the order of changes is another than the one written down: the rows that the
//! expected changes leave are compared.

use std::collections::BTreeMap;

use sqllogictest::{DefaultColumnType, QueryExpect, Record, SortMode};

use super::TestRecord;

/// Whether the expectation of a record is a changelog.
pub(super) fn is_changelog(record: &TestRecord) -> bool {
    matches!(
        record,
        Record::Query { expected: QueryExpect::Results { label: Some(label), .. }, .. } if label == "changelog"
    )
}

/// The record with the rows that its expected changes leave, sorted.
pub(super) fn with_rows_left(mut record: TestRecord) -> TestRecord {
    if let Record::Query { expected: QueryExpect::Results { results, sort_mode, types, .. }, .. } =
        &mut record
    {
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for line in results.iter() {
            let (kind, row) = line.split_at_checked(2).unwrap_or(("", line));
            *counts.entry(row.to_owned()).or_default() += if kind.starts_with('-') { -1 } else { 1 };
        }
        *results = counts
            .into_iter()
            .flat_map(|(row, count)| std::iter::repeat_n(row, usize::try_from(count).unwrap_or(0)))
            .collect();
        *sort_mode = Some(SortMode::RowSort);
        *types = vec![DefaultColumnType::Text];
    }
    record
}
