"""tcp.py HOST PORT[,PORT…] [TEXT] [--tls NAME]: dials, sends TEXT (inside TLS to NAME), reads what comes.

HOST `proxy` is the explicit proxy itself. In TEXT, `|` cuts: each part is sent on its own, after the answer to the
one before. Exit 0 where any answer came.
"""
import net


def main(arguments):
    name = None
    if "--tls" in arguments:
        at = arguments.index("--tls")
        name = arguments[at + 1]
        arguments = arguments[:at] + arguments[at + 2 :]
    host, ports, *rest = arguments
    parts = rest[0].split("|") if rest else [""]
    came = b""
    for port in ports.split(","):
        try:
            sock = net.proxy() if host == "proxy" else net.dial(host, port)
            if name is not None:
                sock = net.unchecked().wrap_socket(sock, server_hostname=name)
        except OSError as error:
            print(f"{port}: {error}")
            continue
        try:
            for part in parts:
                sock.sendall(net.text(part))
                came += net.read_some(sock, 1.0 if part else 3.0)
        except OSError as error:
            print(f"{port}: {error}")
        sock.close()
    print(came.decode("utf-8", "replace")[:2000])
    return 0 if came else 1


net.run(main)
