//! Create, update, patch: from a body to a command.

use axum::{http::StatusCode, response::Response};
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

use super::{
    Ask,
    answer::{self, Shape},
    body, books, commit, door,
    options::{self, WriteOptions},
    patching,
    propose::{self, Written},
};
use crate::{
    api::{
        Api, Failure,
        admission::{self, Attempt, Verdict},
        authz,
        failure::{Cause, Details},
        patch::{Patch, Schema},
    },
    kinds::{self, Admitted, FieldError, KindInfo, Reason, Strictness},
    model::{Key, Object, Revision},
    state::{Expect, Op, Part, View},
};

/// How often a write is tried again that named no version and met another one: each try takes the
/// newest. More would only mean that somebody writes without a pause.
const TRIES_MAX: usize = 5;

/// How many characters of a prefix a generated name keeps: 63 less the five it adds.
const PREFIX_MAX: usize = 58;

/// What generated names end in: no vowels, so no words, and nothing that is read wrongly.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Creates an object.
pub(super) async fn create(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let options = WriteOptions::of("CreateOptions", &ask.query)?;
    takes_new(ask)?;
    let (mut value, told) = body::sent(ask, options.strictness)?;
    body::identify(ask, &mut value)?;
    place(ask, &mut value)?;
    if version_of(&value).is_some() {
        let text = "resourceVersion should not be set on objects to be created";
        return Err(options::without_reason(text));
    }
    let named = value["metadata"]["name"].as_str().is_some_and(|name| !name.is_empty());
    for _ in 1..TRIES_MAX {
        let wanted = with_name(api, value.clone());
        match created(api, ask, &shape, options, wanted, &told).await {
            // A generated name that is taken: draw another.
            Err(failure) if !named && failure.reason == "AlreadyExists" => {}
            // A quota was charged by another write at the same moment: count again.
            Err(failure) if failure.reason == "Conflict" => {}
            result => return result,
        }
    }
    created(api, ask, &shape, options, with_name(api, value), &told).await
}

/// A custom kind whose definition goes takes no new objects.
fn takes_new(ask: &Ask) -> Result<(), Failure> {
    if !ask.info.is_terminating() {
        return Ok(());
    }
    let text = "create not allowed while custom resource definition is terminating";
    Err(Failure::of(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text.to_owned()))
}

async fn created(
    api: &Api,
    ask: &Ask,
    shape: &Shape,
    options: WriteOptions,
    value: Value,
    told: &[FieldError],
) -> Result<Response, Failure> {
    let view = api.view();
    let wish = value.clone();
    let (admitted, verdict) =
        prepare(ask, &view, options.strictness, value, Onto::Nothing, options.dry_run)?;
    let key = admitted.object.key().clone();
    let change = door::Change {
        info: &ask.info,
        key: &key,
        subresource: "",
        live: None,
        wanted: Some(&admitted.object),
        user: &ask.user.name,
    };
    let way = door::judge(&view, api.backend.writes(), &change)?;
    let made = view.kinds().create(&admitted.object);
    let kept = books::after(api, ask, None, &admitted.object, &made);
    let object = books::with(&admitted.object, kept)?;
    let mut ops = verdict.charges;
    ops.push(Op::Put { object, expect: Expect::Absent, part: Part::Main });
    let written = match way {
        door::Way::Git if !options.dry_run => {
            commit::write(api, ask, &key, None, Some(&wish)).await?
        }
        _ => propose::write(api, &ask.info, &key, ops, options.dry_run).await?,
    };
    let object = match options.dry_run {
        true => as_before(&written.object, None),
        false => written.object,
    };
    let mut response = answer::warn(shape.one(StatusCode::CREATED, &object), told);
    response = answer::warn(response, &admitted.warnings);
    for warning in &verdict.warnings {
        answer::add_warning(&mut response, warning);
    }
    Ok(response)
}

/// What a dry run shows: nothing was stored, so the version is that of the live object, if any.
fn as_before(object: &Object, live: Option<&Object>) -> Object {
    let mut value = object.value();
    if let Some(meta) = value["metadata"].as_object_mut() {
        meta.remove("resourceVersion");
        let version = live.map(|live| live.revision().to_string().into());
        meta.extend(version.map(|version| ("resourceVersion".to_owned(), version)));
    }
    Object::from_value(&value).unwrap_or_else(|_| object.clone())
}

