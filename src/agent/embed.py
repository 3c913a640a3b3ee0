"""embed.py NAME FILE HEADER - writes a C header that defines the bytes of FILE as the array NAME."""
import sys
from pathlib import Path

name, source, header = sys.argv[1:]
data = Path(source).read_bytes()
lines = [", ".join(str(b) for b in data[i:i + 24]) for i in range(0, len(data), 24)]
Path(header).write_text(f"static const unsigned char {name}[] __attribute__((aligned(8))) = {{\n" + ",\n".join(lines) + "\n};\n")
