//! Questions at a terminal: the program in a pseudo-terminal of the test, which types the answers.

mod support;

#[path = "support/screen.rs"]
mod screen;

use std::{process::Command, time::Duration};

use anyhow::Result;
use network_lab::{Lab, LabSpec};
use screen::Screen;
use support::World;

const POLICY: &str = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  # the person's own comment\n  rules:\n    - { name: ask-web, priority: 50, from: any, to: any, ports: [80], action: ask }\n";

fn start(lab: &Lab, world: &World, arguments: &[&str]) -> Result<Screen> {
    let inner = lab.host().command_in(&world.work(), env!("CARGO_BIN_EXE_cofferdam"));
    Screen::start(world, inner, arguments)
}

fn setting() -> Result<(Lab, World)> {
    let (lab, world) = (Lab::start(LabSpec::standard())?, World::new()?);
    world.write("policy.yaml", POLICY)?;
    Ok((lab, world))
}

#[test]
fn a_person_allows_once_then_for_the_run_and_denies() -> Result<()> {
    let (lab, world) = setting()?;
    let script = "for i in 1 2 3; do curl -s --max-time 60 http://allowed.test/bytes/1 >/dev/null && echo went-$i; done; \
                  curl -s --max-time 60 -o /dev/null -w 'answer-%{http_code}' http://second.test/; echo";
    let mut screen = start(&lab, &world, &["run", "--policy", "policy.yaml", "--", "sh", "-c", script])?;
    screen.wait_for("cofferdam asks: may this leave?")?;
    screen.wait_for("what  GET allowed.test:80")?;
    screen.wait_for("curl")?;
    screen.wait_for("rule ask-web")?;
    screen.wait_for("> ")?;
    screen.type_in("\n")?;
    screen.wait_for("o, r, a or d > ")?;
    screen.type_in("o\n")?;
    screen.wait_for("went-1")?;
    screen.wait_for("> ")?;
    screen.type_in("r\n")?;
    screen.wait_for("went-2")?;
    screen.wait_for("went-3")?;
    screen.wait_for("what  GET second.test:80")?;
    screen.wait_for("> ")?;
    screen.type_in("d\n")?;
    screen.wait_for("answer-403")?;
    assert_eq!(screen.end()?.0, Some(0));
    let answers = world.run(&["observe", "--type", "approval", "-o", "compact"])?.expect(0);
    let words: Vec<&str> = answers.out.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(words, ["once", "run", "denied"], "{}", answers.out);
    assert!(!lab.reached()?.iter().any(|one| one.holds("second.test/")));
    Ok(())
}

#[test]
fn always_writes_a_rule_and_the_next_run_does_not_ask() -> Result<()> {
    let (lab, world) = setting()?;
    let run = [
        "run",
        "--policy",
        "policy.yaml",
        "--",
        "sh",
        "-c",
        "curl -s --max-time 60 http://allowed.test/bytes/1 >/dev/null && echo went",
    ];
    let mut screen = start(&lab, &world, &run)?;
    screen.wait_for("[a] always: write a rule into policy.yaml")?;
    screen.wait_for("> ")?;
    screen.type_in("a\n")?;
    screen.wait_for("wrote a rule into policy.yaml")?;
    screen.wait_for("went")?;
    assert_eq!(screen.end()?.0, Some(0));
    let text = std::fs::read_to_string(world.work().join("policy.yaml"))?;
    assert!(text.contains("# the person's own comment") && text.contains("always-allowed.test"), "{text}");
    let mut screen = start(&lab, &world, &run)?;
    screen.wait_for("went")?;
    assert_eq!(screen.end()?.0, Some(0));
    Ok(())
}

