//! What may be asked of each path, in values from which both versions of OpenAPI are written.

use smol_str::SmolStr;

use crate::kinds::{Answered, Definitions, KindInfo, Subresource};

/// One path.
#[derive(Clone, Debug)]
pub(super) struct Route {
    /// `/apis/apps/v1/namespaces/{namespace}/deployments/{name}`
    pub(super) path: String,
    /// What stands in braces.
    pub(super) places: Vec<&'static str>,
    /// What may be done there.
    pub(super) operations: Vec<Operation>,
}

/// One method of one path.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// `get`
    pub(super) method: &'static str,
    /// `readAppsV1NamespacedDeployment`
    pub(super) id: String,
    /// `apps_v1`
    pub(super) tag: String,
    pub(super) description: String,
    /// The verb in `x-kubernetes-action`.
    pub(super) action: &'static str,
    /// Group, version and kind of what it is about.
    pub(super) about: (String, String, String),
    /// Query parameters by name.
    pub(super) query: Vec<&'static str>,
    /// The definition of the body.
    pub(super) body: Option<String>,
    /// The definition of the answer; plain text when there is none.
    pub(super) answer: Option<String>,
    /// The codes of success.
    pub(super) codes: &'static [u16],
}

/// A query or path parameter.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) description: &'static str,
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const LIST: [&str; 10] = [
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const WRITE: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];
const DELETE: [&str; 4] = ["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];

/// A group and version at which a kind is served.
#[derive(Clone, Debug)]
pub(super) struct Place {
    group: String,
    version: String,
    api_version: String,
}

impl Place {
    /// Every place at which a kind is served.
    pub(super) fn all(info: &KindInfo) -> Vec<Self> {
        let of = |(group, version, api_version): (&SmolStr, &SmolStr, &SmolStr)| Self {
            group: group.to_string(),
            version: version.to_string(),
            api_version: api_version.to_string(),
        };
        info.places().map(of).collect()
    }

    /// Where a resource is answered that is not stored.
    pub(super) fn of(answered: &Answered) -> Self {
        Self {
            group: answered.group.to_owned(),
            version: answered.version.to_owned(),
            api_version: answered.api_version(),
        }
    }

    /// `apis/apps/v1`
    pub(super) fn base(&self) -> String {
        let start = if self.group.is_empty() { "api" } else { "apis" };
        format!("{start}/{}", self.api_version)
    }
}

/// Every path of one kind at one place.
pub(super) fn of_kind(info: &KindInfo, at: Place, definitions: &Definitions) -> Vec<Route> {
    let subresources = info.subresources(&at.api_version);
    let maker = Maker { names: Names::of_kind(info), at, definitions };
    let mut routes = maker.main();
    for subresource in &subresources {
        routes.push(maker.subresource(subresource));
        if subresource.name == "proxy" {
            routes.push(maker.proxy_path(subresource));
        }
    }
    routes
}

/// Every path of a resource that is answered but not stored.
pub(super) fn of_answered(of: &Answered, definitions: &Definitions) -> Vec<Route> {
    Maker { names: Names::of_answered(of), at: Place::of(of), definitions }.main()
}

/// What a resource is called, and what may be asked of it.
struct Names {
    kind: String,
    list_kind: String,
    plural: String,
    namespaced: bool,
    verbs: &'static [&'static str],
    delete_gives_object: bool,
}

impl Names {
    fn of_kind(info: &KindInfo) -> Self {
        Self {
            kind: info.kind.to_string(),
            list_kind: info.list_kind.to_string(),
            plural: info.plural.to_string(),
            namespaced: info.namespaced,
            verbs: info.verbs(),
            delete_gives_object: info.delete_gives_object(),
        }
    }

    fn of_answered(of: &Answered) -> Self {
        Self {
            kind: of.kind.to_owned(),
            list_kind: of.list_kind().unwrap_or_default(),
            plural: of.plural.to_owned(),
            namespaced: of.namespaced,
            verbs: of.verbs,
            delete_gives_object: false,
        }
    }
}

