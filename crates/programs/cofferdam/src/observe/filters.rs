//! Filter flags, in their order on the command line: `--not` takes away what the next one matches.

use anyhow::Result;
use audit_event::{Condition, Filter, Flag};
use clap::{Arg, ArgAction, ArgMatches, Command};
use jiff::Timestamp;

use crate::{
    completions,
    failure::{Failure, code},
};

/// Every filter: its flag, the name of its value, its help.
const FILTERS: [(&str, Flag, &str, &str); 15] = [
    ("verdict", Flag::Verdict, "VERDICT", "allowed, denied, asked, error, watched, would-deny …"),
    ("host", Flag::Host, "NAME", "The destination's name, with * for anything"),
    ("ip", Flag::Ip, "CIDR", "The destination's address or range"),
    ("port", Flag::Port, "PORT", "The port, or from-to"),
    ("protocol", Flag::Protocol, "NAME", "tcp, udp, icmp, dns, tls, http"),
    ("process", Flag::Process, "EXE", "The executable's path or file name, with *, or a process id"),
    ("rule", Flag::Rule, "NAME", "The rule that decided or would have, with *"),
    ("type", Flag::Type, "EVENT", "flow.decided, or flow for all of them"),
    ("http-method", Flag::HttpMethod, "METHOD", "The method of a request that was read: plain HTTP, or in opened TLS"),
    ("http-path", Flag::HttpPath, "REGEX", "Found in the path of such a request"),
    ("sandbox", Flag::Sandbox, "NAME", "The sandbox, with *"),
    ("thread", Flag::Thread, "NAME", "The agent's thread, with *"),
    ("tool-call", Flag::ToolCall, "NAME", "The tool call, with *"),
    ("since", Flag::Since, "TIME", "From then on: a time, or 90s, 15m, 2h, 3d ago"),
    ("until", Flag::Until, "TIME", "Up to then"),
];

/// What was given, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct FilterFlags {
    given: Vec<Given>,
    /// A `--not` stands before no filter.
    misplaced: bool,
}

#[derive(Debug, Clone)]
struct Given {
    name: &'static str,
    flag: Flag,
    value: String,
    negated: bool,
}

impl FilterFlags {
    /// The filter; times count back from `now`.
    pub(crate) fn filter(&self, now: Timestamp) -> Result<Filter> {
        if self.misplaced {
            return Err(Failure::new(code::USAGE, "--not stands before no filter")
                .hint("write it right before the filter that it negates: --not --protocol dns")
                .into());
        }
        let mut filter = Filter::default();
        for given in &self.given {
            let condition = Condition::parse(given.flag, &given.value, now)
                .map_err(|error| Failure::new(code::USAGE, format!("--{}: {error}", given.name)))?;
            filter.add(condition, given.negated);
        }
        Ok(filter)
    }
}

impl clap::FromArgMatches for FilterFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let mut found: Vec<(usize, Option<Given>)> = Vec::new();
        for (name, flag, _, _) in FILTERS {
            let values = matches.get_many::<String>(name).into_iter().flatten();
            let indices = matches.indices_of(name).into_iter().flatten();
            for (index, value) in indices.zip(values) {
                found.push((index, Some(Given { name, flag, value: value.clone(), negated: false })));
            }
        }
        found.extend(matches.indices_of("not").into_iter().flatten().map(|index| (index, None)));
        found.sort_by_key(|(index, _)| *index);
        let mut negated = false;
        for (_, given) in found {
            match given {
                None => self.misplaced |= std::mem::replace(&mut negated, true),
                Some(given) => self.given.push(Given { negated: std::mem::take(&mut negated), ..given }),
            }
        }
        self.misplaced |= negated;
        Ok(())
    }
}

impl clap::Args for FilterFlags {
    fn augment_args(command: Command) -> Command {
        let not = Arg::new("not")
            .long("not")
            .action(ArgAction::Append)
            .num_args(0)
            .default_missing_value("true")
            .help_heading("Filters")
            .help("Negates the next filter");
        FILTERS
            .into_iter()
            .fold(command, |command, (name, flag, value, help)| {
                let filter = Arg::new(name).long(name).value_name(value).action(ArgAction::Append);
                let filter = filter.add(completions::words(flag.words()));
                command.arg(filter.help_heading("Filters").help(help))
            })
            .arg(not)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
