//! What is too large for a column: a value, or all values of a batch together.

use std::fmt;

use super::Error;

/// Bytes of all values of a text, binary or list column of a batch, and so of one value.
const MOST: usize = i32::MAX as usize;

/// What was too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// One value: nothing helps but a shorter one.
    Value,
    /// A column of a batch, whose values may well be legal: with fewer rows at once it may fit.
    Batch,
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Overflow::Value => "a value has more than 2 GB",
            Overflow::Batch => "a column of a batch has more than 2 GB",
        })
    }
}

impl std::error::Error for Overflow {}

impl Error {
    /// A value of `bytes`, which are more than a value can have.
    pub fn value_overflow(bytes: usize) -> Self {
        Error::data(format!("the result would have {}, a STRING or BYTES has at most 2 GB", size(bytes)))
            .hint("make it shorter, e.g. by LEFT or a smaller count")
            .caused_by(Overflow::Value)
    }

    /// A column of a batch that would have so many bytes (or elements), which are more than it can have.
    pub fn batch_overflow(bytes: Option<usize>) -> Self {
        let bytes = bytes.filter(|b| *b > MOST).map_or_else(|| "more than 2 GB".to_owned(), size);
        Error::data(format!("one column of a batch of rows would have {bytes}, and 2 GB is the most"))
            .hint("leave long texts out of joins, groups and windows, or give each part fewer rows: raise 'parallelism.default', or SET 'execution.runtime-mode' = 'streaming'")
            .caused_by(Overflow::Batch)
    }

    /// What was too large, if that is the error.
    pub fn overflow(&self) -> Option<Overflow> {
        self.0.source.as_deref().and_then(|e| e.downcast_ref::<Overflow>()).copied()
    }

    /// Whether a batch was too large, so that fewer rows at once may fit.
    pub fn is_batch_overflow(&self) -> bool {
        self.overflow() == Some(Overflow::Batch)
    }
}

/// `4 GB`, `2.3 GB`, `12 MB`.
fn size(bytes: usize) -> String {
    let (unit, name) = if bytes >= 1 << 30 { (1 << 30, "GB") } else { (1 << 20, "MB") };
    let tenths = (bytes as u128 * 10 + unit / 2) / unit;
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        rest => format!("{}.{rest} {name}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use arrow::error::ArrowError;
    use datafusion::error::DataFusionError;

    use super::*;

    #[test]
    fn what_was_too_large_is_known_through_every_library() {
        assert!(Error::value_overflow(4_294_967_294).to_string().contains("would have 4 GB, a STRING"));
        let arrow = ArrowError::OffsetOverflowError(2_500_000_000);
        let through = Error::from(DataFusionError::from(arrow).context("take"));
        assert!(through.is_batch_overflow());
        assert!(through.to_string().contains("2.3 GB"), "{through}");
        let own = Error::from(DataFusionError::from(Error::batch_overflow(None).context("REPEAT")));
        assert_eq!(own.overflow(), Some(Overflow::Batch));
        assert_eq!(Error::value_overflow(MOST + 1).duplicate().overflow(), Some(Overflow::Value));
        assert_eq!(Error::data("bad").overflow(), None);
        let arrow = || DataFusionError::from(ArrowError::OffsetOverflowError(2_500_000_000));
        let shared = DataFusionError::Shared(std::sync::Arc::new(arrow().context("build side")));
        assert!(Error::from(shared).is_batch_overflow());
    }
}
