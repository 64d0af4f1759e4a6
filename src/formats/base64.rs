//! Base64 as Flink's formats use it: standard alphabet with padding, no line feeds.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends the text of `bytes`.
pub(crate) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let letter = |n: u32| ALPHABET.get((n & 63) as usize).copied().unwrap_or(b'=');
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let n = byte(0) << 16 | byte(1) << 8 | byte(2);
        out.push(letter(n >> 18));
        out.push(letter(n >> 12));
        out.push(if chunk.len() > 1 { letter(n >> 6) } else { b'=' });
        out.push(if chunk.len() > 2 { letter(n) } else { b'=' });
    }
}

/// Appends the bytes of a text, blanks between groups allowed; `None` (and rubbish in `out`) if it is not Base64.
pub(crate) fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (mut group, mut letters, mut padding) = (0u32, 0, 0);
    for c in text {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if letters >= 2 => {
                padding += 1;
                0
            }
            c if *c <= b' ' && letters == 0 => continue,
            _ => return None,
        };
        if padding > 0 && *c != b'=' {
            return None;
        }
        group = group << 6 | u32::from(value);
        letters += 1;
        if letters == 4 {
            let bytes = group.to_be_bytes();
            out.extend_from_slice(bytes.get(1..4 - padding)?);
            (group, letters) = (0, 0);
            if padding > 0 {
                padding = 3; // nothing but blanks may follow
            }
        } else if padding > 2 {
            return None;
        }
    }
    (letters == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        for n in 0..70u8 {
            let bytes: Vec<u8> = (0..n).map(|i| i.wrapping_mul(37)).collect();
            let (mut text, mut back) = (Vec::new(), Vec::new());
            encode(&bytes, &mut text);
            decode(&text, &mut back).unwrap();
            assert_eq!(back, bytes);
        }
        for bad in ["aGVsbG8", "a", "====", "ab=c", "!!!!", "YQ==YQ==", "aGVs bG8"] {
            assert!(decode(bad.as_bytes(), &mut Vec::new()).is_none(), "{bad}");
        }
        assert!(decode(b"", &mut Vec::new()).is_some());
        assert!(decode(b"aGVs bG8=\n", &mut Vec::new()).is_some());
    }
}
