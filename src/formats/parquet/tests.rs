use std::collections::BTreeMap;

use arrow::array::*;
use arrow::datatypes::{Int32Type, IntervalUnit};
use bytes::Bytes;
use datafusion::prelude::{col, lit};

use super::*;
use crate::types::{LogicalType, RowField, TypeRoot};

fn format(schema: SchemaRef, options: &[(&str, &str)]) -> Result<ParquetFormat> {
    let options: BTreeMap<String, String> =
        options.iter().map(|(k, v)| (format!("parquet.{k}"), (*v).to_owned())).collect();
    let options = Options::new("t", "test", &options);
    let format = ParquetFormat::new(&options, "parquet.", schema)?;
    options.finish()?;
    Ok(format)
}

fn write(format: &ParquetFormat, batches: &[RecordBatch]) -> Bytes {
    let mut out = Vec::new();
    let mut writer = format.writer(&mut out).unwrap();
    for b in batches {
        writer.write(&format.coerce(b).unwrap()).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    out.into()
}

fn write_plain(batch: &RecordBatch) -> Bytes {
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    out.into()
}

fn read(file: Bytes, schema: SchemaRef) -> Result<Vec<RecordBatch>> {
    let file = ParquetFile::open(file, schema.clone())?;
    let mut batches = Vec::new();
    for group in file.row_groups(0, u64::MAX, &[], &schema) {
        let mut reader = file.read(group, 0, 100)?;
        while let Some(b) = reader.next()? {
            batches.push(b);
        }
    }
    Ok(batches)
}

/// Every type, decoded from JSON, which is tested elsewhere.
fn all_types() -> RecordBatch {
    let n = LogicalType::nullable;
    let row = TypeRoot::Row(vec![
        RowField { name: "x".into(), ty: n(TypeRoot::Int), comment: None },
        RowField { name: "y".into(), ty: LogicalType::string(), comment: None },
    ]);
    let columns = [
        ("b", n(TypeRoot::Boolean)),
        ("i8", n(TypeRoot::TinyInt)),
        ("i16", n(TypeRoot::SmallInt)),
        ("i32", n(TypeRoot::Int)),
        ("i64", n(TypeRoot::BigInt)),
        ("f", n(TypeRoot::Float)),
        ("d", n(TypeRoot::Double)),
        ("dec", n(TypeRoot::Decimal(38, 10))),
        ("small", n(TypeRoot::Decimal(5, 2))),
        ("dt", n(TypeRoot::Date)),
        ("tm", n(TypeRoot::Time(3))),
        ("t3", n(TypeRoot::Timestamp(3))),
        ("t6", n(TypeRoot::Timestamp(6))),
        ("t9", n(TypeRoot::Timestamp(9))),
        ("z", n(TypeRoot::TimestampLtz(3))),
        ("s", LogicalType::string()),
        ("by", n(TypeRoot::Varbinary(crate::types::MAX_LENGTH))),
        ("a", n(TypeRoot::Array(Box::new(n(TypeRoot::Array(Box::new(n(TypeRoot::Int)))))))),
        ("m", n(TypeRoot::Map(Box::new(LogicalType::string()), Box::new(n(TypeRoot::Int))))),
        ("ms", n(TypeRoot::Multiset(Box::new(LogicalType::string())))),
        ("r", n(row)),
    ];
    let fields: Vec<Field> = columns.iter().map(|(name, t)| t.to_field(name)).collect();
    let schema = Arc::new(Schema::new(fields));
    let options = Options::new("t", "test", &BTreeMap::new());
    let json = crate::formats::record_format("json", &options, "json.", schema).unwrap();
    let mut d = json.row_decoder(&(0..columns.len()).collect::<Vec<_>>()).unwrap();
    for record in [
        r#"{"b":true,"i8":-128,"i16":-32768,"i32":2147483647,"i64":-9223372036854775808,"f":1.5,"d":"NaN","dec":"-1234567890123456789012345678.0123456789","small":-1.05,"dt":"0001-01-01","tm":"23:59:59.999","t3":"1969-12-31 23:59:59.999","t6":"2020-01-01 00:00:00.123456","t9":"2020-01-01 00:00:00.123456789","z":"2020-01-01 00:00:00.5Z","s":"é😀","by":"AP8=","a":[[1,null],null,[]],"m":{"k":1,"l":null},"ms":{"a":2},"r":{"x":1,"y":"q"}}"#,
        "{}",
        r#"{"s":"","by":"","a":[],"m":{},"ms":{},"r":{}}"#,
    ] {
        d.decode(record.as_bytes()).unwrap();
    }
    d.finish().unwrap()
}

#[test]
fn every_type_round_trips_under_every_compression() {
    let batch = all_types();
    for compression in ["SNAPPY", "uncompressed", "GZIP", "ZSTD", "LZ4"] {
        let f = format(batch.schema(), &[("compression", compression)]).unwrap();
        let back = read(write(&f, std::slice::from_ref(&batch)), batch.schema()).unwrap();
        assert_eq!(back, std::slice::from_ref(&batch), "{compression}");
    }
    let empty = batch.slice(0, 0);
    let f = format(batch.schema(), &[]).unwrap();
    assert!(read(write(&f, &[empty]), batch.schema()).unwrap().is_empty());
}

#[test]
fn columns_by_name_missing_ones_are_null() {
    let batch = RecordBatch::try_from_iter([
        ("a", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
        ("b", Arc::new(StringArray::from(vec!["x", "y"])) as ArrayRef),
    ])
    .unwrap();
    let file = write_plain(&batch);
    let schema = Arc::new(Schema::new(vec![
        Field::new("b", DataType::Utf8, true),
        Field::new("c", DataType::Float64, true),
        Field::new("a", DataType::Int64, true),
    ]));
    let rows = &read(file.clone(), schema).unwrap()[0];
    assert_eq!(rows.column(0).as_string::<i32>().value(1), "y");
    assert_eq!(rows.column(1).null_count(), 2);
    assert_eq!(rows.column(2).as_primitive::<arrow::datatypes::Int64Type>().values(), &[1, 2]);
    let none = read(file.clone(), Arc::new(Schema::empty())).unwrap();
    assert_eq!(none[0].num_rows(), 2);
    for (field, words) in [
        (Field::new("a", DataType::Utf8, true), "column `a` is INT in the file and cannot be read as STRING"),
        (Field::new("b", DataType::Int32, true), "cannot be read as INT"),
        (Field::new("zz", DataType::Int32, false), "no column `zz`, which is NOT NULL"),
    ] {
        let e = read(file.clone(), Arc::new(Schema::new(vec![field]))).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    }
    assert!(read(Bytes::from_static(b"not parquet at all"), Arc::new(Schema::empty())).is_err());
    assert!(read(file.slice(..file.len() - 20), Arc::new(Schema::empty())).is_err());
}

#[test]
fn other_encodings_of_the_declared_types() {
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("x")].into_iter().collect();
    let batch = RecordBatch::try_from_iter([
        ("s1", Arc::new(dictionary) as ArrayRef),
        ("s2", Arc::new(LargeStringArray::from(vec!["a", "b", "c"])) as ArrayRef),
        ("s3", Arc::new(StringViewArray::from(vec!["a", "b", "a longer one than twelve"])) as ArrayRef),
        (
            "ts",
            Arc::new(TimestampMicrosecondArray::from(vec![1_001, -1_001, 0]).with_timezone("UTC"))
                as ArrayRef,
        ),
        ("tm", Arc::new(Time64MicrosecondArray::from(vec![1_000, 2_000, 3_999])) as ArrayRef),
        ("i", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        ("u", Arc::new(UInt32Array::from(vec![1, 2, u32::MAX])) as ArrayRef),
    ])
    .unwrap();
    let schema = Arc::new(Schema::new(vec![
        Field::new("s1", DataType::Utf8, true),
        Field::new("s2", DataType::Utf8, true),
        Field::new("s3", DataType::Utf8, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("tm", DataType::Time32(TimeUnit::Millisecond), true),
        Field::new("i", DataType::Int8, true),
        Field::new("u", DataType::Int64, true),
    ]));
    let rows = &read(write_plain(&batch), schema).unwrap()[0];
    assert!(rows.column(0).is_null(1));
    assert_eq!(rows.column(2).as_string::<i32>().value(2), "a longer one than twelve");
    assert_eq!(rows.column(3).as_primitive::<arrow::datatypes::TimestampMillisecondType>().value(0), 1);
    assert_eq!(rows.column(4).as_primitive::<arrow::datatypes::Time32MillisecondType>().value(2), 3);
    assert_eq!(rows.column(6).as_primitive::<arrow::datatypes::Int64Type>().value(2), i64::from(u32::MAX));
    // A value that does not fit is an error, not another value.
    let big = RecordBatch::try_from_iter([("i", Arc::new(Int64Array::from(vec![300])) as ArrayRef)]).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("i", DataType::Int8, true)]));
    let e = read(write_plain(&big), schema).unwrap_err().to_string();
    assert!(e.contains("column `i`"), "{e}");
}

