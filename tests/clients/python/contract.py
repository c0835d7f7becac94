"""Holds a server against its own OpenAPI documents: python contract.py KUBECONFIG NAMESPACE REQUESTS

Every operation of every group is asked with what its schema allows and with what it does not. No
answer may be a server error, and every answer of a documented kind must have the documented shape.
"""

import json
import os
import subprocess
import sys
import tempfile

from kubernetes import client, config

# What never ends by itself, or is the affair of a pod.
STREAMS = ["/attach", "/exec", "/portforward", "/proxy", "/proxy/{path}"]


def documents(api):
    """All documents as one."""

    def get(path):
        answer = api.call_api("GET", api.configuration.host + path,
                              {"Accept": "application/json"})
        return json.loads(answer.read())

    whole = {"paths": {}, "components": {"schemas": {}}}
    for path in get("/openapi/v3")["paths"]:
        document = get(f"/openapi/v3/{path}")
        whole["openapi"], whole["info"] = document["openapi"], document["info"]
        whole["paths"] |= {path: item for path, item in document["paths"].items()
                           if not path.endswith(tuple(STREAMS))}
        whole["components"]["schemas"] |= document["components"]["schemas"]
    # The documents say, as Kubernetes' do, that a body may be of any type; this one sends JSON.
    for item in whole["paths"].values():
        for operation in item.values():
            content = operation.get("requestBody", {}).get("content", {}) \
                if isinstance(operation, dict) else {}
            if "*/*" in content:
                content["application/json"] = content.pop("*/*")
    return whole


def operations(document):
    return sum(method in ("get", "put", "post", "patch", "delete")
               for item in document["paths"].values() for method in item)


def main():
    where, namespace, requests = sys.argv[1:]
    seed = os.environ.get("MAINSTAY_SCHEMATHESIS_SEED")
    config.load_kube_config(where)
    with client.ApiClient() as api, tempfile.TemporaryDirectory() as folder:
        document = documents(api)
        count = operations(document)
        place = os.path.join(folder, "openapi.json")
        with open(place, "w", encoding="utf-8") as file:
            json.dump(document, file)
        examples = -(-int(requests) // count)
        print(f"{count} operations, {examples} requests or more for each", flush=True)
        told = api.configuration
        here = os.path.dirname(os.path.abspath(__file__))
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "contract_hooks", "PYTHONPATH": here,
                       "PYTHONDONTWRITEBYTECODE": "1",
                       "CONTRACT_NAMESPACE": namespace, "REQUESTS_CA_BUNDLE": told.ssl_ca_cert}
        beside = os.path.join(os.path.dirname(sys.executable), "schemathesis")
        verdict = subprocess.run([
            beside, "run", place, "--url", told.host, "--tls-verify", told.ssl_ca_cert,
            "--request-cert", told.cert_file, "--request-cert-key", told.key_file,
            "--phases", "fuzzing", "--max-examples", str(examples),
            "--checks", "not_a_server_error,response_schema_conformance",
            "--request-timeout", "30", "--no-shrink",
            "--continue-on-failure", "--warnings", "off", "--no-color",
            "--suppress-health-check", "all", "--output-truncate", "true",
            # The same requests each time, unless somebody wants others.
            *(["--seed", seed, "--generation-database", "none"] if seed
              else ["--generation-deterministic"]),
        ], env=environment, cwd=folder, check=False)
        sys.exit(verdict.returncode)


main()
