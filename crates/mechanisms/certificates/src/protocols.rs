//! Application protocols (ALPN): what we can speak, as a closed set, so that there are as many configurations as
//! there are values here, whatever a client offers.

/// Which application protocols a handshake offers (upstream) or answers (to the sandbox).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocols {
    /// None is named: the client named none.
    Unnamed,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone.
    Http2,
    /// Either, HTTP/2 first.
    Either,
}

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

impl Protocols {
    /// All of them, in the order of [`Protocols::index`].
    pub const ALL: [Protocols; 4] = [Protocols::Unnamed, Protocols::Http1, Protocols::Http2, Protocols::Either];

    /// What of a client's offer we speak. `None` when it offers protocols, and none of ours: such a flow can't be
    /// inspected.
    pub fn of_offer<'a>(offered: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let (mut any, mut http1, mut http2) = (false, false, false);
        for protocol in offered {
            any = true;
            http1 |= protocol == HTTP1;
            http2 |= protocol == HTTP2;
        }
        match (any, http1, http2) {
            (false, _, _) => Some(Protocols::Unnamed),
            (true, true, true) => Some(Protocols::Either),
            (true, true, false) => Some(Protocols::Http1),
            (true, false, true) => Some(Protocols::Http2),
            (true, false, false) => None,
        }
    }

    /// As they stand in a handshake.
    pub fn names(self) -> Vec<Vec<u8>> {
        match self {
            Protocols::Unnamed => Vec::new(),
            Protocols::Http1 => vec![HTTP1.to_vec()],
            Protocols::Http2 => vec![HTTP2.to_vec()],
            Protocols::Either => vec![HTTP2.to_vec(), HTTP1.to_vec()],
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Protocols::Unnamed => 0,
            Protocols::Http1 => 1,
            Protocols::Http2 => 2,
            Protocols::Either => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Protocols;

    #[test]
    fn an_offer_is_met_with_what_we_speak() {
        for (offer, expected) in [
            (&[][..], Some(Protocols::Unnamed)),
            (&["http/1.1"][..], Some(Protocols::Http1)),
            (&["h2"][..], Some(Protocols::Http2)),
            (&["http/1.1", "h2"][..], Some(Protocols::Either)),
            (&["h3", "h2", "http/1.0"][..], Some(Protocols::Http2)),
            (&["acme-tls/1"][..], None),
            (&["H2", "HTTP/1.1"][..], None),
        ] {
            assert_eq!(Protocols::of_offer(offer.iter().map(|name| name.as_bytes())), expected, "{offer:?}");
        }
    }

    #[test]
    fn each_has_its_own_place_and_reads_back() {
        for (place, protocols) in Protocols::ALL.into_iter().enumerate() {
            assert_eq!(protocols.index(), place);
            assert_eq!(Protocols::of_offer(protocols.names().iter().map(Vec::as_slice)), Some(protocols));
        }
    }
}