#[test]
fn row_groups_are_pruned_resumed_and_split() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true)]));
    let f = format(schema.clone(), &[]).unwrap();
    let batches: Vec<RecordBatch> = (0..5)
        .map(|g| {
            let a = Int32Array::from_iter_values(g * 100..(g + 1) * 100);
            RecordBatch::try_new(schema.clone(), vec![Arc::new(a)]).unwrap()
        })
        .collect();
    let bytes = write(&f, &batches);
    let size = bytes.len() as u64;
    let file = ParquetFile::open(bytes, schema.clone()).unwrap();
    assert_eq!(file.row_groups(0, u64::MAX, &[], &schema), [0, 1, 2, 3, 4]);
    assert_eq!(file.row_groups(0, u64::MAX, &[col("a").gt_eq(lit(250))], &schema), [2, 3, 4]);
    assert_eq!(file.row_groups(0, u64::MAX, &[col("t.a").eq(lit(199)), col("zz").eq(lit(1))], &schema), [1]);
    assert_eq!(file.row_groups(0, u64::MAX, &[col("a").is_null()], &schema), [] as [usize; 0]);
    for step in [1, 7, 100, size] {
        let mut groups = Vec::new();
        for start in (0..size).step_by(step as usize) {
            groups.extend(file.row_groups(start, start + step, &[], &schema));
        }
        assert_eq!(groups, [0, 1, 2, 3, 4], "in splits of {step}");
    }
    let mut reader = file.read(3, 95, 10).unwrap();
    let rest = reader.next().unwrap().unwrap();
    assert_eq!(rest.column(0).as_primitive::<Int32Type>().values(), &[395, 396, 397, 398, 399]);
    assert!(reader.next().unwrap().is_none());
}

