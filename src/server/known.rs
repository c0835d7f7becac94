//! The commit that was read last, so that the next one costs what it changes.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use imbl::OrdMap;
use smol_str::SmolStr;

use super::{
    built::{Built, Read},
    import::Error,
    sealed::proven,
};
use crate::{
    git::{self, BlobId, Change, File, Files, Limits, Mirror, Reader},
    model::{CommitId, Key, Problem},
    render::{self, FileResult, Ignore, Layout, Picture},
    seal::Keyring,
    state::View,
};

/// After so many commits that were read as a difference one is listed whole: the bounds of a whole
/// commit (files, bytes) are only counted then.
const DIFFS_MAX: u32 = 100;

/// Files from which on more than one thread renders; below, starting threads costs more than it
/// saves.
const PARALLEL_FILES_MIN: usize = 64;

/// Most threads that render. More would take the processors from the log while a large commit comes
/// in.
const THREADS_MAX: usize = 4;

/// Files a thread takes at a time.
const BATCH_FILES: usize = 16;

/// One commit, read and rendered. Cheap to clone.
#[derive(Clone)]
pub(super) struct Known {
    commit: CommitId,
    rules: Vec<u8>,
    blobs: OrdMap<SmolStr, BlobId>,
    picture: Picture,
    built: Built,
    /// What the tree itself has that cannot be used. A commit with any is no base for a difference.
    problems: Vec<Problem>,
    diffs: u32,
    /// The commit that this server admitted last, and the keys whose files changed since.
    admitted: Option<CommitId>,
    touched: BTreeSet<Key>,
}

impl Known {
    /// Reads a commit; from the difference to `before` where that is exact, with the unchanged
    /// files of it otherwise.
    pub(super) fn read(
        mirror: &Mirror,
        commit: &CommitId,
        root: &str,
        before: Option<Self>,
        keyring: &Keyring,
    ) -> Result<Self, Error> {
        let reader = mirror.reader()?;
        let rules = reader.read_path(commit, render::IGNORE_FILE)?.unwrap_or_default();
        let ignore = Ignore::parse(&rules);
        let is_wanted = |path: &str| ignore.is_manifest(path);
        let exact = |b: &Self| b.problems.is_empty() && b.diffs < DIFFS_MAX && b.rules == rules;
        let mut known = before.unwrap_or_else(|| Self::nothing(commit));
        let diff = match exact(&known) && !known.blobs.is_empty() {
            // The mirror may have been made anew without the older commit: then everything is
            // listed.
            true => reader.diff(&known.commit, commit, root, &is_wanted, &Limits::default()).ok(),
            false => None,
        };
        let moved = match (&diff, known.built.is_empty()) {
            (Some(_), false) => known.built.changed(&reader, &known.commit, commit)?,
            (Some(_), true) => Some(BTreeSet::new()),
            (None, _) => None,
        };
        let (changed, gone) = match diff {
            Some(diff) => {
                known.diffs += 1;
                known.problems = diff.problems;
                split(diff.changes)
            }
            None => {
                let files = reader.files(commit, root, &is_wanted, &Limits::default())?;
                known.diffs = 0;
                known.against(files)
            }
        };
        known.take(reader, changed, &gone, keyring)?;
        let Self { built, picture, touched, .. } = &mut known;
        let reader = &mirror.reader()?;
        let read = Read { reader, commit, keyring };
        built.update(&read, moved.as_ref(), picture, touched)?;
        if known.admitted.is_none() {
            // Everything may differ: see `suspects`.
            known.touched.clear();
        }
        known.commit = commit.clone();
        known.rules = rules;
        Ok(known)
    }

    fn nothing(commit: &CommitId) -> Self {
        Self {
            commit: commit.clone(),
            rules: Vec::new(),
            blobs: OrdMap::new(),
            picture: Picture::default(),
            built: Built::default(),
            problems: Vec::new(),
            diffs: 0,
            admitted: None,
            touched: BTreeSet::new(),
        }
    }

