import os
import subprocess
import sys


def test_a_process_begins_again_once_with_what_it_was_given(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\nfrom config import pages\nprint(os.getpid(), flush=True)\npages.ask_for_large()\n"
        "pages.ask_for_large()\nprint(os.environ['GLIBC_TUNABLES'], *sys.argv[1:])\n"
    )
    given = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.arena_max=2"}
    process = subprocess.run(
        [sys.executable, str(program), "--home", "a b"], capture_output=True, text=True, check=True, env=given
    )
    first, second, told = process.stdout.splitlines()
    assert first == second, "the same process"
    assert told == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1 --home a b"