#[test]
fn bad_options() {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true)]));
    for (options, words) in [
        (&[("compression", "BROTLI")][..], "one of SNAPPY"),
        (&[("write.int64.timestamp", "false")], "not supported"),
        (&[("timestamp.time.unit", "hours")], "one of nanos"),
        (&[("bloom", "true")], "unsupported options"),
    ] {
        let e = format(schema.clone(), options).unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    }
    let interval = DataType::Interval(IntervalUnit::YearMonth);
    let schema = Arc::new(Schema::new(vec![Field::new("a", interval, true)]));
    assert!(format(schema, &[]).unwrap_err().to_string().contains("does not support the type"));
}

#[test]
fn wide_rows_make_small_batches() {
    use parquet::file::properties::EnabledStatistics;

    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int32, false),
        Field::new("s", DataType::Utf8, false),
    ]));
    // First narrow rows, then texts of 512 KB, of which the dictionary holds one or the file all.
    for distinct in [false, true] {
        let text = |id: i32| match id {
            0..20 => String::new(),
            _ if distinct => format!("{id:04}").repeat(1 << 17),
            _ => "x".repeat(1 << 19),
        };
        let ids: ArrayRef = Arc::new(Int32Array::from_iter_values(0..200));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..200).map(text)));
        let batch = RecordBatch::try_new(schema.clone(), vec![ids, texts]).unwrap();
        let properties = WriterProperties::builder()
            .set_statistics_enabled(EnabledStatistics::None)
            .set_dictionary_page_size_limit(2 << 20)
            .build();
        let mut out = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut out, schema.clone(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let batches = read(out.into(), schema.clone()).unwrap();
        let lengths: Vec<usize> = batches.iter().map(RecordBatch::num_rows).collect();
        assert!(lengths.len() > 5 && lengths.iter().skip(1).all(|n| *n <= 20), "{lengths:?}");
        assert_eq!(arrow::compute::concat_batches(&schema, &batches).unwrap(), batch);
    }
}