    /// What a whole listing has that is new here, and the paths it no longer has.
    fn against(&mut self, files: Files) -> (Vec<File>, Vec<String>) {
        self.problems = files.problems;
        let listed: BTreeSet<&str> = files.files.iter().map(|f| f.path.as_str()).collect();
        let gone = self.blobs.keys().filter(|path| !listed.contains(path.as_str()));
        let gone = gone.map(SmolStr::to_string).collect();
        let is_new = |file: &File| self.blobs.get(file.path.as_str()) != Some(&file.blob);
        (files.files.into_iter().filter(is_new).collect(), gone)
    }

    /// Takes in what changed: the kustomizations first, since they say which files stand for
    /// themselves.
    fn take(
        &mut self,
        reader: Reader,
        changed: Vec<File>,
        gone: &[String],
        keyring: &Keyring,
    ) -> Result<(), Error> {
        let mut moved = false;
        for path in gone {
            self.blobs.remove(path.as_str());
            self.picture.remove(path, &mut self.touched);
            moved |= self.built.forget(path);
        }
        for File { path, blob } in &changed {
            self.blobs.insert(SmolStr::from(path), *blob);
            if Layout::is_kustomization(path) {
                moved |= self.built.learn(path, &reader.read(*blob)?);
            }
        }
        let plain = match moved {
            false => changed.into_iter().filter(|f| self.built.is_plain(&f.path)).collect(),
            true => self.plain_anew(&changed),
        };
        for (_, result) in rendered(reader, plain, keyring)? {
            self.picture.put(Arc::new(result), &mut self.touched);
        }
        Ok(())
    }

    /// What is to be rendered after folders got or lost a kustomization: files that changed, and
    /// those that stand for themselves from now on. Those that no longer do are taken out.
    fn plain_anew(&mut self, changed: &[File]) -> Vec<File> {
        let changed: BTreeSet<&str> = changed.iter().map(|file| file.path.as_str()).collect();
        let mut plain = Vec::new();
        let files = self.blobs.iter().filter(|(path, _)| !Layout::is_kustomization(path));
        for (path, blob) in files {
            match (self.built.is_plain(path), self.picture.file(path).is_some()) {
                (true, known) if !known || changed.contains(path.as_str()) => {
                    plain.push(File { path: path.to_string(), blob: *blob });
                }
                (false, true) => self.picture.remove(path, &mut self.touched),
                _ => {}
            }
        }
        plain
    }

    /// The commit.
    pub(super) fn commit(&self) -> &CommitId {
        &self.commit
    }

    /// Whether a path that its kustomizations asked for differs between two commits, wherever it
    /// is.
    pub(super) fn reads_differ(
        &self,
        reader: &Reader,
        from: &CommitId,
        to: &CommitId,
    ) -> Result<bool, Error> {
        if self.built.is_empty() {
            return Ok(false);
        }
        Ok(self.built.changed(reader, from, to)?.is_none_or(|paths| !paths.is_empty()))
    }

    /// What its files say together.
    pub(super) fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Whether a file of this path is rendered by itself, and read by no kustomization.
    pub(super) fn is_wanted(&self, path: &str) -> bool {
        let is_manifest = Ignore::parse(&self.rules).is_manifest(path);
        is_manifest && self.built.is_plain(path) && !self.built.reads(path)
    }

    /// What the tree has that cannot be used.
    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The keys that may differ from State: those whose files changed since the head was read, and
    /// those whose object went away. `None` when the head is not what this server made it: then
    /// everything may differ.
    pub(super) fn suspects(&self, view: &View, source: &str) -> Option<BTreeSet<Key>> {
        let head = view.head_of(source).map(|h| &h.commit);
        (head.is_some() && head == self.admitted.as_ref())
            .then(|| self.touched.iter().chain(view.drifted()).cloned().collect())
    }

