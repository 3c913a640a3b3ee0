"""make bench-plot: what it draws of a history of make bench."""
import json
import subprocess
import xml.etree.ElementTree as ElementTree

import lib

PLOT = lib.ROOT / "bench/plot"
SVG = "{http://www.w3.org/2000/svg}"


def test_every_run_is_drawn(tmp_path):
    ratios = [{"freeze_disk": 0.3, "lost_disk": 0.7, "total_disk": 1.5, "restore_disk": 3.1}, {"freeze_disk": 0.05, "lost_disk": None}]
    runs = [{"time": 1790000000 + 86400 * n, "load": 1.0, "limits": {}, "rows": [{"program": "<idle>", "mib": 2048, "ratios": r}]}
            for n, r in enumerate(ratios)]
    history, out = tmp_path / "history", tmp_path / "plot.svg"
    history.write_text("".join(json.dumps(r) + "\n" for r in runs))
    subprocess.run([PLOT, "--history", history, "-o", out], check=True, stdout=subprocess.DEVNULL)
    root = ElementTree.parse(out).getroot()
    assert len(root.findall(f"{SVG}circle")) == 5       # the second run has one of the four ratios
    assert "<idle>, 2048 MiB: 0.050" in [t.text for t in root.findall(f"{SVG}text")]


def test_without_a_history(tmp_path):
    done = subprocess.run([PLOT, "--history", tmp_path / "none"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "run make bench first" in done.stderr
