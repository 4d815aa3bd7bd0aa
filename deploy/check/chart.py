"""Lints the chart, renders it for each set of values, and holds every object against the Kubernetes API's own schema.

With --write, also writes deploy/kustomize/base from the values of `evaluation`; without, tells whether it is as the
chart says.
"""

import pathlib
import sys

import helm_python as helm
import kubernetes_validate
import yaml

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
CHART = DEPLOY / "helm" / "longhand"
BASE = DEPLOY / "kustomize" / "base" / "longhand.yaml"
KUBERNETES = "1.31"
# Kinds of operators, which Kubernetes itself has no schema of; what of them must be there.
OTHERS = {
    "ServiceMonitor": ["selector", "endpoints"],
    "ScaledObject": ["scaleTargetRef", "triggers", "maxReplicaCount"],
}
SECRETS = {"tokensSecret": "t", "workerTokenSecret": "w", "tlsSecret": "s", "workerTlsSecret": "v"}
# Values that the chart must refuse, and what it must say.
REFUSED = [
    ({}, "tokensSecret"),
    ({"access": {"insecure": True}}, "model:"),
    ({"access": {"insecure": True}, "model": {"existingClaim": "m", "path": "x"}, "redis": {"enabled": False}}, "urlSecret"),
    ({"access": {"insecure": True, "mutual": True}}, "tlsSecret"),
    ({"access": {"tokensSecret": "t", "tlsSecret": "s", "workerTlsSecret": "w"}}, "workerTokenSecret"),
    ({"access": {"tokensSecret": "t", "workerTokenSecret": "w", "tlsSecret": "s"}}, "workerTlsSecret"),
    ({"access": {"insecure": True}, "model": {"existingClaim": "m", "path": "x"}, "worker": {"gpus": 0}}, "worker.device=cpu"),
    ({"access": {"insecure": True}, "worker": {"replica": 2}}, "replica"),
    ({"access": {"insecure": True}, "worker": {"engine": "openai"}}, "baseUrl"),
    ({"access": {"insecure": True}, "worker": {"engine": "openai", "baseUrl": "http://x/v1"}}, "allowEgressTo.worker"),
    ({"access": {"insecure": True}, "worker": {"engine": "mock"}, "redis": {"enabled": False, "urlSecret": "u"}}, "allowEgressTo.coordinator"),
    ({"access": SECRETS, "worker": {"engine": "mock"}}, "passwordSecret"),
    ({"access": {"insecure": True}, "image": {"digests": {"worker": "sha256:1"}}}, "digests"),
]


def render(values):
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="longhand", namespace="longhand")
    objects = []
    for path, text in sorted(files.items()):
        if path.endswith(".yaml"):
            objects += [it for it in yaml.safe_load_all(text) if it]
    return objects


def check(objects, where):
    for it in objects:
        name = f"{where}: {it['kind']}/{it['metadata']['name']}"
        if it["kind"] in OTHERS:
            missing = [key for key in OTHERS[it["kind"]] if key not in it["spec"]]
            assert not missing, f"{name}: no {missing}"
        else:
            try:
                kubernetes_validate.validate(it, KUBERNETES, strict=True)
            except kubernetes_validate.ValidationError as error:
                sys.exit(f"{name}: {error.message} at {list(error.path)}")


