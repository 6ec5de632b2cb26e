//! What is kept, for how long, and how often a provider is asked: over OAuth's stand-in and a clock that the test moves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that finds nothing fails")]

mod support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use credentials::{Credentials, ObtainError};
use policy::model::credential::{Oauth, OauthGrant, Source};
use support::{Gate, Reply, StandIn, World, block_on, env, json, name, obtain, obtained, specs, text};

fn oauth(stand_in: &StandIn) -> Source {
    Source::Oauth(Box::new(Oauth {
        token_url: format!("{}/token", stand_in.url),
        grant: OauthGrant::ClientCredentials,
        client_id: "client".to_owned(),
        client_secret: Some(env("CLIENT_SECRET")),
        revocation_url: Some(format!("{}/revoke", stand_in.url)),
        scopes: Vec::new(),
        parameters: BTreeMap::new(),
        ca: None,
    }))
}

fn world() -> Result<World> {
    let mut world = World::new()?;
    world.variable("CLIENT_SECRET", "canary-client-secret");
    Ok(world)
}

/// Gives a token that nobody gets before the gate is open.
fn late(gate: &Gate) -> Result<StandIn> {
    let held = gate.clone();
    StandIn::start(move |asked| match asked.target.as_str() {
        "/token" => {
            held.pass();
            json(r#"{"access_token":"late","expires_in":3600}"#)
        }
        _ => json("{}"),
    })
}

/// Gives token-1, token-2, … for an hour each.
fn counting() -> Result<StandIn> {
    let count = AtomicUsize::new(0);
    StandIn::start(move |asked| match asked.target.as_str() {
        "/token" => {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            json(format!(r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":3600}}"#))
        }
        _ => json("{}"),
    })
}

fn at_once(number: usize, run: impl Fn() -> String + Send + Sync) -> Vec<String> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..number).map(|_| scope.spawn(&run)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_token_is_used_while_it_lives_and_fetched_again_ahead_of_its_end() -> Result<()> {
    let (world, stand_in) = (world()?, counting()?);
    let credentials = world.open(oauth(&stand_in))?;
    assert_eq!(obtained(&credentials), "token-1");
    world.hand.forward(2400);
    assert_eq!(obtained(&credentials), "token-1");
    assert_eq!(stand_in.log().len(), 1);
    // Nine tenths of its life: nobody waits, and one fetch starts behind it.
    world.hand.forward(840);
    assert_eq!(obtained(&credentials), "token-1");
    stand_in.wait_for(2);
    while obtained(&credentials) == "token-1" {
        thread::yield_now();
    }
    assert_eq!(obtained(&credentials), "token-2");
    assert_eq!(stand_in.log().len(), 2);
    Ok(())
}

#[test]
fn a_token_in_its_last_seconds_is_not_used() -> Result<()> {
    let (world, stand_in) = (world()?, counting()?);
    let credentials = world.open(oauth(&stand_in))?;
    assert_eq!(obtained(&credentials), "token-1");
    world.hand.forward(3575);
    assert_eq!(obtained(&credentials), "token-2");
    Ok(())
}

#[test]
fn a_token_that_ends_is_not_used_where_the_provider_is_down() -> Result<()> {
    let down = Arc::new(AtomicUsize::new(0));
    let seen = down.clone();
    let stand_in = StandIn::start(move |_| match seen.load(Ordering::SeqCst) {
        0 => json(r#"{"access_token":"token","expires_in":3600}"#),
        _ => Reply::Body(503, r#"{"error":"temporarily_unavailable"}"#.to_owned()),
    })?;
    let world = world()?;
    let credentials = world.open(oauth(&stand_in))?;
    assert_eq!(obtained(&credentials), "token");
    down.store(1, Ordering::SeqCst);
    world.hand.forward(3240);
    assert_eq!(obtained(&credentials), "token", "the fetch ahead fails, and the token lives on");
    stand_in.wait_for(4);
    world.hand.forward(360);
    let error = obtained(&credentials);
    assert!(error.contains("the OAuth provider") && error.contains("503 (temporarily_unavailable)"), "{error}");
    Ok(())
}

#[test]
fn many_that_ask_at_once_are_answered_by_one_fetch() -> Result<()> {
    let gate = Gate::default();
    let held = gate.clone();
    let stand_in = StandIn::start(move |_| {
        held.pass();
        json(r#"{"access_token":"token","expires_in":3600}"#)
    })?;
    let world = world()?;
    let credentials = world.open(oauth(&stand_in))?;
    let opened = thread::spawn(move || gate.open());
    let all = at_once(32, || obtained(&credentials));
    opened.join().unwrap();
    assert!(all.iter().all(|one| one == "token"), "{all:?}");
    assert_eq!(stand_in.log().len(), 1);
    Ok(())
}

#[test]
fn a_refused_token_is_renewed_once_however_many_saw_the_401() -> Result<()> {
    let (world, stand_in) = (world()?, counting()?);
    let credentials = world.open(oauth(&stand_in))?;
    let stale = obtain(&credentials)?;
    let renewed = || match block_on(credentials.renew(&name(), &stale.id)) {
        Ok(issued) => text(&issued).to_owned(),
        Err(error) => error.to_string(),
    };
    let all = at_once(32, renewed);
    assert!(all.iter().all(|one| one == "token-2"), "{all:?}");
    assert_eq!(renewed(), "token-2", "one that comes late");
    assert_eq!(stand_in.log().len(), 2);
    Ok(())
}

#[test]
fn a_server_that_refuses_everything_does_not_make_us_hammer_the_provider() -> Result<()> {
    let (world, stand_in) = (world()?, counting()?);
    let credentials = world.open(oauth(&stand_in))?;
    let mut newest = obtain(&credentials)?;
    // A 401 a second for an hour, as a hijacked agent could provoke them.
    for _ in 0..3600 {
        world.hand.forward(1);
        match block_on(credentials.renew(&name(), &newest.id)) {
            Ok(issued) => newest = issued,
            Err(ObtainError::RefusedAgain { .. }) => {}
            Err(other) => anyhow::bail!("{other}"),
        }
    }
    let asked = stand_in.lines().iter().filter(|line| line.ends_with("/token")).count();
    assert!((8..25).contains(&asked), "{asked} fetches in an hour");
    Ok(())
}

#[test]
fn a_provider_that_fails_is_left_alone_for_longer_and_longer() -> Result<()> {
    let stand_in = StandIn::start(|_| Reply::Body(401, r#"{"error":"invalid_client"}"#.to_owned()))?;
    let world = world()?;
    let credentials = world.open(oauth(&stand_in))?;
    for _ in 0..3600 {
        world.hand.forward(1);
        let error = obtained(&credentials);
        assert!(error.contains("answered 401 (invalid_client)"), "{error}");
    }
    let asked = stand_in.log().len();
    assert!((12..30).contains(&asked), "{asked} fetches in an hour");
    let resting = obtain(&credentials).unwrap_err();
    assert!(matches!(resting, ObtainError::Resting { .. }), "{resting}");
    assert_eq!(resting.for_sandbox(), "the credential `one` could not be obtained: the OAuth provider refuses");
    Ok(())
}

#[test]
fn a_provider_in_trouble_is_tried_three_times_and_not_more() -> Result<()> {
    for status in [429, 500, 503] {
        let stand_in = StandIn::start(move |_| Reply::Field(status, "Retry-After", "3600".to_owned(), String::new()))?;
        let world = world()?;
        let began = world.hand.now();
        let error = obtained(&world.open(oauth(&stand_in))?);
        assert!(error.contains(&format!("answered {status}")), "{error}");
        assert_eq!(stand_in.log().len(), 3);
        assert!(world.hand.now().duration_since(began)? <= Duration::from_secs(10), "its Retry-After is bounded");
    }
    for status in [400, 401, 403, 404] {
        let stand_in = StandIn::start(move |_| Reply::Body(status, String::new()))?;
        obtained(&world()?.open(oauth(&stand_in))?);
        assert_eq!(stand_in.log().len(), 1, "{status}");
    }
    Ok(())
}

#[test]
fn a_new_policy_keeps_what_it_does_not_change_and_revokes_what_is_gone() -> Result<()> {
    let (world, stand_in) = (world()?, counting()?);
    let credentials = world.open(oauth(&stand_in))?;
    assert_eq!(obtained(&credentials), "token-1");
    credentials.apply(&specs(oauth(&stand_in)))?;
    assert_eq!(obtained(&credentials), "token-1");
    let Source::Oauth(mut other) = oauth(&stand_in) else { anyhow::bail!("oauth") };
    other.scopes = vec!["read".to_owned()];
    credentials.apply(&specs(Source::Oauth(other.clone())))?;
    assert_eq!(obtained(&credentials), "token-2");
    let revoked = stand_in.wait_for(3).into_iter().find(|asked| asked.target == "/revoke").unwrap();
    assert_eq!(revoked.parameter("token").as_deref(), Some("token-1"));
    other.token_url = "http://example.com/token".to_owned();
    assert!(credentials.apply(&specs(Source::Oauth(other))).is_err());
    assert_eq!(obtained(&credentials), "token-2", "the last good one stays");
    credentials.apply(&BTreeMap::new())?;
    assert!(matches!(obtain(&credentials), Err(ObtainError::Unknown { .. })));
    Ok(())
}

#[test]
fn the_end_revokes_all_that_still_lives() -> Result<()> {
    let (world, stand_in) = (world()?, counting()?);
    let credentials = world.open(oauth(&stand_in))?;
    let first = obtain(&credentials)?;
    assert_eq!(block_on(credentials.renew(&name(), &first.id)).map(|issued| text(&issued).to_owned())?, "token-2");
    assert!(credentials.revoke_all(Duration::from_secs(60)).is_empty());
    let mut revoked: Vec<String> = stand_in
        .log()
        .iter()
        .filter(|asked| asked.target == "/revoke")
        .filter_map(|asked| asked.parameter("token"))
        .collect();
    revoked.sort();
    assert_eq!(revoked, ["token-1", "token-2"]);
    assert!(matches!(obtain(&credentials), Err(ObtainError::Ended { .. })));
    assert!(matches!(block_on(credentials.renew(&name(), &first.id)), Err(ObtainError::Ended { .. })));
    Ok(())
}

#[test]
fn the_end_waits_for_a_fetch_under_way_and_revokes_what_it_brings() -> Result<()> {
    let gate = Gate::default();
    let stand_in = late(&gate)?;
    let world = world()?;
    let credentials = world.open(oauth(&stand_in))?;
    thread::scope(|scope| {
        let asking = scope.spawn(|| obtain(&credentials));
        stand_in.wait_for(1);
        let ending = scope.spawn(|| credentials.revoke_all(Duration::from_secs(60)));
        while format!("{credentials:?}").contains("one") {
            thread::yield_now();
        }
        gate.open();
        let _ = asking.join().unwrap();
        assert!(ending.join().unwrap().is_empty());
    });
    let last = stand_in.log().pop().unwrap();
    assert_eq!((last.target.as_str(), last.parameter("token").as_deref()), ("/revoke", Some("late")));
    Ok(())
}

#[test]
fn who_waits_while_a_new_policy_changes_it_is_told_so() -> Result<()> {
    let gate = Gate::default();
    let stand_in = late(&gate)?;
    let world = world()?;
    let credentials = world.open(oauth(&stand_in))?;
    let Source::Oauth(mut other) = oauth(&stand_in) else { anyhow::bail!("oauth") };
    other.scopes = vec!["read".to_owned()];
    thread::scope(|scope| {
        let asking = scope.spawn(|| obtain(&credentials));
        stand_in.wait_for(1);
        credentials.apply(&specs(Source::Oauth(other)))?;
        gate.open();
        let error = asking.join().unwrap().unwrap_err();
        assert!(matches!(error, ObtainError::Changed { .. }), "{error}");
        assert!(!error.for_sandbox().contains("ending"), "{error}");
        Ok(())
    })
}

#[test]
fn a_token_that_is_over_when_it_comes_is_revoked_as_well() -> Result<()> {
    // A provider whose clock is behind, or ours ahead: the token may well live on there.
    let stand_in = StandIn::start(|asked| match asked.target.as_str() {
        "/token" => json(r#"{"access_token":"over","expires_in":0}"#),
        _ => json("{}"),
    })?;
    let world = world()?;
    let error = obtained(&world.open(oauth(&stand_in))?);
    assert!(error.contains("what it gave has ended already"), "{error}");
    let last = stand_in.wait_for(2).pop().unwrap();
    assert_eq!((last.target.as_str(), last.parameter("token").as_deref()), ("/revoke", Some("over")));
    Ok(())
}

#[test]
fn the_end_names_what_could_not_be_revoked() -> Result<()> {
    let stand_in = StandIn::start(|asked| match asked.target.as_str() {
        "/token" => json(r#"{"access_token":"canary-token","expires_in":3600}"#),
        _ => Reply::Body(400, r#"{"error":"unsupported_token_type","error_description":"canary-token?"}"#.to_owned()),
    })?;
    let world = world()?;
    let credentials = world.open(oauth(&stand_in))?;
    obtain(&credentials)?;
    let unrevoked = credentials.revoke_all(Duration::from_secs(60));
    let told: Vec<String> = unrevoked.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1);
    assert!(
        told[0].contains("credential `one` is not revoked") && told[0].contains("unsupported_token_type"),
        "{told:?}"
    );
    assert!(!told[0].contains("canary"), "{told:?}");
    Ok(())
}

#[test]
fn the_end_does_not_wait_for_a_provider_that_hangs() -> Result<()> {
    let stand_in = StandIn::start(|asked| match asked.target.as_str() {
        "/token" => json(r#"{"access_token":"token","expires_in":3600}"#),
        _ => Reply::Silence,
    })?;
    let world = world()?;
    let credentials = world.open(oauth(&stand_in))?;
    obtain(&credentials)?;
    let unrevoked = credentials.revoke_all(Duration::from_millis(300));
    assert_eq!(unrevoked.len(), 1, "{unrevoked:?}");
    Ok(())
}

#[test]
fn nothing_printed_holds_a_value() -> Result<()> {
    let (world, stand_in) = (world()?, counting()?);
    let credentials: Credentials = world.open(oauth(&stand_in))?;
    let issued = obtain(&credentials)?;
    let printed = format!("{credentials:?} {issued:?} {:?} {} {:?}", issued.id, issued.id, world.surroundings);
    assert!(!printed.contains("token-1") && !printed.contains("canary"), "{printed}");
    Ok(())
}