    /// Remembers that State is now as this commit says.
    pub(super) fn admitted(&mut self, commit: &CommitId) {
        if self.commit == *commit {
            self.admitted = Some(commit.clone());
            self.touched.clear();
        }
    }
}

fn split(changes: Vec<(String, Change)>) -> (Vec<File>, Vec<String>) {
    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    for (path, change) in changes {
        match change {
            Change::Added(blob) | Change::Modified { to: blob, .. } => {
                changed.push(File { path, blob });
            }
            Change::Removed(_) => gone.push(path),
        }
    }
    (changed, gone)
}

/// Files that wait for a thread, and the reader they come from: one thread reads at a time, all of
/// them render.
struct Queue {
    reader: Reader,
    files: std::vec::IntoIter<File>,
}

impl Queue {
    fn next(&mut self) -> git::Result<Vec<(File, Vec<u8>)>> {
        let files = self.files.by_ref().take(BATCH_FILES);
        files.map(|file| self.reader.read(file.blob).map(|bytes| (file, bytes))).collect()
    }
}

/// Reads and renders files.
fn rendered(
    reader: Reader,
    files: Vec<File>,
    keyring: &Keyring,
) -> Result<Vec<(BlobId, FileResult)>, Error> {
    let threads = match files.len() {
        0..PARALLEL_FILES_MIN => 1,
        _ => thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX),
    };
    let queue = Mutex::new(Queue { reader, files: files.into_iter() });
    let work = || {
        let mut results = Vec::new();
        loop {
            let batch = queue.lock().unwrap_or_else(PoisonError::into_inner).next()?;
            if batch.is_empty() {
                return Ok(results);
            }
            let render = |(file, bytes): (File, Vec<u8>)| {
                (file.blob, proven(render::render_file(&file.path, &bytes), keyring))
            };
            results.extend(batch.into_iter().map(render));
        }
    };
    if threads == 1 {
        return work();
    }
    let results: Vec<Result<_, Error>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    });
    let parts = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(parts.into_iter().flatten().collect())
}

#[cfg(test)]
pub(super) mod tests {
    use std::{fs, path::Path, process::Command as Process};

    use super::*;
    use crate::{
        git::{Auth, Reference, Remote},
        kinds::GitSourceSpec,
        model::{RequestId, Timestamp},
        plan::admission::{Candidate, admit},
        server::import::{Scope, Trust, candidate},
        state::{ClusterConfig, Command, Entry, MAIN_SOURCE, Op, Outcome, State},
    };

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn git(dir: &Path, args: &[&str]) -> String {
        let output = Process::new("git")
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org"])
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(in crate::server) fn map(name: &str, text: &str) -> String {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  text: {text}\n---\n"
        )
    }

    /// A repository, a mirror of it, and a State that takes its commits.
    pub(in crate::server) struct World {
        dir: tempfile::TempDir,
        mirror: Mirror,
        known: Option<Known>,
        state: State,
        entries: u128,
    }

    impl World {
        pub(in crate::server) fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            git(dir.path(), &["init", "-q", "-b", "main", "repo"]);
            let url = format!("file://{}", dir.path().join("repo").display());
            let remote = Remote::new(url, Reference::Branch("main".into()), Auth::None).unwrap();
            let mirror = Mirror::open(dir.path().join("mirror"), remote).unwrap();
            let mut world = Self { dir, mirror, known: None, state: State::default(), entries: 0 };
            world.apply(vec![Command::Configure(ClusterConfig::with_id("test"))]);
            world
        }

        pub(in crate::server) fn known(&self) -> &Known {
            self.known.as_ref().unwrap()
        }

        pub(in crate::server) fn mirror(&self) -> &Mirror {
            &self.mirror
        }

        pub(in crate::server) fn view(&self) -> &View {
            self.state.view()
        }

