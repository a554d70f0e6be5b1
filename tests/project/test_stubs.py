"""The generated code in the repository is the contract's, and loads wherever we say it does."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from packaging.requirements import Requirement

import creditgate.v1
from tests.project.tree import ROOT, program, requirements, run

PROTOS = sorted((ROOT / "protos" / "creditgate" / "v1").glob("*.proto"))
STUBS = Path(creditgate.v1.__file__).parent

# The pinned generator has no wheel for later ones; the comparison with the protos needs none.
GENERATOR_PYTHON_MAX = (3, 13)


@pytest.mark.timeout(180)
@pytest.mark.skipif(
    sys.version_info[:2] > GENERATOR_PYTHON_MAX, reason="the pinned generator has no wheel for this"
)
def test_stubs_are_what_the_generator_writes() -> None:
    run(sys.executable, ROOT / "protos" / "generate", "--check")


@pytest.mark.timeout(180)
@pytest.mark.skipif(
    sys.version_info[:2] > GENERATOR_PYTHON_MAX, reason="the pinned generator has no wheel for this"
)
def test_a_touched_stub_is_noticed(tmp_path: Path) -> None:
    package = tmp_path / "creditgate" / "v1"
    package.mkdir(parents=True)
    for stub in STUBS.glob("*_pb2*.py*"):
        (package / stub.name).write_bytes(stub.read_bytes())
    (package / "credits_pb2.pyi").write_text("# edited by hand\n")
    (package / "resources_pb2.py").unlink()
    (package / "gone_pb2.py").touch()
    with pytest.raises(AssertionError) as failure:
        run(sys.executable, ROOT / "protos" / "generate", "--check", "--out", tmp_path)
    named = re.findall(r"^differs: creditgate/v1/(\S+)$", str(failure.value), re.MULTILINE)
    assert named == ["credits_pb2.pyi", "gone_pb2.py", "resources_pb2.py"]


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.stem)
def test_stubs_describe_the_protos(proto: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.binpb"
    run(
        program("buf"), "build", "--as-file-descriptor-set", "--exclude-source-info", "-o", image,
        cwd=ROOT / "protos",
    )  # fmt: skip
    name = f"creditgate/v1/{proto.name}"
    built = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
    (contract,) = (file for file in built.file if file.name == name)

    __import__(f"creditgate.v1.{proto.stem}_pb2")
    stub = descriptor_pb2.FileDescriptorProto()
    descriptor_pool.Default().FindFileByName(name).CopyToProto(stub)
    for message in (contract, stub):
        # Only one of the two compilers spells out names that follow from others.
        _clear_json_names(message.message_type)
    assert stub == contract


def _clear_json_names(messages: Iterable[descriptor_pb2.DescriptorProto]) -> None:
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        _clear_json_names(message.nested_type)


def test_a_proto_without_a_service_has_no_service_module() -> None:
    with_service = {path.stem for path in PROTOS if "\nservice " in path.read_text()}
    modules = {path.name.removesuffix("_pb2_grpc.py") for path in STUBS.glob("*_pb2_grpc.py")}
    assert modules == with_service


def test_versions_stamped_in_the_stubs_are_the_floors_we_ask_for() -> None:
    stamped = {
        "protobuf": r"^# Protobuf Python Version: (\S+)$",
        "grpcio": r"^GRPC_GENERATED_VERSION = '(\S+)'$",
    }
    floors = {
        Requirement(line).name: str(Requirement(line).specifier) for line in requirements()[""]
    }
    for package, pattern in stamped.items():
        found = {
            version
            for stub in STUBS.glob("*_pb2*.py")
            for version in re.findall(pattern, stub.read_text(), re.MULTILINE)
        }
        assert {f">={version}" for version in found} == {floors[package]}
