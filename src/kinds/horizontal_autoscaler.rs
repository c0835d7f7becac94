//! HorizontalPodAutoscalers, stored as autoscaling/v2 and served as v1 too.

use k8s_openapi::{
    api::autoscaling::v2::{
        HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler,
        HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerStatus, MetricSpec, MetricTarget,
        ResourceMetricSource,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::{Map, Value, json};

use super::{Kind, amount, field::Check, pod_defaults};

/// Per cent of the requested CPU that is aimed at when no metric is given.
const CPU_PERCENT: i32 = 80;
/// Longest period of a policy and longest window of looking back, in seconds, as Kubernetes.
const PERIOD_SECONDS_MAX: i32 = 1800;
const WINDOW_SECONDS_MAX: i32 = 3600;
const METRICS: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
/// Where v1 keeps what it has no fields for.
const METRICS_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR_ANNOTATION: &str = "autoscaling.alpha.kubernetes.io/behavior";

impl Kind for HorizontalPodAutoscaler {
    const QUANTITIES: &'static [&'static str] = &["averageValue", "tolerance"];

    fn default_fields(&mut self) {
        let spec = &mut self.spec;
        spec.min_replicas.get_or_insert(1);
        let metrics = spec.metrics.get_or_insert_default();
        if metrics.is_empty() {
            metrics.push(cpu());
        }
        metrics.iter_mut().for_each(canonical);
        if let Some(behavior) = &mut spec.behavior {
            default_behavior(behavior);
        }
        self.status.get_or_insert_default();
    }

    fn validate(&self, check: &mut Check) {
        let spec = &self.spec;
        let least = spec.min_replicas.unwrap_or(1);
        check.not_negative("spec.minReplicas", Some(i64::from(least)));
        if spec.max_replicas < 1 {
            check.invalid("spec.maxReplicas", spec.max_replicas, "must be greater than 0");
        } else if spec.max_replicas < least {
            let text = "must be greater than or equal to `minReplicas`";
            check.invalid("spec.maxReplicas", spec.max_replicas, text);
        }
        for (field, text) in [
            ("spec.scaleTargetRef.kind", &spec.scale_target_ref.kind),
            ("spec.scaleTargetRef.name", &spec.scale_target_ref.name),
        ] {
            if text.is_empty() {
                check.required(field, "");
            }
        }
        let metrics = spec.metrics.as_deref().unwrap_or_default();
        metrics.iter().enumerate().for_each(|(i, m)| validate_metric(i, m, check));
        if least == 0 && !metrics.iter().any(|m| m.object.is_some() || m.external.is_some()) {
            let text = "must specify at least one Object or External metric to support scaling to \
                        zero replicas";
            check.forbidden("spec.metrics", text);
        }
        if let Some(behavior) = &spec.behavior {
            for (field, rules) in
                [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)]
            {
                let at = format!("spec.behavior.{field}");
                rules.iter().for_each(|rules| validate_rules(&at, rules, check));
            }
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(HorizontalPodAutoscalerStatus::default());
    }

    fn written(value: &mut Value) {
        let status = value.get_mut("status").and_then(Value::as_object_mut);
        if let Some(status) = status {
            status.entry("currentMetrics").or_insert(Value::Null);
        }
    }
}

/// The metric that is aimed at when there is none.
fn cpu() -> MetricSpec {
    let target = MetricTarget {
        type_: "Utilization".to_owned(),
        average_utilization: Some(CPU_PERCENT),
        ..Default::default()
    };
    MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource { name: "cpu".to_owned(), target }),
        ..Default::default()
    }
}

/// What a metric aims at.
fn target(metric: &mut MetricSpec) -> Option<&mut MetricTarget> {
    let MetricSpec { container_resource, external, object, pods, resource, .. } = metric;
    let targets = [
        resource.as_mut().map(|m| &mut m.target),
        container_resource.as_mut().map(|m| &mut m.target),
        pods.as_mut().map(|m| &mut m.target),
        object.as_mut().map(|m| &mut m.target),
        external.as_mut().map(|m| &mut m.target),
    ];
    targets.into_iter().flatten().next()
}