/// Puts the namespace of the path into a value, and refuses another one.
fn place(ask: &Ask, value: &mut Value) -> Result<(), Failure> {
    if !value["metadata"].is_object() {
        value["metadata"] = serde_json::json!({});
    }
    let Some(namespace) = ask.namespace() else { return Ok(()) };
    match value["metadata"]["namespace"].as_str().filter(|found| !found.is_empty()) {
        Some(found) if found != namespace => Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        _ => {
            value["metadata"]["namespace"] = namespace.into();
            Ok(())
        }
    }
}

/// The version a body names; an absent, empty or zero one names none.
fn version_of(value: &Value) -> Option<&str> {
    value["metadata"]["resourceVersion"].as_str().filter(|text| !matches!(*text, "" | "0"))
}

/// Gives a value that has only a prefix a whole name.
fn with_name(api: &Api, mut value: Value) -> Value {
    let meta = &mut value["metadata"];
    let named = meta["name"].as_str().is_some_and(|name| !name.is_empty());
    let prefix = meta["generateName"].as_str().filter(|prefix| !prefix.is_empty());
    if let Some(prefix) = prefix.filter(|_| !named) {
        let kept: String = prefix.chars().take(PREFIX_MAX).collect();
        meta["name"] = format!("{kept}{}", ending(api.backend.random())).into();
    }
    value
}

/// Five characters of random bits.
fn ending(mut bits: u128) -> String {
    let count = LETTERS.len() as u128;
    let letter = || {
        let letter = LETTERS[(bits % count) as usize];
        bits /= count;
        char::from(letter)
    };
    std::iter::repeat_with(letter).take(5).collect()
}

