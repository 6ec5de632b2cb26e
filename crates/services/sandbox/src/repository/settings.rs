//! A repository's settings (git-config(1)) as git reads them, and which of them can't make git run anything.
//!
//! Whatever is not known to be harmless counts as harmful, and so does text that git might read otherwise than this.

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Setting {
    /// Lower case: git does not tell cases apart here.
    pub(crate) section: String,
    pub(crate) subsection: Option<String>,
    /// Lower case.
    pub(crate) key: String,
    /// Nothing stands for "true".
    pub(crate) value: Option<String>,
}

/// A file of settings.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) all: Vec<Setting>,
    /// The rest of the text can't be read.
    pub(crate) broken: bool,
}

/// What a setting must have as value to be harmless.
#[derive(Debug, Clone, Copy)]
enum Value {
    Any,
    /// A place to fetch from: no helper program is named.
    Address,
    /// On or off.
    Switch,
    /// A path that stays in a folder of the workload's.
    Inside,
    Exactly(&'static str),
}

/// Section, whether it has a subsection, key, value. What makes a repository a partial clone is not here: git fetches
/// what such a one lacks by itself, at `git status` too, as the person.
const HARMLESS: [(&str, bool, &str, Value); 59] = [
    ("core", false, "repositoryformatversion", Value::Any),
    ("core", false, "filemode", Value::Any),
    ("core", false, "bare", Value::Any),
    ("core", false, "logallrefupdates", Value::Any),
    ("core", false, "ignorecase", Value::Any),
    ("core", false, "precomposeunicode", Value::Any),
    ("core", false, "symlinks", Value::Any),
    ("core", false, "autocrlf", Value::Any),
    ("core", false, "eol", Value::Any),
    ("core", false, "safecrlf", Value::Any),
    ("core", false, "quotepath", Value::Any),
    ("core", false, "abbrev", Value::Any),
    ("core", false, "longpaths", Value::Any),
    ("core", false, "sparsecheckout", Value::Any),
    ("core", false, "sparsecheckoutcone", Value::Any),
    ("core", false, "untrackedcache", Value::Any),
    ("core", false, "commitgraph", Value::Any),
    ("core", false, "multipackindex", Value::Any),
    ("core", false, "fsmonitor", Value::Switch),
    ("core", false, "worktree", Value::Inside),
    ("extensions", false, "objectformat", Value::Any),
    ("extensions", false, "compatobjectformat", Value::Any),
    ("extensions", false, "refstorage", Value::Any),
    ("extensions", false, "worktreeconfig", Value::Any),
    ("extensions", false, "relativeworktrees", Value::Any),
    ("extensions", false, "noop", Value::Any),
    ("remote", true, "url", Value::Address),
    ("remote", true, "pushurl", Value::Address),
    ("remote", true, "fetch", Value::Any),
    ("remote", true, "push", Value::Any),
    ("remote", true, "prune", Value::Any),
    ("remote", true, "tagopt", Value::Any),
    ("remote", true, "mirror", Value::Any),
    ("remote", true, "gh-resolved", Value::Any),
    ("branch", true, "remote", Value::Address),
    ("branch", true, "merge", Value::Any),
    ("branch", true, "rebase", Value::Any),
    ("branch", true, "pushremote", Value::Address),
    ("branch", true, "description", Value::Any),
    ("branch", true, "vscode-merge-base", Value::Any),
    ("branch", true, "gh-merge-base", Value::Any),
    ("submodule", false, "active", Value::Any),
    ("submodule", false, "recurse", Value::Any),
    ("submodule", true, "url", Value::Address),
    ("submodule", true, "active", Value::Any),
    ("submodule", true, "branch", Value::Any),
    ("user", false, "name", Value::Any),
    ("user", false, "email", Value::Any),
    ("init", false, "defaultbranch", Value::Any),
    ("pull", false, "rebase", Value::Any),
    ("pull", false, "ff", Value::Any),
    ("push", false, "default", Value::Any),
    ("push", false, "autosetupremote", Value::Any),
    ("lfs", false, "repositoryformatversion", Value::Any),
    ("lfs", true, "access", Value::Any),
    ("filter", true, "clean", Value::Exactly("git-lfs clean -- %f")),
    ("filter", true, "smudge", Value::Exactly("git-lfs smudge -- %f")),
    ("filter", true, "process", Value::Exactly("git-lfs filter-process")),
    ("filter", true, "required", Value::Switch),
];
/// Keys of sections without subsections that are harmless with any value. No section is as a whole: `gc` has a key that
/// names a program (`recentObjectsHook`).
#[rustfmt::skip]
const HARMLESS_KEYS: [(&str, &[&str]); 4] = [
    ("advice", &[
        "addembeddedrepo", "addemptypathspec", "addignoredfile", "ambiguousfetchrefspec", "amworkdir",
        "checkoutambiguousremotebranchname", "commitbeforemerge", "detachedhead", "diverging",
        "fetchshowforcedupdates", "forcedeletebranch", "graftfiledeprecated", "ignoredhook", "implicitidentity",
        "mergeconflict", "nestedtag", "objectnamewarning", "pushalreadyexists", "pushfetchfirst", "pushneedsforce",
        "pushnonfastforward", "pushnonffcurrent", "pushnonffmatching", "pushrefneedsupdate", "pushunqualifiedrefname",
        "pushupdaterejected", "rebasetodoerror", "refsyntax", "resetnorefresh", "resolveconflict", "rmhints",
        "sequencerinuse", "setupstreamfailure", "skippedcherrypicks", "sparseindexexpanded",
        "statusaheadbehindwarning", "statushints", "statusuoption", "submodulealternateerrorstrategydie",
        "submodulemergeconflict", "submodulesnotupdated", "suggestdetachinghead", "updatesparsepath",
        "waitingforeditor", "worktreeaddorphan",
    ]),
    ("color", &[
        "advice", "blame", "branch", "decorate", "diff", "grep", "interactive", "pager", "push", "remote",
        "showbranch", "status", "transport", "ui",
    ]),
    ("column", &["branch", "clean", "status", "tag", "ui"]),
    ("gc", &[
        "aggressivedepth", "aggressivewindow", "auto", "autodetach", "autopacklimit", "logexpiry", "packrefs",
        "pruneexpire", "reflogexpire", "reflogexpireunreachable", "worktreepruneexpire", "writecommitgraph",
    ]),
];

/// Longer names of sections and subsections are not read: every setting has a copy of them.
const LONGEST_NAME: usize = 1_024;
/// Of a file with more settings, none is read.
const MOST_SETTINGS: usize = 10_000;

impl Settings {
    /// Reads a file.
    pub(crate) fn parse(text: &[u8]) -> Settings {
        let mut settings = Settings::default();
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let Ok(text) = std::str::from_utf8(text) else {
            return Settings { all: Vec::new(), broken: true };
        };
        settings.broken = settings.read(text).is_none();
        if settings.all.len() > MOST_SETTINGS {
            return Settings { all: Vec::new(), broken: true };
        }
        settings
    }

