#!/usr/bin/python3
"""Binds a Unix socket to a name of LENGTH bytes in its working directory and deletes the file. Prints "ready", and ends with status 0 when
the file "stop" is there.

long_socket.py LENGTH
"""
import os
import socket
import sys
import time

name = (os.getcwd() + "/").ljust(int(sys.argv[1]), "s")
s = socket.socket(socket.AF_UNIX)
s.bind(name)
s.listen(1)
os.unlink(name)
print("ready", flush=True)
while not os.path.exists("stop"):
    time.sleep(0.05)
raise SystemExit(s.getsockname() != name)