#[test]
fn a_new_ask_file_begins_as_the_policy_and_is_the_next_run_s() -> Result<()> {
    let (lab, world) = setting()?;
    let script = "curl -s --max-time 60 http://allowed.test/bytes/1 >/dev/null && echo went";
    let command = ["--", "sh", "-c", script];
    let run = [["run", "--policy", "policy.yaml", "--ask-file", "asks.yaml"].as_slice(), &command].concat();
    let mut screen = start(&lab, &world, &run)?;
    screen.wait_for("--ask-file asks.yaml begins as a copy of policy.yaml")?;
    screen.wait_for("[a] always: write a rule into asks.yaml")?;
    screen.wait_for("> ")?;
    screen.type_in("a\n")?;
    screen.wait_for("wrote a rule into asks.yaml")?;
    screen.wait_for("went")?;
    assert_eq!(screen.end()?.0, Some(0));
    assert_eq!(std::fs::read_to_string(world.work().join("policy.yaml"))?, POLICY);
    let text = std::fs::read_to_string(world.work().join("asks.yaml"))?;
    assert!(text.starts_with(POLICY) && text.contains("always-allowed.test"), "{text}");
    let mut screen = start(&lab, &world, &[["run", "--policy", "asks.yaml"].as_slice(), &command].concat())?;
    screen.wait_for("went")?;
    assert_eq!(screen.end()?.0, Some(0));
    Ok(())
}

#[test]
fn a_copy_of_the_policy_that_would_miss_its_files_is_not_made() -> Result<()> {
    let (_lab, world) = setting()?;
    world.write("bad.txt", "bad.test\n")?;
    let group = "  groups:\n    bad: { feed: { path: bad.txt, format: hosts, refresh: 10m } }\n  rules:";
    world.write("policy.yaml", &POLICY.replace("  rules:", group))?;
    std::fs::create_dir(world.work().join("other"))?;
    let run = ["run", "--policy", "policy.yaml", "--ask-file", "other/asks.yaml", "--", "true"];
    let refused = world.run(&run)?.expect(125);
    assert!(
        refused.err.contains("--ask-file other/asks.yaml is not there, and a copy of policy.yaml"),
        "{}",
        refused.err
    );
    assert!(!world.work().join("other/asks.yaml").exists());
    Ok(())
}

#[test]
fn always_allows_the_request_that_was_asked_and_no_other() -> Result<()> {
    let (lab, world) = setting()?;
    let policy = POLICY.replace("action: ask", "action: ask, http: [{ methods: [POST, DELETE] }]");
    world.write("policy.yaml", &policy)?;
    let ask = |path: &str, answer: &str| -> Result<()> {
        let script = format!(
            "curl -s --max-time 60 -d x -o /dev/null -w 'post-%{{http_code}} ' http://allowed.test{path}; \
             curl -s --max-time 60 -X DELETE -o /dev/null -w 'delete-%{{http_code}}' http://allowed.test{path}"
        );
        let mut screen = start(&lab, &world, &["run", "--policy", "policy.yaml", "--", "sh", "-c", &script])?;
        if answer == "a" {
            screen.wait_for("what  POST allowed.test:80")?;
            screen.wait_for("\"methods\":[\"POST\"],\"paths\":[\"/api/x\"]")?;
            screen.wait_for("> ")?;
            screen.type_in("a\n")?;
            screen.wait_for("wrote a rule into policy.yaml")?;
        }
        if answer == "star" {
            screen.wait_for("no \"always\" here: a rule can't name this path exactly")?;
            screen.wait_for("> ")?;
            screen.type_in("a\n")?;
            screen.wait_for("o, r or d > ")?;
            screen.type_in("d\n")?;
            screen.wait_for("post-403")?;
        } else {
            screen.wait_for("post-200")?;
        }
        screen.wait_for("what  DELETE allowed.test:80")?;
        screen.wait_for("> ")?;
        screen.type_in("d\n")?;
        screen.wait_for("delete-403")?;
        assert_eq!(screen.end()?.0, Some(0));
        Ok(())
    };
    ask("/api/x", "a")?;
    ask("/api/x", "not asked about the POST")?;
    ask("/api/*", "star")
}

#[test]
fn always_writes_into_no_file_that_the_command_could_have_put_there() -> Result<()> {
    let (lab, world) = setting()?;
    let script = "curl -s --max-time 60 http://allowed.test/bytes/1 >/dev/null && echo went";
    let mut screen = start(&lab, &world, &["run", "--policy", "policy.yaml", "--", "sh", "-c", script])?;
    screen.wait_for("> ")?;
    // A rename on the host takes the read-only mount away.
    world.write("new.yaml", POLICY)?;
    std::fs::rename(world.work().join("new.yaml"), world.work().join("policy.yaml"))?;
    screen.type_in("a\n")?;
    screen.wait_for("allowed for this run only")?;
    screen.wait_for("went")?;
    assert_eq!(screen.end()?.0, Some(0));
    assert_eq!(std::fs::read_to_string(world.work().join("policy.yaml"))?, POLICY);
    Ok(())
}

