"""How long `algoperf-orchestrate --help` and `list` take, interpreter start included. Prints JSON."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {"--help": ["--help"], "list workloads": ["list", "workloads"], "list submissions": ["list", "submissions"]}
ROUNDS = 9


def seconds(arguments: list[str]) -> float:
    command = Path(sys.executable).with_name("algoperf-orchestrate")
    start = time.perf_counter()
    subprocess.run([command, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    result = {}
    for name, arguments in COMMANDS.items():
        seconds(arguments)  # Compiles what was not compiled yet.
        times = [seconds(arguments) for _ in range(ROUNDS)]
        result[name] = {"median_s": round(statistics.median(times), 3), "min_s": round(min(times), 3)}
    print(json.dumps({"benchmark": "command_line", "rounds": ROUNDS, **result}))


if __name__ == "__main__":
    main()