/// Writes the plain value, whose name says nothing of its being a quantity, in canonical form.
fn canonical(metric: &mut MetricSpec) {
    let value = target(metric).and_then(|t| t.value.as_mut());
    if let Some(Quantity(text)) = value
        && let Ok(canonical) = amount::canonical(text)
    {
        *text = canonical;
    }
}

/// How fast pods may come and go: twice as many, or four more, in fifteen seconds; all may go.
fn default_behavior(behavior: &mut HorizontalPodAutoscalerBehavior) {
    let policy = |type_: &str, value| HPAScalingPolicy {
        type_: type_.to_owned(),
        value,
        period_seconds: 15,
    };
    let up = behavior.scale_up.get_or_insert_default();
    up.stabilization_window_seconds.get_or_insert(0);
    default_rules(up, vec![policy("Pods", 4), policy("Percent", 100)]);
    let down = behavior.scale_down.get_or_insert_default();
    default_rules(down, vec![policy("Percent", 100)]);
}

fn default_rules(rules: &mut HPAScalingRules, policies: Vec<HPAScalingPolicy>) {
    pod_defaults::fill(&mut rules.select_policy, "Max");
    if rules.policies.as_ref().is_none_or(Vec::is_empty) {
        rules.policies = Some(policies);
    }
}

fn validate_metric(i: usize, metric: &MetricSpec, check: &mut Check) {
    let at = format!("spec.metrics[{i}]");
    check.one_of(format!("{at}.type"), &metric.type_, &METRICS);
    let mut metric = metric.clone();
    let field = match metric.type_.as_str() {
        "Resource" => metric.resource.is_some().then_some("resource"),
        "ContainerResource" => metric.container_resource.is_some().then_some("containerResource"),
        "Pods" => metric.pods.is_some().then_some("pods"),
        "Object" => metric.object.is_some().then_some("object"),
        "External" => metric.external.is_some().then_some("external"),
        _ => return,
    };
    let Some(field) = field else {
        let text = "must populate information for the given metric source";
        let mut name = metric.type_.clone();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        return check.required(format!("{at}.{name}"), text);
    };
    if let Some(target) = target(&mut metric) {
        validate_target(&format!("{at}.{field}.target"), target, check);
    }
}

fn validate_target(at: &str, target: &MetricTarget, check: &mut Check) {
    let types = ["AverageValue", "Utilization", "Value"];
    check.one_of(format!("{at}.type"), &target.type_, &types);
    if let Some(percent) = target.average_utilization.filter(|p| *p < 1) {
        check.invalid(format!("{at}.averageUtilization"), percent, "must be greater than 0");
    }
    for (field, value) in [("value", &target.value), ("averageValue", &target.average_value)] {
        let low = |v: &&Quantity| v.0.starts_with('-') || v.0 == "0";
        if let Some(value) = value.as_ref().filter(low) {
            check.invalid(format!("{at}.{field}"), &value.0, "must be positive");
        }
    }
}

fn validate_rules(at: &str, rules: &HPAScalingRules, check: &mut Check) {
    if let Some(window) = rules.stabilization_window_seconds {
        let field = format!("{at}.stabilizationWindowSeconds");
        check.not_negative(&field, Some(i64::from(window)));
        if window > WINDOW_SECONDS_MAX {
            let text = format!("must be less than or equal to {WINDOW_SECONDS_MAX}");
            check.invalid(&field, window, text);
        }
    }
    let select = rules.select_policy.as_deref().unwrap_or_default();
    check.one_of(format!("{at}.selectPolicy"), select, &["Disabled", "Max", "Min"]);
    for (i, policy) in rules.policies.iter().flatten().enumerate() {
        let at = format!("{at}.policies[{i}]");
        check.one_of(format!("{at}.type"), &policy.type_, &["Percent", "Pods"]);
        if policy.value <= 0 {
            check.invalid(format!("{at}.value"), policy.value, "must be greater than zero");
        }
        let field = format!("{at}.periodSeconds");
        if policy.period_seconds <= 0 {
            check.invalid(field, policy.period_seconds, "must be greater than zero");
        } else if policy.period_seconds > PERIOD_SECONDS_MAX {
            let text = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
            check.invalid(field, policy.period_seconds, text);
        }
    }
}