/// What a value is to become.
#[derive(Clone, Copy)]
pub(super) enum Onto<'a> {
    /// A new object.
    Nothing,
    /// The whole of a stored one, put together with what only the cluster says of it.
    All(&'a Object),
    /// The status of a stored one: an object as it was sent, from which that is taken.
    Status(&'a Object),
}

/// From a value that is wanted to an object that may be stored: admission, decoding, defaults,
/// validation.
pub(super) fn prepare(
    ask: &Ask,
    view: &View,
    strictness: Strictness,
    mut value: Value,
    onto: Onto<'_>,
    dry_run: bool,
) -> Result<(Admitted, Verdict), Failure> {
    let (live, subresource) = match onto {
        Onto::Nothing => (None, ""),
        Onto::All(live) | Onto::Status(live) => (Some(live), ask.resource.subresource.as_str()),
    };
    if live.is_none() {
        place_exists(&ask.info, view, &value)?;
    }
    let attempt = Attempt { user: &ask.user, view, info: &ask.info, subresource, live };
    admission::mutate(&attempt, &mut value)?;
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let admitted = match onto {
        Onto::Nothing => view.kinds().admit(value, strictness),
        Onto::All(live) => view.kinds().replace(live, value, strictness),
        Onto::Status(_) => view.kinds().admit_change(value, strictness),
    };
    let refused = |errors: Vec<FieldError>| match ask.verb {
        "patch" => patching::not_admitted(ask, &name, errors),
        _ => not_admitted(&ask.info, &name, errors),
    };
    let admitted = admitted.map_err(refused)?;
    // A status is judged once it is put together with the rest.
    if !matches!(onto, Onto::Status(_)) {
        view.kinds().judge(live, &admitted.object).map_err(refused)?;
    }
    let verdict = admission::validate(&attempt, &admitted.object, dry_run)?;
    Ok((admitted, verdict))
}

/// A namespace takes new objects while it exists and is not going.
fn place_exists(info: &KindInfo, view: &View, value: &Value) -> Result<(), Failure> {
    let Some(namespace) = value["metadata"]["namespace"].as_str().filter(|_| info.namespaced)
    else {
        return Ok(());
    };
    let Some(found) = view.object(&Key::of::<Namespace>("", namespace)) else {
        let details = Details {
            name: namespace.to_owned(),
            kind: "namespaces".to_owned(),
            ..Details::default()
        };
        return Err(Failure::not_found(format!("namespaces {namespace:?} not found")).with(details));
    };
    if !found.is_terminating() {
        return Ok(());
    }
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let cause = Cause {
        reason: "NamespaceTerminating".to_owned(),
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace".to_owned(),
    };
    let details = Details { causes: vec![cause], ..Details::of(info, name) };
    Err(Failure::refused(info, name, &why).with(details))
}

/// What the door of kinds found wrong: 400 when the body cannot be read as the kind, else 422.
pub(super) fn not_admitted(info: &KindInfo, name: &str, errors: Vec<FieldError>) -> Failure {
    let unreadable = |strict: &str, which: &dyn Fn(&FieldError) -> String| {
        let lines: Vec<String> =
            errors.iter().filter(|e| e.reason.is_decoding()).map(which).collect();
        Failure::bad_request(format!(
            "{0} in version {1:?} cannot be handled as a {0}: {strict}{2}",
            info.kind,
            info.version,
            lines.join(", ")
        ))
    };
    let any = |reason: Reason| errors.iter().any(|error| error.reason == reason);
    if any(Reason::TypeInvalid) {
        return unreadable("", &ToString::to_string);
    }
    if any(Reason::Unknown) {
        return unreadable("strict decoding error: ", &|error| error.detail.clone());
    }
    Failure::not_valid((&info.kind, &info.group), name, &errors)
}

/// Replaces an object.
pub(super) async fn update(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let options = WriteOptions::of("UpdateOptions", &ask.query)?;
    let (mut value, mut told) = replacement(ask, options.strictness)?;
    if ask.info.is_created_by_update() && api.view().object(&ask.key()).is_none() {
        if let Some(meta) = value["metadata"].as_object_mut() {
            meta.remove("resourceVersion");
        }
        return created(api, ask, &shape, options, value, &told).await;
    }
    let mut read = Some(value);
    let mut replace = |_: &Object| match read.take() {
        Some(value) => Ok(value),
        None => replacement(ask, options.strictness).map(|(value, _)| value),
    };
    let (written, warnings) = replaced(api, ask, options, Part::Main, &mut replace).await?;
    told.extend(warnings);
    Ok(answer::warn(shape.one(StatusCode::OK, &written.object), &told))
}

/// The object in a body that is to stand at the path.
fn replacement(ask: &Ask, strictness: Strictness) -> Result<(Value, Vec<FieldError>), Failure> {
    let (mut value, told) = body::sent(ask, strictness)?;
    body::identify(ask, &mut value)?;
    place(ask, &mut value)?;
    named_as_path(ask, &value)?;
    Ok((value, told))
}

/// Refuses a value whose name is none, or another than that of the path.
pub(super) fn named_as_path(ask: &Ask, value: &Value) -> Result<(), Failure> {
    let on_path = ask.resource.name.as_str();
    match value["metadata"]["name"].as_str().filter(|name| !name.is_empty()) {
        Some(name) if name == on_path => Ok(()),
        Some(name) => Err(Failure::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({on_path})"
        ))),
        None => Err(Failure::bad_request(format!(
            "the name of the object ({on_path} based on URL) was undeterminable: name must be \
             provided"
        ))),
    }
}

/// Changes an object by a patch.
pub(super) async fn patch(api: &Api, ask: &Ask) -> Result<Response, Failure> {
    patched(api, ask, Part::Main).await
}

