//! The rules for names, labels and ports, with Kubernetes' wording.
//!
//! Each returns the messages of the rules that `value` breaks; none when it keeps them all.
//! Source: kubernetes.io/docs/concepts/overview/working-with-objects/names and …/labels.

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
     characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
     'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
     characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  \
     or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SEARCH: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
     characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. \
     'example.com', regex used for validation is \
     '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
     and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex \
     used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric \
     characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
     'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or \
     '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
     '[-._a-zA-Z0-9]+')";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS \
     subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with \
     an alphanumeric character (e.g. '*.example.com', regex used for validation is \
     '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or \
     '-', start with an alphabetic character, and end with an alphanumeric character (e.g. \
     'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";

/// Most characters of a DNS label (RFC 1123).
const LABEL_MAX: usize = 63;
/// Most characters of a DNS name (RFC 1123).
const SUBDOMAIN_MAX: usize = 253;
/// Most characters of a port's name (RFC 6335).
const PORT_NAME_MAX: usize = 15;

type Messages = Vec<String>;

fn lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Whether `text` is not empty, starts and ends with an `edge` byte and has `edge` or `inner` bytes
/// between.
fn shaped(text: &str, edge: fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|b| edge(*b))
        && bytes.last().is_some_and(|b| edge(*b))
        && bytes.iter().all(|b| edge(*b) || inner.contains(b))
}

fn is_label(text: &str) -> bool {
    shaped(text, lower, b"-")
}

fn too_long(text: &str, most: usize) -> Option<String> {
    (text.len() > most).then(|| format!("must be no more than {most} characters"))
}

fn rule(holds: bool, message: &str) -> Option<String> {
    (!holds).then(|| message.to_owned())
}

/// RFC 1123 label: container names, Service names, namespaces.
pub(super) fn dns1123_label(value: &str) -> Messages {
    too_long(value, LABEL_MAX).into_iter().chain(rule(is_label(value), LABEL)).collect()
}

/// RFC 1123 subdomain: the names of most objects.
pub(super) fn dns1123_subdomain(value: &str) -> Messages {
    let holds = value.split('.').all(is_label);
    too_long(value, SUBDOMAIN_MAX).into_iter().chain(rule(holds, SUBDOMAIN)).collect()
}

/// A name that may begin with `*.`: the hosts of an Ingress.
pub(super) fn dns1123_wildcard(value: &str) -> Messages {
    let Some(rest) = value.strip_prefix("*.") else {
        return rule(!value.contains('*'), WILDCARD).into_iter().collect();
    };
    let holds = rest.split('.').all(is_label);
    too_long(value, SUBDOMAIN_MAX).into_iter().chain(rule(holds, WILDCARD)).collect()
}

/// RFC 1035 label, which begins with a letter: versions of API groups.
pub(super) fn dns1035_label(value: &str) -> Messages {
    let holds = is_label(value) && value.starts_with(|c: char| c.is_ascii_lowercase());
    too_long(value, LABEL_MAX).into_iter().chain(rule(holds, LABEL_1035)).collect()
}

/// A segment of a path, the weakest rule: the names of roles, signers and other foreign things.
pub(super) fn path_segment(value: &str) -> Messages {
    match value {
        "." => vec!["may not be '.'".to_owned()],
        ".." => vec!["may not be '..'".to_owned()],
        _ => {
            let bad = ["/", "%"].into_iter().filter(|c| value.contains(*c));
            bad.map(|c| format!("may not contain '{c}'")).collect()
        }
    }
}

/// A name of at least three parts, so that it belongs to somebody: webhooks.
pub(super) fn fully_qualified(value: &str) -> Messages {
    let messages = dns1123_subdomain(value);
    if !messages.is_empty() {
        return messages;
    }
    let text = "should be a domain with at least three segments separated by dots";
    rule(value.split('.').count() >= 3, text).into_iter().collect()
}

