//! Rows of 1 MB.

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};

use super::*;
use crate::stream::BATCH_BYTES;
use crate::stream::bytes::batch_bytes;

const TEXT: usize = 1 << 20;

/// `rows` rows of one key, with texts of so many bytes.
fn batch(rows: usize, bytes: usize) -> ChangeBatch {
    let schema = texts("a");
    let key: ArrayRef = Arc::new(Int64Array::from(vec![7; rows]));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|_| "x".repeat(bytes))));
    ChangeBatch::insert_only(RecordBatch::try_new(schema, vec![key, texts]).unwrap())
}

fn texts(value: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new(value, DataType::Utf8, true),
    ]))
}

/// Rows that come out, in batches none of which is large.
fn push(join: &mut JoinOperator, port: usize, batch: ChangeBatch) -> usize {
    let mut out = Output::new();
    let mut progress = join.process(port, batch, &mut out).unwrap();
    let mut rows = 0;
    loop {
        let batches = out.take();
        let bytes: Vec<usize> = batches.iter().map(|b| batch_bytes(&b.rows)).collect();
        assert!(bytes.iter().sum::<usize>() < 6 * BATCH_BYTES, "port {port}: {bytes:?}");
        for batch in batches {
            assert!(batch_bytes(&batch.rows) <= BATCH_BYTES);
            rows += batch.num_rows();
        }
        if progress == Progress::Done {
            return rows;
        }
        progress = join.resume(&mut out).unwrap();
    }
}

#[test]
fn matches_come_in_batches_of_few_bytes() {
    let with_texts = |mut config: JoinConfig| {
        (config.left.schema, config.right.schema) = (texts("a"), texts("b"));
        let fields = texts("a").fields().iter().chain(texts("b").fields()).cloned().collect::<Vec<_>>();
        config.output_schema = Arc::new(Schema::new(fields));
        config
    };
    let plain = with_texts(config(JoinKind::Inner));
    let mut filtered = with_texts(config(JoinKind::Inner));
    let schema = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Utf8, true),
        Field::new("b", DataType::Utf8, true),
    ]));
    filtered.filter = Some(JoinFilter {
        condition: Arc::new(BinaryExpr::new(
            Arc::new(Column::new("a", 0)),
            BinaryOperator::GtEq,
            Arc::new(Column::new("b", 1)),
        )),
        columns: vec![(JoinSide::Left, 1), (JoinSide::Right, 1)],
        schema,
    });
    for config in [plain, filtered] {
        let mut join = JoinOperator::new(config.clone()).unwrap();
        // Several batches, so that their rows meet in one segment or do not, by their size.
        (0..4).for_each(|_| assert_eq!(push(&mut join, 0, batch(5, TEXT)), 0));
        assert_eq!(push(&mut join, 1, batch(30, 1)), 20 * 30);
        let mut writer = SnapshotWriter::new();
        join.snapshot(&mut writer).unwrap();
        let state = writer.finish();
        let parts = &state["left"];
        assert!(parts.iter().all(|p| batch_bytes(&p.rows) <= BATCH_BYTES), "{}", parts.len());
        let mut restored = JoinOperator::new(config).unwrap();
        restored.restore(&SnapshotReader::new(state, KeyGroupRange::ALL)).unwrap();
        assert_eq!(push(&mut restored, 1, batch(1, 1)), 20);
        // Wide rows of the batch, too.
        assert_eq!(push(&mut restored, 1, batch(2, TEXT)), 40);
    }
}

#[test]
fn a_wide_row_among_narrow_ones_is_known() {
    let mut store = super::super::rows::RowStore::new(vec![DataType::Utf8]);
    let text = |row: usize| if row == 100 { "x".repeat(TEXT) } else { "x".to_owned() };
    let column: ArrayRef = Arc::new(StringArray::from_iter_values((0..4000).map(text)));
    let ids: Vec<u32> = (0..4000).map(|row| store.add(row).unwrap()).collect();
    store.append_pending(&[column], 4000).unwrap();
    assert_eq!(store.runs(&ids).len(), 1);
    assert_eq!(store.runs(&[ids[100]; 20]).len(), 3);
    let gathered = store.gather(&[0], &[ids[100], ids[101]]).unwrap();
    assert_eq!(gathered[0].as_string::<i32>().value(0).len(), TEXT);
}

#[test]
fn an_exploding_batch_comes_in_parts() {
    for config in
        [config(JoinKind::Full), without_keys(config(JoinKind::Inner)), with_filter(config(JoinKind::Left))]
    {
        let mut join = JoinOperator::new(config).unwrap();
        let lines =
            |n: usize, from: usize| -> Vec<String> { (0..n).map(|i| format!("+I 7 {}", from + i)).collect() };
        let (left, right) = (lines(300, 0), lines(1000, 1000));
        let batch = |lines: &[String], value| {
            parse_batch(&schema(value), &lines.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let mut text = Vec::new();
        run_batch(&mut join, 0, batch(&left, "a"), &mut text);
        let calls = run_batch(&mut join, 1, batch(&right, "b"), &mut text);
        assert!(calls > 5, "{calls}");
        assert_eq!(materialize(&text.join("\n")).len(), 300_000);
    }
}
