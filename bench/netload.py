"""netload.py SECONDS HOST PORT: throughput and latency of connections to a server on another host and to one of its own on the loopback.

netload.py serve ADDRESS PORT is that server. Prints JSON: MB/s sent and received, us of a round trip (median)."""
import json
import os
import socket
import statistics
import sys
import time

CHUNK = 1 << 18


def serve_one(c):
    """The first byte says what the client wants: S it sends, R it receives, E echoes."""
    what, buf = c.recv(1), bytearray(CHUNK)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while True:
            if what == b"R":
                c.sendall(buf)
            elif not (n := c.recv_into(buf)):
                return
            elif what == b"E":
                c.sendall(memoryview(buf)[:n])
    except OSError:
        pass


def serve(listener):
    while True:
        c = listener.accept()[0]
        if os.fork() == 0:
            serve_one(c)
            os._exit(0)
        c.close()


def connect(address, what):
    s = socket.create_connection(address)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(what)
    return s


def rate(address, what, seconds):
    buf, n = bytearray(CHUNK), 0
    with connect(address, what) as s:
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            n += s.recv_into(buf) if what == b"R" else s.send(buf)
        return n / (time.monotonic() - began) / 1e6


def trip(address, seconds):
    times = []
    with connect(address, b"E") as s:
        began = time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            s.sendall(b"x")
            s.recv(1)
            times.append(time.perf_counter() - now)
    return statistics.median(times) * 1e6


def measure(address, seconds):
    return {"send": rate(address, b"S", seconds), "receive": rate(address, b"R", seconds), "trip": trip(address, seconds)}


def main():
    if sys.argv[1] == "serve":
        listener = socket.create_server((sys.argv[2], int(sys.argv[3])))
        print("up", flush=True)
        serve(listener)
    own = socket.create_server(("127.0.0.1", 0))
    if (pid := os.fork()) == 0:
        serve(own)
    seconds = float(sys.argv[1])
    print(json.dumps({"host": measure((sys.argv[2], int(sys.argv[3])), seconds), "loopback": measure(own.getsockname(), seconds)}))
    os.kill(pid, 9)


main()