/// `example.com/path`: controllers of IngressClasses.
pub(super) fn domain_prefixed_path(value: &str) -> Messages {
    let Some((host, path)) = value.split_once('/').filter(|(h, p)| !h.is_empty() && !p.is_empty())
    else {
        let text = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return vec![text.to_owned()];
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    let text = "Invalid path (regex used for validation is \
                '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
    let mut messages = dns1123_subdomain(host);
    messages.extend(rule(path.bytes().all(allowed), text));
    messages
}

/// A search domain of a resolver: a subdomain that may hold underscores.
pub(super) fn dns_search(value: &str) -> Messages {
    let part = |p: &str| shaped(p.strip_prefix('_').unwrap_or(p), lower, b"-_");
    let holds = value.split('.').all(part);
    too_long(value, SUBDOMAIN_MAX).into_iter().chain(rule(holds, SEARCH)).collect()
}

/// `name` or `prefix/name`: the keys of labels and annotations.
pub(super) fn qualified_name(value: &str) -> Messages {
    let mut messages = Vec::new();
    let mut parts = value.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                messages.push("prefix part must be non-empty".to_owned());
            } else {
                let bad = dns1123_subdomain(prefix);
                messages.extend(bad.into_iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
        _ => {
            let tail = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            messages.push(format!("a valid label key {QUALIFIED}{tail}"));
            return messages;
        }
    };
    if name.is_empty() {
        messages.push("name part must be non-empty".to_owned());
    }
    if name.len() > LABEL_MAX {
        messages.push(format!("name part must be no more than {LABEL_MAX} bytes"));
    }
    if !shaped(name, |b| b.is_ascii_alphanumeric(), b"-_.") {
        messages.push(format!("name part {QUALIFIED}"));
    }
    messages
}

/// The value of a label.
pub(super) fn label_value(value: &str) -> Messages {
    let holds = value.is_empty() || shaped(value, |b| b.is_ascii_alphanumeric(), b"-_.");
    let long = (value.len() > LABEL_MAX).then(|| format!("must be no more than {LABEL_MAX} bytes"));
    long.into_iter().chain(rule(holds, LABEL_VALUE)).collect()
}

/// A key of a ConfigMap or Secret.
pub(super) fn config_key(value: &str) -> Messages {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let shape = rule(!value.is_empty() && value.bytes().all(allowed), CONFIG_KEY);
    let dots = match value {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    };
    too_long(value, SUBDOMAIN_MAX).into_iter().chain(shape).chain(dots).collect()
}

/// The name of an environment variable (as Kubernetes 1.34 and later take it).
pub(super) fn env_name(value: &str) -> Messages {
    let holds = value.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=');
    let text = "a valid environment variable name must consist only of printable ASCII characters \
                other \
         than '='";
    rule(holds && !value.is_empty(), text).into_iter().collect()
}

/// The name of a port (an IANA service name).
pub(super) fn port_name(value: &str) -> Messages {
    let mut messages: Messages = too_long(value, PORT_NAME_MAX).into_iter().collect();
    let mut say = |broken: bool, text: &str| {
        if broken {
            messages.push(text.to_owned());
        }
    };
    let allowed = value.bytes().all(|b| lower(b) || b == b'-');
    say(!allowed, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    let letter = value.bytes().any(|b| b.is_ascii_lowercase());
    say(!letter, "must contain at least one letter (a-z)");
    say(value.contains("--"), "must not contain consecutive hyphens");
    let edge = value.starts_with('-') || value.ends_with('-');
    say(edge, "must not begin or end with a hyphen");
    messages
}

/// The number of a port.
pub(super) fn port_number(value: i32) -> Messages {
    rule((1..=65535).contains(&value), "must be between 1 and 65535, inclusive")
        .into_iter()
        .collect()
}

/// The name of an HTTP header.
pub(super) fn http_header(value: &str) -> Messages {
    let holds = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let text = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. \
                'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
    rule(holds, text).into_iter().collect()
}

/// An address.
pub(super) fn ip(value: &str) -> Messages {
    let text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
    rule(value.parse::<std::net::IpAddr>().is_ok(), text).into_iter().collect()
}

/// An address as it is written back: the names of IPAddresses.
pub(super) fn canonical_ip(value: &str) -> Messages {
    match value.parse::<std::net::IpAddr>() {
        Err(_) => ip(value),
        Ok(address) => {
            let text = format!("must be in canonical form (\"{address}\")");
            rule(address.to_string() == value, &text).into_iter().collect()
        }
    }
}

/// A range of addresses.
pub(super) fn cidr(value: &str) -> Messages {
    let holds = value.split_once('/').is_some_and(|(address, bits)| {
        let most = match address.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => 32,
            Ok(std::net::IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.parse::<u8>().is_ok_and(|b| b <= most)
    });
    let text = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    rule(holds, text).into_iter().collect()
}
