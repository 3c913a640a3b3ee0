#!/usr/bin/python3
"""TCP sockets without a connection: a new one, a bound one, and one of IPv6. Prints "ready". When the file "stop" is
there it connects with each, and prints how many errors there were."""
import os
import socket
import time

server = socket.create_server(("127.0.0.1", 0))
bound = socket.socket()
bound.bind(("127.0.0.1", 0))
sockets = {"new": socket.socket(), "bound": bound, "IPv6": socket.socket(socket.AF_INET6)}
server6 = socket.create_server(("::1", 0), family=socket.AF_INET6)
print("ready", flush=True)
while not os.path.exists("stop"):
    time.sleep(0.05)
errors = 0
for name, s in sockets.items():
    at = server6 if name == "IPv6" else server
    s.settimeout(10)
    try:
        s.connect(at.getsockname())
        at.accept()[0].sendall(name.encode())
        got = s.recv(100).decode()
    except OSError as e:
        got = str(e)
    if got != name:
        print(f"{name}: {got}")
        errors += 1
print("errors", errors)
raise SystemExit(errors != 0)
