"""A QEMU guest without hardware virtualization, which runs tests/kernels/steps.sh with a kernel of scripts/get-kernels.sh.

It has one processor and an ext4 disk with this build of fsched, criu, busybox and the libraries that they need."""
import json
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PROGRAMS = ["usr/bin/fsched", "usr/libexec/fsched/fsched-worker", "usr/libexec/fsched/fsched-init", "usr/libexec/fsched/fsched-leader",
            "usr/libexec/fsched/libfsched-criu.so"]
UNIT_TESTS = ["test_open_watch"]
NFS = {"nfs", "nfsv3", "nfsv4", "nfsd", "nfs_acl", "lockd", "grace", "sunrpc", "auth_rpcgss", "netfs", "fscache", "dns_resolver"}     # only where they are needed
WORKLOADS = ["memory", "waiter", "threads", "files"]
COMPARED = {"threads": ["1000", "8"], "files": ["1000", "."]}
DISK = "1G"
CPU = "Nehalem"     # without AVX: all its work takes half as long
MEMORY = "1536"     # MiB
CONF = "CheckpointType = checkpoint/criu\nPodDir = /run/pods\nPodTmp = directory\nPodNetwork = host\nCRIU_MaxEpochs = 2\n"


class Results:
    """The output of the guest on its second serial port."""

    def __init__(self, text, console):
        self.console = console
        self.doctor, self.manifests, self.ok, self.failed, self.begun, self.done = {}, {}, {}, {}, None, False
        for line in text.splitlines():
            word, _, rest = line.strip().partition(" ")
            name, _, value = rest.partition(" ")
            if word == "doctor":
                finding, _, text = value.strip().partition(" - ")       # ok  kcmp - available
                self.doctor[finding] = (name, text)
            elif word == "manifest":
                self.manifests[name] = json.loads(value)
            elif word == "begun":
                self.begun = name
            elif word == "ok":
                self.ok[name] = int(value)
            elif word == "failed":
                self.failed[name] = []
            elif word == "said":
                self.failed[name].append(value)
            elif word == "done":
                self.done = True

    def memory(self, name):
        return self.manifests[name]["memory"]

    def __str__(self):
        said = [f"--- {name}\n" + "\n".join(lines[-60:]) for name, lines in self.failed.items()]
        head = f"ok: {self.ok}; last begun: {self.begun}; epochs: {', '.join(self.manifests)}"
        return "\n".join([head, *said, "--- console", *self.console.splitlines()[-40:]])


def libraries(programs):
    """Paths of all shared objects that the programs load, with the loader. (ldd fails for static programs.)"""
    found = set()
    for program in programs:
        for line in subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout.splitlines():
            found |= {word for word in line.split() if word.startswith("/")}
    return found


def busybox(where):
    where.mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", where / "busybox")
    for name in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (where / name).symlink_to("busybox")


def make_references(test):
    """Runs on this machine with which those of the guest are compared: arguments, exit status and output."""
    for name, arguments in COMPARED.items():
        work = test / "reference" / name
        work.mkdir(parents=True)
        with open(work / "out", "wb") as out:
            status = subprocess.run([test / name, *arguments], cwd=work, stdout=out, env={**os.environ, "WORKLOAD_STEP_US": "1"}, check=False).returncode
        work.with_suffix(".arguments").write_text(" ".join(arguments))
        work.with_suffix(".status").write_text(str(status))