/// From v1: what its annotations carry becomes fields again.
pub(super) fn to_stored(value: &mut Value) {
    let carried = take_annotations(value);
    let metrics = carried.get(METRICS_ANNOTATION).cloned().unwrap_or_else(|| json!([]));
    let mut metrics: Vec<Value> =
        metrics.as_array().into_iter().flatten().map(|m| widen(m, "target")).collect();
    let percent = take(&mut value["spec"], "targetCPUUtilizationPercentage");
    if !percent.is_null() {
        let target = json!({ "type": "Utilization", "averageUtilization": percent });
        let cpu = json!({ "type": "Resource", "resource": { "name": "cpu", "target": target } });
        metrics.insert(0, cpu);
    }
    if !metrics.is_empty() {
        value["spec"]["metrics"] = metrics.into();
    }
    if let Some(behavior) = carried.get(BEHAVIOR_ANNOTATION) {
        value["spec"]["behavior"] = behavior.clone();
    }
    if value.get("status").is_some_and(Value::is_object) {
        let status = &mut value["status"];
        take(status, "currentCPUUtilizationPercentage");
        if let Some(current) = carried.get(CURRENT_ANNOTATION).and_then(Value::as_array) {
            let current: Vec<Value> = current.iter().map(|m| widen(m, "current")).collect();
            status["currentMetrics"] = current.into();
        }
        if let Some(conditions) = carried.get(CONDITIONS_ANNOTATION) {
            status["conditions"] = conditions.clone();
        }
    }
}

/// To v1: what it has no fields for goes to annotations.
pub(super) fn from_stored(value: &mut Value) {
    let metrics = take(&mut value["spec"], "metrics");
    let mut metrics = metrics.as_array().cloned().unwrap_or_default();
    let percent = "/resource/target/averageUtilization";
    let is_cpu = |m: &Value| m["resource"]["name"] == "cpu" && m.pointer(percent).is_some();
    if let Some(at) = metrics.iter().position(is_cpu) {
        let cpu = metrics.remove(at);
        let percent = cpu.pointer(percent).cloned().unwrap_or_default();
        value["spec"]["targetCPUUtilizationPercentage"] = percent;
    }
    let behavior = take(&mut value["spec"], "behavior");
    let mut carried = vec![(METRICS_ANNOTATION, narrow(&metrics, "target"))];
    carried.push((BEHAVIOR_ANNOTATION, behavior));
    if value.get("status").is_some_and(Value::is_object) {
        let status = &mut value["status"];
        let current = take(status, "currentMetrics").as_array().cloned().unwrap_or_default();
        let percent = "/resource/current/averageUtilization";
        let cpu = current.iter().find(|m| m["resource"]["name"] == "cpu");
        if let Some(percent) = cpu.and_then(|m| m.pointer(percent)) {
            status["currentCPUUtilizationPercentage"] = percent.clone();
        }
        if let Some(status) = status.as_object_mut() {
            status.entry("currentReplicas").or_insert_with(|| 0.into());
        }
        carried.push((CONDITIONS_ANNOTATION, take(status, "conditions")));
        carried.push((CURRENT_ANNOTATION, narrow(&current, "current")));
    }
    for (name, content) in carried.into_iter().filter(|(_, c)| !c.is_null()) {
        value["metadata"]["annotations"][name] = content.to_string().into();
    }
}

