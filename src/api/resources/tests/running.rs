//! `pods/ephemeralcontainers` and `pods/resize` over HTTP.

use super::*;

/// What runs is changed by paths of its own, and by nothing else.
#[tokio::test]
async fn running_pods_take_containers_for_debugging_and_other_shares() {
    let backend = demo();
    let mut sent = pod("p");
    sent["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    let (code, made) = told(&backend, "POST", PODS, sent).await;
    assert_eq!(code, 201, "{made}");
    let strategic = "application/strategic-merge-patch+json";
    let patch = async |path: String, value: Value| {
        let response = ask(&backend, "PATCH", &path, strategic, "*/*", value.to_string()).await;
        let code = response.status().as_u16();
        (code, serde_json::from_str::<Value>(&body(response).await).unwrap())
    };
    let (at, debug) = (format!("{PODS}/p"), format!("{PODS}/p/ephemeralcontainers"));
    let name = made["spec"]["containers"][0]["name"].clone();
    let looker = |more: Value| {
        let mut one = json!({"name": "look", "image": "tools", "targetContainerName": name});
        one.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"spec": {"ephemeralContainers": [one]}})
    };
    let (code, refused) = patch(at.clone(), looker(json!({}))).await;
    assert_eq!(code, 422, "{refused}");
    let (code, told) = patch(debug.clone(), looker(json!({"tty": true}))).await;
    assert_eq!(code, 200, "{told}");
    let stored = &told["spec"]["ephemeralContainers"][0];
    assert_eq!((&stored["tty"], &stored["imagePullPolicy"]), (&json!(true), &json!("Always")));
    let (code, refused) = patch(debug.clone(), looker(json!({"image": "other"}))).await;
    let text = refused["message"].as_str().unwrap();
    assert!(code == 422 && text.contains("\"look\" may not be changed"), "{refused}");
    let wrong = json!({"name": "b", "image": "x", "targetContainerName": "none",
        "livenessProbe": {"exec": {"command": ["x"]}}});
    let (code, refused) = patch(debug, json!({"spec": {"ephemeralContainers": [wrong]}})).await;
    let text = refused["message"].as_str().unwrap();
    assert_eq!(code, 422, "{refused}");
    assert!(text.contains("livenessProbe: Forbidden: cannot be set for an Ephemeral Container"));
    assert!(text.contains("targetContainerName: Not found: \"none\""), "{text}");

    let resize = format!("{PODS}/p/resize");
    let share = |resources: Value| json!({"spec": {"containers": [{"name": name, "resources": resources}]}});
    let more = share(json!({"requests": {"cpu": "2"}}));
    let (code, refused) = patch(at, more.clone()).await;
    assert_eq!(code, 422, "{refused}");
    let (code, told) = patch(resize.clone(), more).await;
    assert_eq!(code, 200, "{told}");
    assert_eq!(told["spec"]["containers"][0]["resources"]["requests"]["cpu"], "2");
    let before = made["metadata"]["generation"].as_i64().unwrap();
    assert_eq!(told["metadata"]["generation"], before + 2, "both count");
    let (code, refused) = patch(resize.clone(), share(json!({"requests": {"cpu": null}}))).await;
    let text = refused["message"].as_str().unwrap();
    assert!(code == 422 && text.contains("resource requests cannot be removed"), "{text}");
    let guaranteed = json!({"limits": {"cpu": "2", "memory": "1Gi"},
        "requests": {"cpu": "2", "memory": "1Gi"}});
    let (code, refused) = patch(resize, share(guaranteed)).await;
    let text = refused["message"].as_str().unwrap();
    assert!(code == 422 && text.contains("Pod QOS Class may not change"), "{text}");
}
