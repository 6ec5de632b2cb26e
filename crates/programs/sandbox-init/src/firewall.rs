//! The rules of the sandbox's network namespace, set over netlink: no `nft` binary is needed.
//!
//! ```text
//! table inet cofferdam {
//!   chain redirect { type nat hook output priority -100;
//!     udp/tcp port 53                -> redirect to the DNS port     (127.0.0.0/8 and ::1 too)
//!     to 127.0.0.0/8 or ::1          -> accept                       (the sandbox's own servers)
//!     tcp                            -> redirect to the transparent port
//!   }
//!   chain output { type filter hook output priority 0;
//!     udp to a port that the policy opens -> accept                  (the gateway's socket on that port takes it)
//!     established, related           -> accept                       (replies, and the rejections below)
//!     to the transparent or DNS port, not by a redirect -> reject
//!     to 127.0.0.0/8 or ::1          -> accept
//!     tcp                            -> reset
//!     anything else                  -> rejected at once, administratively prohibited
//!   }
//! }
//! ```
//! What is rejected is told to the gateway first (nfnetlink_log), so that the attempt is recorded; nothing waits for that.
//!
//! The workload has no capability in this namespace, so it can't change the rules; if it could, there would still be
//! no device to send by.

use std::os::fd::OwnedFd;

use init_protocol::GatewayPorts;
use rustix::net::netlink;

use crate::failure::{Failure, Step};
use crate::netlink::{ACKNOWLEDGE, APPEND, CREATE, EXCLUSIVE, Message, Netlink};

const HINT: &str = "the kernel lacks nf_tables with nat and reject for inet, or they may not be loaded from here: \
                    as root run `modprobe -a nf_tables nft_chain_nat nft_redir nft_reject_inet nft_ct`";

/// NFNL_SUBSYS_NFTABLES.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
/// NFPROTO_INET: IPv4 and IPv6 in one table.
const FAMILY_INET: u8 = 1;
const TABLE: &str = "cofferdam";
const REDIRECT_CHAIN: &str = "redirect";
const OUTPUT_CHAIN: &str = "output";
/// NF_INET_LOCAL_OUT.
const HOOK_OUTPUT: u32 = 3;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// NFPROTO_IPV4 and NFPROTO_IPV6, as `meta nfproto` has them.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const DNS: u16 = 53;
/// NFT_REG_VERDICT and NFT_REG_1.
const VERDICT: u32 = 0;
const REGISTER: u32 = 1;
/// NFT_META_NFPROTO and NFT_META_L4PROTO.
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;
/// NFT_PAYLOAD_NETWORK_HEADER and NFT_PAYLOAD_TRANSPORT_HEADER.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// NFT_CT_STATE with ESTABLISHED and RELATED, NFT_CT_STATUS with IPS_DST_NAT.
const CONNECTION_STATE: u32 = 0;
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const CONNECTION_STATUS: u32 = 2;
const REDIRECTED: u32 = 1 << 5;
/// NFT_REJECT_TCP_RST, NFT_REJECT_ICMPX_UNREACH with NFT_REJECT_ICMPX_ADMIN_PROHIBITED.
const RESET: u32 = 1;
const UNREACHABLE: u32 = 2;
const PROHIBITED: u8 = 3;

/// NFNL_SUBSYS_ULOG and NFULNL_MSG_CONFIG.
const CONFIGURE_LOG: u16 = 4 << 8 | 1;
/// The group that hears of rejected packets.
const LOG_GROUP: u16 = 1;
/// As much of a packet as holds its headers, and little else.
const LOGGED_BYTES: u32 = 64;
/// NFULNL_CFG_CMD_BIND, NFULNL_COPY_PACKET, NFULNL_CFG_F_SEQ.
const BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const NUMBERED: u16 = 1;

/// Sets the rules, all or none. Gives a socket that hears of what they reject, where the kernel can tell.
pub(crate) fn build(ports: GatewayPorts) -> Result<Option<OwnedFd>, Failure> {
    let netlink = Netlink::open(Some(netlink::NETFILTER)).step("firewall: open netlink", HINT)?;
    // Without nfnetlink_log the rules are the same, and the attempts are not recorded.
    if let Some(heard) = hear()
        && netlink.transact(rules(ports, true)).is_ok()
    {
        return Ok(Some(heard));
    }
    match netlink.transact(rules(ports, false)) {
        Ok(()) => Ok(None),
        Err((message, errno)) => Err(Failure::new(format!("firewall: message {message}"), errno, HINT)),
    }
}