/// What makes the paths of one resource.
struct Maker<'a> {
    names: Names,
    at: Place,
    definitions: &'a Definitions,
}

impl Maker<'_> {
    /// The paths of the objects themselves, where anything may be asked there.
    fn main(&self) -> Vec<Route> {
        let mut routes = vec![self.collection(), self.object()];
        if self.names.namespaced {
            routes.push(self.all_namespaces());
        }
        routes.retain(|route| !route.operations.is_empty());
        routes
    }

    fn base(&self) -> String {
        format!("/{}", self.at.base())
    }

    fn collection(&self) -> Route {
        let (path, places) = match self.names.namespaced {
            true => (format!("{}/namespaces/{{namespace}}", self.base()), vec!["namespace"]),
            false => (self.base(), vec![]),
        };
        let operations = self.operations(&["list", "create", "deletecollection"]);
        Route { path: format!("{path}/{}", self.names.plural), places, operations }
    }

    fn object(&self) -> Route {
        let Route { path, mut places, .. } = self.collection();
        places.insert(0, "name");
        let operations = self.operations(&["get", "update", "patch", "delete"]);
        Route { path: format!("{path}/{{name}}"), places, operations }
    }

    fn all_namespaces(&self) -> Route {
        let mut operations = self.operations(&["list"]);
        let id = format!("list{}{}ForAllNamespaces", self.group_version(), self.names.kind);
        operations.iter_mut().for_each(|list| list.id.clone_from(&id));
        let path = format!("{}/{}", self.base(), self.names.plural);
        Route { path, places: vec![], operations }
    }

    fn subresource(&self, sub: &Subresource) -> Route {
        let Route { path, places, .. } = self.object();
        let operations = sub.verbs.iter().map(|verb| self.below(verb, sub)).collect();
        Route { path: format!("{path}/{}", sub.name), places, operations }
    }

    /// What is proxied has a path of its own.
    fn proxy_path(&self, sub: &Subresource) -> Route {
        let Route { path, mut places, mut operations } = self.subresource(sub);
        places.push("path");
        operations.iter_mut().for_each(|operation| operation.id += "WithPath");
        Route { path: format!("{path}/{{path}}"), places, operations }
    }

    /// Those of `verbs` that the kind has.
    fn operations(&self, verbs: &[&'static str]) -> Vec<Operation> {
        let has = |verb: &&&'static str| self.names.verbs.contains(verb);
        verbs.iter().filter(has).map(|verb| self.operation(verb)).collect()
    }

    fn operation(&self, verb: &'static str) -> Operation {
        let (own, list) = (self.definition(&self.names.kind), self.definition_of_list());
        let status = Some(format!("{META}.Status"));
        let options = Some(format!("{META}.DeleteOptions"));
        let shape = Shape::of(verb);
        let (body, answer) = match verb {
            "list" => (None, list),
            "create" | "update" => (own.clone(), own),
            "patch" => (Some(format!("{META}.Patch")), own),
            "delete" if self.names.delete_gives_object => (options, own),
            "delete" | "deletecollection" => (options, status),
            _ => (None, own),
        };
        let word = shape.word.replace('+', &self.group_version());
        let scope = scope(&self.names);
        Operation {
            method: shape.method,
            id: format!("{word}{scope}{}", self.names.kind),
            tag: self.tag(),
            description: format!("{} {}.", shape.says, self.names.kind),
            action: shape.action,
            about: self.about(&self.names.kind, None),
            query: self.query(verb, shape.query),
            body,
            answer,
            codes: shape.codes,
        }
    }

    /// What is measured when it is asked for can be narrowed, and nothing else.
    fn query(&self, verb: &str, all: Vec<&'static str>) -> Vec<&'static str> {
        const NARROWING: [&str; 2] = ["fieldSelector", "labelSelector"];
        let measured = verb == "list" && !self.names.verbs.contains(&"watch");
        all.into_iter().filter(|name| !measured || NARROWING.contains(name)).collect()
    }

    /// An operation on a subresource.
    fn below(&self, verb: &'static str, sub: &Subresource) -> Operation {
        let streams = sub.kind.ends_with("Options");
        let shape = Shape::of(verb);
        let own = self.definition_of(sub);
        let mut made = self.operation(verb);
        made.about = self.about(&sub.kind, sub.group_version);
        made.id += &capital(sub.name);
        made.description = format!("{} the {} of a {}.", shape.says, sub.name, self.names.kind);
        made.answer = own.clone();
        match verb {
            "create" | "update" => made.body = own,
            "patch" => made.body = Some(format!("{META}.Patch")),
            _ => made.body = None,
        }
        if streams {
            made.action = "connect";
            let method = capital(made.method);
            let (group, scope) = (self.group_version(), scope(&self.names));
            let end = format!("{}{}", self.names.kind, capital(sub.name));
            made.id = format!("connect{group}{method}{scope}{end}");
            (made.body, made.answer) = (None, None);
        }
        if streams || sub.name == "log" {
            made.query = stream_query(sub.name).to_vec();
        }
        if sub.name == "log" {
            made.answer = None;
        }
        made
    }

    fn definition(&self, kind: &str) -> Option<String> {
        self.definitions.name_of(&self.at.api_version, kind).map(str::to_owned)
    }

    fn definition_of_list(&self) -> Option<String> {
        self.definition(&self.names.list_kind)
    }

    fn definition_of(&self, sub: &Subresource) -> Option<String> {
        let Some((group, version)) = sub.group_version else { return self.definition(&sub.kind) };
        let found = self.definitions.name_of(&format!("{group}/{version}"), &sub.kind);
        found.map(str::to_owned)
    }

    fn about(&self, kind: &str, other: Option<(&str, &str)>) -> (String, String, String) {
        let (group, version) = other.unwrap_or((&self.at.group, &self.at.version));
        (group.to_owned(), version.to_owned(), kind.to_owned())
    }

    /// `AppsV1`, `CoreV1`, `RbacAuthorizationV1`
    fn group_version(&self) -> String {
        let group = match self.at.group.as_str() {
            "" => "core",
            group => group.strip_suffix(".k8s.io").unwrap_or(group),
        };
        let words = group.split(['.', '-']).map(capital);
        format!("{}{}", words.collect::<String>(), capital(&self.at.version))
    }

    /// `apps_v1`
    fn tag(&self) -> String {
        let group = match self.at.group.as_str() {
            "" => "core",
            group => group.strip_suffix(".k8s.io").unwrap_or(group),
        };
        format!("{}_{}", group.replace(['.', '-'], "_"), self.at.version)
    }
}

fn scope(names: &Names) -> &'static str {
    if names.namespaced { "Namespaced" } else { "" }
}

