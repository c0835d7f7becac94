use std::collections::BTreeSet;

use super::*;
use crate::kinds;

fn all() -> Kinds {
    Kinds::default()
}

fn built() -> Documents {
    Documents::build(&all())
}

fn json_of(document: &Document) -> Value {
    serde_json::from_slice(&document.unpack().unwrap()).unwrap()
}

/// Every `$ref` of a document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|inner| references(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
        _ => {}
    }
}

fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter().filter(|(word, _)| *word != "parameters");
        methods.map(move |(method, operation)| (path, method, operation))
    })
}

#[test]
fn no_reference_leads_nowhere() {
    let documents = built();
    for document in documents.v3.values().chain([&documents.v2]) {
        let document = json_of(document);
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 5);
        for reference in found {
            let there = document.pointer(reference.strip_prefix('#').unwrap());
            assert!(there.is_some(), "{reference}");
        }
    }
}

#[test]
fn every_operation_has_a_name_of_its_own_and_what_it_speaks_of() {
    let document = json_of(&built().v2);
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{method} {path}: {id}");
        for answer in operation["responses"].as_object().unwrap().values() {
            assert!(answer["description"].is_string());
        }
    }
    for id in [
        "createAppsV1NamespacedDeployment",
        "deleteAppsV1CollectionNamespacedDeployment",
        "listAppsV1DeploymentForAllNamespaces",
        "patchAppsV1NamespacedDeploymentScale",
        "connectCoreV1GetNamespacedPodExec",
        "readCoreV1NodeStatus",
        "readMainstayIoV1Commit",
        "createAuthorizationV1SelfSubjectAccessReview",
        "createCoreV1NamespacedBinding",
        "listMetricsV1beta1PodMetricsForAllNamespaces",
        "readMetricsV1beta1NodeMetrics",
    ] {
        assert!(ids.contains(id), "{id}");
    }
}

/// kubectl finds a kind's definition, and whether a write may be tried, by the kind's name.
#[test]
fn every_kind_is_found_by_its_name_with_what_kubectl_looks_for() {
    let documents = built();
    let old = json_of(&documents.v2);
    for info in kinds::registry() {
        let name = json!({ "group": info.group, "kind": info.kind, "version": info.version });
        let start = if info.group.is_empty() { "api" } else { "apis" };
        let new = json_of(&documents.v3[&format!("{start}/{}", info.api_version)]);
        for (document, schemas) in [(&old, "/definitions"), (&new, "/components/schemas")] {
            let schemas = document.pointer(schemas).unwrap().as_object().unwrap();
            let word = "x-kubernetes-group-version-kind";
            let is_it =
                |schema: &&Value| schema[word].as_array().is_some_and(|n| n.contains(&name));
            let schema = schemas.values().find(is_it).unwrap();
            assert!(schema["description"].is_string(), "{} says nothing", info.kind);
            assert_eq!(schema["type"], "object");
            let patches: Vec<&Value> = operations(document)
                .filter(|(_, method, operation)| *method == "patch" && operation[word] == name)
                .map(|(_, _, operation)| operation)
                .collect();
            assert_eq!(patches.is_empty(), !info.verbs().contains(&"patch"), "{}", info.kind);
            for patch in patches {
                for wanted in ["dryRun", "fieldManager", "fieldValidation", "force"] {
                    let all = patch["parameters"].as_array().unwrap();
                    assert!(all.iter().any(|p| p["name"] == wanted), "{} {wanted}", info.kind);
                }
            }
        }
    }
}

#[test]
fn a_definition_says_how_lists_merge() {
    let document = json_of(&built().v2);
    let spec = &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"];
    assert_eq!(spec["containers"]["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(spec["containers"]["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(spec["containers"]["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(spec["nodeSelector"]["x-kubernetes-map-type"], "atomic");
    assert_eq!(spec["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(spec["tolerations"]["x-kubernetes-list-type"], "atomic");
}

/// OpenAPI 2 knows one type for a value and no alternatives; a value of several is a text.
#[test]
fn the_older_document_is_no_richer_than_its_version() {
    fn look(schema: &Value) {
        for word in ["oneOf", "anyOf", "not", "const"] {
            assert!(schema.get(word).is_none(), "{schema}");
        }
        assert!(schema.get("type").is_none_or(Value::is_string), "{schema}");
        let mut schema = schema.as_object().unwrap().clone();
        kinds::each_subschema(&mut schema, &mut |inner| look(inner));
    }
    let document = json_of(&built().v2);
    let definitions = document["definitions"].as_object().unwrap();
    definitions.values().for_each(look);
    assert_eq!(
        definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"],
        "int-or-string"
    );
    assert_eq!(definitions["io.mainstay.v1.CommitState"]["type"], "string");
}

/// Reads one message: field numbers and the bytes of those that have a length.
fn read_message(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                varint(&mut bytes);
                0
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            other => panic!("wire type {other}"),
        };
        let (body, rest) = bytes.split_at(length);
        bytes = rest;
        fields.push((key >> 3, body));
    }
    fields
}

fn only<'a>(fields: &[(u64, &'a [u8])], number: u64) -> &'a [u8] {
    fields.iter().find(|(found, _)| *found == number).unwrap().1
}