#[test]
fn a_question_stands_on_a_screen_of_its_own() -> Result<()> {
    let (lab, world) = setting()?;
    let script = "printf '\\033[8m\\033[5;6r\\033]0;unfinished'; \
                  curl -s --max-time 60 -H 'x:                what  api.github.com:443' -o /dev/null -w 'answer-%{http_code}' http://allowed.test/";
    let mut screen = start(&lab, &world, &["run", "--policy", "policy.yaml", "--", "sh", "-c", script])?;
    screen.wait_for("\u{1b}[8m\u{1b}[5;6r")?;
    screen.wait_for("\u{18}")?;
    screen.wait_for("\u{1b}[?1049h\u{1b}[0m")?;
    screen.wait_for("\u{1b}[r")?;
    screen.wait_for("\u{1b}[2J\u{1b}[Hcofferdam asks: may this leave?")?;
    screen.wait_for("what  GET allowed.test:80")?;
    screen.wait_for("who   ")?;
    screen.wait_for("deny")?;
    // Typed ahead, for what stood there before.
    screen.type_in("o\n")?;
    screen.wait_for("> ")?;
    screen.type_in("d\n")?;
    screen.wait_for("\u{1b}[?1049l")?;
    screen.wait_for("answer-403")?;
    assert_eq!(screen.end()?.0, Some(0));
    assert!(!lab.reached()?.iter().any(|one| one.holds("allowed.test")));
    Ok(())
}

#[test]
fn an_answer_to_a_question_that_was_taken_back_allows_nothing() -> Result<()> {
    let (lab, world) = setting()?;
    let script = r#"
import os, socket, struct, time
def ask(host):
    one = socket.create_connection((host, 80))
    one.sendall(b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n")
    return one
first = ask("allowed.test")
while not os.path.exists("seen"):
    time.sleep(0.01)
first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
first.close()
print(ask("second.test").recv(100).split(b"\r\n")[0])
"#;
    world.write("ask.py", script)?;
    let mut screen = start(&lab, &world, &["run", "--policy", "policy.yaml", "--", "python3", "ask.py"])?;
    screen.wait_for("what  GET allowed.test:80")?;
    screen.wait_for("> ")?;
    world.write("seen", "")?;
    screen.wait_for("\u{1b}[?1049l")?;
    screen.wait_for("too late: the flow is gone")?;
    screen.wait_for("what  GET second.test:80")?;
    screen.wait_for("add its number: o ")?;
    screen.wait_for("\n")?;
    screen.wait_for("> ")?;
    screen.type_in("o\n")?;
    screen.wait_for("o, r or a with ")?;
    screen.wait_for("> ")?;
    screen.type_in("d\n")?;
    screen.wait_for("403")?;
    assert_eq!(screen.end()?.0, Some(0));
    Ok(())
}

#[test]
fn without_a_terminal_it_is_a_deny() -> Result<()> {
    let (lab, world) = setting()?;
    let mut command = Command::new("setsid");
    let inner = lab.host().command_in(&world.work(), env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("-w").arg(inner.get_program()).args(inner.get_args());
    command.args([
        "run",
        "--policy",
        "policy.yaml",
        "--",
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "http://allowed.test/",
    ]);
    world.settle(&mut command);
    let output = lab.host().run(command, Duration::from_secs(60))?;
    assert_eq!(output.stdout, "403", "{}", output.stderr);
    assert!(output.stderr.contains("nobody could be asked: run it at a terminal"), "{}", output.stderr);
    Ok(())
}

#[test]
fn an_interactive_command_has_a_terminal_of_its_own() -> Result<()> {
    let (lab, world) = setting()?;
    let mut screen = start(
        &lab,
        &world,
        &["run", "--", "sh", "-c", "stty size; test -t 0 -a -t 1 && tty; read line; echo got-$line"],
    )?;
    screen.wait_for("/dev/pts/0")?;
    screen.type_in("hello\n")?;
    screen.wait_for("got-hello")?;
    screen.wait_for("0 allowed, 0 denied")?;
    assert_eq!(screen.end()?.0, Some(0));
    Ok(())
}
