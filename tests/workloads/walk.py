"""walk.py STEPS [PAUSE]: a random walk on a list of floats with a fixed seed, a thread that
sums in the background, a line per step. The state of the generator has to survive. No pauses once the file "hurry" exists."""
import os
import random
import sys
import threading
import time

steps, pause = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.1
rng = random.Random(42)
cells = [rng.random() for _ in range(200_000)]
turn, done = threading.Semaphore(0), threading.Semaphore(0)
total = 0.0


def summing():
    global total
    while True:
        turn.acquire()
        total = sum(cells)
        done.release()


threading.Thread(target=summing, daemon=True).start()
for i in range(steps):
    for _ in range(1000):
        cells[rng.randrange(len(cells))] += rng.gauss(0, 1)
    turn.release()
    done.acquire()
    print(f"step {i} {total:.12f}", flush=True)
    if not os.path.exists("hurry"):
        time.sleep(pause)
sys.exit(9)