    fn read(&mut self, text: &str) -> Option<()> {
        // A carriage return counts only before a line's end, where git drops it.
        let text = text.replace("\r\n", "\n");
        if text.contains(['\r', '\0']) {
            return None;
        }
        let mut rest = text.as_str();
        let mut section: Option<(String, Option<String>)> = None;
        loop {
            rest = rest.trim_start_matches([' ', '\t', '\n']);
            let Some(first) = rest.chars().next() else { return Some(()) };
            match first {
                '#' | ';' => rest = rest.split_once('\n').map_or("", |(_, behind)| behind),
                '[' => {
                    let (name, behind) = header(rest.get(1..)?)?;
                    if name.0.len() > LONGEST_NAME || name.1.as_ref().is_some_and(|name| name.len() > LONGEST_NAME) {
                        return None;
                    }
                    section = Some(name);
                    rest = behind;
                }
                _ => {
                    let (section, subsection) = section.clone()?;
                    let (key, behind) = name(rest)?;
                    let (value, behind) = value(behind)?;
                    self.all.push(Setting { section, subsection, key, value });
                    rest = behind;
                    if self.all.len() > MOST_SETTINGS {
                        return None;
                    }
                }
            }
        }
    }

    /// The settings that git may run something by, in words. `inside` says whether a path stays where it may lead.
    pub(crate) fn harmful(&self, inside: &dyn Fn(&str) -> bool) -> Vec<Setting> {
        self.all.iter().filter(|setting| !setting.is_harmless(inside)).cloned().collect()
    }
}

impl Setting {
    fn is_harmless(&self, inside: &dyn Fn(&str) -> bool) -> bool {
        let listed = |(section, keys): &(&str, &[&str])| *section == self.section && keys.contains(&self.key.as_str());
        if self.subsection.is_none() && HARMLESS_KEYS.iter().any(listed) {
            return true;
        }
        let known = HARMLESS.iter().find(|(section, has_subsection, key, _)| {
            *section == self.section && *has_subsection == self.subsection.is_some() && *key == self.key
        });
        let value = self.value.as_deref().unwrap_or("true");
        match known.map(|(.., kind)| kind) {
            None => false,
            Some(Value::Any) => true,
            Some(Value::Address) => !value.contains("::") && !value.starts_with('-'),
            Some(Value::Switch) => matches!(value, "true" | "false" | "yes" | "no" | "on" | "off" | "1" | "0"),
            Some(Value::Inside) => inside(value),
            Some(Value::Exactly(expected)) => value == *expected,
        }
    }

