"""Typed calls of the Python client against a server: python typed.py KUBECONFIG NAMESPACE

Every answer is read into the client's own models, so a field of the wrong shape is an error here.
The namespace takes writes and has nodes for no pod.
"""

import inspect
import re
import sys
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException

# Seconds that anything may take that the servers do by themselves.
DEADLINE = 60

# What says how an etcd and its schedulers are, and what moves objects from one stored version to
# the next: there is neither.
NOT_SERVED = {
    "CoreV1Api.list_component_status",
    "StoragemigrationV1Api.list_storage_version_migration",
}


class Refused:
    """The error that a call must end with."""

    def __init__(self, status, *words):
        self.status, self.words = status, words

    def __enter__(self):
        return self

    def __exit__(self, _kind, error, _):
        assert isinstance(error, ApiException), f"refused with {self.status}: {error!r}"
        assert error.status == self.status, error
        for word in self.words:
            assert word in error.body, error.body
        return True


def until(what, look):
    """Looks until there is something, and gives it."""
    begun = time.monotonic()
    while not (found := look()):
        assert time.monotonic() - begun < DEADLINE, f"not in time: {what}"
        time.sleep(0.1)
    return found


def config_map(name, **data):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data=data)


def deployment(name):
    pod = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": name}),
        spec=client.V1PodSpec(containers=[client.V1Container(name="web", image="web:1")]),
    )
    spec = client.V1DeploymentSpec(
        replicas=2, template=pod, selector=client.V1LabelSelector(match_labels={"app": name})
    )
    return client.V1Deployment(metadata=client.V1ObjectMeta(name=name), spec=spec)


def patched(core, name, namespace, body, kind):
    """A patch of one of the types, whichever the client would choose by itself."""
    return core.patch_namespaced_config_map(name, namespace, body, _content_type=kind)


def config_maps(core, namespace):
    made = core.create_namespaced_config_map(namespace, config_map("py", a="1", b="2"))
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo, made
    with Refused(409, "AlreadyExists"):
        core.create_namespaced_config_map(namespace, config_map("py"))
    now = patched(core, "py", namespace, [{"op": "replace", "path": "/data/a", "value": "json"}],
                  "application/json-patch+json")
    assert now.data == {"a": "json", "b": "2"}, now.data
    now = patched(core, "py", namespace, {"data": {"a": None}}, "application/merge-patch+json")
    assert now.data == {"b": "2"}, now.data
    now = patched(core, "py", namespace, {"metadata": {"labels": {"tier": "front"}}},
                  "application/strategic-merge-patch+json")
    assert now.metadata.labels == {"tier": "front"}, now.metadata
    now = core.patch_namespaced_config_map(
        "py", namespace,
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "py"}, "data": {"c": "3"}},
        field_manager="tests", _content_type="application/apply-patch+yaml")
    assert now.data == {"b": "2", "c": "3"}, now.data
    assert "tests" in [by.manager for by in now.metadata.managed_fields], now.metadata
    now.data = {"only": "this"}
    replaced = core.replace_namespaced_config_map("py", namespace, now)
    assert replaced.data == {"only": "this"}, replaced.data
    with Refused(409, "Conflict", "the object has been modified"):
        core.replace_namespaced_config_map("py", namespace, now)
    core.replace_namespaced_config_map("py", namespace, replaced, dry_run="All")
    found = core.list_namespaced_config_map(namespace, label_selector="tier in (front)")
    assert [of.metadata.name for of in found.items] == ["py"], found
    found = core.list_namespaced_config_map(namespace, field_selector="metadata.name=py")
    assert len(found.items) == 1, found
    deleted = core.delete_namespaced_config_map("py", namespace)
    assert deleted["status"] == "Success", deleted
    with Refused(404, "NotFound", 'configmaps \\"py\\" not found'):
        core.read_namespaced_config_map("py", namespace)


