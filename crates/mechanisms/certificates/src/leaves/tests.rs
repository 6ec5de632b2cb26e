//! The cache: what is minted, when, how often, and what is let go.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::{Duration, SystemTime},
};

use policy::{HostPattern, Target};
use proptest::prelude::{prop_assert, prop_assert_eq, proptest};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::{Counts, LIFE, Leaves, MintError, mint};
use crate::{Issuer, Protocols, Scope, key::SecretKey};

const DAY: Duration = Duration::from_secs(86_400);

fn target(text: &str) -> Target {
    Target::parse(text).unwrap()
}

fn leaves(capacity: usize) -> Leaves {
    Leaves::new(Issuer::for_run(Scope::Any, SystemTime::now()).unwrap(), capacity).unwrap()
}

#[test]
fn sixty_four_threads_that_want_one_name_mint_it_once() {
    let leaves = leaves(8);
    let (start, now) = (Barrier::new(64), SystemTime::now());
    let configs: Vec<_> = thread::scope(|scope| {
        let ask = || {
            start.wait();
            leaves.server_config(&target("api.example.com"), Protocols::Either, now).unwrap()
        };
        let asking: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert!(configs.iter().all(|config| Arc::ptr_eq(config, &configs[0])));
    assert_eq!(leaves.counts(), Counts { held: 1, capacity: 8, minted: 1, reused: 63, evicted: 0 });
}

#[test]
fn one_leaf_serves_every_list_of_protocols() {
    let (leaves, now) = (leaves(8), SystemTime::now());
    for protocols in Protocols::ALL {
        let config = leaves.server_config(&target("api.example.com"), protocols, now).unwrap();
        assert_eq!(config.alpn_protocols, protocols.names());
        assert_eq!((config.max_early_data_size, config.ticketer.enabled()), (0, true));
    }
    assert_eq!(leaves.counts().minted, 1);
}

#[test]
fn the_least_used_is_let_go() {
    let (leaves, now) = (leaves(2), SystemTime::now());
    let ask = |name: &str| leaves.server_config(&target(name), Protocols::Http1, now).unwrap();
    let first = ask("a.example");
    ask("b.example");
    assert!(Arc::ptr_eq(&first, &ask("a.example")));
    ask("c.example");
    assert!(Arc::ptr_eq(&first, &ask("a.example")), "b was used longest ago");
    assert_eq!(leaves.counts(), Counts { held: 2, capacity: 2, minted: 3, reused: 2, evicted: 1 });
}

#[test]
fn a_leaf_is_minted_anew_before_it_ends_and_after_the_clock_went_back() {
    let (leaves, now) = (leaves(2), SystemTime::now());
    let minted = |at| {
        leaves.server_config(&target("a.example"), Protocols::Http1, at).unwrap();
        leaves.counts().minted
    };
    assert_eq!((minted(now), minted(now + 6 * DAY), minted(now + LIFE - DAY / 4)), (1, 1, 2));
    assert_eq!(minted(now), 3, "the second leaf does not hold yet at this time");
}

#[test]
fn another_issuer_signs_anew_and_its_scope_counts() {
    let (leaves, now) = (leaves(2), SystemTime::now());
    let before = leaves.server_config(&target("a.example"), Protocols::Http1, now).unwrap();
    let scope = Scope::of(&[HostPattern::parse("a.example").unwrap()]);
    leaves.set_issuer(Issuer::for_run(scope, now).unwrap());
    let after = leaves.server_config(&target("a.example"), Protocols::Http1, now).unwrap();
    assert!(!Arc::ptr_eq(&before, &after));
    for outside in ["b.example", "192.0.2.1"] {
        let refused = leaves.server_config(&target(outside), Protocols::Http1, now);
        assert!(matches!(refused, Err(MintError::Scope(_))), "{outside}");
    }
    assert_eq!(leaves.counts().held, 1);
}

#[test]
fn nothing_is_minted_after_the_issuers_end_or_beyond_it() {
    let now = SystemTime::now();
    let issuer = Issuer::for_run(Scope::Any, now).unwrap();
    let key = SecretKey::generate().unwrap();
    let late = issuer.ends() - DAY;
    let (_, validity) = mint(&issuer, &key, &target("a.example"), late).unwrap();
    assert_eq!(validity.until, issuer.ends());
    assert!(matches!(mint(&issuer, &key, &target("a.example"), issuer.ends()), Err(MintError::Ended)));
}

#[test]
fn a_leaf_names_one_host_is_for_servers_and_has_a_number_of_its_own() {
    let (issuer, key) = (Issuer::for_run(Scope::Any, SystemTime::now()).unwrap(), SecretKey::generate().unwrap());
    let mut numbers = std::collections::HashSet::new();
    let long = format!("{}.{}.example", "a".repeat(60), "b".repeat(60));
    for name in ["api.example.com", &long, "192.0.2.1", "2001:db8::1"] {
        let (der, _) = mint(&issuer, &key, &target(name), SystemTime::now()).unwrap();
        let (_, read) = X509Certificate::from_der(&der).unwrap();
        let names = &read.subject_alternative_name().unwrap().unwrap().value.general_names;
        let said = match &names[..] {
            [GeneralName::DNSName(name)] => target(name),
            [GeneralName::IPAddress(bytes)] if bytes.len() == 4 => {
                Target::Address(<[u8; 4]>::try_from(*bytes).unwrap().into())
            }
            [GeneralName::IPAddress(bytes)] => Target::Address(<[u8; 16]>::try_from(*bytes).unwrap().into()),
            other => panic!("{other:?}"),
        };
        assert_eq!(said, target(name));
        let usage = read.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth && !usage.any && !read.is_ca());
        assert!(read.validity().is_valid());
        numbers.insert(read.raw_serial().to_vec());
    }
    assert_eq!(numbers.len(), 4);
}

proptest! {
    #[test]
    fn the_bound_holds_whatever_is_asked(asked in proptest::collection::vec(0_u8..12, 1..60), capacity in 0_usize..6) {
        let (leaves, now) = (leaves(capacity), SystemTime::now());
        for number in &asked {
            leaves.server_config(&target(&format!("n{number}.example")), Protocols::Http1, now).unwrap();
            let counts = leaves.counts();
            prop_assert!(counts.held <= capacity.max(1));
            prop_assert_eq!(counts.minted - counts.evicted, counts.held as u64);
        }
        let counts = leaves.counts();
        prop_assert_eq!(counts.minted + counts.reused, asked.len() as u64);
    }
}
