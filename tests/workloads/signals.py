#!/usr/bin/python3
"""Logs each signal once per delivery; ends with status 7 when it saw SIGUSR2, or when a file named "stop" appears.

A batch script in Python, because `wait` of bash sometimes misses one of two simultaneous signals, in plain jobs too."""
import os
import signal
import sys
import time

seen = []
for name in ("HUP", "INT", "USR1", "USR2", "TERM", "CONT", "WINCH"):
    signal.signal(getattr(signal, "SIG" + name), lambda number, _: seen.append(signal.Signals(number).name[3:]))
ends = {"USR2": 7}   # tests put others in this line
print("ready", flush=True)
while not os.path.exists("stop"):
    while seen:
        name = seen.pop(0)
        print("got", name, flush=True)
        if name in ends:
            sys.exit(ends[name])
    time.sleep(0.02)
print("stopped", flush=True)