#[test]
fn the_protobuf_form_says_the_same() {
    let documents = built();
    let json = json_of(&documents.v2);
    let bytes = documents.v2_protobuf.unpack().unwrap();
    let document = read_message(&bytes);
    assert_eq!(only(&document, 1), b"2.0");
    let paths = read_message(only(&document, 8));
    assert_eq!(paths.len(), json["paths"].as_object().unwrap().len());
    let definitions = read_message(only(&document, 9));
    assert_eq!(definitions.len(), json["definitions"].as_object().unwrap().len());
    let find = |list: &[(u64, &'static [u8])], name: &str| {
        let pairs = list.iter().map(|(_, pair)| read_message(pair));
        pairs.into_iter().find(|pair| only(pair, 1) == name.as_bytes()).map(|pair| only(&pair, 2))
    };
    let bytes: &'static [u8] = bytes.clone().leak();
    let document = read_message(bytes);
    let definitions = read_message(only(&document, 9));
    let schema = read_message(find(&definitions, "io.k8s.api.core.v1.ConfigMap").unwrap());
    assert_eq!(read_message(only(&schema, 22)), vec![(1, &b"object"[..])]);
    let data = read_message(find(&read_message(only(&schema, 25)), "data").unwrap());
    let values = read_message(only(&read_message(only(&data, 21)), 1));
    assert_eq!(read_message(only(&values, 22)), vec![(1, &b"string"[..])]);
    let name = read_message(only(&schema, 31));
    assert_eq!(only(&name, 1), b"x-kubernetes-group-version-kind");
}

/// What stays in memory for all of it.
#[test]
fn the_documents_are_small_when_packed() {
    let documents = built();
    let v3: usize = documents.v3.values().map(|document| document.gzip.len()).sum();
    let kept = documents.v2.gzip.len() + documents.v2_protobuf.gzip.len() + v3;
    println!("OpenAPI documents: {kept} bytes kept");
    assert!(kept < 2 << 20, "{kept} bytes");
}

#[test]
fn a_group_is_found_in_the_index_by_its_hash() {
    let documents = built();
    let index = documents.index();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let hash = url.strip_prefix("/openapi/v3/apis/apps/v1?hash=").unwrap();
    assert_eq!(hash.len(), 128);
    assert_eq!(built().v3["apis/apps/v1"].hash, hash, "the same registry, the same hash");
    assert!(index["paths"]["api/v1"].is_object());
}

#[test]
fn a_document_is_answered_packed_or_not_and_once() {
    let document = Document::pack(b"{}");
    let answer = |headers: &[(header::HeaderName, &str)]| {
        let headers = headers.iter().map(|(n, v)| (n.clone(), v.parse().unwrap())).collect();
        document.answer(&headers, "application/json").unwrap()
    };
    let plain = answer(&[]);
    assert_eq!(plain.headers().get(header::CONTENT_ENCODING), None);
    let tag = plain.headers()[header::ETAG].to_str().unwrap().to_owned();
    let packed = answer(&[(header::ACCEPT_ENCODING, "deflate, gzip;q=1.0")]);
    assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
    let known = answer(&[(header::IF_NONE_MATCH, &tag)]);
    assert_eq!(known.status(), StatusCode::NOT_MODIFIED);
}

#[test]
fn a_date_is_written_as_http_wants_it() {
    let time = jiff::Timestamp::from_second(784_111_777).unwrap();
    assert_eq!(http_date(time), "Sun, 06 Nov 1994 08:49:37 GMT");
}

/// Asks a server for a path, as a client that showed a certificate.
async fn ask(path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
    use tower::ServiceExt;
    let cluster = crate::report::fixture::Cluster::empty();
    let routers = crate::api::routers(crate::api::tests::Fake::direct(&cluster));
    let mut request = axum::http::Request::get(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let mut request = request.body(axum::body::Body::empty()).unwrap();
    request.extensions_mut().insert(crate::api::tests::admin());
    routers.tls.oneshot(request).await.unwrap()
}

async fn body(response: Response) -> Value {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn a_document_is_kept_under_its_hash_and_found_under_another() {
    let index = body(ask("/openapi/v3", &[]).await).await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let right = ask(url, &[]).await;
    assert_eq!(right.status(), StatusCode::OK);
    assert_eq!(right.headers()[header::CACHE_CONTROL], "public, immutable");
    assert!(right.headers()[header::EXPIRES].to_str().unwrap().ends_with(" GMT"));
    assert!(body(right).await["paths"].is_object());
    let wrong = ask("/openapi/v3/apis/apps/v1?hash=00", &[]).await;
    assert_eq!(wrong.status(), StatusCode::MOVED_PERMANENTLY);
    assert_eq!(wrong.headers()[header::LOCATION], url);
    let none = ask("/openapi/v3/apis/apps/v1", &[]).await;
    assert_eq!(none.status(), StatusCode::OK);
    assert_eq!(none.headers().get(header::EXPIRES), None, "it may change");
    assert_eq!(ask("/openapi/v3/apis/apps/v9", &[]).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_older_document_is_json_unless_the_other_form_is_asked_for() {
    let plain = ask("/openapi/v2", &[]).await;
    assert_eq!(plain.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(body(plain).await["swagger"], "2.0");
    let other = ask("/openapi/v2", &[(header::ACCEPT, gnostic::ASKED)]).await;
    assert_eq!(other.headers()[header::CONTENT_TYPE], gnostic::ANSWERED);
}
