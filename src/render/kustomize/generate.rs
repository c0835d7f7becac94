//! ConfigMaps and Secrets out of literals, files and lists of variables, and the hash of what they
//! hold.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::fields::{Generator, GeneratorOptions};

/// Characters of a line of base64, as kustomize breaks it: the hash is made of the broken text.
const BASE64_LINE: usize = 70;

/// Which kind is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    ConfigMap,
    Secret,
}

/// What becomes of an object of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behavior {
    Create,
    Replace,
    Merge,
}

impl Behavior {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "create" | "unspecified" => Ok(Self::Create),
            "replace" => Ok(Self::Replace),
            "merge" => Ok(Self::Merge),
            other => Err(format!("unknown behavior {other:?}: write create, replace or merge")),
        }
    }
}

/// Reads a file that a generator names.
pub(super) type Read<'r> = dyn FnMut(&str) -> Result<std::sync::Arc<[u8]>, String> + 'r;

/// The object of a generator; `Err` names the field that is wrong.
pub(super) fn object(
    made: Made,
    generator: &Generator,
    options: &GeneratorOptions,
    read: &mut Read<'_>,
) -> Result<Value, (&'static str, String)> {
    if generator.name.is_empty() {
        return Err(("name", "Required value: write how the object is called".to_owned()));
    }
    let mut object = json!({
        "apiVersion": "v1",
        "kind": if made == Made::Secret { "Secret" } else { "ConfigMap" },
        "metadata": { "name": generator.name },
    });
    if !generator.namespace.is_empty() {
        object["metadata"]["namespace"] = generator.namespace.clone().into();
    }
    if made == Made::Secret {
        let given = generator.secret_type.as_str();
        object["type"] = if given.is_empty() { "Opaque" } else { given }.into();
    } else if !generator.secret_type.is_empty() {
        return Err(("type", "only a Secret has a type: remove it".to_owned()));
    }
    fill(&mut object, made, pairs(generator, read)?)?;
    for (field, texts) in [("labels", &options.labels), ("annotations", &options.annotations)] {
        if !texts.is_empty() {
            object["metadata"][field] = json!(texts);
        }
    }
    if options.immutable {
        object["immutable"] = true.into();
    }
    Ok(object)
}

type Pair = (&'static str, String, Vec<u8>);

fn pairs(generator: &Generator, read: &mut Read<'_>) -> Result<Vec<Pair>, (&'static str, String)> {
    let mut pairs: Vec<Pair> = Vec::new();
    let single = Some(&generator.env).filter(|env| !env.is_empty());
    for path in generator.envs.iter().chain(single) {
        let bytes = read(path).map_err(|message| ("envs", message))?;
        variables(path, &bytes, &mut pairs).map_err(|message| ("envs", message))?;
    }
    for literal in &generator.literals {
        let split = literal.split_once('=').filter(|(key, _)| !key.is_empty());
        let Some((key, value)) = split else {
            return Err(("literals", format!("{literal:?} is not of the form key=value")));
        };
        pairs.push(("literals", key.to_owned(), without_quotes(value).as_bytes().to_vec()));
    }
    for file in &generator.files {
        let (key, path) = match file.split_once('=') {
            None => (file.rsplit('/').next().unwrap_or(file), file.as_str()),
            Some((key, path)) if !key.is_empty() && !path.is_empty() && !path.contains('=') => {
                (key, path)
            }
            Some(_) => {
                return Err(("files", format!("{file:?} is not of the form key=path or path")));
            }
        };
        let bytes = read(path).map_err(|message| ("files", message))?;
        pairs.push(("files", key.to_owned(), bytes.to_vec()));
    }
    Ok(pairs)
}

fn without_quotes(text: &str) -> &str {
    let quoted = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    quoted('"').or_else(|| quoted('\'')).unwrap_or(text)
}

/// The lines of a list of variables: `KEY=value`, `KEY`, `# a comment`. Whether a key may be one is
/// said when the object is admitted.
fn variables(path: &str, bytes: &[u8], pairs: &mut Vec<Pair>) -> Result<(), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        pairs.push(("envs", key.to_owned(), value.as_bytes().to_vec()));
    }
    Ok(())
}

