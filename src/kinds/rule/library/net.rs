//! Addresses, their ranges, and URLs (kubernetes.io/docs/reference/using-api/cel).

use std::{fmt, net::IpAddr, rc::Rc};

use super::{Failure, Function, Meter, Shape, Value, convert::address, global, member, text};

use Shape::{Bool, Cidr, Int, Ip, Map, Text, Url as UrlShape};

pub(super) const FUNCTIONS: &[Function] = &[
    global("isIP", &[Text], Bool, |args, _| Ok(Value::Bool(address(text(args, 0)?).is_some()))),
    global("ip", &[Text], Ip, |args, _| {
        let text = text(args, 0)?;
        let wrong = || Failure::other(format!("IP Address {text:?} parse error during conversion"));
        address(text).map(Value::Ip).ok_or_else(wrong)
    }),
    global("ip.isCanonical", &[Text], Bool, |args, _| {
        let text = text(args, 0)?;
        let found = address(text).ok_or_else(|| Failure::other(format!("{text:?} is no IP")))?;
        Ok(Value::Bool(found.to_string() == text))
    }),
    member("family", &[Ip], Int, |args, _| Ok(Value::Int(if ip(args)?.is_ipv4() { 4 } else { 6 }))),
    member("isUnspecified", &[Ip], Bool, |args, _| Ok(Value::Bool(ip(args)?.is_unspecified()))),
    member("isLoopback", &[Ip], Bool, |args, _| Ok(Value::Bool(ip(args)?.is_loopback()))),
    member("isLinkLocalMulticast", &[Ip], Bool, |args, _| {
        Ok(Value::Bool(match ip(args)? {
            IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
            IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
        }))
    }),
    member("isLinkLocalUnicast", &[Ip], Bool, |args, _| Ok(Value::Bool(is_link_local(ip(args)?)))),
    member("isGlobalUnicast", &[Ip], Bool, |args, _| {
        let ip = ip(args)?;
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        let special = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast();
        Ok(Value::Bool(!(broadcast || special || is_link_local(ip))))
    }),
    global("isCIDR", &[Text], Bool, |args, _| Ok(Value::Bool(range(text(args, 0)?).is_some()))),
    global("cidr", &[Text], Cidr, |args, _| {
        let text = text(args, 0)?;
        let wrong = || Failure::other(format!("network address parse error: {text:?}"));
        range(text).map(|(base, length)| Value::Cidr(base, length)).ok_or_else(wrong)
    }),
    member("containsIP", &[Cidr, Text], Bool, contains_ip),
    member("containsIP", &[Cidr, Ip], Bool, contains_ip),
    member("containsCIDR", &[Cidr, Text], Bool, contains_range),
    member("containsCIDR", &[Cidr, Cidr], Bool, contains_range),
    member("ip", &[Cidr], Ip, |args, _| Ok(Value::Ip(cidr(args, 0)?.0))),
    member("masked", &[Cidr], Cidr, |args, _| {
        let (base, length) = cidr(args, 0)?;
        Ok(Value::Cidr(masked(base, length), length))
    }),
    member("prefixLength", &[Cidr], Int, |args, _| Ok(Value::Int(cidr(args, 0)?.1.into()))),
    global("isURL", &[Text], Bool, |args, meter| {
        let text = text(args, 0)?;
        meter.spend_bytes(text.len())?;
        Ok(Value::Bool(Url::parse(text).is_some()))
    }),
    global("url", &[Text], UrlShape, |args, meter| {
        let text = text(args, 0)?;
        meter.spend_bytes(text.len())?;
        let wrong = || Failure::other(format!("URL parse error during conversion: {text:?}"));
        Ok(Value::Url(Rc::new(Url::parse(text).ok_or_else(wrong)?)))
    }),
    member("getScheme", &[UrlShape], Text, |args, _| Ok(Value::text(&*url(args)?.scheme))),
    member("getHost", &[UrlShape], Text, |args, _| Ok(Value::text(&*url(args)?.host))),
    member("getHostname", &[UrlShape], Text, |args, _| Ok(Value::text(url(args)?.split().0))),
    member("getPort", &[UrlShape], Text, |args, _| Ok(Value::text(url(args)?.split().1))),
    member("getEscapedPath", &[UrlShape], Text, |args, _| Ok(Value::text(&*url(args)?.path))),
    member("getQuery", &[UrlShape], Map, |args, meter| {
        let query = &url(args)?.query;
        meter.spend(1 + query.len() as u64)?;
        Ok(Value::map(queried(query)))
    }),
];

type Given<'a> = Result<Value<'a>, Failure>;