/// A socket of the log group: each packet at once, numbered, cut to its headers.
fn hear() -> Option<OwnedFd> {
    let netlink = Netlink::open(Some(netlink::NETFILTER)).ok()?;
    let [high, low] = LOG_GROUP.to_be_bytes();
    let configure = || Message::new(CONFIGURE_LOG, ACKNOWLEDGE).fixed(&[0, 0, high, low]);
    let [a, b, c, d] = LOGGED_BYTES.to_be_bytes();
    for message in [
        configure().bytes(1, &[BIND]),
        configure().bytes(2, &[a, b, c, d, COPY_PACKET, 0]).number(5, 1).bytes(6, &NUMBERED.to_be_bytes()),
    ] {
        netlink.transact(vec![message]).ok()?;
    }
    Some(netlink.into_socket())
}

/// Lets UDP to these ports through to the sockets on them. Comes before every other rule of the chain.
pub(crate) fn open_datagrams(ports: &[u16]) -> Result<(), Failure> {
    let netlink = Netlink::open(Some(netlink::NETFILTER)).step("firewall: open netlink", HINT)?;
    let opened = ports.iter().map(|port| first_rule(OUTPUT_CHAIN, vec![protocol_is(UDP), port_is(*port), accept()]));
    let batch = [batch_mark(BATCH_BEGIN)].into_iter().chain(opened).chain([batch_mark(BATCH_END)]);
    match netlink.transact(batch.collect()) {
        Ok(()) => Ok(()),
        Err((message, errno)) => Err(Failure::new(format!("firewall: UDP port, message {message}"), errno, HINT)),
    }
}

/// The batch of messages.
fn rules(ports: GatewayPorts, told: bool) -> Vec<Message> {
    let reject = |refusal| if told { vec![Expression::Log, refusal] } else { vec![refusal] };
    let mut batch = vec![batch_mark(BATCH_BEGIN), table()];
    batch.push(chain(REDIRECT_CHAIN, "nat", -100));
    for protocol in [UDP, TCP] {
        batch.push(rule(REDIRECT_CHAIN, vec![protocol_is(protocol), port_is(DNS), redirect(ports.dns)]));
    }
    for loopback in [loopback_v4(), loopback_v6()] {
        batch.push(rule(REDIRECT_CHAIN, [loopback, vec![accept()]].concat()));
    }
    batch.push(rule(REDIRECT_CHAIN, vec![protocol_is(TCP), redirect(ports.transparent)]));

    batch.push(chain(OUTPUT_CHAIN, "filter", 0));
    let known = connection_has(CONNECTION_STATE, ESTABLISHED_OR_RELATED, true);
    batch.push(rule(OUTPUT_CHAIN, [known, vec![accept()]].concat()));
    let direct = connection_has(CONNECTION_STATUS, REDIRECTED, false);
    for (protocol, port) in [(TCP, ports.transparent), (TCP, ports.dns), (UDP, ports.dns)] {
        let to_gateway = vec![protocol_is(protocol), port_is(port)];
        let refusal = if protocol == TCP { reset() } else { prohibit() };
        batch.push(rule(OUTPUT_CHAIN, [direct.clone(), to_gateway, reject(refusal)].concat()));
    }
    for loopback in [loopback_v4(), loopback_v6()] {
        batch.push(rule(OUTPUT_CHAIN, [loopback, vec![accept()]].concat()));
    }
    batch.push(rule(OUTPUT_CHAIN, [vec![protocol_is(TCP)], reject(reset())].concat()));
    batch.push(rule(OUTPUT_CHAIN, reject(prohibit())));
    batch.push(batch_mark(BATCH_END));
    batch
}

/// One step of a rule.
#[derive(Clone)]
enum Expression {
    /// Load what `meta` knows by this key and go on if it is this.
    MetaIs { key: u32, value: u8 },
    /// Go on if these bytes of the packet are these.
    PayloadIs { base: u32, offset: u32, value: Vec<u8> },
    /// Go on if the connection's field has (or has not) one of these bits.
    ConnectionBits { key: u32, mask: u32, present: bool },
    /// Send to this port of loopback.
    Redirect { port: u16 },
    /// Refuse, and say so to the sender.
    Reject { kind: u32, code: u8 },
    /// Tell the log group of it.
    Log,
    /// Let it through.
    Accept,
}

fn protocol_is(protocol: u8) -> Expression {
    Expression::MetaIs { key: META_PROTOCOL, value: protocol }
}

fn port_is(port: u16) -> Expression {
    Expression::PayloadIs { base: TRANSPORT_HEADER, offset: 2, value: port.to_be_bytes().to_vec() }
}

fn loopback_v4() -> Vec<Expression> {
    let family = Expression::MetaIs { key: META_FAMILY, value: IPV4 };
    vec![family, Expression::PayloadIs { base: NETWORK_HEADER, offset: 16, value: vec![127] }]
}

