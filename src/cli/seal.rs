//! `mainstay seal <file>`

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Error, Format, client::Client, machine, output};
use crate::{
    render::sealed::{Rule, RuleFields},
    seal::{self, Fault, Order},
};

/// The file by which a repository says how its files are sealed, as SOPS reads it.
const RULES_FILE: &str = ".sops.yaml";

/// Most bytes of a manifest that is sealed; the cluster reads no larger one.
const FILE_BYTES_MAX: u64 = crate::render::BYTES_MAX as u64;

/// Encrypt the values of Secrets in a manifest, so that it may be committed
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// The manifest
    #[arg(required_unless_present = "keygen")]
    file: Option<PathBuf>,
    /// Write it back instead of printing it
    #[arg(long)]
    in_place: bool,
    /// For whom (age1…); may be given several times; when absent as .sops.yaml says, else for the
    /// cluster
    #[arg(long = "recipient")]
    recipients: Vec<String>,
    /// Which values: those below a key that this regular expression finds
    #[arg(long)]
    encrypted_regex: Option<String>,
    /// Write a new private key to this file instead, and print the recipient that seals for it
    #[arg(long, value_name = "KEY_FILE", conflicts_with_all = ["file", "in_place", "recipients"])]
    keygen: Option<PathBuf>,
    /// Folder of the cluster (endpoints.json and pki); ~/.mainstay when absent
    #[arg(long, env = "MAINSTAY_DIR")]
    dir: Option<PathBuf>,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    if let Some(path) = &verb.keygen {
        let recipient = new_key(path)?;
        output::say(&format!(
            "name it on every server as source.decryption.ageKeyFile: {}",
            path.display()
        ));
        return output::write(format!("{recipient}\n").as_bytes());
    }
    let file = verb.file.as_deref().ok_or_else(|| Error::yours("which file?"))?;
    let text = read(file)?;
    let said = rules_for(file)?.unwrap_or_default();
    let rule = match &verb.encrypted_regex {
        Some(regex) => Some(Rule::encrypted_regex(regex).map_err(Error::yours)?),
        None => said.rule.rule().map_err(|why| Error::yours(format!("{RULES_FILE}: {why}")))?,
    };
    let recipients = match (&verb.recipients, said.recipients()) {
        (given, _) if !given.is_empty() => given.clone(),
        (_, said) if !said.is_empty() => said,
        _ => of_cluster(verb.dir.clone()).await?,
    };
    let now = machine::now().to_time().0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let path = file.to_string_lossy();
    let order = Order {
        path: &path,
        recipients: &recipients,
        rule: &rule.unwrap_or_else(Rule::usual),
        only_encrypted: said.mac_only_encrypted,
        now: &now,
    };
    let sealed = seal::seal(&text, &order).map_err(|fault| match fault {
        Fault::File(_) => Error::yours(fault.to_string()),
        Fault::Recipient(_) => Error::yours(fault.to_string())
            .hint("give one with --recipient, or name it in .sops.yaml"),
    })?;
    if !verb.in_place {
        return output::write(sealed.as_bytes());
    }
    write_back(file, &sealed)?;
    output::say(&format!("sealed for {}", recipients.join(", ")));
    Ok(())
}

/// Makes a private key; a file that is there stays.
pub(super) fn new_key(path: &Path) -> Result<String, Error> {
    if path.exists() {
        return Err(Error::yours(format!("{} is there already and stays", path.display())));
    }
    let (text, recipient) = seal::generate(&machine::now().to_string());
    machine::write(path, text.as_bytes())?;
    Ok(recipient)
}

/// For whom the cluster's own key is.
async fn of_cluster(dir: Option<PathBuf>) -> Result<Vec<String>, Error> {
    let hint = "give a recipient with --recipient, or name it in .sops.yaml";
    let common = super::Common { dir, output: Format::Text };
    let client = Client::find(&common).map_err(|error| error.hint(hint))?;
    let recipients: Vec<String> = client.get("/mainstay/v1/recipients").await?;
    match recipients.is_empty() {
        false => Ok(recipients),
        true => Err(Error::no("the cluster has no key to open what is sealed").hint(
            "make one with `mainstay seal --keygen age.key`, and name it on every server as \
             source.decryption.ageKeyFile",
        )),
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let wrong = |why: String| Error::yours(format!("{}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| wrong(e.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(wrong(format!("it has {size} bytes, more than {FILE_BYTES_MAX}")));
    }
    std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))
}

