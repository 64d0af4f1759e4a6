use std::sync::Arc;

use arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array,
    Int32Array, Int64Array, ListArray, MapBuilder, NullArray, StringArray, StringBuilder, StringViewArray,
    StructArray, TimestampMillisecondArray, UInt32Array,
};
use arrow::datatypes::{Field, Int32Type};

use super::*;

fn hash(columns: &[ArrayRef]) -> Vec<u64> {
    let mut out = Vec::new();
    hash_columns(columns, columns.first().map_or(0, |c| c.len()), &mut out).unwrap();
    out
}

fn one(column: impl Array + 'static) -> Vec<u64> {
    hash(&[Arc::new(column)])
}

// The hashes of "" and "a" are XXH3's published ones.
const GOLDEN: &str = "\
bigint c77b3abb6f87acd9 2fbc593564db792e 5111c7e47d784413 b2e501bb02ea9362
string 2d06800538d394c2 e6c632b61e964e1f b40c17e2196d97d8 b2e501bb02ea9362
double c77b3abb6f87acd9 2561a4889ff63458 0aa61dcfa381c167
decimal d0a66a65c7528968 970dcd37b14de550 722a202f07a4b313
boolean c77b3abb6f87acd9 2fbc593564db792e
pair 3c8a2ecde8d5eb6e 3fedf3b5a747d8b0
list dec012eced688fe7";

/// The on-disk format: these numbers never change.
#[test]
fn golden_vectors() {
    assert_eq!(xxh3_64(b"\0NULL"), NULL_HASH);
    let golden: Vec<(&str, Vec<u64>)> = vec![
        ("bigint", one(Int64Array::from(vec![Some(0), Some(1), Some(-1), None]))),
        ("string", one(StringArray::from(vec![Some(""), Some("a"), Some("Grüße"), None]))),
        ("double", one(Float64Array::from(vec![0.0, 1.5, f64::NAN]))),
        ("decimal", one(Decimal128Array::from(vec![0, 12345, -1]))),
        ("boolean", one(BooleanArray::from(vec![false, true]))),
        (
            "pair",
            hash(&[
                Arc::new(Int64Array::from(vec![Some(1), None])),
                Arc::new(StringArray::from(vec![Some("a"), None])),
            ]),
        ),
        ("list", one(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None])]))),
    ];
    let text: Vec<String> = golden
        .iter()
        .map(|(n, v)| format!("{n} {}", v.iter().map(|h| format!("{h:016x}")).collect::<Vec<_>>().join(" ")))
        .collect();
    assert_eq!(text.join("\n"), GOLDEN);
}

#[test]
fn width_and_encoding_do_not_matter() {
    let wide = one(Int64Array::from(vec![7, -7]));
    assert_eq!(wide, one(Int8Array::from(vec![7, -7])));
    assert_eq!(wide, one(Int32Array::from(vec![7, -7])));
    assert_eq!(wide, one(Date32Array::from(vec![7, -7])));
    assert_eq!(wide, one(TimestampMillisecondArray::from(vec![7, -7]).with_timezone("UTC")));
    assert_eq!(one(Float32Array::from(vec![0.5])), one(Float64Array::from(vec![0.5])));
    assert_eq!(one(UInt32Array::from(vec![u32::MAX])), one(Int64Array::from(vec![i64::from(u32::MAX)])));
    let plain = one(StringArray::from(vec![Some("x"), None, Some("x")]));
    assert_eq!(plain, one(StringViewArray::from(vec![Some("x"), None, Some("x")])));
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("x")].into_iter().collect();
    assert_eq!(plain, one(dictionary));
}

#[test]
fn equal_floats_meet() {
    let h =
        one(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, f64::from_bits(0x7ff0_0000_0000_0001)]));
    assert_eq!(h[0], h[1]);
    assert_eq!(h[2], h[3]);
    assert_eq!(h[2], h[4]);
    assert_ne!(h[0], h[2]);
}

#[test]
fn nulls_slices_and_nothing() {
    let column = Int64Array::from(vec![Some(1), None, Some(3)]);
    let h = one(column.clone());
    assert_eq!(h[1], NULL_HASH);
    assert_eq!(one(column.slice(1, 2)), h[1..]);
    assert_eq!(one(NullArray::new(2)), vec![NULL_HASH; 2]);
    assert_eq!(one(StringArray::from(Vec::<&str>::new())), Vec::<u64>::new());
    let mut out = vec![9];
    hash_columns(&[], 3, &mut out).unwrap();
    assert_eq!(out, vec![0; 3]);
}

#[test]
fn column_order_and_boundaries_matter() {
    let s = |v: &str| Arc::new(StringArray::from(vec![v])) as ArrayRef;
    assert_ne!(hash(&[s("a"), s("b")]), hash(&[s("b"), s("a")]));
    assert_ne!(hash(&[s("ab"), s("")]), hash(&[s("a"), s("b")]));
    assert_ne!(hash(&[s("a")]), hash(&[s("a"), s("")]));
}

#[test]
fn nested_values() {
    let field = Arc::new(Field::new("f", DataType::Int64, true));
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let rows = one(StructArray::from(vec![(field, inner.clone())]));
    assert_eq!(rows, hash(&[inner]));
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), Some(2)]),
        Some(vec![]),
        None,
        Some(vec![Some(1), Some(2)]),
        Some(vec![Some(2), Some(1)]),
    ]);
    let h = one(lists.clone());
    assert_eq!(h[0], h[3]);
    assert_ne!(h[0], h[4]);
    assert_ne!(h[1], h[2]);
    assert_eq!(one(lists.slice(3, 2)), h[3..]);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for order in [["a", "b"], ["b", "a"]] {
        for k in order {
            maps.keys().append_value(k);
            maps.values().append_value(k);
        }
        maps.append(true).unwrap();
    }
    let h = one(maps.finish());
    assert_eq!(h[0], h[1]);
}

#[test]
fn groups_are_spread() {
    let h = one((0..128_000).collect::<Int64Array>());
    let mut counts = [0_usize; 128];
    for g in key_groups_of(&h).values() {
        counts[*g as usize] += 1;
    }
    assert!(counts.iter().all(|c| (800..1200).contains(c)), "{counts:?}");
}
