//! Files with encrypted values, in the form of SOPS: which values those are, and what State is
//! given instead of them.
//!
//! Nothing is opened here. [`take`] takes the `sops` block off and leaves the encrypted values in
//! the objects, with a [`Seal`] by which a reader opens them later; [`SealedFile`] is what proves
//! that the file is as it was sealed, for whoever has the key.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::OnceLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use granit_parser::ScalarStyle;
use regex::Regex;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    FileResult,
    edit::node::{self, Kind, Node},
    yaml,
};
use crate::model::{Problem, Seal, Wrapped};

/// The field of a document that says how it is sealed.
const BLOCK: &str = "sops";

/// What SOPS leaves alone when a file says nothing of that.
const UNENCRYPTED_SUFFIX: &str = "_unencrypted";

/// Most recipients of one file: each is tried by whoever opens it.
const RECIPIENTS_MAX: usize = 64;

/// The kinds whose values may be sealed, and where in them.
const PLACES: [(&str, &[&str]); 2] =
    [("Secret", &["data", "stringData"]), ("ConfigMap", &["data", "binaryData"])];

/// What a file says beside its documents, and everything that its checksum (the `mac`) is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedFile {
    /// The path inside the repository.
    pub path: String,
    /// The line of its `sops` block.
    pub line: u32,
    /// Its data key, once for each recipient.
    pub age: Vec<Wrapped>,
    /// The checksum of its values, encrypted.
    pub mac: String,
    /// `lastmodified`, to which the checksum is bound.
    pub modified: String,
    /// Whether the checksum is that of the encrypted values alone.
    pub only_encrypted: bool,
    /// Every value, in the order of the file.
    pub leaves: Vec<Leaf>,
    /// The seals of its objects.
    seals: BTreeSet<String>,
}

/// One value of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf {
    /// The number of its document.
    pub document: usize,
    /// The keys it stands under; items of lists have none of their own.
    pub path: Vec<String>,
    /// Its line, from 1.
    pub line: u32,
    /// Where it is written, in bytes.
    pub span: Range<usize>,
    /// Whether it stands between braces or brackets.
    pub in_flow: bool,
    /// What it is.
    pub kind: ScalarKind,
    /// What it says, as the checksum takes it.
    pub text: String,
    /// Whether it is one of those that are encrypted.
    pub is_sealed: bool,
    /// Whether what it hides has to be base64.
    pub is_base64: bool,
}

/// What a value is, in SOPS' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarKind {
    /// `str`
    Text,
    /// `int`
    Int,
    /// `float`
    Float,
    /// `bool`
    Bool,
}

impl SealedFile {
    /// Whether its checksum says in which namespaces its values may be opened.
    pub fn is_bound(&self) -> bool {
        let bound =
            |text: &String| serde_json::from_str(text).is_ok_and(|s: Seal| s.namespace.is_some());
        !self.only_encrypted && self.seals.iter().all(bound)
    }
}

impl ScalarKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "str",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
        }
    }
}

impl Leaf {
    /// What its ciphertext is bound to.
    pub fn place(&self) -> String {
        place(&self.path)
    }

    /// As problems name it.
    pub fn field(&self) -> String {
        self.path.join(".")
    }
}

/// What a ciphertext below these keys is bound to: `data:password:`.
pub fn place(path: &[String]) -> String {
    path.iter().map(|key| format!("{key}:")).collect()
}

/// Which values of a file are encrypted.
#[derive(Clone, Debug)]
pub enum Rule {
    /// All but those below a key that ends so.
    UnencryptedSuffix(String),
    /// Those below a key that ends so.
    EncryptedSuffix(String),
    /// All but those below a key that this finds.
    UnencryptedRegex(Regex),
    /// Those below a key that this finds.
    EncryptedRegex(Regex),
}

impl Rule {
    /// What is encrypted of Secrets and ConfigMaps when nobody says anything.
    pub fn usual() -> Self {
        Self::encrypted_regex("^(data|stringData|binaryData)$")
            .unwrap_or_else(|_| Self::UnencryptedSuffix(UNENCRYPTED_SUFFIX.to_owned()))
    }

    /// See [`EncryptedRegex`](Self::EncryptedRegex).
    pub fn encrypted_regex(text: &str) -> Result<Self, String> {
        regex(text).map(Self::EncryptedRegex)
    }

    /// See [`UnencryptedRegex`](Self::UnencryptedRegex).
    pub fn unencrypted_regex(text: &str) -> Result<Self, String> {
        regex(text).map(Self::UnencryptedRegex)
    }

