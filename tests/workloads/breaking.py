#!/usr/bin/python3
"""Has a file open whose lease somebody is breaking, and does not give it up. Prints "ready". When the file "stop" is there it prints how
many errors there were: more than one signal, or another state of the lease."""
import fcntl
import os
import signal
import time

signals = []
signal.signal(signal.SIGIO, lambda number, frame: signals.append(number))
fd = os.open("leased", os.O_RDWR | os.O_CREAT, 0o600)
os.write(fd, b"some text\n")
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
try:
    os.open("leased", os.O_RDONLY | os.O_NONBLOCK)
    raise SystemExit("the lease was not in the way")
except BlockingIOError:
    pass
print("ready", flush=True)
while not os.path.exists("stop"):
    time.sleep(0.05)
state = fcntl.fcntl(fd, fcntl.F_GETLEASE)
errors = (signals != [signal.SIGIO]) + (state != fcntl.F_RDLCK)
if errors:
    print(signals, state)
print("errors", errors)
raise SystemExit(errors)