/// Dictionaries of a file in memory.
struct InMemory(Option<Bytes>);

impl DictionaryInput for InMemory {
    type Input = Bytes;

    fn input(&self) -> Option<Arc<Bytes>> {
        self.0.clone().map(Arc::new)
    }
}

#[test]
fn footers_tell_what_can_be_read_straight() {
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("a", Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef, true),
        ("n", Arc::new(Int32Array::from(vec![Some(1), None, Some(3)])) as ArrayRef, true),
        ("s", Arc::new(StringViewArray::from(vec!["a", "b", "a longer one than twelve"])) as ArrayRef, false),
        ("d", Arc::new(Float64Array::from(vec![1.0, f64::NAN, 1.0])) as ArrayRef, true),
        ("t", Arc::new(TimestampMicrosecondArray::from(vec![1_001, -1_001, 0])) as ArrayRef, true),
        ("p", Arc::new(Decimal128Array::from(vec![1, 2, 3]).with_precision_and_scale(10, 2).unwrap()), true),
    ])
    .unwrap();
    let file = write_plain(&batch);
    let footer = Footer::read(&file).unwrap();
    assert_eq!(footer.rows(), 3);
    let ms = |zone: Option<&str>| DataType::Timestamp(TimeUnit::Millisecond, zone.map(Into::into));
    for (name, ty, nullable, straight) in [
        ("a", DataType::Int32, true, true),
        ("a", DataType::Int64, false, true),
        ("a", DataType::Int8, true, false),
        ("n", DataType::Int32, true, true),
        ("n", DataType::Int32, false, false),
        ("s", DataType::Utf8, false, true),
        ("s", DataType::Binary, true, false),
        ("d", DataType::Float64, false, true),
        ("d", DataType::Float32, true, false),
        ("t", ms(None), true, true),
        ("t", DataType::Timestamp(TimeUnit::Microsecond, None), true, true),
        ("t", DataType::Timestamp(TimeUnit::Nanosecond, None), true, false),
        ("p", DataType::Decimal128(12, 2), true, true),
        ("p", DataType::Decimal128(12, 3), true, false),
        ("p", DataType::Decimal128(9, 2), true, false),
        ("missing", DataType::Utf8, true, true),
        ("missing", DataType::Utf8, false, false),
        ("A", DataType::Int32, false, false),
    ] {
        let field = Field::new(name, ty.clone(), nullable);
        assert_eq!(footer.is_straight(&field), straight, "{name} {ty} {nullable}");
    }

    let declared = Schema::new(vec![
        Field::new("a", DataType::Int64, true),
        Field::new("missing", DataType::Int64, true),
        Field::new("d", DataType::Float64, true),
        Field::new("n", DataType::Int32, true),
        Field::new("t", ms(None), true),
    ]);
    let known = footer.statistics(&declared);
    use datafusion::common::ScalarValue;
    use datafusion::common::stats::Precision;
    assert_eq!(known.num_rows, Precision::Exact(3));
    let [a, missing, d, n, t] = &known.column_statistics[..] else { panic!() };
    assert_eq!(a.min_value, Precision::Exact(ScalarValue::Int64(Some(1))));
    assert_eq!(a.max_value, Precision::Exact(ScalarValue::Int64(Some(3))));
    assert_eq!(missing.null_count, Precision::Absent);
    // NaN is no bound.
    assert_eq!((&d.min_value, &d.null_count), (&Precision::Absent, &Precision::Exact(0)));
    assert_eq!(n.null_count, Precision::Exact(1));
    assert_eq!(t.max_value, Precision::Exact(ScalarValue::TimestampMillisecond(Some(1), None)));
    assert!(Footer::read(&file.slice(..file.len() - 20)).is_err());
}

