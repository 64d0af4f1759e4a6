use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, RecordBatch, StringArray};

use super::*;
use crate::stream::RowKinds;

#[test]
fn lines_look_as_flinks() {
    let rows = RecordBatch::try_from_iter([
        ("a", Arc::new(Int32Array::from(vec![Some(1), None])) as ArrayRef),
        ("b", Arc::new(StringArray::from(vec![Some("x, y"), Some("")])) as ArrayRef),
        ("c", Arc::new(BooleanArray::from(vec![Some(true), None])) as ArrayRef),
    ])
    .unwrap();
    let batch = ChangeBatch::with_kinds(rows, RowKinds::new(vec![3, 2]));
    let mut out = String::new();
    format_rows(&batch, "id> ", &mut out).unwrap();
    assert_eq!(out, "id> -D[1, x, y, true]\nid> +U[null, , null]\n");
}

#[test]
fn prefixes() {
    assert_eq!(prefix("", 0, 1), "");
    assert_eq!(prefix("id", 0, 1), "id> ");
    assert_eq!(prefix("", 1, 2), "2> ");
    assert_eq!(prefix("id", 0, 2), "id:1> ");
}
