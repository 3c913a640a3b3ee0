"""Processes with terminals: a session leader, a foreground and a background process of its session, and a bare pair of
ends. For each file look.N that appears, N = 0, 1, …, every process writes its view of its terminals into NAME.N. Ends
when there is a file "stop"."""
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time

PAIRS = int(sys.argv[1]) if len(sys.argv) > 1 else 2


def attempt(call, *args):
    try:
        return call(*args)
    except OSError as e:
        return str(e)


def opened(path):
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
    st = os.fstat(fd)
    os.close(fd)
    return path, st.st_rdev, st.st_uid


def settings(fd):
    *flags, chars = termios.tcgetattr(fd)
    st = os.fstat(fd)
    return {"settings": flags, "characters": [str(c) for c in chars], "mode": oct(st.st_mode), "owner": (st.st_uid, st.st_gid),
            "device": st.st_rdev, "size": struct.unpack("4H", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8))), "name": os.ttyname(fd)}


def view(ttys):
    fields = open("/proc/self/stat").read().rsplit(")", 1)[1].split()
    return {"ids": [os.getpid(), *map(int, fields[1:4])], "terminal": int(fields[4]), "in front": int(fields[5]),
            "ps": subprocess.run(["ps", "-o", "tty=", "-p", str(os.getpid())], capture_output=True, text=True).stdout,
            "/dev/tty": attempt(opened, "/dev/tty"), "ttys": [attempt(settings, fd) for fd in ttys],
            "by name": [attempt(opened, os.ttyname(fd)) for fd in ttys], "all": sorted(os.listdir("/dev/pts"))}


def look(name, ttys):
    n = 0
    while not os.path.exists("arranged"):
        time.sleep(0.01)
    while not os.path.exists("stop"):
        if os.path.exists(f"look.{n}"):
            with open(f"{name}.part", "w") as f:
                json.dump(view(ttys), f, indent=1)
            os.rename(f"{name}.part", f"{name}.{n}")
            n += 1
        time.sleep(0.02)


def child(name, ttys):
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        look(name, ttys)
        os._exit(0)
    return pid


signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid, master = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 33, 101, 5, 6))
    s = termios.tcgetattr(0)
    s[3] &= ~termios.ECHO
    s[6][termios.VMIN] = b"\7"
    termios.tcsetattr(0, termios.TCSANOW, s)
    front, back = child("front", [0]), child("back", [0])
    while os.getpgid(front) != front:
        time.sleep(0.01)
    os.tcsetpgrp(0, front)
    open("arranged", "w").close()
    look("leader", [0, 1])
    for p in front, back:
        os.waitpid(p, 0)
    os._exit(0)
pairs = [pty.openpty() for _ in range(PAIRS)]
os.fchmod(pairs[0][1], 0o600)
print("ready", flush=True)
look("others", [fd for _, fd in pairs])
os.waitpid(pid, 0)
print("end", flush=True)
