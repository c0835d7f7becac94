//! With which names and passwords a node may ask image registries in the name of a pod
//! (kubernetes.io/docs/concepts/containers/images, "Using a private registry").

use std::{cmp::Reverse, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use serde_json::Value;

/// The registry of images that name none.
const DEFAULT: &str = "index.docker.io";

/// What people write for it as well.
const DEFAULT_ALIASES: [&str; 2] = ["docker.io", "registry-1.docker.io"];

/// Who a node says it is to a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// `registry.example.com:5000/team`: for which images it is. A part of the host's name may be
    /// a pattern (`*.example.com`).
    pub place: String,
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The logins of a Secret of type `kubernetes.io/dockerconfigjson`, or of the older
/// `kubernetes.io/dockercfg`; none of another one.
pub fn logins(secret: &Secret) -> Vec<Login> {
    let entry = |name: &str| {
        let bytes: &ByteString = secret.data.as_ref()?.get(name)?;
        serde_json::from_slice::<Value>(&bytes.0).ok()
    };
    let places = match entry(".dockerconfigjson") {
        Some(config) => config["auths"].clone(),
        None => entry(".dockercfg").unwrap_or_default(),
    };
    let places = places.as_object().into_iter().flatten();
    places.filter_map(|(place, auth)| login(place, auth)).collect()
}

fn login(place: &str, auth: &Value) -> Option<Login> {
    let text = |field: &str| auth[field].as_str().filter(|text| !text.is_empty());
    let (user, password) = match text("auth") {
        Some(both) => {
            let both = String::from_utf8(BASE64_STANDARD.decode(both.trim()).ok()?).ok()?;
            let (user, password) = both.split_once(':')?;
            (user.to_owned(), password.trim_end_matches('\0').to_owned())
        }
        None => (text("username")?.to_owned(), text("password")?.to_owned()),
    };
    Some(Login { place: bare(place), user, password })
}

/// A place without what people copy along: `https://`, `/v1/`.
fn bare(place: &str) -> String {
    let place = place.trim_start_matches("https://").trim_start_matches("http://");
    let place = place.trim_end_matches('/');
    let place = place.strip_suffix("/v1").or_else(|| place.strip_suffix("/v2")).unwrap_or(place);
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let host = if DEFAULT_ALIASES.contains(&host) { DEFAULT } else { host };
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

/// The logins that are for an image, the most exact first.
pub fn for_image(logins: &[Login], image: &str) -> Vec<Login> {
    let (host, path) = split(image);
    let mut fitting: Vec<Login> =
        logins.iter().filter(|login| fits(&login.place, host, path)).cloned().collect();
    fitting.sort_by_key(|login| Reverse(login.place.len()));
    fitting
}

/// The registry of an image, and its path there.
fn split(image: &str) -> (&str, &str) {
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    match image.split_once('/') {
        Some((host, path)) if is_host(host) => {
            let host = if DEFAULT_ALIASES.contains(&host) { DEFAULT } else { host };
            (host, path)
        }
        _ => (DEFAULT, image),
    }
}

fn fits(place: &str, host: &str, path: &str) -> bool {
    let (wanted, prefix) = place.split_once('/').unwrap_or((place, ""));
    let port = |host: &str| host.split_once(':').map(|(_, port)| port.to_owned());
    let labels = |host: &str| {
        let name = host.split(':').next().unwrap_or_default();
        name.split('.').map(str::to_owned).collect::<Vec<_>>()
    };
    let (wanted_labels, found) = (labels(wanted), labels(host));
    let same = |(pattern, label): (&String, &String)| matches(pattern, label);
    port(wanted) == port(host)
        && wanted_labels.len() == found.len()
        && wanted_labels.iter().zip(&found).all(same)
        && path.starts_with(prefix)
}

/// A part of a host's name against a pattern in which `*` stands for anything.
fn matches(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((before, after)) => label.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(name: &str, value: &Value) -> Secret {
        let data = [(name.to_owned(), ByteString(value.to_string().into_bytes()))];
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn secrets_hold_names_and_passwords() {
        let told = |secret: &Secret| -> Vec<String> {
            let line = |l: &Login| format!("{} {} {}", l.place, l.user, l.password);
            logins(secret).iter().map(line).collect()
        };
        let both = BASE64_STANDARD.encode("ada:pw:with:colons");
        let places = json!({
            "https://index.docker.io/v1/": {"auth": both},
            "reg.example.com:5000/team": {"username": "bob", "password": "x"},
            "nothing.example.com": {},
        });
        let expected = ["index.docker.io ada pw:with:colons", "reg.example.com:5000/team bob x"];
        let config = json!({"auths": places, "credHelpers": {}});
        assert_eq!(told(&secret(".dockerconfigjson", &config)), expected);
        assert_eq!(told(&secret(".dockercfg", &places)), expected);
        for odd in [json!({"auths": 7}), json!("x"), json!({"auths": {"a": {"auth": "!"}}})] {
            assert!(told(&secret(".dockerconfigjson", &odd)).is_empty());
        }
        assert!(!format!("{:?}", logins(&secret(".dockercfg", &places))).contains("pw"));
    }

    #[test]
    fn the_most_exact_place_comes_first() {
        let places = [
            "index.docker.io",
            "reg.example.com",
            "reg.example.com/team",
            "*.example.com",
            "reg.example.com:5000",
            "r*.example.*",
        ];
        let logins: Vec<Login> = places
            .iter()
            .map(|place| Login {
                place: (*place).to_owned(),
                user: String::new(),
                password: String::new(),
            })
            .collect();
        for (image, expected) in [
            ("web:1", &["index.docker.io"][..]),
            ("docker.io/team/web", &["index.docker.io"]),
            (
                "reg.example.com/team/web:1",
                &["reg.example.com/team", "reg.example.com", "*.example.com", "r*.example.*"],
            ),
            ("reg.example.com:5000/web", &["reg.example.com:5000"]),
            ("a.reg.example.com/web", &[]),
            ("localhost:5000/web", &[]),
        ] {
            let found: Vec<String> =
                for_image(&logins, image).into_iter().map(|login| login.place).collect();
            assert_eq!(found, expected, "{image}");
        }
    }
}
