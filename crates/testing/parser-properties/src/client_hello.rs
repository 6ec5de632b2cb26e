//! The ClientHello: one verdict wherever it is cut, and the names that rustls reads.

use policy::HostName;
use rustls::server::Acceptor;
use wire::client_hello::{ClientHello, Hello, read};

use crate::cuts;

const LIMITS: [usize; 2] = [64 * 1024, 300];

/// Any bytes as the start of a connection.
pub(crate) fn client_hello(bytes: &[u8]) {
    for limit in LIMITS {
        let whole = read(bytes, limit);
        for cut in cuts(bytes.len()) {
            let early = read(&bytes[..cut], limit);
            assert!(early == Hello::Incomplete || early == whole, "cut at {cut}: {early:?}, whole: {whole:?}");
        }
        let longer = [bytes, b"\x16\x03\x01\x00\x01\x01\0GET "].concat();
        assert!(whole == Hello::Incomplete || read(&longer, limit) == whole, "later bytes change {whole:?}");
        assert!(bytes.len() < limit || whole != Hello::Incomplete, "more than {limit} bytes are waited for");
        assert_eq!(read(&bytes[..bytes.len().min(limit)], limit), whole, "bytes behind the bound are looked at");
    }
    if let Hello::Complete(hello) = read(bytes, LIMITS[0]) {
        rustls_agrees(bytes, &hello);
    }
}

fn rustls_agrees(bytes: &[u8], hello: &ClientHello) {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        if acceptor.read_tls(&mut rest).is_err() {
            return;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let theirs = accepted.client_hello();
                let name = theirs.server_name().map(|name| HostName::parse(name).expect("a name that ours reads too"));
                assert_eq!(name, hello.server_name);
                let alpn: Vec<String> =
                    theirs.alpn().into_iter().flatten().map(|name| name.escape_ascii().to_string()).collect();
                assert_eq!(alpn, hello.alpn);
                return;
            }
            // rustls wants more of a hello than a name, such as signature schemes.
            Err(_) => return,
        }
    }
}
