"""The static tests of ZDTM in somebody's checkout of criu: what there is, what it needs, how it is started."""
import ast
import dataclasses
import re
import shlex
import subprocess
from pathlib import Path

# Options in a .desc that set up mounts or networks around the test.
SURROUNDINGS = ("--external", "--ext-mount-map", "--join-ns", "--libdir", "--lsm", "--cgroup", "--manage-cgroups", "--irmap-scan-path")


@dataclasses.dataclass
class Test:
    name: str
    desc: dict
    program: Path
    command: list        # as the Makefile starts it: ./NAME --pidfile=...
    why_not: str = ""    # why it is not run

    def has(self, flag):
        return flag in self.desc.get("flags", "").split()

    def criu_options(self, of):
        """of: dopts or ropts."""
        return (self.desc.get("opts", "") + " " + self.desc.get(of, "")).split()

    @property
    def pidfile(self):
        return next(a.split("=", 1)[1] for a in self.command if a.startswith("--pidfile="))

    @property
    def outfile(self):
        return next(a.split("=", 1)[1] for a in self.command if a.startswith("--outfile="))


def read_desc(path):
    """A .desc is a dictionary in Python's words; None: it is a program. Without a .desc a test needs nothing."""
    try:
        return ast.literal_eval(path.read_text()) if path.exists() else {}
    except (ValueError, SyntaxError):
        return None


def unfit(name, desc, static, as_root):
    """Why a batch job cannot have what this test is about; "" if it can."""
    flags, flavors = desc.get("flags", "").split(), desc.get("flavor", "h").split()
    options = " ".join(desc.get(key, "") for key in ("opts", "dopts", "ropts"))
    if "noauto" in flags:
        return "noauto: criu's own runner does not run it"
    if desc.get("arch") and "x86_64" not in desc["arch"].split():
        return f"for {desc['arch']}"
    if "crlib" in flags:
        return "crlib: needs a plugin of criu"
    if any(o in options for o in SURROUNDINGS):
        return "needs mounts, networks or cgroups made around it: " + options.strip()
    if "suid" in flags:
        if "h" not in flavors or "excl" in flags:
            return "suid, " + " ".join(flavors + [f for f in flags if f != "suid"]) + ": root makes namespaces, mounts or cgroups"
        if not as_root:
            return "suid: needs root, which a job is not (--root runs it)"
    skip = static / f"{name}.checkskip"
    if skip.exists() and subprocess.run([skip], cwd=static, capture_output=True, check=False).returncode:
        return "its .checkskip says that the machine cannot run it"
    return ""


def build(static, names):
    """Builds what compiles; returns the text of make."""
    lib = subprocess.run(["make", "-s", "-C", static.parent / "lib"], capture_output=True, text=True, check=False)
    tests = subprocess.run(["make", "-s", "-k", "-j2", "-C", static, *names], capture_output=True, text=True, check=False)
    return lib.stdout + lib.stderr + tests.stdout + tests.stderr


def commands(static, names):
    """The Makefile's own command of each test."""
    text = subprocess.run(["make", "-n", "-k", "--no-print-directory", "-C", static, *(f"{n}.pid" for n in names)], capture_output=True, text=True, check=False).stdout
    found = {}
    for line in text.splitlines():
        m = re.match(r"\./(\S+) --pidfile=", line)
        if m:
            found[m[1]] = shlex.split(line)
    return found


def load(checkout, pattern, as_root):
    """Tests whose name matches the regular expression, those that are not run with the reason."""
    static = Path(checkout).resolve() / "test/zdtm/static"
    if not (static / "Makefile").exists():
        raise SystemExit(f"{checkout} is no checkout of criu: there is no test/zdtm/static/Makefile in it")
    listed = set(re.findall(r"[\w+-]+", (static / "Makefile").read_text()))
    names = sorted(p.stem for p in static.glob("*.c") if p.stem in listed and re.search(pattern, p.stem))
    tests = []
    for name in names:
        desc = read_desc(static / f"{name}.desc")
        tests.append(Test(name, desc or {}, static / name, [], "its .desc is a program" if desc is None else unfit(name, desc, static, as_root)))
    wanted = [t.name for t in tests if not t.why_not]
    said = build(static, wanted) if wanted else ""
    known = commands(static, wanted) if wanted else {}
    for t in tests:
        if not t.why_not:
            if not t.program.exists():
                t.why_not = "does not compile here: " + next((line.strip() for line in said.splitlines() if line.startswith(f"{t.name}.c:") and "error" in line), "")
            elif t.name not in known:
                t.why_not = "the Makefile does not start it"
            else:
                t.command = known[t.name]
    return tests
