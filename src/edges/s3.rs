//! S3-compatible stores by their options, in Flink's spellings.

use std::sync::Arc;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};

use crate::error::{Error, Result, ResultExt};

/// Settings in Flink's spelling, with the spellings of Flink's two S3 file systems.
const KEYS: &[(&str, AmazonS3ConfigKey)] = &[
    ("s3.endpoint", AmazonS3ConfigKey::Endpoint),
    ("s3.access-key", AmazonS3ConfigKey::AccessKeyId),
    ("s3.access.key", AmazonS3ConfigKey::AccessKeyId),
    ("s3.secret-key", AmazonS3ConfigKey::SecretAccessKey),
    ("s3.secret.key", AmazonS3ConfigKey::SecretAccessKey),
    ("s3.session-token", AmazonS3ConfigKey::Token),
    ("s3.region", AmazonS3ConfigKey::Region),
    ("s3.endpoint.region", AmazonS3ConfigKey::Region),
];

/// Whether a URL means such a store.
pub fn is_s3(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| {
        ["s3", "s3a", "s3n"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
    })
}

/// The client of a bucket; `setting` gives the options, what they leave open comes from the environment.
///
/// # Errors
/// Validation for options that make no sense.
pub fn bucket(name: &str, setting: &dyn Fn(&str) -> Option<String>) -> Result<Arc<AmazonS3>> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(name);
    for (key, config) in KEYS {
        if let Some(value) = setting(key) {
            builder = builder.with_config(*config, value);
        }
    }
    for key in ["s3.path.style.access", "s3.path-style-access"] {
        if let Some(value) = setting(key) {
            let path_style = match value.to_ascii_lowercase().as_str() {
                "true" => true,
                "false" => false,
                _ => {
                    return Err(Error::validation(format!("invalid value '{value}' for option '{key}'"))
                        .hint("expected true or false"));
                }
            };
            builder = builder.with_virtual_hosted_style_request(!path_style);
        }
    }
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    if endpoint.as_deref().is_some_and(|e| e.starts_with("http://")) {
        builder = builder.with_allow_http(true);
    }
    if builder.get_config_value(&AmazonS3ConfigKey::Region).is_none() {
        builder = builder.with_region("us-east-1");
    }
    Ok(Arc::new(builder.build().context(|| format!("bucket '{name}'"))?))
}
