"""refused.py HOST PORT [TEXT]: exit 0 where the way is refused at once: an error, a reset, an end or a 403, not silence."""
import socket

import net


def main(arguments):
    host, port, *rest = arguments
    try:
        sock = net.dial(host, int(port))
        sock.sendall((rest[0] if rest else "\x16").encode())
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