/// Replaces a file at once: half a manifest, or none, is nothing to be left with.
fn write_back(path: &Path, text: &str) -> Result<(), Error> {
    use std::io::Write as _;
    let replaced = || -> std::io::Result<()> {
        let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(std::fs::metadata(path)?.permissions())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    replaced().map_err(|e| Error::ours(format!("{}: {e}", path.display())))
}

/// `.sops.yaml`
#[derive(Deserialize)]
struct Rules {
    #[serde(default)]
    creation_rules: Vec<CreationRule>,
}

/// How the files of some paths are sealed.
#[derive(Clone, Debug, Default, Deserialize)]
struct CreationRule {
    #[serde(default)]
    path_regex: String,
    #[serde(default)]
    age: Recipients,
    #[serde(default)]
    key_groups: Vec<KeyGroup>,
    #[serde(default)]
    mac_only_encrypted: bool,
    #[serde(flatten)]
    rule: RuleFields,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct KeyGroup {
    #[serde(default)]
    age: Recipients,
}

/// Recipients as a list, or with commas between them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Recipients {
    Text(String),
    List(Vec<String>),
}

impl Default for Recipients {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl CreationRule {
    fn recipients(&self) -> Vec<String> {
        let all = std::iter::once(&self.age).chain(self.key_groups.iter().map(|group| &group.age));
        let each = |recipients: &Recipients| match recipients {
            Recipients::Text(text) => text.split(',').map(|r| r.trim().to_owned()).collect(),
            Recipients::List(list) => list.clone(),
        };
        let all: Vec<String> = all.flat_map(each).collect();
        all.into_iter().filter(|recipient| !recipient.is_empty()).collect()
    }
}

/// The first rule for a file in the nearest `.sops.yaml` above it.
fn rules_for(file: &Path) -> Result<Option<CreationRule>, Error> {
    let wrong = |e: std::io::Error| Error::yours(format!("{}: {e}", file.display()));
    let full = file.canonicalize().map_err(wrong)?;
    let Some(folder) = full.ancestors().skip(1).find(|dir| dir.join(RULES_FILE).is_file()) else {
        return Ok(None);
    };
    let path = folder.join(RULES_FILE);
    let text = read(&path)?;
    let inside = full.strip_prefix(folder).unwrap_or(&full).to_string_lossy().into_owned();
    rule_of(&text, &inside).map_err(|why| Error::yours(format!("{}: {why}", path.display())))
}

fn rule_of(text: &str, path: &str) -> Result<Option<CreationRule>, String> {
    let rules: Rules = serde_yaml::from_str(text).map_err(|e| e.to_string())?;
    for rule in rules.creation_rules {
        let regex = regex::Regex::new(&rule.path_regex);
        let regex = regex.map_err(|_| format!("path_regex: {:?} is none", rule.path_regex))?;
        if regex.is_match(path) {
            return Ok(Some(rule));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "
creation_rules:
  - path_regex: ^prod/.*\\.yaml$
    age: age1a, age1b
    encrypted_regex: ^data$
  - path_regex: ^groups/
    mac_only_encrypted: true
    key_groups: [{age: [age1c]}]
  - age: [age1d]
stores: {yaml: {indent: 2}}
";

    /// What must not happen: a file sealed for others than the repository says.
    #[test]
    fn rules_are_those_of_the_first_that_fits() {
        let check = |path: &str| {
            let rule = rule_of(RULES, path).unwrap().unwrap();
            let field = rule.rule.rule().unwrap().map(|rule| rule.field().1.to_owned());
            (rule.recipients().join("+"), field, rule.mac_only_encrypted)
        };
        assert_eq!(check("prod/a.yaml"), ("age1a+age1b".into(), Some("^data$".into()), false));
        assert_eq!(check("groups/a.json"), ("age1c".into(), None, true));
        assert_eq!(check("a.yaml"), ("age1d".into(), None, false));
        assert!(rule_of("creation_rules: [{path_regex: '^x'}]", "a").unwrap().is_none());
        assert!(rule_of("creation_rules: [{path_regex: '('}]", "a").is_err());
    }

    #[test]
    fn the_nearest_file_of_rules_counts_and_a_file_is_sealed_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("age.key");
        let recipient = new_key(&key).unwrap();
        assert_eq!(new_key(&key).unwrap_err().kind, super::super::Kind::You);
        std::fs::create_dir_all(dir.path().join("apps/web")).unwrap();
        let write = |path: &str, text: &str| std::fs::write(dir.path().join(path), text).unwrap();
        write(RULES_FILE, "creation_rules: [{age: age1far}]");
        write(
            "apps/.sops.yaml",
            &format!("creation_rules: [{{path_regex: ^web/, age: {recipient}}}]"),
        );
        let file = dir.path().join("apps/web/db.yaml");
        std::fs::write(
            &file,
            "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {a: hunter2}\n",
        )
        .unwrap();
        let verb = Verb {
            file: Some(file.clone()),
            in_place: true,
            recipients: Vec::new(),
            encrypted_regex: None,
            keygen: None,
            dir: None,
        };
        tokio::runtime::Runtime::new().unwrap().block_on(run(&verb)).unwrap();
        let sealed = std::fs::read_to_string(&file).unwrap();
        assert!(sealed.contains(&recipient) && !sealed.contains("hunter2"), "{sealed}");
        let keyring = seal::Keyring::parse(&std::fs::read_to_string(&key).unwrap()).unwrap();
        let result = crate::render::render_file("db.yaml", sealed.as_bytes());
        assert_eq!(result.sealed.iter().flat_map(|file| keyring.prove(file)).count(), 0);
    }
}
