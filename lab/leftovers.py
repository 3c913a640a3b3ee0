"""Finds processes, mounts, networks and cgroups that a lab left on the machine."""
import os
import re


def _read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def start_time(pid):
    """Clock tick in which the process began, or None. With the pid it identifies a process."""
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[19]) if len(fields) > 19 else None


def parent(pid):
    fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def program(pid):
    """The name of the program as in /proc/PID/comm."""
    return _read(f"/proc/{pid}/comm").decode(errors="replace").strip()


def describe(pid):
    line = _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
    return f"pid {pid}: {line or _read(f'/proc/{pid}/comm').decode(errors='replace').strip()}"


def descendants(pid):
    """The living descendants of pid, without pid and without zombies, parents before children."""
    children = {}
    for p in pids():
        children.setdefault(parent(p), []).append(p)
    found, queue = [], [pid]
    while queue:
        for child in children.get(queue.pop(), []):
            if not _is_zombie(child):
                found.append(child)
            queue.append(child)
    return found


def _is_zombie(pid):
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[:1] in ([b"Z"], [])


def marked(directory):
    """Processes of the lab in directory, also those that are not below its keeper: daemons and jobs with its mark in their
    environment, and processes whose program lies in it. A person's shell is neither."""
    found = []
    mark = b"FSCHED_LAB=" + os.fsencode(directory)
    for pid in pids():
        try:
            exe = os.readlink(f"/proc/{pid}/exe")
            owner = os.stat(f"/proc/{pid}").st_uid
        except OSError:
            continue
        environ = _read(f"/proc/{pid}/environ").split(b"\0")
        daemon = re.search(r"/(munged|slurmctld|slurmd|slurmstepd)(-wlm)?( \(deleted\))?$", exe)
        job = any(entry.startswith(b"SLURM_JOB_ID=") for entry in environ)
        if exe.startswith(directory + "/") or (mark in environ and (job or owner == 0 and daemon)):
            found.append(pid)
    return found


def pids_inside(first):
    """{pid inside: pid here} of the living processes in the PID namespace of the process first."""
    found = {}
    try:
        namespace = os.readlink(f"/proc/{first}/ns/pid")
    except OSError:
        return found
    for pid in [first, *descendants(first)]:
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") != namespace:
                continue
        except OSError:
            continue
        inside = re.search(rb"^NSpid:.*\t(\d+)$", _read(f"/proc/{pid}/status"), re.M)
        if inside:
            found[int(inside.group(1))] = pid
    return found


def keepers(directory):
    """The keeper of the lab in directory and the keepers of its hosts, parents before children."""
    found = []
    for pid in sorted(pids(), key=lambda p: start_time(p) or 0):
        words = _read(f"/proc/{pid}/cmdline").split(b"\0")
        if any(w.endswith(b"/keeper.py") for w in words) and words[-2] == os.fsencode(directory):
            found.append(pid)
    return found


def _unescape(text):
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), text)


def _mounts(path):
    """(mount point, root within the file system) of each line of a mountinfo file."""
    result = []
    for line in _read(path).decode(errors="replace").splitlines():
        fields = line.split(" ")
        result.append((_unescape(fields[4]), _unescape(fields[3])))
    return result


def mounts_below(directory):
    """Mount points below directory in this mount namespace, innermost first."""
    below = [point for point, _ in _mounts("/proc/self/mountinfo") if point.startswith(directory + "/")]
    return list(reversed(below))


def mounts_anywhere(directory):
    """Mounts of files in directory, and mounts on it, in any mount namespace of the machine."""
    home, root = max(((p, r) for p, r in _mounts("/proc/self/mountinfo")
                      if directory == p or directory.startswith(p.rstrip("/") + "/")), key=lambda m: len(m[0]))
    inside = root.rstrip("/") + directory[len(home.rstrip("/")):]
    seen, found = set(), []
    for pid in pids():
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
        except OSError:
            continue
        if namespace in seen:
            continue
        seen.add(namespace)
        for point, source in _mounts(f"/proc/{pid}/mountinfo"):
            if (point + "/").startswith(directory + "/") or (source + "/").startswith(inside + "/"):
                found.append(f"mount of {source} on {point} in {namespace} (pid {pid})")
    return found


def networks(interface):
    """Interfaces whose name begins with interface, in all network namespaces."""
    seen, found = set(), []
    for pid in pids():
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/net")
        except OSError:
            continue
        if namespace in seen:
            continue
        seen.add(namespace)
        names = [line.partition(":")[0].strip() for line in _read(f"/proc/{pid}/net/dev").decode(errors="replace").splitlines()[2:]]
        found += [f"interface {n} in {namespace} (pid {pid})" for n in names if n.startswith(interface)]
    return found


def cgroups_below(name):
    """The cgroup name of each hierarchy and the cgroups in it, deepest first."""
    found = []
    for point, _ in _mounts("/proc/self/mountinfo"):
        if point.startswith("/sys/fs/cgroup"):
            for folder, _, _ in os.walk(os.path.join(point, name), topdown=False):
                found.append(folder)
    return list(dict.fromkeys(found))


def cgroups(names):
    """cgroups that Slurm's plugins made for the nodes of these names, deepest first."""
    wanted = {f"slurm_{n}" for n in names} | {f"{n}_slurmstepd.scope" for n in names} | {f"{n}_slurmd.service" for n in names}
    found = []
    for point, _ in _mounts("/proc/self/mountinfo"):
        if not (point.startswith("/sys/fs/cgroup") and os.path.isdir(point)):
            continue
        for base in (point, os.path.join(point, "system.slice")):
            for name in wanted:
                top = os.path.join(base, name)
                for folder, _, _ in os.walk(top, topdown=False):
                    found.append(folder)
    return list(dict.fromkeys(found))
