//! Bindings: how long they live, and how many.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use policy::HostName;

use super::{Bindings, LIFE, NAME_LIMIT, TOTAL_LIMIT};

fn name(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(0x0A00_0000 + number))
}

#[test]
fn a_binding_lives_for_a_while_and_as_long_as_a_flow_holds_it() {
    let start = Instant::now();
    let bindings = Bindings::new(start);
    let (one, two) = (name("one.example"), name("two.example"));
    bindings.bind(&one, &[address(1)], start);
    bindings.bind(&two, &[address(1), address(2)], start + Duration::from_secs(5));
    assert!(bindings.is_bound(&one, address(1), start));
    assert!(!bindings.is_bound(&one, address(2), start));
    assert_eq!(bindings.names_of(address(1), start).as_slice(), [two.clone(), one.clone()], "the last answered first");
    assert!(bindings.names_of(address(3), start).is_empty());
    let guard = bindings.hold(&one, address(1), start).unwrap();
    let later = start + LIFE + Duration::from_secs(60);
    assert_eq!(bindings.names_of(address(1), later).as_slice(), std::slice::from_ref(&one));
    drop(guard);
    assert!(bindings.names_of(address(1), later).is_empty());
    assert!(!bindings.is_bound(&two, address(2), later));
}

#[test]
fn only_what_was_answered_can_be_held() {
    let start = Instant::now();
    let bindings = Bindings::new(start);
    assert!(bindings.hold(&name("a.example"), address(1), start).is_none());
    bindings.bind(&name("a.example"), &[address(1)], start);
    assert!(bindings.hold(&name("b.example"), address(1), start).is_none());
    assert!(bindings.hold(&name("a.example"), address(1), start + LIFE).is_none(), "it is over");
    assert!(!bindings.is_bound(&name("a.example"), address(1), start + LIFE));
}

#[test]
fn a_name_with_too_many_addresses_loses_the_oldest_that_nobody_holds() {
    let start = Instant::now();
    let bindings = Bindings::new(start);
    let name = name("many.example");
    let _guard = {
        bindings.bind(&name, &[address(0)], start);
        bindings.hold(&name, address(0), start).unwrap()
    };
    let count = u32::try_from(NAME_LIMIT).unwrap() + 10;
    for number in 1..=count {
        bindings.bind(&name, &[address(number)], start + Duration::from_millis(number.into()));
    }
    let bound = |number: u32| bindings.is_bound(&name, address(number), start + Duration::from_secs(1));
    assert!(bound(0), "it is held");
    assert!(!bound(1) && !bound(11));
    assert!(bound(12) && bound(count));
    assert_eq!((0..=count).filter(|number| bound(*number)).count(), NAME_LIMIT);
}

#[test]
fn the_table_stays_within_its_bound() {
    let start = Instant::now();
    let bindings = Bindings::new(start);
    let total = u32::try_from(TOTAL_LIMIT).unwrap();
    for number in 0..total + 100 {
        bindings.bind(
            &name(&format!("n{number}.example")),
            &[address(number)],
            start + Duration::from_millis(number.into()),
        );
    }
    let table = bindings.table();
    assert!(table.pairs <= TOTAL_LIMIT);
    assert_eq!(table.pairs, table.by_address.len());
    assert_eq!(table.pairs, table.by_name.len());
    assert!(table.by_address.contains_key(&address(total + 99)));
}
