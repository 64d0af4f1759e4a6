//! Descriptions of messages: from text, from files, from a registry.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost_reflect::prost::Message;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

use crate::error::{Error, Result};

/// What the text of a registry's schema is called when it is compiled.
const MAIN: &str = "__tidelake_schema.proto";

/// What Confluent's schemas may import without a reference.
const KNOWN: &[(&str, &str)] = &[
    (
        "confluent/meta.proto",
        r#"syntax = "proto3";
package confluent;
import "google/protobuf/descriptor.proto";
message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
extend google.protobuf.FileOptions { Meta file_meta = 1088; }
extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
extend google.protobuf.FieldOptions { Meta field_meta = 1088; }
extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }
"#,
    ),
    (
        "confluent/type/decimal.proto",
        r#"syntax = "proto3";
package confluent.type;
message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }
"#,
    ),
    (
        "google/type/date.proto",
        r#"syntax = "proto3";
package google.type;
message Date { int32 year = 1; int32 month = 2; int32 day = 3; }
"#,
    ),
    (
        "google/type/timeofday.proto",
        r#"syntax = "proto3";
package google.type;
message TimeOfDay { int32 hours = 1; int32 minutes = 2; int32 seconds = 3; int32 nanos = 4; }
"#,
    ),
];

/// Files by name.
struct Texts(Arc<[(String, String)]>);

impl FileResolver for Texts {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let given = self.0.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str());
        match given.or_else(|| KNOWN.iter().find(|(n, _)| *n == name).map(|(_, text)| *text)) {
            Some(text) => match described(name, text) {
                Some(file) => Ok(file),
                None => File::from_source(name, text),
            },
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// A file that is no text but its description in Base64, as some clients register it.
fn described(name: &str, text: &str) -> Option<File> {
    let bytes = BASE64_STANDARD.decode(text.trim()).ok()?;
    let mut file = FileDescriptorProto::decode(bytes.as_slice()).ok()?;
    file.name = Some(name.to_owned());
    Some(File::from_file_descriptor_proto(file))
}

fn bad(e: impl std::fmt::Display) -> Error {
    Error::data(format!("the Protobuf schema is not valid: {e}"))
}

fn compile(resolver: ChainFileResolver, name: &str) -> Result<FileDescriptor> {
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file(name).map_err(bad)?;
    let pool = compiler.descriptor_pool();
    pool.get_file_by_name(name).ok_or_else(|| Error::internal("a compiled file is not in its pool"))
}

/// A schema as text with what it imports.
///
/// # Errors
/// Data with the place in the text.
pub(super) fn from_text(text: &str, imports: &[(String, String)]) -> Result<FileDescriptor> {
    let mut all = imports.to_vec();
    all.push((MAIN.to_owned(), text.to_owned()));
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(all.into()));
    resolver.add(GoogleFileResolver::new());
    compile(resolver, MAIN)
}

/// A `.proto` file; what it imports is looked for beside it and in the folders above.
///
/// # Errors
/// External if it cannot be read, Data if it is not valid.
pub(super) fn from_file(path: &str) -> Result<FileDescriptor> {
    let file = Path::new(path);
    let text = std::fs::read_to_string(file)
        .map_err(|e| Error::external(format!("cannot read the Protobuf schema {path}: {e}")))?;
    let mut resolver = ChainFileResolver::new();
    resolver.add(Texts(Arc::new([(MAIN.to_owned(), text)])));
    for folder in file.ancestors().skip(1) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        resolver.add(IncludeFileResolver::new(folder.to_owned()));
    }
    resolver.add(GoogleFileResolver::new());
    compile(resolver, MAIN).map_err(|e| e.context(path.to_owned()))
}

/// A set of descriptors, as `protoc --descriptor_set_out --include_imports` writes it.
///
/// # Errors
/// External if it cannot be read, Data if it is not valid.
pub(super) fn from_descriptor_set(path: &str) -> Result<DescriptorPool> {
    let bytes = std::fs::read(path)
        .map_err(|e| Error::external(format!("cannot read the set of Protobuf descriptors {path}: {e}")))?;
    let pool = DescriptorPool::decode(bytes.as_slice()).map_err(|e| {
        bad(e)
            .hint("write it with protoc --include_imports --descriptor_set_out=FILE")
            .context(path.to_owned())
    })?;
    if pool.files().len() == 0 {
        return Err(bad("the set is empty").context(path.to_owned()));
    }
    Ok(pool)
}

/// Messages that are declared at this place; entries of maps are not.
pub(super) fn declared(
    messages: impl Iterator<Item = MessageDescriptor>,
) -> impl Iterator<Item = MessageDescriptor> {
    messages.filter(|m| !m.is_map_entry())
}

/// The message at a path of indexes, as records name it.
pub(super) fn at_path(file: &FileDescriptor, path: &[usize]) -> Option<MessageDescriptor> {
    let (first, rest) = path.split_first()?;
    let mut message = declared(file.messages()).nth(*first)?;
    for index in rest {
        let child = declared(message.child_messages()).nth(*index)?;
        message = child;
    }
    Some(message)
}

/// The path of a message within its file, if it is in `file`.
pub(super) fn path_of(file: &FileDescriptor, message: &MessageDescriptor) -> Option<Vec<usize>> {
    let mut path = Vec::new();
    let mut at = message.clone();
    while let Some(parent) = at.parent_message() {
        path.push(declared(parent.child_messages()).position(|m| m == at)?);
        at = parent;
    }
    path.push(declared(file.messages()).position(|m| m == at)?);
    path.reverse();
    Some(path)
}

/// The message of a name: a full name, a Java class (`com.example.Outer$Inner`), or a name that only one message has.
///
/// # Errors
/// Validation listing the messages.
pub(super) fn by_name(pool: &DescriptorPool, name: &str) -> Result<MessageDescriptor> {
    let plain = name.replace('$', ".");
    if let Some(found) = pool.get_message_by_name(&plain).filter(|m| !m.is_map_entry()) {
        return Ok(found);
    }
    let own = |m: &MessageDescriptor| {
        !m.full_name().starts_with("google.protobuf.") && !m.full_name().starts_with("confluent.")
    };
    let all: Vec<MessageDescriptor> = declared(pool.all_messages()).filter(own).collect();
    // A Java class has Java's package and perhaps an outer class before the name within the file.
    let within = |m: &MessageDescriptor| {
        let full = m.full_name();
        full.strip_prefix(m.package_name()).unwrap_or(full).trim_start_matches('.').to_owned()
    };
    let fits = |m: &&MessageDescriptor| {
        let own = within(m);
        plain == own || plain.ends_with(&format!(".{own}"))
    };
    // `Outer$Inner` also ends in `Inner`: the longest name is the one that is meant.
    let longest = all.iter().filter(fits).map(|m| within(m).len()).max();
    let mut found = all.iter().filter(fits).filter(|m| Some(within(m).len()) == longest);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.clone()),
        (first, _) => {
            let names: Vec<&str> = all.iter().map(MessageDescriptor::full_name).collect();
            let what = if first.is_none() { "there is no message" } else { "there is more than one message" };
            Err(Error::validation(format!("{what} '{name}' in the Protobuf schema"))
                .hint(format!("its messages are {}", names.join(", "))))
        }
    }
}
