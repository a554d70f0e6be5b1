"""The image, as far as it can be checked without a container engine.

The file is parsed, and what its first stage runs is run in a folder. That the base image has what
we expect, and that the second stage starts, only an engine can show.
"""

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser

from tests.project.tree import ROOT, files, run

EVERY_MODULE = """
import importlib, pkgutil, creditgate, creditgate_server
for package in (creditgate, creditgate_server):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        # The image has no benchmark, which the command of that name then says.
        if not module.name.endswith("__main__") and "creditgate_server.bench" not in module.name:
            importlib.import_module(module.name)
"""


def instructions() -> list[list[tuple[str, str]]]:
    """The instructions and their values, by stage."""
    parser = DockerfileParser(path=str(ROOT / "Dockerfile"))
    stages: list[list[tuple[str, str]]] = []
    for entry in parser.structure:
        if entry["instruction"] == "FROM":
            stages.append([])
        if entry["instruction"] != "COMMENT":
            stages[-1].append((entry["instruction"], entry["value"]))
    return stages


def values(instruction: str) -> list[str]:
    """The values of an instruction in the stage that becomes the image."""
    return [value for name, value in instructions()[-1] if name == instruction]


def test_both_stages_stand_on_the_same_image_with_a_version() -> None:
    first, last = (stage[0][1].split()[0] for stage in instructions())
    assert first == last
    assert first.partition(":")[2][0].isdigit()


def test_the_image_runs_the_server_and_not_as_root() -> None:
    users = values("USER")
    assert users
    assert all(part.isdigit() and int(part) > 0 for part in users[-1].split(":"))
    assert json.loads(values("ENTRYPOINT")[-1]) == ["creditgate"]
    assert json.loads(values("CMD")[-1])[0] == "serve"


def test_the_image_says_what_it_offers() -> None:
    assert values("EXPOSE") == ["7420"]
    assert values("VOLUME") == ["/data"]


def test_what_it_copies_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    assert {source for sources, _ in copied() for source in sources} == kept


def copied() -> list[tuple[list[str], str]]:
    """What the first stage copies from the repository, and where to."""
    words = [value.split() for name, value in instructions()[0] if name == "COPY"]
    return [(sources, target) for *sources, target in words]


@pytest.mark.timeout(240)
def test_what_the_first_stage_runs_makes_a_working_installation(tmp_path: Path) -> None:
    place = tmp_path / "src"
    ignored = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("**/")
    ]
    for sources, target in copied():
        for source in sources:
            for path in files():
                if path != source and not path.startswith(f"{source}/"):
                    continue
                if any(fnmatch(f"/{path}", f"*{pattern[2:]}*") for pattern in ignored):
                    continue
                to = place / (source if target == "./" else target) / Path(path).relative_to(source)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / path, to)
    home = tmp_path / "creditgate"
    for name, value in instructions()[0]:
        if name == "RUN":
            run("sh", "-euc", value.replace("/opt/creditgate", str(home)), cwd=place)
    run(home / "bin" / "python", "-W", "error", "-c", EVERY_MODULE, cwd=tmp_path)