def make_root(root, stage, build, kernel, steps):
    for d in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "proc", "sys", "dev", "run", "tmp", "var/tmp", "root", "test"):
        (root / d).mkdir(parents=True)
    for d in ("bin", "sbin", "lib", "lib64"):
        (root / d).symlink_to(f"usr/{d}")
    busybox(root / "usr/bin")
    (root / "usr/sbin/modprobe").symlink_to("../bin/busybox")      # where the kernel looks for it
    for name in PROGRAMS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(stage / name, root / name)
    shutil.copytree(build / "criu", root / "usr/libexec/fsched/criu", symlinks=True)
    for name in WORKLOADS:
        subprocess.run(["gcc", "-O1", "-o", root / "test" / name, ROOT / f"tests/workloads/{name}.c", "-pthread"], check=True)
    make_references(root / "test")
    for name in UNIT_TESTS:
        shutil.copy(build / "meson/tests/unit" / name, root / "test")
    for lib in libraries([stage / p for p in PROGRAMS] + [root / "test" / w for w in WORKLOADS + UNIT_TESTS]):
        to = root / lib.lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(lib, to)
    shutil.copytree(kernel / "lib/modules", root / "usr/lib/modules")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "test/fsched.conf").write_text(CONF)
    (root / "test/incremental.conf").write_text(CONF + "CRIU_Incremental = YES\nCRIU_FullEvery = 3\n")
    (root / "test/pre-dump.conf").write_text(CONF + "CRIU_Incremental = YES\nCRIU_PreDump = YES\nCRIU_PreDumpDelay = 0\n")
    (root / "test/steps").write_text("\n".join(steps))
    (root / "test/modules").write_text("\n".join(m.stem for m in root.glob("usr/lib/modules/*/*.ko") if m.stem not in NFS))
    for name in ("boot.sh", "steps.sh"):
        shutil.copy(HERE / name, root / "test")


def make_initramfs(where, archive, kernel):
    """busybox and the modules for the disk."""
    for d in ("bin", "dev", "root"):
        (where / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", where / "bin")
    (where / "bin/sh").symlink_to("busybox")
    shutil.copy(HERE / "init.sh", where / "init")
    files = []
    for module in ("virtio_pci", "virtio_blk"):
        release = (kernel / "VERSION").read_text().strip()
        said = subprocess.run(["/usr/sbin/modprobe", "-d", kernel, "-S", release, "--show-depends", module], capture_output=True, text=True, check=True)
        files += [line.split()[1] for line in said.stdout.splitlines() if line.startswith("insmod")]
    files = list(dict.fromkeys(files))
    for f in files:
        shutil.copy(f, where)
    (where / "modules").write_text("".join(f"/{Path(f).name}\n" for f in files))
    with open(archive, "wb") as out:
        names = "".join(f"./{p.relative_to(where)}\n" for p in sorted(where.rglob("*")))
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], input=names.encode(), stdout=out, cwd=where, check=True)


def emulate(directory, qemu, deadline, machine):
    """Runs QEMU with these options for the machine until it is powered off, at most deadline seconds. Its second serial port gives the Results."""
    console, results = directory / "console", directory / "results"
    emulator = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL",      # whatever becomes of this process
         qemu / "ld.so", "--library-path", qemu / "lib", qemu / "qemu-system-x86_64", "-L", qemu / "share", "-accel", "tcg",
         "-cpu", CPU, "-nodefaults", "-display", "none", "-serial", f"file:{console}", "-serial", f"file:{results}",
         "-drive", f"file={directory / 'disk'},format=raw,if=virtio,cache=unsafe", "-initrd", directory / "initrd", *machine],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said = emulator.communicate(timeout=deadline)[0]
    except subprocess.TimeoutExpired:
        emulator.kill()
        said = emulator.communicate()[0] + f"killed after {deadline:.0f} s".encode()
    finally:
        emulator.kill()
    text = console.read_text(errors="replace") if console.exists() else ""
    return Results(results.read_text(errors="replace") if results.exists() else "", text + said.decode(errors="replace"))


def run(directory, stage, build, kernel, steps, deadline):
    """Boots the guest, waits at most deadline seconds for its end, and returns Results. build: has criu, qemu and the unit tests."""
    make_root(directory / "root", stage, build, kernel, steps)
    make_initramfs(directory / "initramfs", directory / "initrd", kernel)
    subprocess.run(["/usr/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-d", directory / "root", directory / "disk", DISK], stdout=subprocess.DEVNULL, check=True)
    return emulate(directory, build / "qemu", deadline, ["-smp", "1", "-m", MEMORY, "-no-reboot", "-kernel", kernel / "vmlinuz",
                                                         "-append", "console=ttyS0 loglevel=5 no_timer_check panic=1"])
