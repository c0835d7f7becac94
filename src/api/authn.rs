//! Who asks: from the client's certificate, a bearer token, or nobody; and as whom they want to
//! be seen.

use std::collections::BTreeMap;

use axum::{
    extract::Request,
    http::{HeaderMap, header},
    response::Response,
};
use k8s_openapi::api::core::v1::Secret;

use super::{
    Api, Failure, Peer, ResourceInfo, audit, authz,
    tokens::{self, Claims, Holder},
};
use crate::{model::Timestamp, policy::rbac::Who, state::View};

/// Most bytes of a bearer token: a token of a service account has about 1 KiB.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// Most groups and extra values that one request may ask to be seen with.
const IMPERSONATED_MAX: usize = 64;

const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
/// The group of everybody who came with a bootstrap token.
const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// Who asks, as access is decided, written down and counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `jane`, `system:serviceaccount:shop:web`
    pub name: String,
    /// Tells users of one name apart; empty when nobody says.
    pub uid: String,
    /// `system:authenticated` and what the credential says.
    pub groups: Vec<String>,
    /// What else the credential says, by name.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// The owner of a certificate: CN is the user, every O a group.
    pub fn of(peer: &Peer) -> Self {
        Self::named(&peer.user, peer.groups.clone()).authenticated()
    }

    /// Somebody without credentials.
    pub fn anonymous() -> Self {
        Self::named(ANONYMOUS, vec![UNAUTHENTICATED.to_owned()])
    }

    /// As roles and bindings know this one.
    pub(super) fn who(&self) -> Who<'_> {
        Who { name: &self.name, groups: &self.groups }
    }

    /// Whether this one belongs to a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|found| found == group)
    }

    /// The namespace and name of a service account.
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// The name of a node.
    pub fn node(&self) -> Option<&str> {
        self.name.strip_prefix("system:node:").filter(|_| self.is_in("system:nodes"))
    }

    fn named(name: &str, groups: Vec<String>) -> Self {
        Self { name: name.to_owned(), groups, ..Self::default() }
    }

    fn authenticated(mut self) -> Self {
        if !self.is_in(AUTHENTICATED) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }
}

/// Who really asks, in the extensions of a request that is seen as somebody else's.
#[derive(Clone)]
pub(super) struct Impersonator(pub(super) User);

/// Finds out who asks, and puts a [`User`] into the request; 401 when a credential is no good, and
/// when somebody without one asks for more than health and version.
pub(super) async fn identify<F: Future<Output = Response>>(
    api: &Api,
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    // Read before anything is waited for: a request's body may not be shared by threads.
    let peer = request.extensions().get::<Peer>().map(User::of);
    let token = bearer(request.headers()).map(str::to_owned);
    let is_open = authz::is_open(request.uri().path());
    let found = match peer {
        Some(user) => Ok(user),
        None => without_certificate(api, token, is_open).await,
    };
    let user = match found {
        Ok(user) => user,
        Err(failure) => return audit::refused(api, request, None, failure).await,
    };
    let user = match seen_as(api, &user, request.headers()) {
        Ok(None) => user,
        Ok(Some(wanted)) => {
            request.extensions_mut().insert(Impersonator(user));
            wanted
        }
        Err(failure) => return audit::refused(api, request, Some(user), failure).await,
    };
    let peer = Peer { user: user.name.clone(), groups: user.groups.clone() };
    if user.name == ANONYMOUS {
        request.extensions_mut().remove::<Peer>();
    } else {
        request.extensions_mut().insert(peer);
    }
    request.extensions_mut().insert(user);
    next(request).await
}

/// As whom somebody is seen, if as somebody else and if they may.
fn seen_as(api: &Api, user: &User, headers: &HeaderMap) -> Result<Option<User>, Failure> {
    let Some(wanted) = impersonated(headers)? else { return Ok(None) };
    authz::may_be(&api.view(), user, &wanted)?;
    Ok(Some(wanted))
}

async fn without_certificate(
    api: &Api,
    token: Option<String>,
    is_open: bool,
) -> Result<User, Failure> {
    match token {
        Some(token) => {
            let holder = of_token(api, &token, &tokens::own()).await;
            holder.map(|holder| holder.user).ok_or_else(unauthorized)
        }
        None if is_open => Ok(User::anonymous()),
        None => Err(unauthorized()),
    }
}

/// What everybody hears whose credential is no good, as Kubernetes words it: it must not say why.
pub(super) fn unauthorized() -> Failure {
    Failure::unauthorized("Unauthorized")
}

