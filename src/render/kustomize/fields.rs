//! What stands in a kustomization, field by field.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Texts by name.
pub(super) type Texts = BTreeMap<String, String>;

/// An entry of `configMapGenerator` or `secretGenerator`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Generator {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) behavior: String,
    pub(super) literals: Vec<String>,
    pub(super) files: Vec<String>,
    pub(super) envs: Vec<String>,
    pub(super) env: String,
    pub(super) options: GeneratorOptions,
    #[serde(rename = "type")]
    pub(super) secret_type: String,
}

/// `generatorOptions`, and `options` of one generator.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GeneratorOptions {
    pub(super) labels: Texts,
    pub(super) annotations: Texts,
    pub(super) disable_name_suffix_hash: bool,
    pub(super) immutable: bool,
}

impl GeneratorOptions {
    /// These, and what all generators of the file are given.
    pub(super) fn with(&self, all: &Self) -> Self {
        let over = |own: &Texts, all: &Texts| {
            let mut texts = all.clone();
            texts.extend(own.clone());
            texts
        };
        Self {
            labels: over(&self.labels, &all.labels),
            annotations: over(&self.annotations, &all.annotations),
            disable_name_suffix_hash: self.disable_name_suffix_hash || all.disable_name_suffix_hash,
            immutable: self.immutable || all.immutable,
        }
    }
}

/// Which objects: each text that is not empty is a condition.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) annotation_selector: String,
    pub(super) label_selector: String,
}

/// An entry of `patches` or `patchesJson6902`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Patch {
    pub(super) path: String,
    pub(super) patch: String,
    pub(super) target: Option<Target>,
    pub(super) options: PatchOptions,
}

/// What a patch may change beside the rest.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PatchOptions {
    pub(super) allow_name_change: bool,
    pub(super) allow_kind_change: bool,
}

/// An entry of `labels`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Label {
    pub(super) pairs: Texts,
    pub(super) include_selectors: bool,
    pub(super) include_templates: bool,
    pub(super) fields: Vec<Field>,
}

/// A place in objects of some kinds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Field {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) path: String,
    pub(super) create: bool,
}

/// An entry of `images`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) new_name: String,
    pub(super) new_tag: String,
    pub(super) tag_suffix: String,
    pub(super) digest: String,
}

/// An entry of `replicas`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Replica {
    pub(super) name: String,
    pub(super) count: i64,
}

/// An entry of `replacements`, or of the file it names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Replacement {
    pub(super) path: String,
    pub(super) source: Option<From>,
    pub(super) targets: Vec<To>,
}

/// Where a replacement takes its value.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct From {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) field_path: String,
    pub(super) options: ReplaceOptions,
}

/// Where a replacement puts its value.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct To {
    pub(super) select: Option<Target>,
    pub(super) reject: Vec<Target>,
    pub(super) field_paths: Vec<String>,
    pub(super) options: ReplaceOptions,
}

/// Which part of a text is meant, and whether a field that is not there is made.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReplaceOptions {
    pub(super) delimiter: String,
    pub(super) index: i64,
    /// Read and without effect, as in kustomize.
    #[serde(rename = "encoding")]
    pub(super) _encoding: String,
    pub(super) create: bool,
}
