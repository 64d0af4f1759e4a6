//! Bitmaps as text.

use std::fmt::Write as _;

use roaring::RoaringBitmap;

/// From so many bytes of text on, the rest is left out.
const LONG_TEXT: usize = 0x80000;

/// Appends a bitmap, given as its bytes: `{1,2,3}`. Very long ones end with `...`, as in Flink.
pub(crate) fn write_bitmap(mut bytes: &[u8], out: &mut String) {
    let from = out.len();
    out.push('{');
    for (n, v) in RoaringBitmap::deserialize_from(&mut bytes).iter().flatten().enumerate() {
        if n > 0 {
            out.push(',');
            if out.len() - from > LONG_TEXT {
                out.push_str("...");
                break;
            }
        }
        let _ = write!(out, "{v}");
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_and_cut() {
        let text = |values: &[u32]| {
            let mut bytes = Vec::new();
            RoaringBitmap::from_iter(values).serialize_into(&mut bytes).unwrap();
            let mut out = String::from("x");
            write_bitmap(&bytes, &mut out);
            out
        };
        assert_eq!(text(&[]), "x{}");
        assert_eq!(text(&[u32::MAX, 3, 1]), "x{1,3,4294967295}");
        let many: Vec<u32> = (0..200_000).collect();
        let long = text(&many);
        assert!(long.len() < 0x80000 + 20 && long.ends_with(",...}"));
    }
}