fn loopback_v6() -> Vec<Expression> {
    let family = Expression::MetaIs { key: META_FAMILY, value: IPV6 };
    let address = std::net::Ipv6Addr::LOCALHOST.octets().to_vec();
    vec![family, Expression::PayloadIs { base: NETWORK_HEADER, offset: 24, value: address }]
}

fn connection_has(key: u32, mask: u32, present: bool) -> Vec<Expression> {
    vec![Expression::ConnectionBits { key, mask, present }]
}

fn redirect(port: u16) -> Expression {
    Expression::Redirect { port }
}

fn reset() -> Expression {
    Expression::Reject { kind: RESET, code: 0 }
}

fn prohibit() -> Expression {
    Expression::Reject { kind: UNREACHABLE, code: PROHIBITED }
}

fn accept() -> Expression {
    Expression::Accept
}

/// nfgenmsg: family, version, resource id in network order.
fn batch_mark(kind: u16) -> Message {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Message::new(kind, 0).fixed(&[0, 0, high, low])
}

fn table() -> Message {
    Message::new(NEW_TABLE, CREATE | EXCLUSIVE | ACKNOWLEDGE).fixed(&[FAMILY_INET, 0, 0, 0]).text(1, TABLE)
}

fn chain(name: &str, kind: &str, priority: i32) -> Message {
    Message::new(NEW_CHAIN, CREATE | EXCLUSIVE | ACKNOWLEDGE)
        .fixed(&[FAMILY_INET, 0, 0, 0])
        .text(1, TABLE)
        .text(3, name)
        .nest(4, |hook| hook.number(1, HOOK_OUTPUT).bytes(2, &priority.to_be_bytes()))
        .text(7, kind)
}

fn rule(chain: &str, expressions: Vec<Expression>) -> Message {
    rule_with(CREATE | APPEND | ACKNOWLEDGE, chain, expressions)
}

/// A rule before those that are there.
fn first_rule(chain: &str, expressions: Vec<Expression>) -> Message {
    rule_with(CREATE | ACKNOWLEDGE, chain, expressions)
}

fn rule_with(flags: u16, chain: &str, expressions: Vec<Expression>) -> Message {
    Message::new(NEW_RULE, flags)
        .fixed(&[FAMILY_INET, 0, 0, 0])
        .text(1, TABLE)
        .text(2, chain)
        .nest(4, |list| expressions.into_iter().fold(list, |list, expression| expression.write(list)))
}

impl Expression {
    /// As entries of NFTA_RULE_EXPRESSIONS: the parts that load a register come before those that read it.
    fn write(self, list: Message) -> Message {
        match self {
            Expression::MetaIs { key, value } => {
                compare(entry(list, "meta", |m| m.number(1, REGISTER).number(2, key)), true, &[value])
            }
            Expression::PayloadIs { base, offset, value } => {
                let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
                let loaded = entry(list, "payload", |m| {
                    m.number(1, REGISTER).number(2, base).number(3, offset).number(4, length)
                });
                compare(loaded, true, &value)
            }
            Expression::ConnectionBits { key, mask, present } => {
                let loaded = entry(list, "ct", |m| m.number(1, REGISTER).number(2, key));
                let masked = entry(loaded, "bitwise", |m| {
                    m.number(1, REGISTER)
                        .number(2, REGISTER)
                        .number(3, 4)
                        .nest(4, |data| data.bytes(1, &mask.to_ne_bytes()))
                        .nest(5, |data| data.bytes(1, &[0; 4]))
                });
                compare(masked, !present, &[0; 4])
            }
            Expression::Redirect { port } => {
                let loaded = entry(list, "immediate", |m| {
                    m.number(1, REGISTER).nest(2, |data| data.bytes(1, &port.to_be_bytes()))
                });
                entry(loaded, "redir", |m| m.number(1, REGISTER))
            }
            Expression::Reject { kind, code } => entry(list, "reject", |m| {
                let typed = m.number(1, kind);
                if kind == UNREACHABLE { typed.bytes(2, &[code]) } else { typed }
            }),
            Expression::Log => entry(list, "log", |m| m.bytes(1, &LOG_GROUP.to_be_bytes()).number(3, LOGGED_BYTES)),
            Expression::Accept => entry(list, "immediate", |m| {
                m.number(1, VERDICT).nest(2, |data| data.nest(2, |verdict| verdict.number(1, 1)))
            }),
        }
    }
}

/// One NFTA_LIST_ELEM: the expression's name and its data.
fn entry(list: Message, name: &str, data: impl FnOnce(Message) -> Message) -> Message {
    list.nest(1, |element| element.text(1, name).nest(2, data))
}

/// Goes on if the register is (or is not) this.
fn compare(list: Message, equal: bool, value: &[u8]) -> Message {
    entry(list, "cmp", |m| m.number(1, REGISTER).number(2, u32::from(!equal)).nest(3, |data| data.bytes(1, value)))
}
