"""Logs, exec and port-forward of the Python client:
python streams.py KUBECONFIG NAMESPACE SHELL WEB PORT

The first pod has a shell and writes `line 1`, `line 2` and so on; the second serves its name over
HTTP.
"""

import sys

from kubernetes import client, config, watch
from kubernetes.stream import portforward, stream

# Seconds that an answer may take.
DEADLINE = 60


def run(core, namespace, pod, command, **more):
    more = {"stderr": True, "stdout": True, "stdin": False, "tty": False, **more}
    return stream(core.connect_get_namespaced_pod_exec, pod, namespace, command=command, **more)


def execs(core, namespace, pod):
    assert run(core, namespace, pod, ["/bin/sh", "-c", "echo out; echo err >&2"]) in (
        "out\nerr\n", "err\nout\n")
    session = run(core, namespace, pod, ["/bin/sh"], stdin=True, _preload_content=False)
    session.write_stdin("echo heard; exit 7\n")
    session.run_forever(timeout=DEADLINE)
    assert session.read_stdout() == "heard\n", session
    assert session.returncode == 7, session.returncode


def logs(core, namespace, pod):
    text = core.read_namespaced_pod_log(pod, namespace, tail_lines=2)
    assert len(text.splitlines()) == 2, text
    told = []
    follow = watch.Watch()
    for line in follow.stream(core.read_namespaced_pod_log, pod, namespace, tail_lines=1):
        if line.startswith("line "):
            told.append(line)
        if len(told) == 3:
            follow.stop()
    numbers = [int(line.split()[1]) for line in told]
    assert numbers == list(range(numbers[0], numbers[0] + 3)), told


def forwards(core, namespace, pod, port):
    forward = portforward(core.connect_get_namespaced_pod_portforward, pod, namespace,
                          ports=str(port))
    socket = forward.socket(port)
    socket.setblocking(True)
    socket.settimeout(DEADLINE)
    socket.sendall(b"GET /name HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
    answer = b""
    while chunk := socket.recv(1024):
        answer += chunk
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(pod.encode()), answer
    assert forward.error(port) is None, forward.error(port)


def main():
    where, namespace, shell, web, port = sys.argv[1:]
    config.load_kube_config(where)
    with client.ApiClient() as api:
        core = client.CoreV1Api(api)
        execs(core, namespace, shell)
        logs(core, namespace, shell)
        forwards(core, namespace, web, int(port))
    print("fine")


main()
