"""Prints how the chart starts a part in its secure mode, as shell words: a line of environment variables, a line of arguments,
and a line SECRET:FOLDER:MODE[:KEY=FILE] for each secret that is mounted.

  rendered.py coordinator|worker
"""

import shlex
import sys

from chart import render

ACCESS = {"tokensSecret": "tokens", "workerTokenSecret": "worker-token", "tlsSecret": "tls", "workerTlsSecret": "worker-tls"}
VALUES = {"access": ACCESS, "worker": {"gpus": 0, "device": "cpu"}, "model": {"existingClaim": "models", "path": "model.gguf"}, "redis": {"passwordSecret": "redis-password"}}

part = sys.argv[1]
pod = next(
    it["spec"]["template"]["spec"]
    for it in render(VALUES)
    if it["kind"] == "Deployment" and it["metadata"]["name"].endswith(f"-{part}")
)
security = pod["securityContext"]
assert (security["runAsUser"], security["runAsGroup"], security["fsGroup"]) == (10001, 10001, 10001)
container = pod["containers"][0]
mounts = {it["name"]: it["mountPath"] for it in container["volumeMounts"]}
print(shlex.join(f"{it['name']}={it['value']}" for it in container["env"] if "value" in it))
print(shlex.join(container["args"]))
for volume in pod["volumes"]:
    if "secret" in volume:
        secret = volume["secret"]
        items = "".join(f":{it['key']}={it['path']}" for it in secret.get("items", []))
        print(f"{secret['secretName']}:{mounts[volume['name']]}:{secret['defaultMode']:o}{items}")
