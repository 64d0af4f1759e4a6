//! Base64 with the standard alphabet and padding, no line feeds.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

use super::sink::Sink;

/// Java does not look at the bits of the last letter that belong to no byte.
const PADDED: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

const UNPADDED: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Appends the text of `bytes`.
pub(crate) fn write_base64<S: Sink>(bytes: &[u8], out: &mut S) {
    let mut text = [0; 256];
    // Whole groups of three bytes, so that only the last part is padded.
    for part in bytes.chunks(text.len() / 4 * 3) {
        let len = STANDARD.encode_slice(part, &mut text).unwrap_or_default();
        out.push_ascii(text.get(..len).unwrap_or_default());
    }
}

/// Appends the bytes of a text as Flink's formats read it, padded, blanks between groups allowed; `None` if it is not
/// Base64.
pub(crate) fn read_base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    if PADDED.decode_vec(text, out).is_ok() {
        return Some(());
    }
    out.truncate(start);
    if !text.iter().any(|c| *c <= b' ') {
        return None;
    }
    let mut letters = Vec::with_capacity(text.len());
    for c in text {
        // A blank inside of a group stays, and is refused.
        if *c > b' ' || letters.len() % 4 != 0 {
            letters.push(*c);
        }
    }
    PADDED.decode_vec(letters, out).map_err(|_| out.truncate(start)).ok()
}

/// The bytes of a text as FROM_BASE64 reads it: padding may be short or lacking, a lone last letter gives no byte.
pub(crate) fn read_base64_leniently(text: &[u8]) -> Option<Vec<u8>> {
    let len = text.iter().rposition(|c| *c != b'=').map_or(0, |i| i + 1);
    let body = text.get(..len)?;
    match body.split_last() {
        Some((last, groups)) if len % 4 == 1 => {
            let letter = last.is_ascii_alphanumeric() || matches!(last, b'+' | b'/');
            UNPADDED.decode(groups).ok().filter(|_| letter)
        }
        _ => UNPADDED.decode(body).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        for n in (0..70).chain(188..200).chain(380..390) {
            let bytes: Vec<u8> = (0..n).map(|i| (i as u8).wrapping_mul(37)).collect();
            let (mut text, mut back) = (Vec::new(), Vec::new());
            write_base64(&bytes, &mut text);
            read_base64(&text, &mut back).unwrap();
            assert_eq!(back, bytes);
            let mut string = String::new();
            write_base64(&bytes, &mut string);
            assert_eq!(string.as_bytes(), text);
            assert_eq!(read_base64_leniently(&text), Some(bytes));
        }
        for bad in ["aGVsbG8", "a", "====", "ab=c", "!!!!", "YQ==YQ==", "aGVs bG8", "aG Vs", "YQ= =", "YQ==="]
        {
            let mut out = b"before".to_vec();
            assert!(read_base64(bad.as_bytes(), &mut out).is_none(), "{bad}");
            assert_eq!(out, b"before");
        }
        assert!(read_base64(b"", &mut Vec::new()).is_some());
        assert!(read_base64(b"aGVs bG8=\n", &mut Vec::new()).is_some());
        assert!(read_base64(b"YR==", &mut Vec::new()).is_some());
    }

    #[test]
    fn lenient() {
        let read = |t: &str| read_base64_leniently(t.as_bytes());
        for text in ["YQ==", "YQ", "YQ=", "YR==", "YQ=====", "YQ==="] {
            assert_eq!(read(text), Some(b"a".to_vec()), "{text}");
        }
        for text in ["", "=", "a", "+==="] {
            assert_eq!(read(text), Some(Vec::new()), "{text}");
        }
        assert_eq!(read("YWJjZ"), Some(b"abc".to_vec()));
        for bad in ["!", "YQ==YQ==", "YWJj!", "Y W", "-_"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
