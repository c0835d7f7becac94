//! Renders one kustomization with everything it refers to.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::{
    Files, Found,
    fields::{Generator, GeneratorOptions, Image, Label, Patch, Replacement, Replica, Texts},
    file::{Kustomization, NAMES},
    generate::{self, Behavior, Made},
    patch, references, replace,
    resource::{Place, Resource, Source, append},
    specs, transform,
};
use crate::{
    model::Problem,
    render::{
        sealed::{self, SealedFile},
        yaml,
    },
};

/// Deepest chain of kustomizations that name each other; real ones have about five.
const DEPTH_MAX: usize = 32;

/// Most files that one rendering reads, counted each time they are named: a base that is named
/// again and again by others doubles with each level.
const FILES_MAX: usize = 10_000;

/// Most objects of one rendering; no cluster is made from one kustomization of more.
const OBJECTS_MAX: usize = 10_000;

/// Most bytes that the texts of kustomizations add to objects together, 256 MiB: one long label
/// for ten thousand objects is many bytes.
const WORK_BYTES_MAX: usize = 256 << 20;

/// Bytes that each step counts for one object, so that many small steps are bounded too.
const STEP_BYTES: usize = 64;

/// Longest prefix or suffix in bytes: no name is longer.
const AFFIX_BYTES_MAX: usize = 253;

/// What one kustomization makes.
pub(super) struct Output {
    pub(super) set: Vec<Resource>,
    /// Why it may not be taken.
    pub(super) problems: Vec<Problem>,
    /// The sealed files it is made of.
    pub(super) sealed: Vec<Arc<SealedFile>>,
}

/// Does everything that one kustomization says.
pub(super) fn build(files: &mut dyn Files, folder: &str) -> Output {
    let (problems, sealed, open) = (Vec::new(), Vec::new(), Vec::new());
    let mut build = Build { files, problems, sealed, open, read: 0, work: 0 };
    let mut set = Vec::new();
    match build.kustomization(folder) {
        Ok(Some(file)) => set = build.folder(folder, &file, set),
        Ok(None) => {}
        Err(problem) => build.problems.push(problem),
    }
    for resource in set.iter_mut().filter(|resource| resource.hashed) {
        let name = format!("{}-{}", resource.name(), generate::hash(&resource.value));
        resource.remember();
        resource.set_name(&name);
    }
    for (number, message) in references::mend(&mut set) {
        let place = &set[number].place;
        let (file, line) = (place.source.path.clone(), place.line);
        build.problems.push(Problem { file, line, field: String::new(), message });
    }
    set.retain(|resource| !resource.is_local());
    let mut known = BTreeSet::new();
    for twice in set.iter().filter(|resource| !known.insert(resource.id())) {
        let (file, line) = (twice.place.source.path.clone(), twice.place.line);
        let message = format!("in the end there are two of {}: keep one", twice.shown());
        build.problems.push(Problem { file, line, field: String::new(), message });
    }
    for resource in &mut set {
        generate::join_base64(&mut resource.value);
        resource.annotations_to_texts();
    }
    Output { set, problems: build.problems, sealed: build.sealed }
}

struct Build<'f> {
    files: &'f mut dyn Files,
    problems: Vec<Problem>,
    sealed: Vec<Arc<SealedFile>>,
    /// The folders whose kustomizations are being rendered, the outermost first.
    open: Vec<String>,
    read: usize,
    work: usize,
}

