//! Functions over strings and bytes.
//!
//! ```text
//!  ascii    what is quick where a character is a byte
//!  text     case, trim, pad, search                   bounded  casts to CHAR(n) and kin
//!  concat   CONCAT, CONCAT_WS and ||
//!  like     LIKE and SIMILAR TO patterns              codec    Base64, charsets, URLs, JSON quoting
//!  regexes  REGEXP_*                                  hash     MD5, SHA-*; hash_code  HASH_CODE
//!  split_index  SPLIT_INDEX
//!  printf   PRINTF                                     java_regex  patterns of java.util.regex
//! ```

mod ascii;
mod bounded;
pub(crate) mod codec;
mod concat;
mod hash;
mod hash_code;
pub(crate) mod java_regex;
pub(crate) mod like;
mod printf;
mod printf_number;
mod regexes;
mod split_index;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

pub use bounded::with_precision;
pub(crate) use concat::{concatenation, push};

/// All of them.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut out = text::functions();
    out.extend(concat::functions());
    out.extend(like::functions());
    out.extend(bounded::functions());
    out.extend(regexes::functions());
    out.extend(codec::functions());
    out.extend(hash::functions());
    out.push(hash_code::function().build());
    out.extend(printf::functions());
    out
}