/// Takes out the annotations of v1; one that is not JSON is dropped, as Kubernetes drops it.
fn take_annotations(value: &mut Value) -> Map<String, Value> {
    let all = [METRICS_ANNOTATION, CURRENT_ANNOTATION, CONDITIONS_ANNOTATION, BEHAVIOR_ANNOTATION];
    let mut carried = Map::new();
    for name in all {
        let text = value.pointer_mut("/metadata/annotations").map(|a| take(a, name));
        let read = text.as_ref().and_then(Value::as_str).map(serde_json::from_str);
        if let Some(Ok(content)) = read {
            carried.insert(name.to_owned(), content);
        }
    }
    carried
}

fn take(parent: &mut Value, field: &str) -> Value {
    parent.as_object_mut().and_then(|map| map.remove(field)).unwrap_or_default()
}

/// What the metrics of v1 call the parts of `target` (or `current`), which v2 nests.
fn flat_names(side: &str) -> [(String, &'static str); 3] {
    [
        (format!("{side}AverageUtilization"), "averageUtilization"),
        (format!("{side}AverageValue"), "averageValue"),
        (format!("{side}Value"), "value"),
    ]
}

/// A metric of v2 for each of v1's: `{name, targetAverageValue}` to `{name, target}`.
fn widen(metric: &Value, side: &str) -> Value {
    let mut metric = metric.clone();
    for (kind, source) in metric.as_object_mut().into_iter().flatten() {
        let Some(map) = source.as_object_mut() else { continue };
        let described = map.remove("target");
        let mut nested = Map::new();
        for (flat, name) in flat_names(side) {
            nested.extend(map.remove(&flat).map(|v| (name.to_owned(), v)));
        }
        // An object's average has a name of its own.
        nested.extend(map.remove("averageValue").map(|v| ("averageValue".to_owned(), v)));
        if side == "target" {
            let type_ = match (nested.get("averageUtilization"), nested.get("averageValue")) {
                (Some(_), _) => "Utilization",
                (_, Some(_)) => "AverageValue",
                _ => "Value",
            };
            nested.insert("type".to_owned(), type_.into());
        }
        let name = map.remove("metricName");
        let selector = map.remove("metricSelector").or_else(|| map.remove("selector"));
        if let Some(name) = name {
            let mut identifier = json!({ "name": name });
            selector.into_iter().for_each(|s| identifier["selector"] = s);
            map.insert("metric".to_owned(), identifier);
        }
        if kind == "object" {
            map.extend(described.map(|d| ("describedObject".to_owned(), d)));
        }
        map.insert(side.to_owned(), Value::Object(nested));
    }
    metric
}

/// The metrics of v1 for those of v2; null when there are none.
fn narrow(metrics: &[Value], side: &str) -> Value {
    if metrics.is_empty() {
        return Value::Null;
    }
    metrics.iter().map(|metric| narrow_one(metric, side)).collect()
}

fn narrow_one(metric: &Value, side: &str) -> Value {
    let mut metric = metric.clone();
    for (kind, source) in metric.as_object_mut().into_iter().flatten() {
        let Some(map) = source.as_object_mut() else { continue };
        let nested = map.remove(side).unwrap_or_default();
        for (flat, name) in flat_names(side) {
            let of_object = kind == "object" && name == "averageValue";
            let flat = if of_object { name.to_owned() } else { flat };
            map.extend(nested.get(name).map(|v| (flat, v.clone())));
        }
        if let Some(identifier) = map.remove("metric") {
            map.insert("metricName".to_owned(), identifier["name"].clone());
            let field = if kind == "external" { "metricSelector" } else { "selector" };
            let selector = identifier.get("selector").cloned();
            map.extend(selector.map(|s| (field.to_owned(), s)));
        }
        if kind == "object" {
            let described = map.remove("describedObject");
            map.extend(described.map(|d| ("target".to_owned(), d)));
        }
    }
    metric
}
