"""Generate the Python package `maniac_gateway` from the contracts in this folder.

Run it after each change of a .proto file: `python proto/generate.py`. It replaces the package in `proto/gen`, or makes
one in the folder named by `--out`; when a contract is invalid it writes nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent
GEN = PROTO / "gen"
HEADER = '"""Generated from the contracts in proto/: do not edit."""\n'


def main() -> int:
    """Regenerate everything and return protoc's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=GEN, help="folder that the package goes into")
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory() as scratch:
        status = generate(Path(scratch))
        if not status:
            shutil.rmtree(out / "maniac_gateway", ignore_errors=True)
            shutil.copytree(Path(scratch) / "maniac_gateway", out / "maniac_gateway")
    return status


def generate(out: Path) -> int:
    """Write the package into a folder and return protoc's exit status."""
    # protoc looks its plugins up on PATH; they are installed beside this interpreter.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    package = out / "maniac_gateway"
    sources = sorted(str(path) for path in PROTO.glob("maniac_gateway/v1/*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    status: int = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTO}",
            f"--proto_path={well_known}",
            f"--python_out={out}",
            f"--mypy_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_grpc_out={out}",
            *sources,
        ]
    )
    if status:
        return status
    # protoc writes an empty service file for contracts that hold messages only.
    for source in sources:
        if "\nservice " not in Path(source).read_text():
            for stub in (package / "v1").glob(f"{Path(source).stem}_pb2_grpc.py*"):
                stub.unlink()
    for folder in (package, package / "v1"):
        (folder / "__init__.py").write_text(HEADER)
    (package / "py.typed").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