/// Changes an object, or its status, by a patch. A server-side apply makes what is not there.
pub(super) async fn patched(api: &Api, ask: &Ask, part: Part) -> Result<Response, Failure> {
    let shape = Shape::of(ask, false, api.backend.now())?;
    let options = WriteOptions::of("PatchOptions", &ask.query)?;
    let (patch, mut told) = patching::read(ask, options.strictness)?;
    let absent = api.view().object(&ask.key()).is_none();
    if let (Patch::Apply(wish), Part::Main, true) = (&patch, part, absent) {
        match applied_anew(api, ask, &shape, options, wish, &told).await {
            // Somebody was faster: it is a change of what is there now.
            Err(failure) if failure.reason == "AlreadyExists" => {}
            result => return result,
        }
    }
    let mut replace = |live: &Object| {
        let mut value = match &patch {
            Patch::Apply(wish) => books::apply(api, ask, Some(live), wish)?,
            patch => {
                let schema = Schema::of(&ask.info, &ask.api_version);
                patching::apply(schema, patch, &ask.shown(live))?
            }
        };
        fits_path(ask, &mut value)?;
        Ok(value)
    };
    let (written, warnings) = replaced(api, ask, options, part, &mut replace).await?;
    told.extend(warnings);
    Ok(answer::warn(shape.one(StatusCode::OK, &written.object), &told))
}

fn fits_path(ask: &Ask, value: &mut Value) -> Result<(), Failure> {
    body::identify(ask, value)?;
    place(ask, value)?;
    named_as_path(ask, value)
}

/// Creates what an apply wants, for those who may create.
async fn applied_anew(
    api: &Api,
    ask: &Ask,
    shape: &Shape,
    options: WriteOptions,
    wish: &Value,
    told: &[FieldError],
) -> Result<Response, Failure> {
    authz::demand(&api.view(), &ask.user, "create", &ask.resource)?;
    takes_new(ask)?;
    let mut value = books::apply(api, ask, None, wish)?;
    fits_path(ask, &mut value)?;
    if let Some(uid) = value["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty()) {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was \
             found"
        );
        return Err(Failure::cannot(&ask.info, &ask.resource.name, &why));
    }
    if let Some(meta) = value["metadata"].as_object_mut() {
        meta.remove("resourceVersion");
    }
    created(api, ask, shape, options, value, told).await
}

/// Writes what `wanted` makes of the live object; again on the newest one when it named no version
/// and the object was changed meanwhile.
pub(super) async fn replaced(
    api: &Api,
    ask: &Ask,
    options: WriteOptions,
    part: Part,
    wanted: &mut (dyn FnMut(&Object) -> Result<Value, Failure> + Send),
) -> Result<(Written, Vec<FieldError>), Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let view = api.view();
        let live = view.object(&ask.key());
        let live = live.ok_or_else(|| Failure::no_object(&ask.info, &ask.resource.name))?;
        let value = wanted(live)?;
        // A patch carries the version it was applied to; one that it names is compared each time.
        let named = checked_version(ask, live, &value)? && ask.verb != "patch";
        let result = replace_once(api, ask, options, part, &view, live, value).await;
        match result {
            Err(failure)
                if failure.reason == "Conflict"
                    && !named
                    && tries < TRIES_MAX
                    && !commit::is_real_conflict(&failure) => {}
            result => return result,
        }
    }
}

/// Whether a value names a version, which must be the live one; likewise its uid.
fn checked_version(ask: &Ask, live: &Object, value: &Value) -> Result<bool, Failure> {
    let name = &ask.resource.name;
    let uid = value["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty());
    if let Some(uid) = uid.filter(|uid| *uid != live.uid()) {
        if ask.verb == "patch" {
            return Err(immutable_uid(&ask.info, name, uid));
        }
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            live.uid()
        );
        return Err(Failure::cannot(&ask.info, name, &why));
    }
    let Some(text) = version_of(value) else {
        // A Scale that names no version means whichever is the newest.
        return match ask.info.needs_version() && ask.resource.subresource != "scale" {
            true => Err(needs_version(&ask.info, name)),
            false => Ok(false),
        };
    };
    let number = text.parse::<u64>();
    let number =
        number.map_err(|_| options::without_reason(options::no_number("ParseUint", text)))?;
    match Revision(number) == live.revision() {
        true => Ok(true),
        false => Err(Failure::modified(&ask.info, name)),
    }
}

fn immutable_uid(info: &KindInfo, name: &str, uid: &str) -> Failure {
    let error = FieldError {
        field: "metadata.uid".to_owned(),
        reason: Reason::Invalid,
        detail: format!("Invalid value: {uid:?}: field is immutable"),
    };
    Failure::not_valid((&info.kind, &info.group), name, &[error])
}