def pages(core, namespace):
    names = [f"page-{n}" for n in range(5)]
    for name in names:
        core.create_namespaced_config_map(namespace, config_map(name))
    seen, token = [], None
    while True:
        page = core.list_namespaced_config_map(namespace, limit=2, _continue=token)
        assert len(page.items) <= 2, page
        seen += [of.metadata.name for of in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert [name for name in seen if name.startswith("page-")] == names, seen
    core.delete_collection_namespaced_config_map(
        namespace, field_selector="metadata.name!=page-0,metadata.name!=owned")
    core.read_namespaced_config_map("page-0", namespace)
    with Refused(404):
        core.read_namespaced_config_map("page-1", namespace)
    core.delete_namespaced_config_map("page-0", namespace)


def rescaled(apps, namespace, replicas):
    """Writes the scale it read, unless the Deployment changed in between."""
    scale = apps.read_namespaced_deployment_scale("py", namespace)
    scale.spec.replicas = replicas
    try:
        written = apps.replace_namespaced_deployment_scale("py", namespace, scale)
    except ApiException as refused:
        assert refused.status == 409, refused
        return False
    assert written.spec.replicas == replicas, written
    return True


def deployments(apps, core, namespace):
    made = apps.create_namespaced_deployment(namespace, deployment("py"))
    assert made.spec.strategy.rolling_update.max_surge == "25%", made.spec.strategy
    until("two pods", lambda: len(core.list_namespaced_pod(
        namespace, label_selector="app=py").items) == 2)
    scale = apps.read_namespaced_deployment_scale("py", namespace)
    assert (scale.spec.replicas, scale.status.selector) == (2, "app=py"), scale
    until("three are wanted", lambda: rescaled(apps, namespace, 3))
    apps.patch_namespaced_deployment_scale("py", namespace, {"spec": {"replicas": 1}})
    until("one pod", lambda: len(core.list_namespaced_pod(
        namespace, label_selector="app=py").items) == 1)
    seen = until("its status", lambda: (
        of := apps.read_namespaced_deployment_status("py", namespace)).status.replicas == 1 and of)
    assert seen.status.conditions[0].last_update_time.tzinfo, seen.status
    wrong = deployment("wrong")
    wrong.spec.selector.match_labels = {"app": "other"}
    with Refused(422, "Invalid", "spec.template.metadata.labels"):
        apps.create_namespaced_deployment(namespace, wrong)
    apps.delete_namespaced_deployment("py", namespace, propagation_policy="Foreground")
    until("it went, after what it owned", lambda: not apps.list_namespaced_deployment(
        namespace, field_selector="metadata.name=py").items)
    assert not core.list_namespaced_pod(namespace, label_selector="app=py").items
    with Refused(404):
        apps.read_namespaced_deployment("py", namespace)


def watches(core, namespace):
    begun = core.list_namespaced_config_map(namespace).metadata.resource_version
    core.create_namespaced_config_map(namespace, config_map("seen", a="1"))
    core.patch_namespaced_config_map("seen", namespace, {"data": {"a": "2"}})
    core.delete_namespaced_config_map("seen", namespace)
    told, stream = [], watch.Watch()
    for event in stream.stream(core.list_namespaced_config_map, namespace,
                               resource_version=begun, timeout_seconds=DEADLINE):
        assert isinstance(event["object"], client.V1ConfigMap), event
        told.append((event["type"], event["object"].metadata.name, event["object"].data["a"]))
        if event["type"] == "DELETED":
            stream.stop()
    assert told == [("ADDED", "seen", "1"), ("MODIFIED", "seen", "2"), ("DELETED", "seen", "2")], told
    # What is there already is told first, and the stream ends by itself.
    all_of_it = watch.Watch().stream(core.list_namespaced_config_map, namespace, timeout_seconds=1)
    assert "owned" in [event["object"].metadata.name for event in all_of_it]


def tokens(core, api, namespace):
    core.create_namespaced_service_account(
        namespace, client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="py")))
    request = client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600))
    made = core.create_namespaced_service_account_token("py", namespace, request)
    assert made.status.expiration_timestamp.tzinfo, made
    own = client.Configuration()
    own.host, own.ssl_ca_cert = api.configuration.host, api.configuration.ssl_ca_cert
    own.api_key = {"authorization": "Bearer " + made.status.token}
    with client.ApiClient(own) as caller:
        me = client.AuthenticationV1Api(caller).create_self_subject_review(
            client.V1SelfSubjectReview())
        assert me.status.user_info.username == f"system:serviceaccount:{namespace}:py", me
        with Refused(403, "Forbidden", "cannot list resource"):
            client.CoreV1Api(caller).list_namespaced_secret(namespace)
        review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=client.V1ResourceAttributes(
                verb="list", resource="pods", namespace=namespace)))
        asked = client.AuthorizationV1Api(caller).create_self_subject_access_review(review)
        assert asked.status.allowed is False, asked
    core.delete_namespaced_service_account("py", namespace)


