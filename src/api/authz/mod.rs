//! Who may do what.
//!
//! In: a [`User`], what a request asks for, and a View. Out: nothing, or Kubernetes' 403. Called by
//! the layer before the handlers, by the reviews and by admission. Everything here is pure. Members
//! of `system:masters` may do everything; nodes are judged by [`node`], everybody by the roles of
//! [`rbac`]. Never here: who somebody is, or what of an object they may write.

mod escalation;
mod node;
#[cfg(test)]
mod tests;

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};

pub(super) use escalation::may_grant;

use super::{
    Api, Failure, RequestInfo, ResourceInfo,
    audit::Decision,
    authn,
    authn::User,
    failure::{Details, qualified},
};
use crate::{
    policy::rbac::{self, Asked, What},
    state::View,
};

/// The group that may do everything, as in Kubernetes.
pub(super) const MASTERS: &str = "system:masters";

/// Paths that answer anybody: health, version, and hooks, whose signature the server checks.
const OPEN: [&str; 5] = ["/healthz", "/livez", "/readyz", "/version", "/hooks/git"];

/// One thing that somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) user: &'a User,
    pub(super) verb: &'a str,
    pub(super) target: Target<'a>,
}

/// What a wish is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// A path that is no resource.
    Path(&'a str),
    /// A resource, and the raw query that narrows a list of it.
    Resource(&'a ResourceInfo, &'a str),
}

impl<'a> Target<'a> {
    fn what(&self) -> What<'a> {
        match self {
            Self::Path(path) => What::Path(path),
            Self::Resource(info, _) => What::Resource(Asked {
                group: &info.group,
                resource: &info.resource,
                subresource: &info.subresource,
                namespace: &info.namespace,
                name: &info.name,
            }),
        }
    }
}

/// Lets a request through, or answers 403.
pub(super) async fn authorize<F: Future<Output = Response>>(
    api: &Api,
    info: &RequestInfo,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let view = api.view();
    let allowed = match request.extensions().get::<User>() {
        Some(user) => judge(&view, user, info, query).map(|()| {
            let is_asked = api.audit.level().is_some();
            if is_asked { reason(&view, user, info) } else { String::new() }
        }),
        None => Err(authn::unauthorized()),
    };
    // What is answered may take long; it has its own view.
    drop(view);
    let (mut response, decision) = match allowed {
        Ok(reason) => (next(request).await, Decision { allowed: true, reason }),
        Err(failure) => (failure.into_response(), Decision::default()),
    };
    response.extensions_mut().insert(decision);
    response
}

/// By which binding and role somebody may do what they ask, in Kubernetes' words; empty when it
/// takes none.
fn reason(view: &View, user: &User, info: &RequestInfo) -> String {
    let resource = info.resource.clone().map(decode).and_then(Result::ok);
    let target = match &resource {
        Some(resource) => Target::Resource(resource, ""),
        None => Target::Path(&info.path),
    };
    match user.is_in(MASTERS) {
        true => String::new(),
        false => rbac::reason(view, user.who(), info.verb, target.what()),
    }
}

/// A resource whose name and namespace are not escaped.
fn decode(mut resource: ResourceInfo) -> Result<ResourceInfo, Failure> {
    for part in [&mut resource.name, &mut resource.namespace] {
        let text = super::resources::decoded(part);
        *part = text.ok_or_else(|| Failure::bad_request("the path is not UTF-8"))?;
    }
    Ok(resource)
}

/// Whether a path answers anybody.
pub(super) fn is_open(path: &str) -> bool {
    let below = |open: &&str| {
        path.strip_prefix(*open).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    OPEN.iter().any(below)
}

/// Whether somebody may do what a request asks for.
pub(super) fn judge(
    view: &View,
    user: &User,
    info: &RequestInfo,
    query: &str,
) -> Result<(), Failure> {
    let Some(raw) = &info.resource else {
        let wish = Wish { user, verb: info.verb, target: Target::Path(&info.path) };
        let text =
            format!("forbidden: User {:?} cannot {} path {:?}", user.name, info.verb, info.path);
        let no = || Failure::forbidden(text).with(Details::default());
        return if is_open(&info.path) || may(view, &wish) { Ok(()) } else { Err(no()) };
    };
    let resource = decode(raw.clone())?;
    let wish = Wish { user, verb: info.verb, target: Target::Resource(&resource, query) };
    if may(view, &wish) { Ok(()) } else { Err(refusal(user, info.verb, &resource)) }
}

/// Whether somebody may do what a request turned out to need beside what it says, or 403.
pub(super) fn demand(
    view: &View,
    user: &User,
    verb: &str,
    resource: &ResourceInfo,
) -> Result<(), Failure> {
    let wish = Wish { user, verb, target: Target::Resource(resource, "") };
    if may(view, &wish) { Ok(()) } else { Err(refusal(user, verb, resource)) }
}

/// Whether a wish is granted.
pub(super) fn may(view: &View, wish: &Wish<'_>) -> bool {
    wish.user.is_in(MASTERS)
        || node::may(view, wish)
        || rbac::may(view, wish.user.who(), wish.verb, wish.target.what())
}

/// Whether somebody may be seen as `wanted`.
pub(super) fn may_be(view: &View, user: &User, wanted: &User) -> Result<(), Failure> {
    for resource in authn::questions(wanted) {
        let wish = Wish { user, verb: "impersonate", target: Target::Resource(&resource, "") };
        if !may(view, &wish) {
            return Err(refusal(user, "impersonate", &resource));
        }
    }
    Ok(())
}

/// 403 as Kubernetes words it.
fn refusal(user: &User, verb: &str, resource: &ResourceInfo) -> Failure {
    let scope = match resource.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let what = match resource.subresource.as_str() {
        "" => resource.resource.clone(),
        sub => format!("{}/{sub}", resource.resource),
    };
    let named = match resource.name.as_str() {
        "" => String::new(),
        name => format!(" {name:?}"),
    };
    let text = format!(
        "{}{named} is forbidden: User {:?} cannot {verb} resource {what:?} in API group {:?} \
         {scope}",
        qualified(&resource.resource, &resource.group),
        user.name,
        resource.group,
    );
    Failure::forbidden(text).with(Details {
        name: resource.name.clone(),
        group: resource.group.clone(),
        kind: resource.resource.clone(),
        ..Details::default()
    })
}
