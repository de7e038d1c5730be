"""Every C++ file is as clang-format has it, and the protos pass buf's lint. The tools are pinned wheels in .venv."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = pathlib.Path(sys.executable).parent


def tool(name):
    path = TOOLS / name
    if not path.exists():
        pytest.skip(f"{name} is not in {TOOLS}: tools/setup.sh test installs it")
    return str(path)


def test_cpp_files_are_formatted():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.h", "*.cc", "*.cu", "*.cuh"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [file for file in listed.stdout.split() if (ROOT / file).exists()]
    assert len(files) > 50
    checked = subprocess.run(
        [tool("clang-format"), "--dry-run", "-Werror", *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    wrong = sorted({line.split(":")[0] for line in checked.stderr.splitlines() if "error:" in line})
    assert checked.returncode == 0, "run `make format`; not formatted: " + " ".join(wrong)


def test_protos_pass_lint():
    linted = subprocess.run([tool("buf"), "lint", "proto"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout + linted.stderr