def of_any_kind(api, namespace):
    anything = dynamic.DynamicClient(api)
    maps = anything.resources.get(api_version="v1", kind="ConfigMap")
    made = maps.create(namespace=namespace, body={
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dyn"}, "data": {"a": "1"}})
    assert made.data.a == "1", made
    now = maps.patch(namespace=namespace, name="dyn", body={"data": {"a": "2"}},
                     content_type="application/merge-patch+json")
    assert now.data.a == "2", now
    now = maps.server_side_apply(namespace=namespace, name="dyn", field_manager="dyn", body={
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dyn"}, "data": {"b": "3"}})
    assert dict(now.data) == {"a": "2", "b": "3"}, now
    assert "dyn" in [of.metadata.name for of in maps.get(namespace=namespace).items]
    for event in maps.watch(namespace=namespace, timeout=DEADLINE,
                            field_selector="metadata.name=dyn"):
        assert event["object"].data.b == "3", event
        break
    maps.delete(namespace=namespace, name="dyn")
    deployments = anything.resources.get(api_version="apps/v1", kind="Deployment")
    assert deployments.get(namespace=namespace).items == []
    # By its plural name, and through the document of a group.
    assert anything.resources.get(group="batch", name="jobs").kind == "Job"


def from_yaml(api, core, namespace):
    objects = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "py"},
         "spec": {"selector": {"app": "py"}, "ports": [{"port": 80}]}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "py"},
         "spec": {"defaultBackend": {"service": {"name": "py", "port": {"number": 80}}}}},
    ]
    utils.create_from_yaml(api, yaml_objects=objects, namespace=namespace)
    service = core.read_namespaced_service("py", namespace)
    assert service.spec.cluster_ip and service.spec.ports[0].target_port == 80, service
    core.delete_namespaced_service("py", namespace)
    client.NetworkingV1Api(api).delete_namespaced_ingress("py", namespace)


def every_list(api, namespace):
    """Whatever the client can list of what is served reads into its models."""
    served, absent = 0, []
    for name, of in inspect.getmembers(client, inspect.isclass):
        if not re.search(r"V\d\w*Api$", name):
            continue
        calls = inspect.getmembers(of(api), lambda m: inspect.ismethod(m))
        for method, call in calls:
            if not method.startswith("list_") or method.endswith("_with_http_info"):
                continue
            named = [namespace] if method.startswith("list_namespaced_") else []
            # Objects without a model; and events of the core group have no eventTime, on Kubernetes
            # too, which the client's model of the newer group wants to have.
            if "custom_object" in method or name == "EventsV1Api":
                continue
            try:
                assert call(*named, limit=3).items is not None, method
                served += 1
            except ApiException as error:
                assert error.status == 404, (method, error)
                absent.append(f"{name}.{method}")
    assert served > 60, (served, absent)
    print(f"{served} lists read; not served: {len(absent)}")
    # Versions that may change from one release to the next are nobody's to rely on.
    stable = [name for name in absent if "alpha" not in name and "beta" not in name]
    assert set(stable) <= NOT_SERVED, stable


def main():
    where, namespace = sys.argv[1:]
    config.load_kube_config(where)
    with client.ApiClient() as api:
        core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
        assert client.VersionApi(api).get_code().major == "1"
        config_maps(core, namespace)
        pages(core, namespace)
        deployments(apps, core, namespace)
        watches(core, namespace)
        tokens(core, api, namespace)
        of_any_kind(api, namespace)
        from_yaml(api, core, namespace)
        every_list(api, namespace)
    print("fine")


main()