impl Build<'_> {
    fn say(&mut self, file: &Kustomization, field: &str, message: impl Into<String>) {
        self.problems.push(file.problem(field, message));
    }

    /// Says what is wrong with a field, if anything is.
    fn check(&mut self, file: &Kustomization, field: &str, result: Result<(), String>) {
        if let Err(message) = result {
            self.say(file, field, message);
        }
    }

    /// Counts a step, and the bytes it adds to so many objects.
    fn may_add(&mut self, bytes: usize, objects: usize) -> Result<(), String> {
        let bytes = bytes.saturating_add(STEP_BYTES);
        self.work = self.work.saturating_add(bytes.saturating_mul(objects));
        match self.work > WORK_BYTES_MAX {
            true => Err(format!(
                "the objects grow by more than {WORK_BYTES_MAX} bytes: change fewer at a time"
            )),
            false => Ok(()),
        }
    }

    fn find(&mut self, path: &str) -> Result<Found, String> {
        self.read += 1;
        match self.read > FILES_MAX {
            true => Err(format!("more than {FILES_MAX} files are read: name fewer")),
            false => Ok(self.files.find(path)),
        }
    }

    /// The bytes of a file in the folder of a kustomization or below.
    fn bytes(&mut self, folder: &str, reference: &str) -> Result<(String, Arc<[u8]>), String> {
        let path = resolve(folder, reference)?;
        match self.find(&path)? {
            Found::File(bytes) => inside(folder, &path).map(|()| (path, bytes)),
            Found::Folder => Err(format!("{path} is a folder, and a file is meant")),
            Found::Nothing => Err(format!("there is no file {path}")),
            Found::Unusable(why) => Err(format!("{path} {why}")),
        }
    }

    fn source(&mut self, folder: &str, reference: &str) -> Result<Arc<Source>, String> {
        let (path, bytes) = self.bytes(folder, reference)?;
        Ok(Arc::new(Source { path, bytes }))
    }

    /// The kustomization of a folder, by any of its names; none when it has none.
    fn kustomization(&mut self, folder: &str) -> Result<Option<Kustomization>, Problem> {
        let mut found = Vec::new();
        for name in NAMES {
            let path = join(folder, name);
            let at =
                |message: String| Problem { file: path.clone(), message, ..Problem::default() };
            match self.find(&path).map_err(at)? {
                Found::File(bytes) => found.push((path, bytes)),
                Found::Unusable(why) => return Err(at(why)),
                Found::Folder | Found::Nothing => {}
            }
        }
        let two = found.len() > 1;
        let Some((path, bytes)) = found.pop() else { return Ok(None) };
        if two {
            let message = format!("the folder has several of {}: keep one", NAMES.join(", "));
            return Err(Problem { file: path, message, ..Problem::default() });
        }
        Kustomization::read(Arc::new(Source { path, bytes })).map(Some)
    }

    /// Does what the kustomization of a folder says to the objects that are there.
    fn folder(
        &mut self,
        folder: &str,
        file: &Kustomization,
        mut set: Vec<Resource>,
    ) -> Vec<Resource> {
        self.open.push(folder.to_owned());
        self.problems.extend(file.misfits());
        self.resources(folder, file, &mut set);
        self.generators(folder, file, &mut set);
        for (field, reference) in file.list::<String>("components", &mut self.problems) {
            set = self.component(folder, file, (&field, &reference), set);
        }
        self.transform(folder, file, &mut set);
        self.open.pop();
        set
    }

    fn resources(&mut self, folder: &str, file: &Kustomization, set: &mut Vec<Resource>) {
        let mut all = file.list::<String>("resources", &mut self.problems);
        all.extend(file.list::<String>("bases", &mut self.problems));
        for (field, reference) in all {
            let more = match self.resource(folder, &reference) {
                Ok(more) => more,
                Err(message) => {
                    self.say(file, &field, message);
                    continue;
                }
            };
            if set.len() + more.len() > OBJECTS_MAX {
                self.say(file, &field, format!("there are more than {OBJECTS_MAX} objects"));
                return;
            }
            for (twice, before) in append(set, more) {
                let message = format!(
                    "{} is there already, from {}:{}: keep one of the two",
                    twice.shown(),
                    before.source.path,
                    before.line
                );
                self.say(file, &field, message);
            }
        }
    }

    /// The objects of a file, or of the kustomization of a folder.
    fn resource(&mut self, folder: &str, reference: &str) -> Result<Vec<Resource>, String> {
        let path = resolve(folder, reference)?;
        match self.find(&path)? {
            Found::File(bytes) => {
                inside(folder, &path)?;
                Ok(self.objects(Arc::new(Source { path, bytes })))
            }
            Found::Folder => {
                self.may_open(&path)?;
                match self.kustomization(&path) {
                    Ok(None) => Err(no_kustomization(&path)),
                    Ok(Some(base)) if base.is_component() => Err(format!(
                        "{path} is a Component: name it in components instead of resources"
                    )),
                    Ok(Some(base)) => Ok(self.folder(&path, &base, Vec::new())),
                    Err(problem) => {
                        self.problems.push(problem);
                        Ok(Vec::new())
                    }
                }
            }
            Found::Nothing => Err(format!("there is no file or folder {path} in the repository")),
            Found::Unusable(why) => Err(format!("{path} {why}")),
        }
    }

    fn component(
        &mut self,
        folder: &str,
        file: &Kustomization,
        (field, reference): (&str, &str),
        set: Vec<Resource>,
    ) -> Vec<Resource> {
        let found = resolve(folder, reference).and_then(|path| match self.find(&path)? {
            Found::Folder => self.may_open(&path).map(|()| path),
            Found::File(_) => Err(format!("{path} is a file, and a folder is meant")),
            Found::Nothing => Err(format!("there is no folder {path} in the repository")),
            Found::Unusable(why) => Err(format!("{path} {why}")),
        });
        let path = match found {
            Ok(path) => path,
            Err(message) => {
                self.say(file, field, message);
                return set;
            }
        };
        match self.kustomization(&path) {
            Ok(Some(part)) if part.is_component() => self.folder(&path, &part, set),
            Ok(None) => {
                self.say(file, field, no_kustomization(&path));
                set
            }
            Ok(Some(_)) => {
                let message = format!(
                    "{path} is no Component: name it in resources, or write kind: Component there"
                );
                self.say(file, field, message);
                set
            }
            Err(problem) => {
                self.problems.push(problem);
                set
            }
        }
    }

    /// Whether a folder may be rendered inside of those that are.
    fn may_open(&self, path: &str) -> Result<(), String> {
        let holds = |open: &&String| inside(path, open).is_ok() || path == open.as_str();
        if let Some(open) = self.open.iter().find(holds) {
            let way: Vec<&str> = self.open.iter().map(String::as_str).chain([path]).collect();
            return Err(match open == path {
                true => format!("the kustomizations go round: {}", way.join(" -> ")),
                false => format!("{path:?} holds {open:?}, which names it: move one elsewhere"),
            });
        }
        match self.open.len() < DEPTH_MAX {
            true => Ok(()),
            false => Err(format!("more than {DEPTH_MAX} kustomizations name each other")),
        }
    }

    /// The objects of a file.
    fn objects(&mut self, source: Arc<Source>) -> Vec<Resource> {
        let mut documents = match yaml::read_texts(&source.bytes) {
            Ok(documents) => documents,
            Err(yaml::Fault { line, message }) => {
                let file = source.path.clone();
                self.problems.push(Problem { file, line, field: String::new(), message });
                return Vec::new();
            }
        };
        match sealed::take(&source.path, &source.bytes, &mut documents) {
            Ok(sealed) => self.sealed.extend(sealed.map(Arc::new)),
            Err(problems) => {
                self.problems.extend(problems);
                return Vec::new();
            }
        }
        let mut objects = Vec::new();
        for (document, yaml::Document { line, value }) in documents.into_iter().enumerate() {
            let source = source.clone();
            let place = Place { source, document, prefix: String::new(), line };
            self.flatten(value, place, &mut objects);
        }
        objects
    }

    /// An object, or those of a list.
    fn flatten(&mut self, mut value: Value, place: Place, objects: &mut Vec<Resource>) {
        let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        if let (true, Some(items)) = (is_list, value.get_mut("items").map(Value::take)) {
            let Value::Array(items) = items else { return };
            for (i, item) in items.into_iter().enumerate() {
                let prefix = match place.prefix.as_str() {
                    "" => format!("items[{i}]"),
                    outer => format!("{outer}.items[{i}]"),
                };
                self.flatten(item, Place { prefix, ..place.clone() }, objects);
            }
            return;
        }
        let resource = Resource::new(value, place);
        let missing = match () {
            () if resource.kind().is_empty() => "kind",
            () if resource.name().is_empty() => "metadata.name",
            () => return objects.push(resource),
        };
        let place = &resource.place;
        self.problems.push(Problem {
            file: place.source.path.clone(),
            line: place.line,
            field: missing.to_owned(),
            message: format!("Required value: an object of a kustomization needs {missing}"),
        });
    }

    fn generators(&mut self, folder: &str, file: &Kustomization, set: &mut Vec<Resource>) {
        let all: GeneratorOptions = file.one("generatorOptions", &mut self.problems);
        let lists = [("configMapGenerator", Made::ConfigMap), ("secretGenerator", Made::Secret)];
        for (list, made) in lists {
            for (field, generator) in file.list::<Generator>(list, &mut self.problems) {
                let options = generator.options.with(&all);
                let mut read = |reference: &str| {
                    let (path, bytes) = self.bytes(folder, reference)?;
                    sealed::refuse_parts(&path, &bytes).map(|()| bytes)
                };
                let object = generate::object(made, &generator, &options, &mut read);
                match object {
                    Ok(value) => {
                        let mut resource = Resource::new(value, file.place(&field));
                        resource.hashed = !options.disable_name_suffix_hash;
                        let absorbed = absorb(set, resource, &generator.behavior);
                        self.check(file, &field, absorbed);
                    }
                    Err((inner, message)) => {
                        self.say(file, &format!("{field}.{inner}"), message);
                    }
                }
            }
        }
    }

    /// What a kustomization does to its objects, in kustomize's order.
    fn transform(&mut self, folder: &str, file: &Kustomization, set: &mut Vec<Resource>) {
        self.merge_patches(folder, file, set);
        self.patches(folder, file, set);
        let namespace: String = file.one("namespace", &mut self.problems);
        if !namespace.is_empty() {
            let set_all = self
                .may_add(namespace.len(), set.len())
                .and_then(|()| transform::namespace(set, &namespace));
            self.check(file, "namespace", set_all);
        }
        for (field, end) in
            [("namePrefix", transform::End::Prefix), ("nameSuffix", transform::End::Suffix)]
        {
            let text: String = file.one(field, &mut self.problems);
            if text.len() > AFFIX_BYTES_MAX {
                self.say(file, field, format!("is longer than {AFFIX_BYTES_MAX} bytes"));
            } else if !text.is_empty() {
                transform::rename(set, &text, end);
            }
        }
        self.labels(file, set);
        self.json_patches(folder, file, set);
        for (field, replica) in file.list::<Replica>("replicas", &mut self.problems) {
            let done = self.may_add(0, set.len()).and_then(|()| transform::replicas(set, &replica));
            self.check(file, &field, done);
        }
        let mut images = file.list::<Image>("images", &mut self.problems);
        images.extend(file.list::<Image>("imageTags", &mut self.problems));
        for (field, image) in images {
            let done = self
                .may_add(image.new_name.len() + image.new_tag.len(), set.len())
                .and_then(|()| transform::image(set, &image));
            self.check(file, &field, done);
        }
        self.replacements(folder, file, set);
    }

    fn labels(&mut self, file: &Kustomization, set: &mut [Resource]) {
        let bytes = |texts: &Texts| texts.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        for (field, label) in file.list::<Label>("labels", &mut self.problems) {
            let put = self
                .may_add(bytes(&label.pairs), set.len())
                .and_then(|()| transform::put(set, &label.pairs, &transform::label_specs(&label)));
            self.check(file, &field, put);
        }
        let common = transform::common_label_specs();
        let all = [("commonLabels", common.as_slice()), ("commonAnnotations", specs::ANNOTATIONS)];
        for (field, specs) in all {
            let texts: Texts = file.one(field, &mut self.problems);
            let put = self
                .may_add(bytes(&texts), set.len())
                .and_then(|()| transform::put(set, &texts, specs));
            self.check(file, field, put);
        }
    }

    /// A patch that stands in a file, or in the kustomization itself.
    fn load(
        &mut self,
        folder: &str,
        file: &Kustomization,
        field: &str,
        (path, text): (&str, &str),
        objects: usize,
    ) -> Result<patch::Patch, String> {
        let (place, bytes) = match (path, text.trim()) {
            ("", "") => return Err("a patch needs a path or a patch".to_owned()),
            ("", text) => (file.place(field), Arc::from(text.as_bytes())),
            (path, "") => {
                let source = self.source(folder, path)?;
                let bytes = source.bytes.clone();
                (Place { source, document: 0, prefix: String::new(), line: 1 }, bytes)
            }
            _ => return Err("a patch has a path or a patch, not both: remove one".to_owned()),
        };
        self.may_add(bytes.len(), objects)?;
        let fault = |fault: yaml::Fault| match path {
            "" => format!("line {} of the patch: {}", fault.line, fault.message),
            path => format!("{path}:{}: {}", fault.line, fault.message),
        };
        let mut documents = yaml::read_texts(&bytes).map_err(fault)?;
        // Operations are read like the kustomization itself.
        if documents.iter().any(|document| document.value.is_array()) {
            documents = yaml::read(&bytes).map_err(fault)?;
        }
        patch::Patch::of(documents.into_iter().map(|document| document.value).collect(), &place)
    }

    /// `patchesStrategicMerge`: each a path, or the patch itself.
    fn merge_patches(&mut self, folder: &str, file: &Kustomization, set: &mut Vec<Resource>) {
        for (field, text) in file.list::<String>("patchesStrategicMerge", &mut self.problems) {
            let itself = yaml::documents(text.as_bytes());
            let is_patch = itself.is_ok_and(|all| all.iter().any(Value::is_object));
            let given = if is_patch { ("", text.as_str()) } else { (text.as_str(), "") };
            let done = self
                .load(folder, file, &field, given, 1)
                .and_then(|patch| patch::apply(set, &patch, None, Default::default()));
            self.check(file, &field, done);
        }
    }

    fn patches(&mut self, folder: &str, file: &Kustomization, set: &mut Vec<Resource>) {
        for (field, entry) in file.list::<Patch>("patches", &mut self.problems) {
            let objects = if entry.target.is_some() { set.len() } else { 1 };
            let done = self
                .load(folder, file, &field, (&entry.path, &entry.patch), objects)
                .and_then(|patch| patch::apply(set, &patch, entry.target.as_ref(), entry.options));
            self.check(file, &field, done);
        }
    }

    fn json_patches(&mut self, folder: &str, file: &Kustomization, set: &mut [Resource]) {
        for (field, entry) in file.list::<Patch>("patchesJson6902", &mut self.problems) {
            let done = self
                .load(folder, file, &field, (&entry.path, &entry.patch), set.len())
                .and_then(|patch| patch::json_only(set, &patch, entry.target.as_ref()));
            self.check(file, &field, done);
        }
    }

    fn replacements(&mut self, folder: &str, file: &Kustomization, set: &mut [Resource]) {
        for (field, entry) in file.list::<Replacement>("replacements", &mut self.problems) {
            let all = match entry.path.as_str() {
                "" => Ok(vec![entry]),
                path => self.source(folder, path).and_then(|source| listed(&source)),
            };
            let done = all.and_then(|all| {
                all.iter().try_for_each(|one| {
                    self.may_add(0, set.len())?;
                    let bytes = replace::apply(set, one)?;
                    self.may_add(bytes, 1)
                })
            });
            self.check(file, &field, done);
        }
    }
}