/// What all operations of one verb have in common.
struct Shape {
    method: &'static str,
    /// How the id begins; `+` is where group and version stand.
    word: &'static str,
    action: &'static str,
    says: &'static str,
    query: Vec<&'static str>,
    codes: &'static [u16],
}

impl Shape {
    fn of(verb: &str) -> Self {
        let (method, word, action, says, codes): (_, _, _, _, &'static [u16]) = match verb {
            "list" => ("get", "list+", "list", "Lists or watches objects of kind", &[200]),
            "create" => ("post", "create+", "post", "Creates", &[200, 201, 202]),
            "update" => ("put", "replace+", "put", "Replaces", &[200, 201]),
            "patch" => ("patch", "patch+", "patch", "Changes parts of", &[200, 201]),
            "delete" => ("delete", "delete+", "delete", "Deletes", &[200, 202]),
            "deletecollection" => (
                "delete",
                "delete+Collection",
                "deletecollection",
                "Deletes every selected object of kind",
                &[200],
            ),
            _ => ("get", "read+", "get", "Reads", &[200]),
        };
        let query = match verb {
            "list" => LIST.to_vec(),
            "create" | "update" => WRITE.to_vec(),
            "patch" => [&WRITE[..], &["force"]].concat(),
            "delete" => DELETE.to_vec(),
            "deletecollection" => [&LIST[1..], &DELETE].concat(),
            _ => vec![],
        };
        let query = query.into_iter().filter(|name| verb != "deletecollection" || *name != "watch");
        Self { method, word, action, says, query: query.collect(), codes }
    }
}

