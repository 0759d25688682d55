"""The deployment example: manifests that fit together, commands that the command line takes, and an image that installs what the tutorial says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from memoir_fast.cli.app import parser
from memoir_fast.serving.following import KEY

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "deploy"
PARTS = [part for name in ("editor.yaml", "replicas.yaml") for part in yaml.safe_load_all((FOLDER / name).read_text())]
DEPLOYMENTS = {part["metadata"]["name"]: part for part in PARTS if part["kind"] == "Deployment"}
SERVICES = {part["metadata"]["name"]: part for part in PARTS if part["kind"] == "Service"}
CLAIMS = {part["metadata"]["name"] for part in PARTS if part["kind"] == "PersistentVolumeClaim"}


def _container(name):
    [container] = DEPLOYMENTS[name]["spec"]["template"]["spec"]["containers"]
    return container


def test_the_kinds_are_those_of_their_versions():
    assert [(part["apiVersion"], part["kind"]) for part in PARTS] == [
        ("v1", "PersistentVolumeClaim"), ("apps/v1", "Deployment"), ("v1", "Service"), ("apps/v1", "Deployment"), ("v1", "Service")]  # fmt: skip
    assert set(DEPLOYMENTS) == set(SERVICES) == {"memoir-editor", "memoir-vllm"}


@pytest.mark.parametrize("name", list(DEPLOYMENTS))
def test_what_is_named_is_there(name):
    spec, container = DEPLOYMENTS[name]["spec"], _container(name)
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == SERVICES[name]["spec"]["selector"]
    options = parser().parse_args(container["args"])
    [port], [service] = container["ports"], SERVICES[name]["spec"]["ports"]
    assert port["containerPort"] == options.port == service["port"] and service["targetPort"] == port["name"]
    probes = [container[probe]["httpGet"] for probe in ("readinessProbe", "startupProbe") if probe in container]
    assert probes and all(probe == {"path": "/health", "port": port["name"]} for probe in probes)
    volumes = {volume["name"]: volume for volume in spec["template"]["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(volumes) == set(mounts)
    assert all(
        volume["persistentVolumeClaim"]["claimName"] in CLAIMS
        for volume in volumes.values()
        if "persistentVolumeClaim" in volume
    )
    places = [options.store, *([options.keys] if name == "memoir-editor" else [options.to])]
    for place in places:  # below a volume, not the volume itself: a copy is exchanged as a whole
        assert any(str(Path(place).parent) == mount for mount in mounts.values()), place


def test_a_store_has_one_editor_and_its_replicas_follow_it():
    editor, replicas = DEPLOYMENTS["memoir-editor"]["spec"], DEPLOYMENTS["memoir-vllm"]["spec"]
    assert editor["replicas"] == 1 and editor["strategy"] == {"type": "Recreate"} and replicas["replicas"] > 1
    options = parser().parse_args(_container("memoir-vllm")["args"])
    edits = parser().parse_args(_container("memoir-editor")["args"])
    assert options.follow == f"http://memoir-editor:{edits.port}" and options.model == edits.model
    assert options.vllm == ["--dtype", "float32", "--enforce-eager"]


def test_the_keys_are_those_of_the_command_that_makes_them():
    [made] = [line.strip() for line in (FOLDER / "README.md").read_text().splitlines() if "create secret" in line]
    words = shlex.split(made)
    given = {
        word.partition("=")[2].partition("=")[0]
        for word in words
        if word.startswith(("--from-literal=", "--from-file="))
    }
    environment = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in _container("memoir-vllm")["env"]}
    assert set(environment) == {KEY, "VLLM_API_KEY"}
    [keys] = [v["secret"] for v in DEPLOYMENTS["memoir-editor"]["spec"]["template"]["spec"]["volumes"] if "secret" in v]
    assert {one["name"] for one in environment.values()} == {keys["secretName"]} == {words[words.index("generic") + 1]}
    assert {one["key"] for one in environment.values()} | {one["key"] for one in keys["items"]} == given
    assert parser().parse_args(_container("memoir-editor")["args"]).keys.endswith(keys["items"][0]["path"])


def test_the_image_installs_what_the_tutorial_installs():
    text = (FOLDER / "Dockerfile").read_text()
    steps = re.findall(r"^RUN (pip .*)$", text, re.MULTILINE)
    told = [
        line.strip()
        for line in (ROOT / "docs" / "tutorial" / "serving.md").read_text().splitlines()
        if line.startswith("    pip install")
    ]
    assert steps == told and len(steps) == 2
    assert text.index(steps[0]) < text.index("COPY . .") < text.index(steps[1])
    assert 'ENTRYPOINT ["memoir-fast"]' in text and text.rindex("USER 1000") > text.rindex("RUN ")
    used = set(re.findall(r"MEMOIR_FAST_\w+", text))
    assert all(f"`{name}`" in (ROOT / "docs" / "reference" / "config.md").read_text() for name in used)