    /// Its name, as people write it, safe to print.
    pub(crate) fn name(&self) -> String {
        let subsection = self.subsection.as_ref().map(|subsection| format!(".{}", subsection.escape_debug()));
        format!("{}{}.{}", self.section, subsection.unwrap_or_default(), self.key)
    }
}

/// Settings as a file.
pub(crate) fn write(settings: &[Setting]) -> String {
    let mut text = String::new();
    let mut last = None;
    for setting in settings {
        let section = (&setting.section, &setting.subsection);
        if last != Some(section) {
            match &setting.subsection {
                Some(subsection) => text.push_str(&format!("[{} \"{}\"]\n", setting.section, escape(subsection))),
                None => text.push_str(&format!("[{}]\n", setting.section)),
            }
            last = Some(section);
        }
        match &setting.value {
            Some(value) => {
                let value = escape(value).replace('\n', "\\n").replace('\t', "\\t").replace('\u{8}', "\\b");
                text.push_str(&format!("\t{} = \"{value}\"\n", setting.key));
            }
            None => text.push_str(&format!("\t{}\n", setting.key)),
        }
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

type Header = (String, Option<String>);

/// `section]`, `section.subsection]` or `section "subsection"]`.
fn header(text: &str) -> Option<(Header, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.')))?;
    let (section, rest) = text.split_at_checked(end)?;
    let section = section.to_ascii_lowercase();
    if section.is_empty() {
        return None;
    }
    if let Some(behind) = rest.strip_prefix(']') {
        return Some(match section.split_once('.') {
            Some((section, subsection)) => ((section.to_owned(), Some(subsection.to_owned())), behind),
            None => ((section, None), behind),
        });
    }
    let quoted = rest.trim_start_matches([' ', '\t']).strip_prefix('"')?;
    let mut subsection = String::new();
    let mut letters = quoted.char_indices();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '"' => {
                let behind = quoted.get(place + 1..)?.strip_prefix(']')?;
                // A dot would be read as another boundary.
                return (!section.contains('.')).then_some(((section, Some(subsection)), behind));
            }
            '\\' => subsection.push(letters.next().map(|(_, letter)| letter).filter(|letter| *letter != '\n')?),
            '\n' => return None,
            letter => subsection.push(letter),
        }
    }
    None
}

fn name(text: &str) -> Option<(String, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    name.starts_with(|c: char| c.is_ascii_alphabetic()).then(|| (name.to_ascii_lowercase(), rest))
}

/// What stands behind a key, to the end of its line, which a backslash moves to the next.
fn value(text: &str) -> Option<(Option<String>, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    let Some(text) = text.strip_prefix('=') else {
        let rest = text.split_once('\n').map_or("", |(_, behind)| behind);
        let line = text.get(..text.len() - rest.len())?.trim_end_matches('\n');
        return line.is_empty().then_some((None, rest));
    };
    let (mut value, mut quoted) = (String::new(), false);
    // How much of the value is more than spaces at its end.
    let mut length = 0;
    let mut letters = text.char_indices();
    let mut rest = "";
    while let Some((place, letter)) = letters.next() {
        match letter {
            '\n' if quoted => return None,
            '\n' => {
                rest = text.get(place + 1..)?;
                break;
            }
            '#' | ';' if !quoted => {
                rest = text.get(place..)?.split_once('\n').map_or("", |(_, behind)| behind);
                break;
            }
            '"' => {
                quoted = !quoted;
                length = value.len();
            }
            '\\' => {
                match letters.next()?.1 {
                    '\n' => continue,
                    'n' => value.push('\n'),
                    't' => value.push('\t'),
                    'b' => value.push('\u{8}'),
                    letter @ ('"' | '\\') => value.push(letter),
                    _ => return None,
                }
                length = value.len();
            }
            ' ' | '\t' if !quoted => {
                if !value.is_empty() {
                    value.push(letter);
                }
            }
            letter => {
                value.push(letter);
                length = value.len();
            }
        }
    }
    if quoted {
        return None;
    }
    value.truncate(length);
    Some((Some(value), rest))
}

#[cfg(test)]
#[path = "settings/tests.rs"]
mod tests;