/// The owner of a bearer token that is meant for one of `audiences`; `None` when it is no good.
pub(super) async fn of_token(api: &Api, token: &str, audiences: &[String]) -> Option<Holder> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let now = api.backend.now();
    let Some(signed) = api.backend.open_token(token) else {
        let user = bootstrapper(&api.view(), token, now)?;
        // It names no audience, so it is meant for this API alone.
        let meant = tokens::own().into_iter().filter(|own| audiences.contains(own));
        let audiences: Vec<String> = meant.collect();
        return (!audiences.is_empty()).then_some(Holder { user, audiences });
    };
    let claims: Claims = serde_json::from_slice(&signed).ok()?;
    match tokens::holder(&claims, &api.view(), audiences, now) {
        // Its account may be so new that this server does not show it yet.
        None if claims.is_current(now) => {
            api.backend.barrier().await.ok()?;
            tokens::holder(&claims, &api.view(), audiences, now)
        }
        found => found,
    }
}

/// The token of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The owner of a bootstrap token `id.secret`
/// (kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens).
fn bootstrapper(view: &View, token: &str, now: Timestamp) -> Option<User> {
    let (id, secret) = token.split_once('.')?;
    let stored: &Secret = view.get("kube-system", &format!("bootstrap-token-{id}"))?;
    if stored.type_.as_deref() != Some("bootstrap.kubernetes.io/token")
        || stored.metadata.deletion_timestamp.is_some()
    {
        return None;
    }
    let field = |name: &str| {
        let bytes = stored.data.as_ref().and_then(|data| data.get(name));
        bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).unwrap_or_default()
    };
    let good = field("token-id") == id
        && same(field("token-secret").as_bytes(), secret.as_bytes())
        && field("usage-bootstrap-authentication") == "true"
        && lasts(field("expiration"), now);
    let extra = field("auth-extra-groups").split(',').map(str::trim);
    let extra = extra.filter(|group| group.starts_with("system:bootstrappers:"));
    let groups = std::iter::once(BOOTSTRAPPERS).chain(extra).map(str::to_owned).collect();
    good.then(|| User::named(&format!("system:bootstrap:{id}"), groups).authenticated())
}

/// Whether a token that expires at `expiration` is good; one that names no time is good for ever.
fn lasts(expiration: &str, now: Timestamp) -> bool {
    let at = expiration.parse::<k8s_openapi::jiff::Timestamp>();
    expiration.is_empty() || at.is_ok_and(|at| at.as_millisecond() > now.0)
}

/// Compares in a time that does not depend on where they differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x ^ y)) == 0
}

/// As whom a request wants to be seen: `Impersonate-User`, `-Group`, `-Uid`, `-Extra-…`.
fn impersonated(headers: &HeaderMap) -> Result<Option<User>, Failure> {
    let bad = |text: &str| Failure::bad_request(text);
    let mut user = User::default();
    let (mut named, mut more, mut count) = (false, false, 0);
    for (name, value) in headers {
        let Some(what) = name.as_str().strip_prefix("impersonate-") else { continue };
        let value = value.to_str().map_err(|_| bad("an Impersonate header is not ASCII"))?;
        count += 1;
        match what {
            "user" if !value.is_empty() => (named, user.name) = (true, value.to_owned()),
            "user" => {}
            "group" => user.groups.push(value.to_owned()),
            "uid" => user.uid = value.to_owned(),
            _ => {
                let Some(key) = what.strip_prefix("extra-") else { continue };
                user.extra.entry(unescaped(key)).or_default().push(value.to_owned());
            }
        }
        more |= what != "user";
    }
    if count > IMPERSONATED_MAX {
        return Err(bad("too many Impersonate headers: at most 64"));
    }
    match (named, more) {
        (false, false) => Ok(None),
        (false, true) => Err(Failure::internal(
            "requested groups, uid or extra without impersonating a user: send Impersonate-User",
        )),
        (true, _) => Ok(Some(completed(user))),
    }
}

/// The groups that follow from a name that somebody wants to be seen with.
fn completed(mut user: User) -> User {
    let account = user.service_account().map(|(namespace, _)| namespace.to_owned());
    if let Some(namespace) = account.filter(|_| user.groups.is_empty()) {
        user.groups.push("system:serviceaccounts".to_owned());
        user.groups.push(format!("system:serviceaccounts:{namespace}"));
    }
    match user.name.as_str() {
        ANONYMOUS if user.is_in(UNAUTHENTICATED) => user,
        ANONYMOUS => {
            user.groups.push(UNAUTHENTICATED.to_owned());
            user
        }
        _ => user.authenticated(),
    }
}

