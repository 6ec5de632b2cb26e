"""refused.py HOST PORT hello|http|nothing: sends a ClientHello, a request or nothing; exit 0 where
the way is refused at once: an error, a reset, an end or a 403, not silence."""
import socket

import net


def main(arguments):
    host, port, kind = arguments
    first = {"hello": net.hello_bytes("denied.test"), "http": b"GET / HTTP/1.1\r\nHost: denied.test\r\n\r\n", "nothing": b""}
    try:
        sock = net.dial(host, int(port))
        sock.sendall(first[kind])
        answer = sock.recv(4096)
    except TimeoutError:
        return 1
    except socket.gaierror as error:
        print(error)
        # EAI_AGAIN is a name server that did not answer.
        return 1 if error.errno == socket.EAI_AGAIN else 0
    except OSError as error:
        print(error)
        return 0
    print(answer[:300])
    return 0 if not answer or b" 403 " in answer[:20] else 1


net.run(main)
