//! What people read about a run: its last line, its hints, what `observe` says.

#[path = "support/fixture.rs"]
mod fixture;
mod support;

use anyhow::Result;
use fixture::Fixture;
use network_lab::{DnsAnswer, DnsName, Place};

#[test]
fn a_name_that_upstream_can_not_resolve_is_no_success() -> Result<()> {
    let fixture = Fixture::new()?;
    for (name, answer) in [
        ("broken.test", DnsAnswer::Code(2)),
        ("refusing.test", DnsAnswer::Code(5)),
        ("silent.test", DnsAnswer::Silence),
        ("empty.test", DnsAnswer::Records(Vec::new())),
    ] {
        fixture.lab.script_name(Place::Internet, name, DnsName::answers(vec![answer]))?;
    }
    let script =
        "for name in gone broken refusing silent empty allowed; do getent ahosts $name.test >/dev/null; done; true";
    fixture.world.write("look-up.sh", script)?;
    let output = fixture.run(&["run", "--mode", "unrestricted", "--", "sh", "look-up.sh"])?;
    let said = "0 allowed, 0 denied; could not be resolved upstream: broken.test (SERVFAIL), empty.test (no address), \
                gone.test (NXDOMAIN), refusing.test (REFUSED), silent.test (timeout)\n";
    assert!(output.stderr.contains(said), "{}", output.stderr);
    assert!(output.stderr.contains("--type dns"), "{}", output.stderr);
    let seen = fixture.world.run(&["observe", "--type", "dns", "--host", "gone.test"])?.expect(0).out;
    assert!(seen.contains(" gone.test is asked upstream "), "{seen}");
    assert!(seen.contains(" gone.test does not exist, as upstream says (NXDOMAIN) "), "{seen}");
    let failed = fixture.world.run(&["observe", "--verdict", "error", "--host", "broken.test"])?.expect(0).out;
    assert!(failed.contains("could not be resolved upstream (SERVFAIL)"), "{failed}");
    Ok(())
}

#[test]
fn what_a_guard_denied_is_explained_and_not_offered() -> Result<()> {
    let fixture = Fixture::new()?;
    let curl = |url: &str| fixture.run(&["run", "--", "curl", "-s", "--max-time", "20", url]);
    let metadata = curl("http://169.254.169.254/")?.stderr;
    assert!(metadata.contains("guard:metadata guards a cloud's metadata service, which hands"), "{metadata}");
    assert!(!metadata.contains("no policy was given") && !metadata.contains("policy learn"), "{metadata}");
    let private = curl("http://10.0.0.8:5432/")?.stderr;
    assert!(private.contains("--allow 10.0.0.8:5432\n"), "{private}");
    let port = network_lab::addresses::HOST_SERVICE_PORT;
    let url = format!("http://host.cofferdam.internal:{port}/");
    let host = |allowed: &str| fixture.run(&["run", "--allow", allowed, "--", "curl", "-s", "--max-time", "20", &url]);
    let loopback = host("host.cofferdam.internal")?.stderr;
    assert!(loopback.contains("guard:loopback guards this machine's own services"), "{loopback}");
    // The flag that it names does what it says.
    let opened = host(&format!("host.cofferdam.internal:{port}@127.0.0.1/32"))?;
    assert!(opened.stdout.contains("GET host.cofferdam.internal"), "{}\n{}", opened.stdout, opened.stderr);
    Ok(())
}