    /// Whether a value below these keys is encrypted.
    pub fn seals(&self, path: &[String]) -> bool {
        let any = |test: &dyn Fn(&String) -> bool| path.iter().any(test);
        match self {
            Self::UnencryptedSuffix(suffix) => !any(&|key| key.ends_with(suffix)),
            Self::EncryptedSuffix(suffix) => any(&|key| key.ends_with(suffix)),
            Self::UnencryptedRegex(regex) => !any(&|key| regex.is_match(key)),
            Self::EncryptedRegex(regex) => any(&|key| regex.is_match(key)),
        }
    }

    /// The field of the `sops` block that says it, and what it says there.
    pub fn field(&self) -> (&'static str, &str) {
        match self {
            Self::UnencryptedSuffix(suffix) => ("unencrypted_suffix", suffix),
            Self::EncryptedSuffix(suffix) => ("encrypted_suffix", suffix),
            Self::UnencryptedRegex(regex) => ("unencrypted_regex", regex.as_str()),
            Self::EncryptedRegex(regex) => ("encrypted_regex", regex.as_str()),
        }
    }
}

fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|_| format!("{text:?} is no regular expression"))
}

/// The fields by which a file, or a rule of `.sops.yaml`, says what is encrypted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RuleFields {
    unencrypted_suffix: String,
    encrypted_suffix: String,
    unencrypted_regex: String,
    encrypted_regex: String,
    unencrypted_comment_regex: String,
    encrypted_comment_regex: String,
}

impl RuleFields {
    /// The rule they say, if any; SOPS takes one of them at most.
    pub fn rule(&self) -> Result<Option<Rule>, String> {
        let comments = [&self.unencrypted_comment_regex, &self.encrypted_comment_regex];
        if comments.iter().any(|text| !text.is_empty()) {
            return Err("values that comments select are not opened here: select them by \
                        encrypted_regex and seal the file again"
                .to_owned());
        }
        let said = [
            (
                &self.unencrypted_suffix,
                Ok(Rule::UnencryptedSuffix(self.unencrypted_suffix.clone())),
            ),
            (&self.encrypted_suffix, Ok(Rule::EncryptedSuffix(self.encrypted_suffix.clone()))),
            (&self.unencrypted_regex, Rule::unencrypted_regex(&self.unencrypted_regex)),
            (&self.encrypted_regex, Rule::encrypted_regex(&self.encrypted_regex)),
        ];
        let mut said = said.into_iter().filter(|(text, _)| !text.is_empty()).map(|(_, rule)| rule);
        match (said.next(), said.next()) {
            (None, _) => Ok(None),
            (Some(rule), None) => rule.map(Some),
            (Some(_), Some(_)) => Err("only one of encrypted_suffix, unencrypted_suffix, \
                                       encrypted_regex and unencrypted_regex may be said"
                .to_owned()),
        }
    }
}

/// The `sops` block.
#[derive(Deserialize)]
struct Block {
    #[serde(default, deserialize_with = "or_default")]
    age: Vec<Wrapped>,
    #[serde(default, deserialize_with = "or_default")]
    key_groups: Vec<KeyGroup>,
    mac: String,
    lastmodified: String,
    #[serde(default)]
    mac_only_encrypted: bool,
    #[serde(flatten)]
    rule: RuleFields,
}

#[derive(Deserialize)]
struct KeyGroup {
    #[serde(default, deserialize_with = "or_default")]
    age: Vec<Wrapped>,
}

/// What stands as `null` is as good as absent.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Block {
    fn read(value: &Value) -> Result<Self, String> {
        let mut block: Self = serde_json::from_value(value.clone())
            .map_err(|error| format!("the block does not read as one of SOPS: {error}"))?;
        if block.key_groups.len() > 1 {
            return Err("a file that takes keys of several groups is not opened here: seal it \
                        with one group"
                .to_owned());
        }
        block.age.extend(block.key_groups.drain(..).flat_map(|group| group.age));
        match block.age.len() {
            0 => Err("it has no age recipient, and other keys are not opened here: seal it for \
                      the cluster's age recipient as well"
                .to_owned()),
            1..=RECIPIENTS_MAX => Ok(block),
            _ => Err(format!("it has more than {RECIPIENTS_MAX} recipients")),
        }
    }
}