fn needs_version(info: &KindInfo, name: &str) -> Failure {
    let error = FieldError {
        field: "metadata.resourceVersion".to_owned(),
        reason: Reason::Invalid,
        detail: "Invalid value: 0: must be specified for an update".to_owned(),
    };
    Failure::not_valid((&info.plural, &info.group), name, &[error])
}

/// A warning beside those of the door, which are printed by their detail alone when they name no
/// field.
pub(super) fn warned(text: String) -> FieldError {
    FieldError { field: String::new(), reason: Reason::Unknown, detail: text }
}

async fn replace_once(
    api: &Api,
    ask: &Ask,
    options: WriteOptions,
    part: Part,
    view: &View,
    live: &Object,
    value: Value,
) -> Result<(Written, Vec<FieldError>), Failure> {
    let onto = if part == Part::Main { Onto::All(live) } else { Onto::Status(live) };
    let (mut admitted, verdict) =
        prepare(ask, view, options.strictness, value, onto, options.dry_run)?;
    admitted.warnings.extend(verdict.warnings.into_iter().map(warned));
    let key = live.key();
    let change = door::Change {
        info: &ask.info,
        key,
        subresource: &ask.resource.subresource,
        live: Some(live),
        wanted: Some(&admitted.object),
        user: &ask.user.name,
    };
    let way = door::judge(view, api.backend.writes(), &change)?;
    let ops = match part {
        Part::Main => whole(api, ask, live, &admitted.object)?.into_iter().collect(),
        _ => status(api, ask, view, live, &admitted.object)?,
    };
    if ops.is_empty() {
        let written = Written { object: live.clone(), gone: false };
        return Ok((written, admitted.warnings));
    }
    if way == door::Way::Git && !options.dry_run {
        // What it was proven against is what was read; what is not said stays as it is.
        let wish = admitted.object.value();
        let written = commit::write(api, ask, key, Some(live), Some(&wish)).await?;
        return Ok((written, admitted.warnings));
    }
    let mut written = propose::write(api, &ask.info, key, ops, options.dry_run).await?;
    if options.dry_run {
        written.object = as_before(&written.object, Some(live));
    }
    Ok((written, admitted.warnings))
}

/// The op that puts an object in the place of the live one; none when they say the same.
fn whole(api: &Api, ask: &Ask, live: &Object, next: &Object) -> Result<Option<Op>, Failure> {
    let own_path = kinds::only_by_own_path(live, next);
    if let Some(error) = own_path.filter(|_| ask.resource.subresource.is_empty()) {
        return Err(not_admitted(&ask.info, &live.key().name, vec![error]));
    }
    let object = books::with(next, books::after(api, ask, Some(live), next, next))?;
    let expect = Expect::At(live.revision());
    Ok((object != *live).then_some(Op::Put { object, expect, part: Part::Whole }))
}

/// The ops that give the live object the status of another; none when they say the same.
fn status(
    api: &Api,
    ask: &Ask,
    view: &View,
    live: &Object,
    new: &Object,
) -> Result<Vec<Op>, Failure> {
    let refused = |errors: Vec<FieldError>| not_admitted(&ask.info, &live.key().name, errors);
    let expect = Expect::At(live.revision());
    // A status brings labels and annotations along; State keeps the two parts apart.
    let next = view.kinds().update_status(live, new).map_err(refused)?;
    view.kinds().judge(Some(live), &next).map_err(refused)?;
    let kept = books::after(api, ask, Some(live), new, &next);
    let next = books::with(&next, kept)?;
    let (before, after) = (live.value(), next.value());
    let mut ops = Vec::new();
    let differs = |field: &str| before["metadata"][field] != after["metadata"][field];
    if ["labels", "annotations", "managedFields"].into_iter().any(differs) {
        ops.push(Op::Put { object: next.clone(), expect, part: Part::Main });
    }
    if after.get("status") != before.get("status") {
        let expect = if ops.is_empty() { expect } else { Expect::Any };
        ops.push(Op::Put { object: next, expect, part: Part::Status });
    }
    Ok(ops)
}
