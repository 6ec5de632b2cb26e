//! Names through policy, record, cache and scripted servers.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        RData, Record, RecordType,
        rdata::{
            HTTPS, SVCB,
            svcb::{EchConfigList, SvcParamKey, SvcParamValue},
        },
    },
};
use policy::{
    HostName,
    model::{DnsServer, Hop, Mode, PolicySpec, Route},
};
use values::RouteName;

use super::{
    ResolveError,
    scripted::{Over, Server, a, aaaa, bytes, cname, code, name, response},
    world::{World, in_force, spec},
};

fn host(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

/// Two addresses for every name.
fn both(query: &Message, _: Over) -> Vec<Vec<u8>> {
    let owner = query.queries[0].name.to_ascii();
    bytes(&match query.queries[0].query_type {
        RecordType::A => response(query, [a(&owner, 60, "192.0.2.1")]),
        RecordType::AAAA => response(query, [aaaa(&owner, 60, "2001:db8::1")]),
        _ => response(query, []),
    })
}

async fn addresses(world: &World, text: &str) -> Result<String, ResolveError> {
    let resolved = world.names.resolve(&world.policy.load_full(), None, &host(text)).await?;
    Ok(resolved.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "))
}

#[tokio::test]
async fn a_flow_by_name_is_recorded_before_its_query_and_only_then() {
    let server = Server::start(both).await;
    let world = World::new(spec(), &[server.address]);
    assert_eq!(addresses(&world, "www.zone.example").await.unwrap(), "2001:db8::1 192.0.2.1");
    let told = ["allowed zone www.zone.example AAAA UPSTREAM", "allowed zone www.zone.example A UPSTREAM"];
    assert_eq!(world.told(), told);
    assert_eq!(addresses(&world, "www.zone.example").await.unwrap(), "2001:db8::1 192.0.2.1");
    assert_eq!(world.told(), told, "what is known asks nobody and is not told again");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn nothing_is_asked_where_the_record_fails_or_the_policy_refuses() {
    let server = Server::start(both).await;
    let world = World::new(spec(), &[server.address]);
    for text in ["evil.zone.example", "elsewhere.example"] {
        let error = addresses(&world, text).await.unwrap_err();
        assert!(matches!(error, ResolveError::Refused { .. }) && error.rule().is_some(), "{error:?}");
    }
    let long = format!("{}.zone.example", "a".repeat(50));
    let error = addresses(&world, &long).await.unwrap_err();
    assert_eq!(error.rule().unwrap().0.as_str(), "guard:dns-limit");
    assert!(world.told().iter().all(|told| told.starts_with("denied guard:dns-limit")));
    world.break_log();
    let error = addresses(&world, "www.zone.example").await.unwrap_err();
    assert!(matches!(error, ResolveError::Record(_)) && error.rule().is_none(), "{error:?}");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_asked_name_resolves_after_the_yes_and_the_host_needs_no_query() {
    let server = Server::start(both).await;
    let world = World::new(spec(), &[server.address]);
    assert_eq!(addresses(&world, "asked.example").await.unwrap(), "2001:db8::1 192.0.2.1");
    let seen = server.seen().len();
    assert_eq!(addresses(&world, "host.cofferdam.internal").await.unwrap(), "127.0.0.1 ::1");
    assert_eq!(server.seen().len(), seen);
}

#[tokio::test]
async fn one_family_is_enough_and_failures_say_what_happened() {
    let server = Server::start(|query, _| {
        let owner = query.queries[0].name.to_ascii();
        match (owner.as_str(), query.queries[0].query_type) {
            ("four.zone.example.", RecordType::A) => bytes(&response(query, [a(&owner, 60, "192.0.2.4")])),
            ("none.zone.example.", _) => bytes(&response(query, [])),
            ("loop.zone.example.", _) => bytes(&response(query, [cname(&owner, 60, &owner)])),
            ("no.zone.example.", _) => code(query, ResponseCode::NXDomain),
            _ => code(query, ResponseCode::ServFail),
        }
    })
    .await;
    let world = World::new(spec(), &[server.address]);
    assert_eq!(addresses(&world, "four.zone.example").await.unwrap(), "192.0.2.4");
    assert!(matches!(addresses(&world, "none.zone.example").await, Err(ResolveError::NoAddress)));
    assert!(matches!(addresses(&world, "no.zone.example").await, Err(ResolveError::NoSuchName)));
    assert!(matches!(addresses(&world, "loop.zone.example").await, Err(ResolveError::Answer(_))));
    let error = addresses(&world, "bad.zone.example").await.unwrap_err();
    let report = error.report();
    assert!(
        report.starts_with("no DNS server answered: the DNS server 127.0.0.1:") && report.ends_with("error code 2"),
        "{report}"
    );
    let asked = server.seen().len();
    assert!(addresses(&world, "bad.zone.example").await.is_err());
    assert_eq!(server.seen().len(), asked, "a failure is kept for a moment");
}

#[tokio::test]
async fn a_chain_over_several_answers_is_followed_to_its_end() {
    let server = Server::start(|query, _| {
        let owner = query.queries[0].name.to_ascii();
        bytes(&match (owner.as_str(), query.queries[0].query_type) {
            ("www.zone.example.", _) => response(query, [cname(&owner, 60, "cdn.example.")]),
            ("cdn.example.", RecordType::A) => response(query, [a("cdn.example.", 60, "192.0.2.5")]),
            ("round.zone.example.", _) => response(query, [cname(&owner, 60, "round2.example.")]),
            ("round2.example.", _) => response(query, [cname(&owner, 60, "round.zone.example.")]),
            _ => response(query, []),
        })
    })
    .await;
    let world = World::new(spec(), &[server.address]);
    let resolved = world.names.resolve(&world.policy.load_full(), None, &host("www.zone.example")).await.unwrap();
    assert_eq!(resolved.addresses.as_slice(), ["192.0.2.5".parse::<IpAddr>().unwrap()]);
    assert_eq!(resolved.canonical.as_ref().unwrap().as_str(), "cdn.example");
    assert!(matches!(addresses(&world, "round.zone.example").await, Err(ResolveError::Answer(_))));
    assert!(server.seen().len() < 40);
}

#[tokio::test]
async fn a_name_in_demand_costs_one_query_and_outlives_who_asked_first() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let server = Server::start(both).await;
    let world = Arc::new(World::new(spec(), &[server.address]));
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (world, gate) = (Arc::clone(&world), Arc::clone(&gate));
            tokio::spawn(async move {
                gate.acquire().await.unwrap().forget();
                addresses(&world, "www.zone.example").await
            })
        })
        .collect();
    gate.add_permits(20);
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), "2001:db8::1 192.0.2.1");
    }
    assert_eq!(server.seen().len(), 2);
    tokio::select! {
        biased;
        outcome = addresses(&world, "b.zone.example") => panic!("{outcome:?}"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(addresses(&world, "b.zone.example").await.unwrap(), "2001:db8::1 192.0.2.1");
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_query_of_a_stopped_worker_is_asked_again() {
    let silent_first = Arc::new(AtomicU8::new(0));
    let counted = Arc::clone(&silent_first);
    let server = Server::start(move |query, over| match counted.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => Vec::new(),
        _ => both(query, over),
    })
    .await;
    let world = Arc::new(World::new(spec(), &[server.address]));
    let stopped = Arc::clone(&world);
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let moment = std::time::Duration::from_millis(50);
        let outcome =
            runtime.block_on(async { tokio::time::timeout(moment, addresses(&stopped, "w.zone.example")).await });
        assert!(outcome.is_err());
    })
    .await
    .unwrap();
    assert_eq!(addresses(&world, "w.zone.example").await.unwrap(), "2001:db8::1 192.0.2.1");
}