        fn apply(&mut self, commands: Vec<Command>) {
            self.entries += 1;
            let outcomes = self.state.apply(Entry::new(RequestId(self.entries), NOW, commands));
            assert!(outcomes.iter().all(|o| matches!(o, Outcome::Done(_))), "{outcomes:?}");
            assert!(
                crate::state::check(self.state.view())
                    .iter()
                    .all(|v| { v.severity == crate::state::Severity::Untidy })
            );
        }

        fn candidate(&self, known: &Known) -> Candidate {
            let (reader, spec) = (self.mirror.reader().unwrap(), GitSourceSpec::default());
            let trust = (Trust::default(), NOW);
            candidate(
                &reader,
                known,
                self.state.view(),
                (MAIN_SOURCE, &spec),
                trust,
                Scope::Changed,
            )
            .unwrap()
        }

        /// Commits the files (`None` removes one), reads the commit both ways, and admits it when
        /// it may be.
        pub(in crate::server) fn commit(&mut self, files: &[(&str, Option<String>)]) -> Candidate {
            let repo = self.dir.path().join("repo");
            for (path, content) in files {
                match content {
                    Some(content) => {
                        fs::create_dir_all(repo.join(path).parent().unwrap()).unwrap();
                        fs::write(repo.join(path), content).unwrap();
                    }
                    None => fs::remove_file(repo.join(path)).unwrap(),
                }
            }
            git(&repo, &["add", "-A"]);
            git(
                &repo,
                &[
                    "commit",
                    "-q",
                    "--allow-empty",
                    "-m",
                    "Prune-Approved: yes\n\nPrune-Approved: yes",
                ],
            );
            let tip = self.mirror.fetch(std::time::Duration::from_secs(60)).unwrap().tip;
            let anew = Known::read(&self.mirror, &tip, "", None, &Keyring::default()).unwrap();
            let known =
                Known::read(&self.mirror, &tip, "", self.known.clone(), &Keyring::default())
                    .unwrap();
            let (all, some) = (self.candidate(&anew), self.candidate(&known));
            assert_eq!(some.problems, all.problems);
            assert_eq!(some.warnings, all.warnings);
            assert_eq!(some.counts, all.counts);
            self.known = Some(known);
            if all.problems.is_empty() {
                let view = self.state.view();
                let commands = admit(view, &some, NOW).unwrap();
                assert_eq!(commands, admit(view, &all, NOW).unwrap());
                commands.into_iter().for_each(|command| self.apply(vec![command]));
                self.known.as_mut().unwrap().admitted(&tip);
            }
            some
        }
    }

    /// A definition of plums; `spec` is the schema of their spec.
    fn plums(spec: &str) -> String {
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: \
             plums.fruit.example}}\nspec:\n  group: fruit.example\n  scope: Namespaced\n  names: {{kind: \
             Plum, plural: plums, singular: plum, listKind: PlumList}}\n  versions:\n  - name: v1\n    \
             served: true\n    storage: true\n    schema: {{openAPIV3Schema: {{type: object, properties: \
             {{spec: {{type: object, properties: {spec}}}}}}}}}\n"
        )
    }

    fn plum(name: &str, spec: &str) -> String {
        format!(
            "apiVersion: fruit.example/v1\nkind: Plum\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"
        )
    }

    /// Rules of a definition hold for what commits say, also where they look back, and a rule that
    /// cannot work refuses the commit that brings it.
    #[test]
    fn rules_of_custom_kinds_are_asked_of_commits() {
        let mut world = World::new();
        let file = |text: String| Some(text);
        let ruled = |rule: &str| {
            let size = format!(
                "{{size: {{type: integer, x-kubernetes-validations: [{{rule: {rule:?}, message: \
                 grows}}]}}}}"
            );
            file(plums(&size))
        };
        let told = |candidate: Candidate| -> Vec<String> {
            candidate.problems.iter().map(ToString::to_string).collect()
        };
        let wrong = told(world.commit(&[("crd.yaml", ruled("self.nosuch()"))]));
        assert!(wrong[0].starts_with("crd.yaml:12: spec.validation"), "{wrong:?}");
        assert!(wrong[0].contains("undeclared reference to 'nosuch'"), "{wrong:?}");
        let small = world.commit(&[
            ("crd.yaml", ruled("self >= 2 && self >= oldSelf || self == 7")),
            ("a.yaml", file(plum("a", "{size: 3}"))),
        ]);
        assert_eq!(told(small), [""; 0], "there is nothing to look back at");
        let shrinks = told(world.commit(&[("a.yaml", file(plum("a", "{size: 2}")))]));
        assert_eq!(shrinks, ["a.yaml:1: spec.size: Invalid value: grows"]);
        assert_eq!(told(world.commit(&[("a.yaml", file(plum("a", "{size: 5}")))])), [""; 0]);
        let alone = world.commit(&[
            ("crd.yaml", ruled("self > 5")),
            ("b.yaml", file(format!("# A comment.\n{}", plum("b", "{size: 1}")))),
        ]);
        let both = [
            "a.yaml:4: spec.size: Invalid value: grows",
            "b.yaml:5: spec.size: Invalid value: grows",
        ];
        assert_eq!(told(alone), both);
    }

    /// Policies hold for commits: those that run, those that a commit brings along, with their
    /// parameters, and also for what it takes away. One that only warns takes nothing back.
    #[test]
    fn policies_are_asked_of_commits() {
        let mut world = World::new();
        let policy = |action: &str| {
            Some(format!(
                "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicy\n\
                 metadata: {{name: short}}\nspec:\n  paramKind: {{apiVersion: v1, kind: ConfigMap}}\n  \
                 matchConstraints: {{resourceRules: [{{apiGroups: [\"\"], apiVersions: [v1], operations: \
                 [\"*\"], resources: [configmaps]}}]}}\n  validations:\n  - expression: >-\n      object == \
                 null ? oldObject.data.text != 'kept' : object.data.text.size() <= \
                 int(params.data.text)\n    message: too long\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: \
                 ValidatingAdmissionPolicyBinding\nmetadata: {{name: short}}\nspec: {{policyName: short, \
                 validationActions: [{action}], paramRef: {{name: most, namespace: default, \
                 parameterNotFoundAction: Deny}}}}\n"
            ))
        };
        let told = |list: &[crate::model::Problem]| -> Vec<String> {
            list.iter().map(ToString::to_string).collect()
        };
        let (most, a) = (Some(map("most", "'9'")), |text: &str| Some(map("a", text)));
        let denied = "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'short' with binding \
                      'short' denied request: too long";
        let brought = world.commit(&[
            ("policy.yaml", policy("Deny")),
            ("most.yaml", most.clone()),
            ("a.yaml", a("much-too-long")),
        ]);
        assert_eq!(told(&brought.problems), [format!("a.yaml:1: {denied}")]);
        assert_eq!(told(&world.commit(&[("a.yaml", a("kept"))]).problems), [""; 0]);
        let grows = Some(format!("# A comment.\n{}", map("a", "much-too-long")));
        let grown = world.commit(&[("a.yaml", grows.clone())]);
        assert_eq!(told(&grown.problems), [format!("a.yaml:2: {denied}")]);
        let gone = world.commit(&[("a.yaml", None)]);
        assert_eq!(told(&gone.problems), [format!("a.yaml:1: {denied}")]);
        let warned = world.commit(&[("policy.yaml", policy("Warn")), ("a.yaml", grows)]);
        assert_eq!(told(&warned.problems), [""; 0]);
        let text = "a.yaml:2: Validation failed for ValidatingAdmissionPolicy 'short' with binding \
                    'short': too long";
        assert_eq!(told(&warned.warnings), [text]);
        let other = policy("Deny").unwrap().replace("[configmaps]", "[plums]");
        let other = other
            .replace("name: short", "name: plums")
            .replace("policyName: short", "policyName: plums");
        let other = other.replace("apiGroups: [\"\"]", "apiGroups: [fruit.example]");
        let all = world.commit(&[
            ("crd.yaml", Some(plums("{}"))),
            ("plum.yaml", Some(plum("a", "{}"))),
            ("plums.yaml", Some(other)),
        ]);
        assert_eq!(all.problems.len(), 1, "the kind, its object and the policy come together");
        assert!(
            told(&all.problems)[0].starts_with("plum.yaml:1: plums.fruit.example \"a\" is forbid")
        );
    }

    /// What must not happen: an object of a custom kind that is kept as it was when its definition
    /// changes, or that outlives its file.
    #[test]
    fn custom_kinds_and_their_objects_come_and_go_with_commits() {
        let mut world = World::new();
        let key = |name: &str| Key::parse(&format!("Plum.fruit.example/default/{name}")).unwrap();
        let spec = |world: &World, name: &str| {
            world.state.view().object(&key(name)).map(|o| o.value()["spec"].clone())
        };
        // Without a definition.
        let (a, other) = (plum("a", "{grams: 1}"), map("other", "text"));
        let early = world.commit(&[("a.yaml", Some(a)), ("other.yaml", Some(other))]);
        assert_eq!(early.problems.len(), 1);
        // Both at once.
        let grams = plums("{grams: {type: integer}}");
        let first = world.commit(&[("z/kinds.yaml", Some(grams.clone()))]);
        assert_eq!((first.problems, first.deletes), (vec![], vec![]));
        assert_eq!(spec(&world, "a"), Some(serde_json::json!({"grams": 1})));
        // Another one later, in a file of its own.
        world.commit(&[("b.yaml", Some(plum("b", "{grams: 2}")))]);
        // The definition gets a default: what did not change in Git gets it too.
        let ripe = plums("{grams: {type: integer}, ripe: {type: boolean, default: true}}");
        assert_eq!(world.commit(&[("z/kinds.yaml", Some(ripe))]).problems, []);
        assert_eq!(spec(&world, "a"), Some(serde_json::json!({"grams": 1, "ripe": true})));
        // It begins to forbid what is there: refused, with the place of the object.
        let small = plums("{grams: {type: integer, maximum: 1}}");
        let refused = world.commit(&[("z/kinds.yaml", Some(small))]);
        assert_eq!(refused.problems[0].file, "b.yaml");
        // An object goes with its file, and all with the definition.
        let fewer = world.commit(&[("z/kinds.yaml", Some(grams)), ("b.yaml", None)]);
        assert_eq!((fewer.problems, fewer.deletes), (vec![], vec![key("b")]));
        assert_eq!(spec(&world, "b"), None);
        let orphan = world.commit(&[("z/kinds.yaml", None)]);
        assert_eq!(orphan.problems.len(), 1);
        assert_eq!(world.commit(&[("a.yaml", None)]).problems, []);
        assert_eq!(spec(&world, "a"), None);
    }

    /// What must not happen: a kustomization that is not rendered again when something changed that
    /// it reads, wherever that is; one that is rendered again for nothing.
    #[test]
    fn kustomizations_follow_what_they_read() {
        let mut world = World::new();
        let key = |text: &str| Key::parse(text).unwrap();
        let overlay = |more: &str| Some(format!("resources: [../../base]\n{more}"));
        let first = world.commit(&[
            ("base/kustomization.yaml", Some("resources: [web.yaml]\n".to_owned())),
            ("base/web.yaml", Some(map("web", "one"))),
            ("envs/a/kustomization.yaml", overlay("namePrefix: a-\n")),
            (
                "envs/b/kustomization.yaml",
                overlay("namePrefix: b-\nconfigMapGenerator: [{name: gen, files: [x.conf]}]\n"),
            ),
            ("envs/b/x.conf", Some("one".to_owned())),
            ("plain/p.yaml", Some(map("plain", "one"))),
        ]);
        assert_eq!((first.problems, first.wanted.len()), (vec![], 4));
        let result = |world: &World, path: &str| {
            Arc::clone(world.known.as_ref().unwrap().picture().file(path).unwrap())
        };
        let a = result(&world, "envs/a/kustomization.yaml");
        // A file that is no manifest: what is made of it gets another name.
        let other = world.commit(&[("envs/b/x.conf", Some("two".to_owned()))]);
        assert_eq!((other.wanted.len(), other.deletes.len()), (2, 1));
        // Nothing that a kustomization reads.
        assert_eq!(world.commit(&[("plain/p.yaml", Some(map("plain", "two")))]).wanted.len(), 1);
        assert!(
            Arc::ptr_eq(&a, &result(&world, "envs/a/kustomization.yaml")),
            "rendered for nothing"
        );
        // What both read.
        let both = world.commit(&[("base/web.yaml", Some(map("web", "two")))]);
        let changed = both.wanted.iter().filter(|d| d.origin.file == "base/web.yaml").count();
        assert_eq!((both.problems.len(), changed), (0, 2));
        let origin = world.state.view().origin(&key("ConfigMap/default/b-web")).unwrap();
        assert_eq!(origin.made_by.as_deref(), Some("envs/b/kustomization.yaml"));
        // Another name of the file; a base that is rendered by itself when nobody names it.
        world.commit(&[
            ("envs/a/kustomization.yaml", None),
            ("envs/a/kustomization.yml", overlay("namePrefix: aa-\n")),
        ]);
        assert!(world.state.view().object(&key("ConfigMap/default/aa-web")).is_some());
        assert!(world.state.view().object(&key("ConfigMap/default/a-web")).is_none());
        world.commit(&[("envs/a/kustomization.yml", None), ("envs/b/kustomization.yaml", None)]);
        assert!(world.state.view().object(&key("ConfigMap/default/web")).is_some());
        // Files that stood for themselves until their folder got a kustomization, and again after.
        let top = Some("resources: []\nnamePrefix: x-\n".to_owned());
        let gone = world.commit(&[("plain/kustomization.yaml", top)]);
        assert_eq!(gone.deletes, [key("ConfigMap/default/plain")]);
        let back = world.commit(&[("plain/kustomization.yaml", None)]);
        assert_eq!((back.wanted.len(), back.deletes.len()), (1, 0));
        // Refused, and mended by a file that was not there.
        let wants = Some("resources: [late.yaml]\n".to_owned());
        assert_eq!(world.commit(&[("late/kustomization.yaml", wants)]).problems.len(), 1);
        assert_eq!(world.commit(&[("late/late.yaml", Some(map("late", "one")))]).problems, []);
        assert!(world.state.view().object(&key("ConfigMap/default/late")).is_some());
        // A rule that hides a kustomization: its files stand for themselves.
        let rules = render::IGNORE_FILE;
        let hidden = world.commit(&[(rules, Some("late/kustomization.yaml\n".to_owned()))]);
        assert_eq!((hidden.problems.len(), hidden.deletes.len()), (0, 0));
        let origin = world.state.view().origin(&key("ConfigMap/default/late")).unwrap();
        assert_eq!(origin.made_by, None);
    }

    /// What must not happen: a change of a base outside the folder that is read, which nobody sees.
    #[test]
    fn bases_beside_the_source_are_read_and_watched() {
        let mut world = World::new();
        world.commit(&[
            ("base/kustomization.yaml", Some("resources: [web.yaml]\n".to_owned())),
            ("base/web.yaml", Some(map("web", "one"))),
            ("prod/kustomization.yaml", Some("resources: [../base]\n".to_owned())),
        ]);
        let tip = world.known.as_ref().unwrap().commit().clone();
        let prod = Known::read(&world.mirror, &tip, "prod", None, &Keyring::default()).unwrap();
        assert_eq!(prod.picture().len(), 1);
        world.commit(&[("base/web.yaml", Some(map("web", "two")))]);
        let tip = world.known.as_ref().unwrap().commit().clone();
        let later =
            Known::read(&world.mirror, &tip, "prod", Some(prod), &Keyring::default()).unwrap();
        let found = later.picture().object(&Key::parse("ConfigMap/default/web").unwrap()).unwrap();
        assert_eq!(found.object.value()["data"]["text"], "two");
        // A link there leads nowhere.
        std::os::unix::fs::symlink("/etc/hosts", world.dir.path().join("repo/base/l")).unwrap();
        let linked = "resources: [web.yaml, l]\n".to_owned();
        world.commit(&[("base/kustomization.yaml", Some(linked))]);
        let tip = world.known.as_ref().unwrap().commit().clone();
        let linked =
            Known::read(&world.mirror, &tip, "prod", Some(later), &Keyring::default()).unwrap();
        let told = linked.picture().problems(&render::Options::default());
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].message.starts_with("base/l is a link"), "{told:?}");
    }

    /// What must not happen: a commit read as a difference that changes something else than the
    /// same commit read whole; a difference that walks over everything.
    #[test]
    fn a_difference_admits_what_the_whole_commit_would() {
        let mut world = World::new();
        let first: Vec<_> =
            (0..80).map(|i| (format!("a/{i}.yaml"), Some(map(&format!("m{i}"), "one")))).collect();
        let first: Vec<_> = first.iter().map(|(p, c)| (p.as_str(), c.clone())).collect();
        assert_eq!(world.commit(&first).wanted.len(), 80);
        // One line: one object.
        assert_eq!(world.commit(&[("a/3.yaml", Some(map("m3", "two")))]).wanted.len(), 1);
        // Moved, removed, added.
        let moved = world.commit(&[
            ("a/4.yaml", None),
            ("b/4.yaml", Some(map("m4", "one"))),
            ("a/5.yaml", None),
            ("c.yaml", Some(map("c", "one") + &map("d", "one"))),
        ]);
        assert_eq!((moved.wanted.len(), moved.deletes.len()), (3, 1));
        // Refused, then put right by leaving the bad file out: what changed beside it is not
        // forgotten.
        let twice = [("a/6.yaml", Some(map("m6", "two"))), ("bad.yaml", Some(map("m7", "other")))];
        assert_eq!(world.commit(&twice).problems.len(), 1);
        assert_eq!(world.commit(&[("bad.yaml", None)]).problems, []);
        // Somebody deletes an object by hand: the next commit brings it back.
        let key = Key::parse("ConfigMap/default/m8").unwrap();
        world.apply(vec![Command::Write(vec![Op::Delete {
            key: key.clone(),
            uid: String::new(),
            grace_seconds: None,
        }])]);
        world.commit(&[("a/9.yaml", Some(map("m9", "two")))]);
        assert!(world.state.view().object(&key).is_some());
        // Other rules: everything is listed again.
        let rules = render::IGNORE_FILE;
        assert_eq!(world.commit(&[(rules, Some("b/\n".to_owned()))]).deletes.len(), 1);
        assert_eq!(world.commit(&[(rules, Some("# none\n".to_owned()))]).deletes.len(), 0);
        // A link is a problem, and the commit after it is no difference to a listing that was cut
        // short.
        std::os::unix::fs::symlink("a/1.yaml", world.dir.path().join("repo/link.yaml")).unwrap();
        assert_eq!(world.commit(&[]).problems.len(), 1);
        assert_eq!(world.commit(&[("a/10.yaml", Some(map("m10", "two")))]).problems.len(), 1);
        assert_eq!(world.commit(&[("link.yaml", None)]).problems, []);
    }
}