/// `deployments` → `Deployments`
fn capital(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn stream_query(sub: &str) -> &'static [&'static str] {
    match sub {
        "attach" => &["container", "stderr", "stdin", "stdout", "tty"],
        "exec" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
        "portforward" => &["ports"],
        "proxy" => &["path"],
        "log" => &[
            "container",
            "follow",
            "insecureSkipTLSVerifyBackend",
            "limitBytes",
            "previous",
            "sinceSeconds",
            "sinceTime",
            "stream",
            "tailLines",
            "timestamps",
        ],
        _ => &[],
    }
}

/// A parameter by its name.
pub(super) fn parameter(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}

const fn text(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind: "string", description }
}
const fn flag(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind: "boolean", description }
}
const fn number(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind: "integer", description }
}

/// Every parameter; those in paths too.
const PARAMETERS: [Parameter; 39] = [
    flag("allowWatchBookmarks", "Whether a watch may be sent events that only say a revision."),
    text("command", "The command, one parameter for each word."),
    text("container", "The container; the only one, or the default one, when absent."),
    text("continue", "The token of an earlier page: the list goes on after it."),
    text("dryRun", "`All`: everything is checked and answered, nothing is stored."),
    text("fieldManager", "Who makes the change, for the ownership of fields."),
    text("fieldSelector", "Selects by fields (`metadata.name=x`)."),
    text("fieldValidation", "What to do with unknown fields: `Ignore`, `Warn` or `Strict`."),
    flag("follow", "Go on sending what the container writes."),
    flag("force", "Apply takes fields over from other managers."),
    number("gracePeriodSeconds", "How long the object has to end; zero is at once."),
    flag("insecureSkipTLSVerifyBackend", "Whether the node's certificate is left unchecked."),
    text("labelSelector", "Selects by labels (`app=x,tier in (a,b)`)."),
    number("limit", "Most objects in one answer; `continue` gets the rest."),
    number("limitBytes", "Most bytes of the log."),
    text("name", "Name of the object."),
    text("namespace", "Namespace of the object."),
    flag("orphanDependents", "Old form of propagationPolicy: whether what it owns stays."),
    text("path", "Path of what is behind the proxy."),
    number("ports", "Ports of the pod."),
    text("pretty", "`true`: the answer is laid out for people."),
    flag("previous", "The log of the container's last instance."),
    text("propagationPolicy", "What happens to what it owns: Orphan, Background, Foreground."),
    text("resourceVersion", "The revision that the answer must have reached."),
    text("resourceVersionMatch", "How resourceVersion is meant: Exact or NotOlderThan."),
    flag("sendInitialEvents", "Whether a watch begins with what there is."),
    number("sinceSeconds", "The log of the last so many seconds."),
    text("sinceTime", "The log from this time on."),
    flag("stderr", "Whether the error output is connected."),
    flag("stdin", "Whether the input is connected."),
    flag("stdout", "Whether the output is connected."),
    text("stream", "Which of the container's outputs: All, Stdout or Stderr."),
    number("tailLines", "Start with the last so many lines."),
    number("timeoutSeconds", "How long a list or a watch may take."),
    flag("timestamps", "Put the time before each line."),
    flag("tty", "Whether there is a terminal."),
    flag("watch", "Watch instead of list."),
    text("uid", "The uid that the object must have."),
    text("version", "The version of the kind."),
];
