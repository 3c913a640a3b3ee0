"""Servers with Unix sockets whose file was renamed or linked after bind(), in the directory DIR. The first line is "ready". When the
file "go" exists, a client connects to each by the name that clients know.

sockets.py DIR
"""
import os
import socket
import sys
import time

where = sys.argv[1]


def server(name):
    s = socket.socket(socket.AF_UNIX)
    s.bind(name)
    s.listen(4)
    return s


def renamed(path):
    s = server(path + ".new")
    os.rename(path + ".new", path)
    return s


def linked(path):
    s = server(path + ".first")
    os.link(path + ".first", path)
    return s


def linked_and_removed(path):
    s = linked(path)
    os.unlink(path + ".first")
    return s


def renamed_relative(path):
    os.chdir(os.path.dirname(path))
    s = server("relative.new")
    os.rename("relative.new", path)
    os.chdir(home)
    return s


def plain(path):
    return server(path)


home = os.getcwd()
kinds = [renamed, linked, linked_and_removed, renamed_relative, plain]
servers = {k.__name__: k(f"{where}/{k.__name__}") for k in kinds}
before = sorted(os.listdir(where))
print("ready", flush=True)
while not os.path.exists("go"):
    time.sleep(0.05)
for name, s in servers.items():
    try:
        client = socket.socket(socket.AF_UNIX)
        client.connect(f"{where}/{name}")
        s.accept()[0].sendall(name.encode())
        print(client.recv(100).decode() == name, name, s.getsockname().replace(where, "DIR"), flush=True)
    except OSError as e:
        print(name, e.strerror, flush=True)
after = sorted(os.listdir(where))
print("names", "as before" if after == before else (before, after))