fn ip(args: &[Value<'_>]) -> Result<IpAddr, Failure> {
    match args.first() {
        Some(Value::Ip(address)) => Ok(*address),
        _ => Err(Failure::no_overload()),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// The range at a place, which may be a text.
fn cidr(args: &[Value<'_>], index: usize) -> Result<(IpAddr, u8), Failure> {
    match args.get(index) {
        Some(Value::Cidr(base, length)) => Ok((*base, *length)),
        Some(Value::Text(text)) => {
            let wrong = || Failure::other(format!("network address parse error: {text:?}"));
            range(text).ok_or_else(wrong)
        }
        _ => Err(Failure::no_overload()),
    }
}

fn range(text: &str) -> Option<(IpAddr, u8)> {
    let (base, length) = text.split_once('/')?;
    let base = address(base)?;
    let is_plain = length == "0" || !length.starts_with(['0', '+']);
    let length: u8 = length.parse().ok().filter(|_| is_plain)?;
    (length <= if base.is_ipv4() { 32 } else { 128 }).then_some((base, length))
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

fn holds((base, length): (IpAddr, u8), address: IpAddr) -> bool {
    base.is_ipv4() == address.is_ipv4() && masked(base, length) == masked(address, length)
}

fn contains_ip<'a>(args: &[Value<'a>], _: &mut Meter) -> Given<'a> {
    let wanted = match args.get(1) {
        Some(Value::Ip(address)) => Some(*address),
        Some(Value::Text(text)) => address(text),
        _ => None,
    };
    let wanted = wanted.ok_or_else(|| Failure::other("IP Address parse error"))?;
    Ok(Value::Bool(holds(cidr(args, 0)?, wanted)))
}

fn contains_range<'a>(args: &[Value<'a>], _: &mut Meter) -> Given<'a> {
    let (own, (base, length)) = (cidr(args, 0)?, cidr(args, 1)?);
    Ok(Value::Bool(own.1 <= length && holds(own, base)))
}

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::kinds) struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.scheme.is_empty() {
            write!(f, "{}://{}", self.scheme, self.host)?;
        }
        f.write_str(&self.path)?;
        match self.query.as_str() {
            "" => Ok(()),
            query => write!(f, "?{query}"),
        }
    }
}

impl Url {
    /// A URL that begins with a scheme, or a path that begins with `/`, as requests have them.
    fn parse(text: &str) -> Option<Self> {
        if text.chars().any(|c| c.is_ascii_control() || c == ' ') {
            return None;
        }
        let (scheme, rest) = match text.strip_prefix('/') {
            Some(_) => ("", text),
            None => text.split_once("://")?,
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        let is_path = scheme.is_empty() && text.starts_with('/');
        let is_whole = named && scheme.chars().all(letters);
        if !(is_path || is_whole) {
            return None;
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match (scheme, rest.find('/')) {
            ("", _) => ("", rest),
            (_, Some(slash)) => rest.split_at(slash),
            (_, None) => (rest, ""),
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let url = Self {
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        };
        let (name, port) = url.split();
        let is_port = port.bytes().all(|b| b.is_ascii_digit());
        let in_brackets = !host.starts_with('[') || host.contains(']');
        let plain = !name.contains(['<', '>', '"', '\\', '^', '`', '{', '|', '}']);
        (is_port && in_brackets && plain && is_escaped(path)).then_some(url)
    }

    /// The name and the port of the host.
    fn split(&self) -> (&str, &str) {
        if let Some(rest) = self.host.strip_prefix('[') {
            let (name, after) = rest.split_once(']').unwrap_or((rest, ""));
            return (name, after.strip_prefix(':').unwrap_or(after));
        }
        self.host.rsplit_once(':').unwrap_or((&self.host, ""))
    }
}

/// Every `%` has two digits.
fn is_escaped(path: &str) -> bool {
    path.split('%')
        .skip(1)
        .all(|part| part.len() >= 2 && part.bytes().take(2).all(|b| b.is_ascii_hexdigit()))
}

fn url<'b>(args: &'b [Value<'_>]) -> Result<&'b Url, Failure> {
    match args.first() {
        Some(Value::Url(url)) => Ok(url),
        _ => Err(Failure::no_overload()),
    }
}

/// The names of a query and the values that each has.
fn queried(query: &str) -> Vec<(Value<'static>, Value<'static>)> {
    let mut all: Vec<(String, Vec<Value<'static>>)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (unescaped(name), Value::text(unescaped(value)));
        match all.iter_mut().find(|(own, _)| *own == name) {
            Some((_, values)) => values.push(value),
            None => all.push((name, vec![value])),
        }
    }
    all.into_iter().map(|(name, values)| (Value::text(name), Value::list(values))).collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digit = |b: Option<u8>| (b? as char).to_digit(16);
                let (high, low) = (digit(rest.next()), digit(rest.next()));
                let code = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                bytes.extend(code);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