#[tokio::test]
async fn each_route_asks_its_own_servers_and_a_changed_route_forgets() {
    let (one, two) = (Server::start(both).await, Server::start(both).await);
    let corp = RouteName::new("corp").unwrap();
    let routed = |server: &Server| {
        let route = Route { hop: Hop::Direct, dns: vec![DnsServer::Plain(server.address)] };
        PolicySpec { routes: [(corp.clone(), route)].into(), route: Some(corp.clone()), mode: Mode::Routed, ..spec() }
    };
    let world = World::new(routed(&one), &[]);
    let ask = || async { world.names.resolve(&world.policy.load_full(), Some(&corp), &host("www.zone.example")).await };
    ask().await.unwrap();
    assert_eq!((one.seen().len(), two.seen().len()), (2, 0));
    assert!(matches!(addresses(&world, "www.zone.example").await, Err(ResolveError::Upstream(_))), "the host has none");
    world.policy.store(in_force(routed(&one), 2));
    ask().await.unwrap();
    assert_eq!(one.seen().len(), 2, "the same servers: what is known stays known");
    world.policy.store(in_force(routed(&two), 3));
    ask().await.unwrap();
    assert_eq!((one.seen().len(), two.seen().len()), (2, 2));
    let missing = RouteName::new("gone").unwrap();
    let error = world.names.resolve(&world.policy.load_full(), Some(&missing), &host("www.zone.example")).await;
    assert!(matches!(error, Err(ResolveError::NoRoute(_))));
}

#[tokio::test]
async fn a_published_ech_configuration_is_found_through_aliases_and_doubt_counts_as_published() {
    let server = Server::start(|query, _| {
        let owner = query.queries[0].name.to_ascii();
        let ech = vec![(SvcParamKey::EchConfigList, SvcParamValue::EchConfigList(EchConfigList(vec![1])))];
        let record = |priority, target: &str, params| {
            let data = RData::HTTPS(HTTPS(SVCB::new(priority, name(target), params)));
            bytes(&response(query, [Record::from_rdata(name(&owner), 60, data)]))
        };
        match owner.as_str() {
            "ech.zone.example." => record(1, ".", ech),
            "plain.zone.example." => record(1, ".", vec![]),
            "alias.zone.example." => record(0, "far.example.", vec![]),
            "far.example." => record(0, "ech.zone.example.", vec![]),
            "round.zone.example." => record(0, "round.zone.example.", vec![]),
            "old.zone.example." => code(query, ResponseCode::NotImp),
            "bad.zone.example." => code(query, ResponseCode::ServFail),
            _ => bytes(&response(query, [])),
        }
    })
    .await;
    let world = World::new(spec(), &[server.address]);
    for (text, expected) in [
        ("ech.zone.example", true),
        ("plain.zone.example", false),
        ("without.zone.example", false),
        ("alias.zone.example", true),
        ("round.zone.example", true),
        ("old.zone.example", false),
        ("bad.zone.example", true),
        ("closed.example", true),
    ] {
        let published = world.names.ech_published(&world.policy.load_full(), None, &host(text)).await;
        assert_eq!(published, expected, "{text}");
    }
    assert!(server.seen().iter().all(|seen| seen.record == RecordType::HTTPS && seen.name != "closed.example."));
}
