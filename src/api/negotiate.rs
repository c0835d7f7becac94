//! What form an answer takes: read from the header `Accept`.

use axum::http::{HeaderMap, StatusCode, header};

use super::Failure;

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    #[default]
    Json,
    Yaml,
}

/// What an answer shows of its objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// All of them.
    #[default]
    Objects,
    /// The server's table, in `meta.k8s.io` of this version.
    Table(&'static str),
    /// Metadata alone.
    Metadata,
}

/// What the asker takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) format: Format,
    pub(super) form: Form,
}

/// What the asker takes of discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discovery {
    /// A document a group and version.
    Plain,
    /// Everything at once, in `apidiscovery.k8s.io` of this version.
    Aggregated(&'static str),
}

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";

/// One entry of an `Accept` header.
struct Wish<'a> {
    media: &'a str,
    group: &'a str,
    version: &'a str,
    form: &'a str,
}

impl<'a> Wish<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut wish =
            Self { media: parts.next().unwrap_or_default(), group: "", version: "", form: "" };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "g" => wish.group = value.trim(),
                "v" => wish.version = value.trim(),
                "as" => wish.form = value.trim(),
                _ => {}
            }
        }
        wish
    }

    /// The format of this entry. Protobuf is not written: clients that ask for it name JSON too.
    fn format(&self) -> Option<Format> {
        match self.media {
            "" | "*/*" | JSON => Some(Format::Json),
            YAML => Some(Format::Yaml),
            _ => None,
        }
    }

    fn form(&self, list: bool) -> Option<Form> {
        let ours = self.group == "meta.k8s.io";
        match (self.form, self.version) {
            ("", _) => Some(Form::Objects),
            ("Table", "v1") if ours => Some(Form::Table("meta.k8s.io/v1")),
            ("Table", "v1beta1") if ours => Some(Form::Table("meta.k8s.io/v1beta1")),
            ("PartialObjectMetadata", "v1") if ours && !list => Some(Form::Metadata),
            ("PartialObjectMetadataList", "v1") if ours && list => Some(Form::Metadata),
            _ => None,
        }
    }
}

fn accept(headers: &HeaderMap) -> Vec<&str> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|v| !v.is_empty()).collect()
}

/// The first form of an `Accept` header that we write. `list` is true for collections, and for
/// watches, which take either word for metadata.
pub(super) fn accepted(headers: &HeaderMap, list: bool, watch: bool) -> Result<Accepted, Failure> {
    let wishes = accept(headers);
    if wishes.is_empty() {
        return Ok(Accepted::default());
    }
    let mut known = false;
    for wish in wishes.into_iter().map(Wish::parse) {
        let Some(format) = wish.format() else { continue };
        known = true;
        let form = wish.form(list).or_else(|| wish.form(!list).filter(|_| watch));
        let Some(form) = form else { continue };
        if watch && format == Format::Yaml {
            continue;
        }
        return Ok(Accepted { format, form });
    }
    Err(refused(known, watch))
}

fn refused(known: bool, watch: bool) -> Failure {
    let only = "only the following media types are accepted: ";
    let text = match (watch, known) {
        (true, _) => format!("{only}{JSON};stream=watch"),
        (false, true) => format!("{only}{JSON}, {YAML}"),
        (false, false) => {
            format!("406: Not Acceptable\n\nAvailable representations: {JSON}, {YAML}")
        }
    };
    Failure::of(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", text)
}

/// Which discovery is asked for. Strict: a client that names only a version we do not have gets
/// what else it names, or 406, never another version under that name.
pub(super) fn discovery(headers: &HeaderMap, aggregates: bool) -> Result<Discovery, Failure> {
    let wishes = accept(headers);
    if wishes.is_empty() {
        return Ok(Discovery::Plain);
    }
    for wish in wishes.into_iter().map(Wish::parse) {
        let ours = wish.group == "apidiscovery.k8s.io" && wish.form == "APIGroupDiscoveryList";
        match (wish.format(), wish.form, wish.version) {
            (Some(_), "", _) => return Ok(Discovery::Plain),
            (Some(Format::Json), _, "v2") if ours && aggregates => {
                return Ok(Discovery::Aggregated("v2"));
            }
            (Some(Format::Json), _, "v2beta1") if ours && aggregates => {
                return Ok(Discovery::Aggregated("v2beta1"));
            }
            _ => {}
        }
    }
    Err(refused(true, false))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use expect_test::{Expect, expect};

    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        headers
    }

    fn check(accept: &str, list: bool, watch: bool, expected: Expect) {
        let text = match accepted(&headers(accept), list, watch) {
            Ok(Accepted { format, form }) => format!("{format:?} {form:?}"),
            Err(failure) => format!("{}: {failure}", failure.code.as_u16()),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn the_first_form_that_is_known_wins() {
        check("*/*", false, false, expect!["Json Objects"]);
        check("application/yaml", false, false, expect!["Yaml Objects"]);
        check(
            "application/vnd.kubernetes.protobuf,application/json",
            false,
            false,
            expect!["Json Objects"],
        );
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;\
             g=meta.k8s.io,application/json",
            true,
            false,
            expect![[r#"Json Table("meta.k8s.io/v1")"#]],
        );
        check(
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            true,
            false,
            expect!["Json Metadata"],
        );
        check(
            "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
            true,
            true,
            expect!["Json Metadata"],
        );
        check("text/html;q=0.9, application/json;q=0.5", false, false, expect!["Json Objects"]);
    }

    #[test]
    fn what_is_not_written_is_refused() {
        check(
            "text/html",
            false,
            false,
            expect![[r#"
                406: 406: Not Acceptable

                Available representations: application/json, application/yaml"#]],
        );
        check(
            "application/json;as=Table;v=v2;g=meta.k8s.io",
            true,
            false,
            expect![
                "406: only the following media types are accepted: application/json, \
                 application/yaml"
            ],
        );
        check(
            "application/yaml",
            true,
            true,
            expect![
                "406: only the following media types are accepted: application/json;stream=watch"
            ],
        );
    }

    #[test]
    fn discovery_is_negotiated_strictly() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        let ask = |accept: &str, aggregates| discovery(&headers(accept), aggregates).ok();
        let both = format!("{v2},{beta},application/json");
        assert_eq!(ask(&both, true), Some(Discovery::Aggregated("v2")));
        let old = format!("{beta},application/json");
        assert_eq!(ask(&old, true), Some(Discovery::Aggregated("v2beta1")));
        assert_eq!(ask(&old, false), Some(Discovery::Plain));
        assert_eq!(ask(v2, false), None);
        assert_eq!(ask("application/json", true), Some(Discovery::Plain));
    }
}
