//! How a client shows that it knows the password without sending it.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

pub(super) const NATIVE: &str = "mysql_native_password";
const CACHING: &str = "caching_sha2_password";

pub(super) fn is_known(plugin: &str) -> bool {
    [NATIVE, CACHING].contains(&plugin)
}

/// The proof for a server's random scramble.
pub(super) fn proof(plugin: &str, password: &str, scramble: &[u8]) -> Result<Vec<u8>> {
    if password.is_empty() {
        return Ok(Vec::new());
    }
    match plugin {
        // SHA1(p) ^ SHA1(scramble, SHA1(SHA1(p)))
        NATIVE => {
            let once = Sha1::digest(password.as_bytes());
            let mut all = Sha1::new();
            all.update(scramble);
            all.update(Sha1::digest(once));
            Ok(once.iter().zip(all.finalize()).map(|(a, b)| a ^ b).collect())
        }
        // SHA256(p) ^ SHA256(SHA256(SHA256(p)), scramble)
        CACHING => {
            let once = Sha256::digest(password.as_bytes());
            let mut all = Sha256::new();
            all.update(Sha256::digest(once));
            all.update(scramble);
            Ok(once.iter().zip(all.finalize()).map(|(a, b)| a ^ b).collect())
        }
        other => Err(Error::internal(format!("no proof for '{other}'"))),
    }
}
