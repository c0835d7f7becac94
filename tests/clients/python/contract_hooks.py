"""Keeps what schemathesis makes up near enough to what is there that it reaches past the first
check of a server, and from what would never end."""

import os

import schemathesis

NAMESPACE = os.environ["CONTRACT_NAMESPACE"]
# An object that is there, one that is made and removed again and again, one that never is.
NAMES = ["owned", "made", "absent"]
# What asks for an answer without an end, or for the deletion of where the rest happens.
ENDLESS = ["watch", "follow", "sendInitialEvents"]


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if not path_parameters:
        return path_parameters
    if "namespace" in path_parameters:
        path_parameters["namespace"] = NAMESPACE
    if "name" in path_parameters:
        made_up = str(path_parameters["name"])
        path_parameters["name"] = NAMES[sum(made_up.encode()) % len(NAMES)]
    return path_parameters


@schemathesis.hook
def map_query(context, query):
    if isinstance(query, dict):
        for name in ENDLESS:
            query.pop(name, None)
    return query


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict):
        metadata = body.get("metadata")
        if isinstance(metadata, dict):
            if len(str(metadata)) % 2:
                metadata["name"] = "made"
            metadata.pop("namespace", None)
            metadata.pop("resourceVersion", None)
            metadata.pop("uid", None)
    return body