/// The name of an extra value: header names know no upper case and no slashes, so they stand there
/// with percent signs.
fn unescaped(key: &str) -> String {
    super::resources::decoded(key).unwrap_or_else(|| key.to_owned())
}

/// What must be allowed to be seen as `wanted`: one question each.
pub(super) fn questions(wanted: &User) -> Vec<ResourceInfo> {
    let ask = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        ResourceInfo {
            group: group.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: "v1".to_owned(),
            ..ResourceInfo::default()
        }
    };
    const AUTHENTICATION: &str = "authentication.k8s.io";
    // What everybody has who is seen so is no gain.
    let (account, follows) = match wanted.service_account() {
        Some((namespace, name)) => (
            ask("", "serviceaccounts", "", namespace, name),
            vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
            ],
        ),
        None => (ask("", "users", "", "", &wanted.name), Vec::new()),
    };
    let given = |group: &&String| {
        !follows.contains(group)
            && group.as_str() != AUTHENTICATED
            && !(wanted.name == ANONYMOUS && group.as_str() == UNAUTHENTICATED)
    };
    let groups = wanted.groups.iter().filter(given).map(|group| ask("", "groups", "", "", group));
    let uid = (!wanted.uid.is_empty()).then(|| ask(AUTHENTICATION, "uids", "", "", &wanted.uid));
    let extra = wanted.extra.iter().flat_map(|(key, values)| {
        values.iter().map(move |value| ask(AUTHENTICATION, "userextras", key, "", value))
    });
    std::iter::once(account).chain(groups).chain(uid).chain(extra).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;
    use crate::{
        model::{Object, RequestId},
        state::{Command, Entry, Expect, Op, Part, State},
    };

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn with_token(fields: &[(&str, &str)]) -> State {
        let field =
            |(name, text): &(&str, &str)| ((*name).to_owned(), ByteString(text.as_bytes().into()));
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some("bootstrap-token-abcdef".into()),
                namespace: Some("kube-system".into()),
                ..ObjectMeta::default()
            },
            type_: Some("bootstrap.kubernetes.io/token".into()),
            data: Some(fields.iter().map(field).collect::<BTreeMap<_, _>>()),
            ..Secret::default()
        };
        let object = Object::of(&secret).unwrap();
        let put = Op::Put { object, expect: Expect::Absent, part: Part::Main };
        let mut state = State::default();
        state.apply(Entry::new(RequestId(1), NOW, vec![Command::Write(vec![put])]));
        state
    }

    #[test]
    fn a_bootstrap_token_is_good_for_its_time_and_its_use() {
        let expires = NOW.plus_seconds(60).to_string();
        let good = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", expires.as_str()),
            ("auth-extra-groups", "system:bootstrappers:blue,system:masters"),
        ];
        let state = with_token(&good);
        let user = bootstrapper(state.view(), "abcdef.0123456789abcdef", NOW).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert!(user.is_in("system:bootstrappers:blue") && user.is_in("system:authenticated"));
        assert!(!user.is_in("system:masters"), "a token gave itself a group");
        for bad in ["abcdef.0123456789abcdee", "abcdeg.0123456789abcdef", "abcdef", "", "a.b.c"] {
            assert_eq!(bootstrapper(state.view(), bad, NOW), None, "{bad}");
        }
        let late = NOW.plus_seconds(61);
        assert_eq!(bootstrapper(state.view(), "abcdef.0123456789abcdef", late), None, "expired");
        let other = with_token(&good[..2]);
        assert_eq!(bootstrapper(other.view(), "abcdef.0123456789abcdef", NOW), None, "another use");
    }

    fn seen_as(headers: &[(&'static str, &'static str)]) -> Result<Option<User>, Failure> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        impersonated(&map)
    }

    #[test]
    fn headers_say_as_whom_somebody_is_seen() {
        assert_eq!(seen_as(&[]), Ok(None));
        let jane = seen_as(&[
            ("impersonate-user", "jane"),
            ("impersonate-group", "dev"),
            ("impersonate-extra-acme.com%2fproject", "x"),
        ]);
        let jane = jane.unwrap().unwrap();
        assert_eq!(jane.groups, ["dev", "system:authenticated"]);
        assert_eq!(jane.extra["acme.com/project"], ["x"]);
        let asked: Vec<String> = questions(&jane)
            .iter()
            .map(|q| format!("{}/{}/{} {}", q.group, q.resource, q.subresource, q.name))
            .collect();
        let expected =
            ["/users/ jane", "/groups/ dev", "authentication.k8s.io/userextras/acme.com/project x"];
        assert_eq!(asked, expected);
        assert!(seen_as(&[("impersonate-group", "system:masters")]).is_err(), "groups alone");
    }
}