/// Whether a document is one of a sealed file.
fn has_block(value: &Value) -> bool {
    let Some(block) = value.get(BLOCK).and_then(Value::as_object) else { return false };
    ["mac", "age", "lastmodified"].iter().any(|field| block.contains_key(*field))
}

/// Whether a file has encrypted values. Costs a look at the bytes unless it seems so.
pub fn is_sealed(bytes: &[u8]) -> bool {
    let seems = bytes.windows(BLOCK.len()).any(|part| part == BLOCK.as_bytes());
    seems && yaml::documents(bytes).is_ok_and(|all| all.iter().any(has_block))
}

/// Refuses a sealed file as a part of something else: there it could not be opened.
pub(super) fn refuse_parts(path: &str, bytes: &[u8]) -> Result<(), String> {
    match Seal::is_in(bytes) {
        false => Ok(()),
        true => Err(format!(
            "{path} is sealed, and no generator opens it: seal a manifest of the Secret and name \
             that in resources"
        )),
    }
}

/// Takes what is sealed off the documents of a file: their objects get a [`Seal`] instead of the
/// `sops` block. `None` when the file is not sealed; what is wrong when it cannot be opened here.
pub(super) fn take(
    path: &str,
    bytes: &[u8],
    documents: &mut [yaml::Document],
) -> Result<Option<SealedFile>, Vec<Problem>> {
    let Some(first) = documents.iter().find(|document| has_block(&document.value)) else {
        return Ok(None);
    };
    let at = |line: u32, field: &str, message: String| Problem {
        file: path.to_owned(),
        line,
        field: field.to_owned(),
        message,
    };
    let block = first.value[BLOCK].clone();
    let place = yaml::places(bytes).into_iter();
    let number = documents.iter().position(|document| has_block(&document.value)).unwrap_or(0);
    let line = place.map(|place| place.line_of(BLOCK)).nth(number).unwrap_or(first.line);
    let wrong = |message: String| vec![at(line, BLOCK, message)];
    let block = Block::read(&block).map_err(wrong)?;
    let rule = block.rule.rule().map_err(wrong)?;
    let rule = rule.unwrap_or_else(|| Rule::UnencryptedSuffix(UNENCRYPTED_SUFFIX.to_owned()));
    for document in documents.iter_mut() {
        if let Some(fields) = document.value.as_object_mut() {
            fields.remove(BLOCK);
        }
    }
    let leaves = std::str::from_utf8(bytes).map_err(|e| e.to_string());
    let mut leaves = leaves.and_then(|text| leaves_of(text, &rule)).map_err(wrong)?;
    let kind = |leaf: &Leaf| documents.get(leaf.document).map_or("", |d| kind_of(&d.value));
    for leaf in &mut leaves {
        let field = leaf.path.first().map_or("", String::as_str);
        leaf.is_base64 = matches!((kind(leaf), field), ("Secret", "data") | (_, "binaryData"));
    }
    let misplaced = |leaf: &Leaf| Some(at(leaf.line, &leaf.field(), unfit(kind(leaf), leaf)?));
    let mut problems: Vec<Problem> =
        leaves.iter().filter(|leaf| leaf.is_sealed).filter_map(misplaced).collect();
    // Where even that is encrypted, everything is, and one word is enough.
    if let Some(kind) = problems.iter().find(|problem| problem.field == "kind").cloned() {
        problems = vec![kind];
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut seals = BTreeSet::new();
    for (number, document) in documents.iter_mut().enumerate() {
        let sealed = leaves.iter().filter(|leaf| leaf.is_sealed && leaf.document == number);
        let sealed: Vec<&Leaf> = sealed.collect();
        if !sealed.is_empty() {
            seals.insert(seal(&mut document.value, &sealed, &block.age));
        }
    }
    Ok(Some(SealedFile {
        path: path.to_owned(),
        line,
        age: block.age,
        mac: block.mac,
        modified: block.lastmodified,
        only_encrypted: block.mac_only_encrypted,
        leaves,
        seals,
    }))
}

fn kind_of(value: &Value) -> &str {
    match value["apiVersion"].as_str() {
        Some("v1") => value["kind"].as_str().unwrap_or_default(),
        _ => "",
    }
}

/// Why a value may not be encrypted where it is, or not as it is.
fn unfit(kind: &str, leaf: &Leaf) -> Option<String> {
    let places = PLACES.iter().find(|(of, _)| *of == kind).map(|(_, places)| *places);
    let [field, _] = leaf.path.as_slice() else { return Some(nowhere()) };
    if !places.is_some_and(|places| places.contains(&field.as_str())) {
        return Some(nowhere());
    }
    if leaf.text.is_empty() {
        return None;
    }
    match type_of(&leaf.text) {
        Some("str" | "bytes") => None,
        Some(other) => Some(format!(
            "a value has to be a text and this is of type {other}: open \
                                     the file and write it in quotes"
        )),
        None => Some(
            "this value should be encrypted and is not: seal the file again, and take \
                      the value for known to everybody who can read the repository"
                .to_owned(),
        ),
    }
}

fn nowhere() -> String {
    "only the data of Secrets and ConfigMaps may be sealed, since everything else is shown to \
     everybody: seal the file with encrypted_regex: ^(data|stringData)$"
        .to_owned()
}

/// The type that an encrypted value says it has.
fn type_of(text: &str) -> Option<&str> {
    static FORM: OnceLock<Option<Regex>> = OnceLock::new();
    const TEXT: &str = r"^ENC\[AES256_GCM,data:[^,]+,iv:[^,]+,tag:[^,]+,type:([a-z]+)\]$";
    let form = FORM.get_or_init(|| Regex::new(TEXT).ok()).as_ref()?;
    form.captures(text)?.get(1).map(|found| found.as_str())
}

/// Brings the encrypted values of one object into the form in which State holds them, and gives it
/// its seal.
fn seal(value: &mut Value, sealed: &[&Leaf], age: &[Wrapped]) -> String {
    let namespace = value["metadata"]["namespace"].as_str().filter(|name| !name.is_empty());
    let mut seal =
        Seal { age: age.to_vec(), namespace: namespace.map(str::to_owned), ..Seal::default() };
    for leaf in sealed.iter().filter(|leaf| !leaf.text.is_empty()) {
        let [field, key] = leaf.path.as_slice() else { continue };
        let encoded = STANDARD.encode(&leaf.text);
        match field.as_str() {
            "stringData" => {
                if let Some(texts) = value["stringData"].as_object_mut() {
                    texts.remove(key);
                }
                if !value["data"].is_object() {
                    value["data"] = Value::Object(Map::new());
                }
                value["data"][key] = encoded.into();
                seal.text.insert(key.clone());
            }
            "binaryData" => value[field][key] = encoded.into(),
            _ if kind_of(value) == "Secret" => {
                if !seal.text.contains(key) {
                    value[field][key] = encoded.into();
                }
            }
            _ => value[field][key] = leaf.text.clone().into(),
        }
    }
    let text = serde_json::to_string(&seal).unwrap_or_default();
    // Metadata that is no map is told as the object is decoded.
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        let annotations = meta.entry("annotations").or_insert(Value::Null);
        if !annotations.is_object() {
            *annotations = Value::Object(Map::new());
        }
        annotations[Seal::NAME] = text.clone().into();
    }
    text
}