def pods(objects):
    for it in objects:
        if it["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield it["metadata"]["name"], it["spec"]["template"]["spec"]


def promises(objects, where):
    """What the README promises of every installation."""
    for name, pod in pods(objects):
        assert pod["securityContext"]["runAsNonRoot"], f"{where}: {name} may run as root"
        for container in pod["containers"] + pod.get("initContainers", []):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"], f"{where}: {name} may write to its root folder"
            assert security["capabilities"]["drop"] == ["ALL"], f"{where}: {name} keeps capabilities"
            assert container["resources"].get("requests"), f"{where}: {name}/{container['name']} asks for no resources"
        if name.endswith("-worker"):
            container = pod["containers"][0]
            env = {it["name"]: it.get("value") for it in container["env"]}
            before = int(container["lifecycle"]["preStop"]["exec"]["command"][-1]) + int(env["LONGHAND_GRACE"])
            assert pod["terminationGracePeriodSeconds"] > before, f"{where}: killed while it hands texts back"
    for it in objects:
        if it["kind"] == "ScaledObject":
            query = it["spec"]["triggers"][0]["metadata"]["query"]
            assert "ready|leased" in query, f"{where}: scales without the leased documents"
    claims = [it for it in objects if it["kind"] == "StatefulSet"]
    assert all("noeviction" in it["spec"]["template"]["spec"]["containers"][0]["args"] for it in claims)


def separation(objects, access, where):
    """A worker's pod holds nothing that makes it an operator or the coordinator."""
    theirs = {access.get("tokensSecret"), access.get("tlsSecret")} - {None, ""}
    for name, pod in pods(objects):
        mounted = {it["secret"]["secretName"] for it in pod.get("volumes", []) if "secret" in it}
        assert not name.endswith("-worker") or not mounted & theirs, f"{where}: {name} mounts {mounted & theirs}"
    kinds = [it["kind"] for it in objects]
    assert ("Role" in kinds) == ("ValidatingAdmissionPolicy" in kinds), f"{where}: a role that nothing bounds"


def bounded_egress(objects, where):
    """What a pod may call is bounded, and Redis asks for its password."""
    policies = {it["metadata"]["name"].rsplit("-", 1)[-1]: it["spec"] for it in objects if it["kind"] == "NetworkPolicy"}
    for part, spec in policies.items():
        assert "Egress" in spec["policyTypes"], f"{where}: {part} may call anybody"
        for rule in spec["egress"]:
            assert rule.get("to") or rule.get("ports"), f"{where}: {part} may call anybody"
    assert not policies.get("redis", {}).get("egress"), f"{where}: Redis calls somebody"


def pinned():
    """A digest stands in place of the tag."""
    digest = "sha256:" + "a" * 64
    values = {"access": {"insecure": True}, "worker": {"engine": "mock"}, "image": {"digests": {"coordinator": digest, "worker": digest}}}
    images = {container["image"] for _, pod in pods(render(values)) for container in pod["containers"]}
    assert {f"longhand@{digest}", f"longhand-worker@{digest}"} <= images, images
    secure = {"access": SECRETS, "worker": {"engine": "mock"}, "redis": {"passwordSecret": "p"}}
    for name, pod in pods(render(secure)):
        env = {it["name"]: it for it in pod["containers"][0].get("env", [])}
        assert ("REDIS_PASSWORD" in env) == (not name.endswith("-worker")), f"{name}: who knows the password of Redis"
        if name.endswith("-redis"):
            assert "--requirepass" in pod["containers"][0]["args"]


def main():
    values = yaml.safe_load((DEPLOY / "helm" / "values" / "gpu.yaml").read_text())
    linted = helm.lint(str(CHART), values=values, strict=True)
    # 1 is advice, such as to draw an icon.
    bad = linted["errors"] + [it["error"] for it in linted["messages"] if it["severity"] > 1]
    if bad:
        sys.exit(f"chart: lint: {bad}")
    sets = sorted((DEPLOY / "helm" / "values").glob("*.yaml"))
    assert len(sets) >= 5
    for path in sets:
        objects = render(yaml.safe_load(path.read_text()))
        check(objects, path.stem)
        promises(objects, path.stem)
        bounded_egress(objects, path.stem)
        separation(objects, yaml.safe_load(path.read_text())["access"], path.stem)
        print(f"chart: {path.stem}: {len(objects)} objects")
        if path.stem == "evaluation":
            base = "# Rendered from the chart with values/evaluation.yaml by `make deploy-render`: change those.\n"
            base += yaml.safe_dump_all(objects, sort_keys=False, width=120)
            if "--write" in sys.argv:
                BASE.write_text(base)
            elif BASE.read_text() != base:
                sys.exit(f"{BASE} is not as the chart renders it: run `make deploy-render`")
    pinned()
    for values, word in REFUSED:
        try:
            render(values)
        except helm.HelmError as error:
            assert word in str(error), f"{values}: refused without naming {word}: {error}"
        else:
            sys.exit(f"chart: took {values}, where {word} is wrong")
    print(f"chart: {len(REFUSED)} mistakes refused")


if __name__ == "__main__":
    main()
