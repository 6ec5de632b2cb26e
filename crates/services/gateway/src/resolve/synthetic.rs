//! Addresses that stand for a name which nobody was asked about yet.
//!
//! A name that only an `ask` covers is answered with one, so that the client connects, the flow is seen, and a
//! person can be asked before any query leaves. The same is done for `host.cofferdam.internal`, whose real address
//! would mean the sandbox itself. They are taken from ranges that lead nowhere: 198.18.0.0/15, kept for benchmarks
//! (RFC 2544), and 100::/64, the discard prefix (RFC 6666). Nothing dials them: the gateway turns them back.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
};

use policy::HostName;

/// The most names that have an address at a time; the longest unused loses its own.
const LIMIT: u32 = 16_384;
/// The first address given is 198.18.0.1.
const FIRST_V4: u32 = u32::from_be_bytes([198, 18, 0, 1]);

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<HostName, u32>,
    by_number: HashMap<u32, HostName>,
    /// Numbers in the order in which they were given.
    given: VecDeque<u32>,
}

/// The synthetic addresses of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Synthetic {
    table: Mutex<Table>,
}

impl Synthetic {
    /// The addresses that stand for a name, given to it where it has none yet.
    pub(super) fn addresses(&self, name: &HostName) -> (Ipv4Addr, Ipv6Addr) {
        let mut table = self.table();
        let number = match table.by_name.get(name) {
            Some(number) => *number,
            None => table.give(name),
        };
        (v4(number), v6(number))
    }

    /// The name that an address stands for.
    pub(super) fn name(&self, address: IpAddr) -> Option<HostName> {
        let number = number(address)?;
        self.table().by_number.get(&number).cloned()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn give(&mut self, name: &HostName) -> u32 {
        let used = u32::try_from(self.given.len()).unwrap_or(LIMIT);
        let number = if used < LIMIT { used } else { self.given.pop_front().unwrap_or(0) };
        if let Some(former) = self.by_number.insert(number, name.clone()) {
            self.by_name.remove(&former);
        }
        self.by_name.insert(name.clone(), number);
        self.given.push_back(number);
        number
    }
}

fn v4(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_V4 + number)
}

fn v6(number: u32) -> Ipv6Addr {
    // Numbers are below LIMIT, so one group holds them and the one added.
    let low = u16::try_from(number + 1).unwrap_or(u16::MAX);
    Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, low)
}

/// The number behind an address of the reserved ranges.
fn number(address: IpAddr) -> Option<u32> {
    let number = match address {
        IpAddr::V4(address) => u32::from(address).checked_sub(FIRST_V4)?,
        IpAddr::V6(address) => {
            let [0x100, 0, 0, 0, 0, 0, 0, low] = address.segments() else { return None };
            u32::from(low).checked_sub(1)?
        }
    };
    (number < LIMIT).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use policy::HostName;

    use super::{LIMIT, Synthetic};

    fn name(number: u32) -> HostName {
        HostName::parse(&format!("n{number}.example")).unwrap()
    }

    #[test]
    fn an_address_leads_back_to_its_name_until_the_range_is_used_up() {
        let synthetic = Synthetic::default();
        let (v4, v6) = synthetic.addresses(&name(0));
        assert_eq!((v4.to_string(), v6.to_string()), ("198.18.0.1".into(), "100::1".into()));
        for number in 0..LIMIT {
            let (v4, v6) = synthetic.addresses(&name(number));
            assert_eq!(synthetic.name(IpAddr::V4(v4)), Some(name(number)));
            assert_eq!(synthetic.name(IpAddr::V6(v6)), Some(name(number)));
        }
        assert_eq!(synthetic.name(IpAddr::V4(v4)), Some(name(0)));
        let (again, _) = synthetic.addresses(&name(LIMIT));
        assert_eq!((again, synthetic.name(IpAddr::V4(v4))), (v4, Some(name(LIMIT))));
        assert_ne!(synthetic.addresses(&name(0)).0, v4);
    }

    #[test]
    fn other_addresses_stand_for_nothing() {
        let synthetic = Synthetic::default();
        synthetic.addresses(&name(1));
        for address in
            ["198.18.0.0", "198.18.0.2", "198.17.255.255", "8.8.8.8", "100::", "100::2", "100:0:0:1::1", "::1"]
        {
            assert_eq!(synthetic.name(address.parse().unwrap()), None, "{address}");
        }
    }
}