/// Refuses objects with a seal that no sealed file gave them, or that left the namespace that they
/// are bound to: a reader would be shown what is sealed for somebody else.
pub(super) fn check(result: &mut FileResult) {
    let seals: BTreeMap<&str, Option<String>> = result
        .sealed
        .iter()
        .flat_map(|file| &file.seals)
        .map(|text| {
            let seal: Seal = serde_json::from_str(text).unwrap_or_default();
            (text.as_str(), seal.namespace)
        })
        .collect();
    let mut problems = Vec::new();
    for found in &result.objects {
        let Some(text) = found.object.annotation(Seal::NAME) else { continue };
        let namespace = found.object.key().namespace.as_str();
        let message = match seals.get(text) {
            None => {
                format!("Forbidden: {} is written out of sealed files alone: remove it", Seal::NAME)
            }
            Some(Some(bound)) if bound != namespace => format!(
                "Forbidden: this is sealed for namespace {bound}, and may not be moved to \
                 {namespace}: seal it again with that namespace, or with none"
            ),
            Some(_) => continue,
        };
        problems.push(Problem {
            file: found.file.as_ref().unwrap_or(&result.path.as_str().into()).to_string(),
            line: found.line,
            field: format!("metadata.annotations[{}]", Seal::NAME),
            message,
        });
    }
    if !problems.is_empty() {
        result.objects.retain(|found| found.object.annotation(Seal::NAME).is_none());
        result.problems.extend(problems);
    }
}

/// Why a text is not read as a file to seal or to open.
const UNREAD: &str = "anchors, aliases and tags are not read in a sealed file: write it out";

