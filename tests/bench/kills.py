"""What the death of each process costs: `PYTHONPATH=tests python tests/bench/kills.py [PARTS]`, a table on stdout.

A station of its own for each process, killed by `kill -9` two seconds after the line has started.
"""

from __future__ import annotations

import re
import sys
import time

from live_servers import state_folder
from station_process import PROCESSES, StationProcess


def main() -> None:
    """Kill, wait for the end, tell what it cost."""
    parts = int(sys.argv[1]) if len(sys.argv) > 1 else 80
    sys.stdout.write(
        "| killed | back after, s | triggers = verdicts = recorded | FAULT | gate confirmed |\n|---|---|---|---|---|\n"
    )
    with state_folder() as folder:
        for name in PROCESSES:
            station = StationProcess(folder / "home", "--parts", str(parts))
            station.wait_running()
            time.sleep(2)
            station.kill(name)
            code, summary = station.finish()
            screen = "".join(station.screen)
            died = re.search(r"([\d.]+) s  \S+ ended \(killed", screen)
            back = re.search(r"([\d.]+) s  \S+ ready again", screen)
            took = f"{float(back[1]) - float(died[1]):.2f}" if died and back else "never"
            verdicts = sum(summary["verdicts"].values())
            whole = f"{summary['triggers']} = {verdicts} = {summary['recorded']}" + (
                "" if code == 0 else f" exit {code}"
            )
            row = (name, took, whole, summary["verdicts"]["FAULT"], f"{summary['gate_confirmed']} of {parts}")
            sys.stdout.write("| " + " | ".join(str(value) for value in row) + " |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
