//! `doctor`: what this machine can enforce, where each setting came from, and what to do about what is missing.

use std::process::ExitCode;

use anyhow::Result;
use certificates::UpstreamRoots;
use clap::Args;
use sandbox::{Capabilities, Capability, State, probe};
use serde_json::{Value, json};

use crate::{
    config::Config,
    failure::code,
    output::{Colour, Style, print, print_json, table},
};

/// `doctor`
#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  cofferdam doctor\n  cofferdam doctor --json | jq '.capabilities[] | select(.state == \"fails\")'\n"
)]
pub(crate) struct Arguments {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let config = Config::load()?;
    let mut capabilities = probe();
    capabilities.found.push(tls_inspection());
    if arguments.json {
        print_json(&as_json(&config, &capabilities))?;
    } else {
        print(&for_people(&config, &capabilities))?;
    }
    Ok(if capabilities.can_run() { ExitCode::SUCCESS } else { ExitCode::from(code::FAILED) })
}

/// Whether TLS can be opened: that takes somebody by whom servers are trusted.
fn tls_inspection() -> Capability {
    let (state, reason, remedy) = match UpstreamRoots::system() {
        Ok(roots) => {
            let count = roots.certificates().len();
            (State::Works, format!("servers are verified by the {count} authorities that this machine trusts"), None)
        }
        Err(_) => (
            State::Missing,
            "this machine trusts no certificate authority; a policy that looks inside TLS is refused".to_owned(),
            Some("install the package ca-certificates, or name a bundle with SSL_CERT_FILE".to_owned()),
        ),
    };
    Capability { name: "TLS inspection", state, reason, remedy }
}

fn word(state: &State) -> (&'static str, Colour) {
    match state {
        State::Works => ("works", Colour::Green),
        State::Partly => ("partly", Colour::Yellow),
        State::Missing => ("missing", Colour::Yellow),
        State::Fails => ("fails", Colour::Red),
        State::NotUsed => ("not used", Colour::Dim),
    }
}

fn for_people(config: &Config, capabilities: &Capabilities) -> String {
    let style = Style::of_stdout();
    let width = capabilities.found.iter().map(|found| found.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for found in &capabilities.found {
        let (state, colour) = word(&found.state);
        let padded = style.paint(&format!("{state:<8}"), colour);
        text.push_str(&format!("{:<width$}  {padded}  {}\n", found.name, found.reason));
        if let Some(remedy) = &found.remedy {
            text.push_str(&format!("    {} {remedy}\n", style.paint("→", Colour::Cyan)));
        }
    }
    let rows = config.rows().into_iter().map(Vec::from);
    text.push_str(&format!("\n{}\n", table(&["SETTING", "VALUE", "FROM"], rows)));
    text.push_str(match capabilities.can_run() {
        true => "Programs can be contained here.\n",
        false => "Programs can't be contained here: what fails above says why and what to do.\n",
    });
    text
}

fn as_json(config: &Config, capabilities: &Capabilities) -> Value {
    let found: Vec<Value> = capabilities
        .found
        .iter()
        .map(|found| json!({"name": found.name, "state": word(&found.state).0, "reason": found.reason, "remedy": found.remedy}))
        .collect();
    let settings: Vec<Value> = config
        .rows()
        .into_iter()
        .map(|[name, value, from]| json!({"name": name, "value": value, "from": from}))
        .collect();
    json!({"can_run": capabilities.can_run(), "capabilities": found, "settings": settings})
}