/// The replacements of a file: one, or a list.
fn listed(source: &Source) -> Result<Vec<Replacement>, String> {
    let fault = |fault: yaml::Fault| format!("{}:{}: {}", source.path, fault.line, fault.message);
    let mut documents = yaml::documents(&source.bytes).map_err(fault)?;
    let items = match documents.pop() {
        Some(Value::Array(items)) => items,
        Some(item) => vec![item],
        None => Vec::new(),
    };
    let read = |item| serde_json::from_value(item).map_err(|e| format!("{}: {e}", source.path));
    items.into_iter().map(read).collect()
}

/// Adds what a generator made to the objects, or into the one of the same name.
fn absorb(set: &mut Vec<Resource>, mut new: Resource, behavior: &str) -> Result<(), String> {
    let behavior = Behavior::parse(behavior)?;
    let id = new.id();
    let meant: Vec<usize> = (0..set.len()).filter(|i| set[*i].ids().contains(&id)).collect();
    match (meant.as_slice(), behavior) {
        ([], Behavior::Create) => set.push(new),
        ([], _) => {
            return Err(format!("there is no {} to merge with or to replace", new.shown()));
        }
        ([_], Behavior::Create) => {
            return Err(format!(
                "{} is there already: write behavior: merge or replace",
                new.shown()
            ));
        }
        ([at], behavior) => {
            generate::combine(&set[*at].value, &mut new.value, behavior);
            new.inherit(&set[*at]);
            set[*at] = new;
        }
        (several, _) => return Err(format!("there are {} of {}", several.len(), new.shown())),
    }
    Ok(())
}

fn no_kustomization(folder: &str) -> String {
    format!("the folder {folder} has no {}: add one, or name its files", NAMES[0])
}

/// A path in a folder.
pub(super) fn join(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        folder => format!("{folder}/{name}"),
    }
}

/// Whether a path is below a folder.
fn inside(folder: &str, path: &str) -> Result<(), String> {
    let below = path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    match folder.is_empty() || below {
        true => Ok(()),
        false => Err(format!(
            "{path} is not below {folder}: a kustomization names files of its own folder; put a \
             kustomization beside that file and name its folder"
        )),
    }
}

/// What a reference leads to, as a path in the repository.
pub(super) fn resolve(folder: &str, reference: &str) -> Result<String, String> {
    let remote = reference.contains("://") || reference.starts_with("git@");
    if remote || reference.contains("?ref=") {
        return Err(format!(
            "{reference:?} is outside the repository, and nothing is fetched: commit it here and \
             name its path"
        ));
    }
    if reference.starts_with('/') || reference.is_empty() {
        return Err(format!("{reference:?} is no path from this folder: write a relative path"));
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in reference.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => {
                return Err(format!("{reference:?} leads out of the repository"));
            }
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
