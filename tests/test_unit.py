"""The unit tests (C, cmocka) that meson built, one pytest test for each program."""
import json
import os
import subprocess
from pathlib import Path

import pytest

SLOWNESS = float(os.environ.get("FSCHED_TEST_SLOWNESS", "1"))
MESON = Path(os.environ.get("FSCHED_MESON", Path(__file__).resolve().parents[1] / "build" / "meson"))


def unit_tests():
    listed = MESON / "meson-info" / "intro-tests.json"
    return json.loads(listed.read_text()) if listed.exists() else []


def test_unit_tests_are_built():
    assert unit_tests(), f"no unit tests in {MESON}: run make test-unit"


@pytest.mark.parametrize("test", [pytest.param(t, id=t["name"]) for t in unit_tests()])
def test_unit(test):
    timeout = test["timeout"] * SLOWNESS if test["timeout"] else None
    done = subprocess.run(test["cmd"], env={**os.environ, **test["env"]}, cwd=test["workdir"] or MESON, timeout=timeout,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode in (0, 77), f"exit status {done.returncode}\n{done.stdout}"
    if done.returncode == 77:
        pytest.skip(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "skipped")
