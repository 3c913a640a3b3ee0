"""server.py ADDRESS PORT: a server without SO_REUSEADDR and its client, two processes that check every number that they send each other
over one TCP connection. Runs until the file "stop" exists. Prints "ready NAME OWN" (its host name, and the address that the name has), and
at the end "numbers N"; an error ends it with another status than 0. The file "beat" holds the last number."""
import os
import socket
import sys
import time

address, port = sys.argv[1], int(sys.argv[2])
name = socket.gethostname()
own = socket.gethostbyname(name)
listener = socket.socket()
listener.bind((own if address == "own" else address, port))
listener.listen()
if os.fork() == 0:
    client = socket.create_connection(listener.getsockname())
    listener.close()
    with client, client.makefile("rwb", 0) as f:
        for line in f:
            f.write(b"%d\n" % (int(line) + 1))
    os._exit(0)
server, _ = listener.accept()
print("ready", name, own, flush=True)
n = 0
with server, server.makefile("rwb", 0) as f:
    while not os.path.exists("stop"):
        f.write(b"%d\n" % n)
        got = int(f.readline())
        assert got == n + 1, (got, n)
        n = got
        if n % 50 == 0:
            with open("beat", "w") as b:
                b.write(str(n))
            time.sleep(0.02)
assert os.wait()[1] == 0
assert socket.gethostname() == name and socket.gethostbyname(name) == own
print("numbers", n, flush=True)
