"""Seconds that `./dev demo` takes in a fresh clone of this repository, set-up included. Prints JSON.

Package downloads may come from uv's and pip's caches; `--no-cache` empties the answer of that: uv and pip then
fetch everything again.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        environment["ALGOPERF_DATA"] = str(Path(folder) / "data")
        if "--no-cache" in sys.argv:
            environment |= {"UV_CACHE_DIR": str(Path(folder) / "uv"), "PIP_NO_CACHE_DIR": "1"}
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        start = time.perf_counter()
        done = subprocess.run(["./dev", "demo"], cwd=clone, env=environment, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - start
        print(done.stdout, file=sys.stderr)
        print(json.dumps({"benchmark": "fresh_demo", "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main()
