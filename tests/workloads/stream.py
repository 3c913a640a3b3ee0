"""stream.py FAMILY PORT: one process sends to another over the loopback as fast as it can, until the file "stop" exists. The file "beat"
holds the number of bytes that have arrived. Prints "ready"."""
import os
import socket
import sys

family, host = {"4": (socket.AF_INET, "127.0.0.1"), "6": (socket.AF_INET6, "::1")}[sys.argv[1]]
listener = socket.socket(family)
listener.bind((host, int(sys.argv[2])))
listener.listen()
if os.fork() == 0:
    block = bytes(1 << 17)
    with socket.create_connection(listener.getsockname()[:2]) as s:
        listener.close()
        while not os.path.exists("stop"):
            s.sendall(block)
    os._exit(0)
peer, _ = listener.accept()
print("ready", flush=True)
n, shown, buf = 0, 0, bytearray(1 << 18)
while True:
    got = peer.recv_into(buf)
    n += got
    if n - shown >= 1 << 22 or not got:
        shown = n
        with open("beat.new", "w") as f:
            f.write(str(n))
        os.rename("beat.new", "beat")
    if not got:
        break
assert os.wait()[1] == 0
