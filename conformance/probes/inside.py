"""inside.py ACTION [ARGUMENT…]: what a program in the box may try. Success is told to allowed.test as `escaped=…`,
or seen by the lab where it sends something itself.

  socket PATH…        writes to Unix sockets; a path that begins with @ is an abstract one
  raw HOST PORT       socket and connect by bare system calls
  family NAME         opens a socket of that family: packet, netlink-route, vsock, raw, alg
  uring               sets up an io_uring
  namespace HOST      new user and network namespaces, then every namespace it can find, then dials HOST
  flush HOST          flushes rules, adds links and routes with what tools there are, then dials HOST
  mount               mounts a process table, an empty file system and the root again
  memory              looks into its parent and the first process: memory, calls, descriptors
  see NAME            looks for a process of that name
  write PATH          opens a file for writing
  read PATH           reads a file
"""
import ctypes
import os
import socket
import subprocess

import net

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_USER, NEW_NET = 0x10000000, 0x40000000


def tell(what):
    request = f"HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n\r\n"
    path = f"/?escaped={what}&canary={net.CANARY}"
    try:
        with socket.create_connection(("allowed.test", 80), net.TIME) as sock:
            sock.sendall(f"GET {path} {request}".encode())
            net.read_some(sock, 0.5)
    except OSError:
        with net.proxy() as sock:
            sock.sendall(f"GET http://allowed.test{path} {request}".encode())
            net.read_some(sock, 0.5)


def send(host, port=80):
    with socket.create_connection((host, port), 2.0) as sock:
        sock.sendall(f"GET /{net.CANARY} HTTP/1.0\r\n\r\n".encode())
        net.read_some(sock, 0.5)


def try_socket(*paths):
    for path in paths:
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(1.0)
                sock.connect("\0" + path[1:] if path.startswith("@") else path)
                sock.sendall(f"GET /{net.CANARY} HTTP/1.0\r\n\r\n".encode())
                sock.recv(100)
        except OSError as error:
            print(f"{path}: {error}")


def try_raw(host, port):
    number = LIBC.syscall(41, socket.AF_INET, socket.SOCK_STREAM, 0)
    address = b"\x02\x00" + int(port).to_bytes(2, "big") + socket.inet_aton(host) + bytes(8)
    if number >= 0 and LIBC.syscall(42, number, address, 16) == 0:
        text = f"GET /{net.CANARY} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        LIBC.syscall(1, number, text, len(text))
        print("sent")
    else:
        print(os.strerror(ctypes.get_errno()))


def try_family(name):
    family, kind, protocol = {
        "packet": (17, socket.SOCK_RAW, 0x0300),
        "netlink-netfilter": (16, socket.SOCK_RAW, 12),
        "vsock": (40, socket.SOCK_STREAM, 0),
        "raw": (2, socket.SOCK_RAW, 255),
        "alg": (38, socket.SOCK_SEQPACKET, 0),
    }[name]
    socket.socket(family, kind, protocol).close()
    tell(f"family-{name}")


def try_uring():
    number = LIBC.syscall(425, 8, ctypes.create_string_buffer(120))
    if number >= 0:
        tell("uring")
    print(os.strerror(ctypes.get_errno()))


def try_namespace(host):
    for flags in (NEW_USER | NEW_NET, NEW_USER, NEW_NET):
        if os.fork() == 0:
            if LIBC.unshare(flags) == 0:
                tell("unshared")
            os._exit(0)
        os.wait()
    for process in sorted(int(one) for one in os.listdir("/proc") if one.isdigit())[:200]:
        if os.fork() == 0:
            try:
                number = os.open(f"/proc/{process}/ns/net", os.O_RDONLY)
                same = os.readlink(f"/proc/{process}/ns/net") == os.readlink("/proc/self/ns/net")
                if not same and LIBC.setns(number, 0) == 0:
                    send(host)
            except OSError:
                pass
            os._exit(0)
        os.wait()
    subprocess.run(["nsenter", "-t", "1", "-n", "true"], check=False, timeout=5)
    send(host)


def try_flush(host):
    for command in (
        "nft flush ruleset",
        "iptables -F",
        "iptables -t nat -F",
        "ip link add escape0 type veth peer name escape1",
        "ip route add 169.254.169.254/32 dev escape0 metric 9000",
        "sysctl -w net.ipv4.ip_forward=1",
    ):
        try:
            subprocess.run(command.split(), check=False, timeout=5)
        except OSError as error:
            print(error)
    send(host)


def try_mount():
    folder = b"escape-mount"
    os.makedirs(folder, exist_ok=True)
    # Unhindered: in a view of its own, which nothing below changes for others.
    LIBC.unshare(0x20000)
    LIBC.mount(None, b"/", None, 0x44000, None)
    for source, kind, flags in ((b"proc", b"proc", 0), (b"none", b"tmpfs", 0), (b"sysfs", b"sysfs", 0), (b"/", None, 0x1000)):
        if LIBC.mount(source, folder, kind, flags, None) == 0:
            LIBC.umount2(folder, 2)
            tell("mount")
        print(os.strerror(ctypes.get_errno()))


def try_memory():
    """Whoever may look into the first process or the one that started this holds the sandbox's own."""
    for process in {1, os.getppid()}:
        for name in ("mem", "environ", "auxv", "syscall", "fd/0", "cwd/.", "root/."):
            try:
                with open(f"/proc/{process}/{name}", "rb") as file:
                    # The first page that the process has; the rest reads from the start.
                    if name == "mem":
                        with open(f"/proc/{process}/maps", encoding="utf-8") as maps:
                            file.seek(int(maps.readline().split("-")[0], 16))
                    file.read(16)
                tell(f"memory-{name.replace('/', '-')}")
            except OSError as error:
                print(f"{process} {name}: {error}")
        if LIBC.ptrace(16, process, None, None) == 0:
            LIBC.ptrace(17, process, None, None)
            tell("memory-traced")


def try_see(name):
    for process in os.listdir("/proc"):
        try:
            with open(f"/proc/{process}/comm", encoding="utf-8") as comm:
                if comm.read().strip() == name[:15]:
                    return tell(f"saw-{name}")
        except OSError:
            pass
    return None


def try_write(path):
    with open(path, "r+b"):
        tell("write")


def try_read(path):
    with open(path, "rb") as file:
        file.read(1)
        tell("read")


def main(arguments):
    action, *rest = arguments
    globals()[f"try_{action}"](*rest)


net.run(main)