/// Every value of a text in order, without those of `sops` blocks and without `null`.
///
/// # Errors
///
/// What cannot be read as SOPS reads it.
pub fn leaves_of(text: &str, rule: &Rule) -> Result<Vec<Leaf>, String> {
    let documents = node::documents(text).ok_or("it is written in a way that is not read here")?;
    let mut walk = Walk { text, rule, leaves: Vec::new(), behind: 0, line: 1 };
    for (number, document) in documents.iter().enumerate() {
        walk.node(number, &mut Vec::new(), false, &document.root)?;
    }
    Ok(walk.leaves)
}

/// Where the documents of a text begin, where each root ends, and whether it is written in braces.
pub fn roots_of(text: &str) -> Vec<(usize, usize, bool)> {
    let documents = node::documents(text).unwrap_or_default();
    documents.iter().map(|d| (d.start, d.root.end, d.root.is_flow())).collect()
}

struct Walk<'t> {
    text: &'t str,
    rule: &'t Rule,
    leaves: Vec<Leaf>,
    /// Up to where lines were counted …
    behind: usize,
    /// … and the line there.
    line: u32,
}

impl Walk<'_> {
    fn node(
        &mut self,
        document: usize,
        path: &mut Vec<String>,
        in_flow: bool,
        node: &Node,
    ) -> Result<(), String> {
        if node.is_marked {
            return Err(UNREAD.to_owned());
        }
        match &node.kind {
            Kind::Alias => return Err(UNREAD.to_owned()),
            Kind::Map { flow, entries } => {
                for entry in entries {
                    if path.is_empty() && entry.key == BLOCK {
                        continue;
                    }
                    path.push(entry.key.clone());
                    self.node(document, path, in_flow || *flow, &entry.value)?;
                    path.pop();
                }
            }
            Kind::List { flow, items } => {
                for item in items {
                    self.node(document, path, in_flow || *flow, item)?;
                }
            }
            Kind::Scalar(style) => {
                let plain = matches!(style, ScalarStyle::Plain);
                if let Some((kind, text)) = said(plain, &node.said)? {
                    let (path, line) = (path.clone(), self.line_of(node.start));
                    let (span, is_sealed) = (node.start..node.end, self.rule.seals(&path));
                    let is_base64 = false;
                    self.leaves.push(Leaf {
                        document,
                        path,
                        line,
                        span,
                        in_flow,
                        kind,
                        text,
                        is_sealed,
                        is_base64,
                    });
                }
            }
        }
        Ok(())
    }

    fn line_of(&mut self, at: usize) -> u32 {
        let between = self.text.get(self.behind..at).unwrap_or_default();
        let breaks = between.bytes().filter(|byte| *byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX));
        self.behind = self.behind.max(at);
        self.line
    }
}

/// What a scalar is and says, as SOPS takes it (YAML 1.2 with octal numbers of 1.1); `None` for
/// `null`.
fn said(plain: bool, text: &str) -> Result<Option<(ScalarKind, String)>, String> {
    let as_text = || Ok(Some((ScalarKind::Text, text.to_owned())));
    if !plain {
        return as_text();
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(None),
        "true" | "True" | "TRUE" => return Ok(Some((ScalarKind::Bool, "True".to_owned()))),
        "false" | "False" | "FALSE" => return Ok(Some((ScalarKind::Bool, "False".to_owned()))),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return as_text();
    }
    if is_time(text) {
        let why = "a date without quotes is a time to some readers and a text to others: write it \
                   in quotes";
        return Err(why.to_owned());
    }
    let digits = text.replace('_', "");
    if let Some(number) = integer(&digits) {
        return Ok(Some((ScalarKind::Int, number.to_string())));
    }
    match is_float(&digits).then(|| digits.parse::<f64>()) {
        Some(Ok(number)) => Ok(Some((ScalarKind::Float, number.to_string()))),
        _ => as_text(),
    }
}

fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let year = bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    year && text[5..].contains('-')
}

fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixes = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];
    let found = prefixes.iter().find_map(|(p, radix)| Some((digits.strip_prefix(p)?, *radix)));
    let (digits, radix) = match found {
        Some(found) => found,
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    let first = digits.chars().next()?;
    first.is_ascii_hexdigit().then_some(())?;
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

fn is_float(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    text.len() - digits.len() <= 1
        && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().any(|b| b.is_ascii_digit())
        && digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b))
}
