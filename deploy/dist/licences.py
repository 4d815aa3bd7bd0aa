"""Writes the licences of all crates that are in the program, with their texts, each text once.

    licences.py > LICENCES.md
"""

import collections
import hashlib
import json
import pathlib
import subprocess
import sys

TARGET = next(
    line.split()[1] for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines() if line.startswith("host:")
)


def main():
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--filter-platform", TARGET]
    metadata = json.loads(subprocess.check_output(command))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    # What is linked: no tools of the build, no tests.
    found, rest = set(), [id for id, package in packages.items() if package["name"] == "longhand"]
    while rest:
        id = rest.pop()
        if id in found:
            continue
        found.add(id)
        rest += [d["pkg"] for d in nodes[id]["deps"] if any(kind["kind"] is None for kind in d["dep_kinds"])]
    others = sorted((packages[id] for id in found if packages[id]["source"]), key=lambda it: (it["name"], it["version"]))
    texts = collections.defaultdict(list)
    print("# Licences of what is in Longhand\n\nLonghand itself: Apache-2.0, see LICENSE.\n")
    for package in others:
        licence = package["license"] or "see its text below"
        print(f"- {package['name']} {package['version']}: {licence}")
        folder = pathlib.Path(package["manifest_path"]).parent
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")):
                text = path.read_text(errors="replace").strip()
                texts[hashlib.sha256(text.encode()).hexdigest(), text].append(f"{package['name']} {package['version']}")
    without = [it["name"] for it in others if not it["license"] and not it.get("license_file")]
    if without:
        sys.exit(f"no licence is stated by {', '.join(without)}")
    for (_, text), names in texts.items():
        print(f"\n## {', '.join(names)}\n\n```\n{text}\n```")


main()