#[test]
fn footers_tell_how_wide_rows_are() {
    use parquet::file::properties::EnabledStatistics;

    let field = Field::new("s", DataType::Utf8, true);
    let write = |texts: StringArray, statistics| {
        let batch = RecordBatch::try_from_iter([("s", Arc::new(texts) as ArrayRef)]).unwrap();
        let properties = WriterProperties::builder()
            .set_statistics_enabled(statistics)
            .set_dictionary_page_size_limit(2 << 20)
            .build();
        let mut out = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        Bytes::from(out)
    };
    // One long text in all rows, which is stored once.
    let long = "x".repeat(100_000);
    let file = write(StringArray::from_iter_values((0..50).map(|_| &long)), EnabledStatistics::None);
    let footer = Footer::read(&file).unwrap();
    let told = footer.metadata.row_group(0).column(0).unencoded_byte_array_data_bytes().is_some();
    let width = footer.width(&field, &InMemory(Some(file.clone())));
    assert!(width.is_some_and(|w| (100_000..110_000).contains(&w)), "{width:?}");
    assert_eq!(footer.width(&field, &InMemory(None)).is_some(), told);

    let file = write(StringArray::from_iter_values((0..50).map(|i| i.to_string())), EnabledStatistics::Page);
    let width = Footer::read(&file).unwrap().width(&field, &InMemory(Some(file)));
    assert!(width.is_some_and(|w| w < 30), "{width:?}");
    let empty = write(StringArray::from_iter_values::<&str, _>([]), EnabledStatistics::Page);
    let footer = Footer::read(&empty).unwrap();
    assert_eq!(footer.width(&field, &InMemory(None)), Some(4));
    assert_eq!(footer.width(&Field::new("i", DataType::Int32, true), &InMemory(None)), Some(4));
}

#[test]
fn chunks_that_end_early_are_found() {
    let ids = Int32Array::from_iter_values(0..5_000);
    let file = write_plain(&RecordBatch::try_from_iter([("i", Arc::new(ids) as ArrayRef)]).unwrap());
    let footer = Footer::read(&file).unwrap();
    let chunk = footer.metadata.row_group(0).column(0);
    let (start, length) = chunk.byte_range();
    let bytes = file.slice(start as usize..(start + length) as usize);
    check_pages(chunk, &bytes).unwrap();
    let page = (chunk.data_page_offset() as u64 - start) as usize;
    for (at, byte) in [(page + 1, 0x06), (page + 1, 0x02), (page, 0xFF)] {
        let mut damaged = bytes.to_vec();
        damaged[at] = byte;
        let e = check_pages(chunk, &damaged.into()).unwrap_err().to_string();
        assert!(!e.is_empty(), "{at} {byte}");
    }
    assert!(check_pages(chunk, &bytes.slice(..bytes.len() / 2)).is_err());
}