fn fill(object: &mut Value, made: Made, pairs: Vec<Pair>) -> Result<(), (&'static str, String)> {
    let (mut data, mut binary) = (Map::new(), Map::new());
    for (field, key, bytes) in pairs {
        let before = match (made, String::from_utf8(bytes)) {
            (Made::ConfigMap, Ok(text)) => data.insert(key.clone(), text.into()),
            (Made::ConfigMap, Err(raw)) => {
                binary.insert(key.clone(), broken_base64(raw.as_bytes()).into())
            }
            (Made::Secret, Ok(text)) => {
                data.insert(key.clone(), broken_base64(text.as_bytes()).into())
            }
            (Made::Secret, Err(raw)) => {
                data.insert(key.clone(), broken_base64(raw.as_bytes()).into())
            }
        };
        if before.is_some() || (data.contains_key(&key) && binary.contains_key(&key)) {
            return Err((field, format!("the key {key:?} is given twice: remove one")));
        }
    }
    for (field, map) in [("data", data), ("binaryData", binary)] {
        if !map.is_empty() {
            object[field] = Value::Object(map);
        }
    }
    Ok(())
}

fn broken_base64(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    if text.len() < BASE64_LINE {
        return text;
    }
    let mut broken = String::with_capacity(text.len() + text.len() / BASE64_LINE + 1);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(BASE64_LINE));
        broken.push_str(line);
        broken.push('\n');
        rest = more;
    }
    broken
}

/// Takes the line breaks out of base64 again: they say nothing, and not everybody reads over them.
pub(super) fn join_base64(object: &mut Value) {
    let fields: &[&str] = match object["kind"].as_str() {
        Some("Secret") => &["data"],
        Some("ConfigMap") => &["binaryData"],
        _ => &[],
    };
    for field in fields {
        let values = object.get_mut(*field).and_then(Value::as_object_mut);
        for value in values.into_iter().flat_map(Map::values_mut) {
            if let Some(text) = value.as_str().filter(|text| text.contains('\n')) {
                *value = text.replace('\n', "").into();
            }
        }
    }
}

/// What a generator adds to an object of the same name, or puts in its place; what the older one
/// says of itself stays.
pub(super) fn combine(old: &Value, new: &mut Value, behavior: Behavior) {
    for field in ["labels", "annotations"] {
        join(&old["metadata"], &mut new["metadata"], field);
    }
    for field in ["name", "namespace"] {
        let Some(meta) = new["metadata"].as_object_mut() else { continue };
        match old["metadata"].get(field) {
            Some(text) => meta.insert(field.to_owned(), text.clone()),
            None => meta.remove(field),
        };
    }
    if behavior == Behavior::Merge {
        for field in ["data", "binaryData"] {
            join(old, new, field);
        }
    }
}

/// Adds the entries of a map that only the older one has.
fn join(old: &Value, new: &mut Value, field: &str) {
    let Some(old) = old.get(field).and_then(Value::as_object) else { return };
    let mut joined = old.clone();
    if let Some(own) = new.get(field).and_then(Value::as_object) {
        joined.extend(own.clone());
    }
    if let Some(object) = new.as_object_mut().filter(|_| !joined.is_empty()) {
        object.insert(field.to_owned(), joined.into());
    }
}

/// The end of the name of an object: ten characters of the SHA-256 of what it holds.
///
/// The text that is hashed is what Go's JSON encoder writes, with an empty name; characters that
/// could make words are replaced.
pub(super) fn hash(object: &Value) -> String {
    let text = |field: &str| object.get(field).cloned().unwrap_or_else(|| "".into());
    let kind = object["kind"].as_str().unwrap_or_default();
    let mut content = json!({ "kind": kind, "name": "", "data": text("data") });
    let more: &[&str] = match kind {
        "Secret" => {
            content["type"] = text("type");
            &["stringData"]
        }
        _ => &["binaryData"],
    };
    for field in more {
        if let Some(map) = object.get(*field).filter(|value| value.is_object()) {
            content[*field] = map.clone();
        }
    }
    let digest = Sha256::digest(go_json(&content).as_bytes());
    let hex: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    hex.chars().map(wordless).collect()
}

fn wordless(c: char) -> char {
    match c {
        '0' => 'g',
        '1' => 'h',
        '3' => 'k',
        'a' => 'm',
        'e' => 't',
        c => c,
    }
}

/// JSON as Go writes it: some characters are escaped that need not be.
fn go_json(value: &Value) -> String {
    let text = value.to_string();
    let mut written = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                written.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => written.push(c),
        }
    }
    // `serde_json` and Go write these two in different ways.
    written.replace("\\b", "\\u0008").replace("\\f", "\\u000c")
}
