//! Terminals and redirections: what the workload gets in place of the caller's streams, at a terminal of the test.

mod support;

#[path = "support/screen.rs"]
mod screen;

use std::{path::Path, process::Command};

use anyhow::Result;
use network_lab::{Lab, LabSpec};
use screen::Screen;
use support::World;

const ASK: &str = "apiVersion: cofferdam/v1\nkind: EgressPolicy\nspec:\n  rules:\n    - { name: ask-web, priority: 50, from: any, to: any, ports: [80], action: ask }\n";

/// A line of a shell, with the program as `$C`.
fn shell(world: &World, line: &str) -> Result<Screen> {
    interactive(world, &["sh", "-c", line])
}

fn interactive(world: &World, command: &[&str]) -> Result<Screen> {
    let mut inner = Command::new("env");
    inner
        .current_dir(world.work())
        .env("C", env!("CARGO_BIN_EXE_cofferdam"))
        .env("TERM", "xterm")
        .env("PS1", "outside$ ");
    Screen::start(world, inner, command)
}

/// The same behind a network.
fn shell_in(lab: &Lab, world: &World, line: &str) -> Result<Screen> {
    let inner = lab.host().command_in(&world.work(), "env");
    Screen::start(world, inner, &[&format!("C={}", env!("CARGO_BIN_EXE_cofferdam")), "sh", "-c", line])
}

fn has(program: &str) -> bool {
    let found = Path::new("/usr/bin").join(program).exists();
    if !found {
        eprintln!("skipped: there is no {program} here");
    }
    found
}

#[test]
fn no_stream_of_the_workload_is_the_callers_terminal() -> Result<()> {
    for (line, expected) in [
        ("$C run -q -- sh -c \"$W\"", "0=/dev/pts/0 1=/dev/pts/0 2=/dev/pts/0"),
        ("echo x | $C run -q -- sh -c \"$W\"", "0=pipe 1=/dev/pts/0 2=/dev/pts/0"),
        ("$C run -q -- sh -c \"$W\" | cat", "0=/dev/pts/0 1=pipe 2=/dev/pts/0"),
        ("$C run -q -- sh -c \"$W\" > out 2>&1", "0=/dev/pts/0 1=pipe 2=pipe"),
        ("$C run -q -- sh -c \"$W\" 2> out", "0=/dev/pts/0 1=/dev/pts/0 2=pipe"),
        ("$C run -q -- sh -c \"$W\" < /dev/null > out", "0=/dev/null 1=pipe 2=/dev/pts/0"),
        ("$C run -q -- sh -c \"$W\" < /dev/null > out 2>&1", "0=/dev/null 1=pipe 2=pipe"),
    ] {
        let world = World::new()?;
        world.write(
            "which.py",
            "import os\nopen('which', 'w').write('\\n'.join(os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)))\n",
        )?;
        let line = line.replace("sh -c \"$W\"", "python3 which.py");
        let screen = shell(&world, &format!("{line}; echo code=$?; stty -a | grep -o -e '[ -]icanon' -e '[ -]echo '"))?;
        let (_, seen) = screen.end()?;
        let found = std::fs::read_to_string(world.work().join("which"))?;
        let found: Vec<String> = found
            .lines()
            .enumerate()
            .map(|(number, to)| format!("{number}={}", to.split(':').next().unwrap_or_default()))
            .collect();
        assert_eq!(found.join(" "), expected, "{line}: {seen}");
        assert!(seen.contains("code=0") && seen.contains(" icanon") && seen.contains(" echo"), "{line}: {seen}");
    }
    Ok(())
}

/// Reads every descriptor that could be a terminal, changes settings and paints, until a question was answered.
const THIEF: &str = r#"
import os, select, subprocess, sys, termios, time
subprocess.run(["stty", "-echo", "-icanon"], stdin=2)
asked = subprocess.Popen(["curl", "-s", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}", "http://allowed.test/"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
stolen = b""
watched = [fd for fd in (0, 1, 2) if os.isatty(fd)]
while asked.poll() is None:
    ready, _, _ = select.select(watched, [], [], 0.01)
    for fd in ready:
        stolen += os.read(fd, 100)
    for fd in (1, 2):
        try:
            select.select([], [fd], [], 0)[1] and os.write(fd, b"\x1b[H  what  api.github.com:443\r\n")
        except OSError:
            pass
    if len(stolen) > 1000: break
open("stolen", "wb").write(stolen)
open("answer", "wb").write(asked.stdout.read())
"#;

#[test]
fn a_question_is_not_read_or_painted_over_whatever_is_redirected() -> Result<()> {
    let lab = Lab::start(LabSpec::standard())?;
    for line in [
        "$C run -q --policy policy.yaml -- python3 thief.py",
        "echo prompt | $C run -q --policy policy.yaml -- python3 thief.py",
        "$C run -q --policy policy.yaml -- python3 thief.py | cat",
        "$C run -q --policy policy.yaml -- python3 thief.py 2>&1 | cat",
        "$C run -q --policy policy.yaml -- python3 thief.py 2>/dev/null",
    ] {
        let world = World::new()?;
        world.write("policy.yaml", ASK)?;
        world.write("thief.py", THIEF)?;
        let mut screen = shell_in(&lab, &world, line)?;
        screen.wait_for("cofferdam asks: may this leave?")?;
        screen.wait_for("what  GET allowed.test:80")?;
        // The question as it is when it takes an answer, with nothing behind it.
        screen.wait_for("[d] deny\r\n")?;
        screen.wait_for("> ")?;
        screen.type_in("what is this\n")?;
        screen.wait_for("what is this\r\no, r, a or d > ")?;
        screen.type_in("o\n")?;
        screen.wait_for("\u{1b}[?1049l")?;
        let (code, seen) = screen.end()?;
        assert_eq!(code, Some(0), "{line}: {seen}");
        let read = |name: &str| std::fs::read_to_string(world.work().join(name));
        assert_eq!(read("stolen")?, "", "{line}");
        assert_eq!(read("answer")?, "200", "{line}");
    }
    Ok(())
}

#[test]
fn pagers_and_editors_work_wherever_they_stand() -> Result<()> {
    if !has("less") || !has("vi") {
        return Ok(());
    }
    for line in [
        "seq 5000 | $C run -q -- less",
        "$C run -q -- seq 5000 | less",
        "seq 5000 >n; $C run -q -- less n",
        "$C run -q -- less n 2>e",
    ] {
        let world = World::new()?;
        world.write("n", &(1..=5000).map(|n| format!("{n}\n")).collect::<String>())?;
        let mut screen = shell(&world, &format!("{line}; echo code=$?; stty -a"))?;
        screen.wait_for("\n20\r")?;
        screen.type_in("G")?;
        screen.wait_for("5000")?;
        screen.type_in("/49..$\r")?;
        screen.type_in("q")?;
        screen.wait_for("code=0")?;
        let (_, seen) = screen.end()?;
        assert!(seen.contains(" icanon") && seen.contains(" echo "), "{line}: {seen}");
    }
    for line in ["$C run -q -- vi new.txt", "echo old | $C run -q -- vi - ", "$C run -q -- vi new.txt 2>e"] {
        let world = World::new()?;
        let mut screen = shell(&world, &format!("{line}; echo code=$?; stty -a"))?;
        screen.wait_for("\u{1b}[")?;
        screen.wait_for("~")?;
        screen.type_in("ihello ")?;
        screen.wait_for("hello")?;
        screen.type_in("\u{1b}")?;
        screen.type_in(":w! new.txt\r")?;
        screen.wait_for("written")?;
        screen.type_in(":q!\r")?;
        screen.wait_for("code=0")?;
        let (_, seen) = screen.end()?;
        assert!(seen.contains(" icanon") && seen.contains(" echo "), "{line}: {seen}");
        assert!(std::fs::read_to_string(world.work().join("new.txt"))?.contains("hello"), "{line}");
    }
    Ok(())
}

#[test]
fn a_line_reaches_the_workload_where_only_input_or_output_is_the_terminal() -> Result<()> {
    for (line, prompt) in [
        ("$C run -q -- sh -c 'printf ready; read answer; echo got-$answer' | tee log", "ready"),
        ("$C run -q -- sh -c 'printf ready >&2; read answer; echo got-$answer' > log; cat log", "ready"),
        ("echo x | $C run -q -- sh -c 'printf ready:; read answer </dev/tty; echo got-$answer'", "ready:"),
        // A password: not echoed.
        (
            "echo x | $C run -q -- sh -c 'stty -echo </dev/tty; printf ready:; read answer </dev/tty; stty echo </dev/tty; echo got-$answer'",
            "ready:",
        ),
    ] {
        let world = World::new()?;
        let mut screen = shell(&world, &format!("{line}; echo end"))?;
        screen.wait_for(prompt)?;
        screen.type_in("hello\n")?;
        screen.wait_for("got-hello")?;
        let (code, seen) = screen.end()?;
        assert_eq!((code, seen.as_str()), (Some(0), "\r\nend\r\n"), "{line}");
    }
    // The end of what is typed.
    let world = World::new()?;
    let mut screen = shell(&world, "$C run -q -- sh -c 'echo ready >&2; cat; echo over' | cat")?;
    screen.wait_for("ready")?;
    screen.type_in("one\n")?;
    screen.wait_for("one\r\none\r\n")?;
    screen.type_in("\u{4}")?;
    screen.wait_for("over")?;
    assert_eq!(screen.end()?.0, Some(0));
    Ok(())
}

#[test]
fn jobs_are_controlled_inside_and_outside() -> Result<()> {
    let world = World::new()?;
    let mut screen = interactive(&world, &["bash", "--norc", "--noprofile", "-i"])?;
    screen.wait_for("outside$ ")?;
    // In the background it is not stopped for what it does to its terminal.
    screen.type_in("$C run -q -- sh -c 'echo in-the-back; exit 3' & wait $!; echo cod''e=$?\n")?;
    screen.wait_for("in-the-back")?;
    screen.wait_for("code=3")?;
    screen.wait_for("outside$ ")?;
    // Brought to the front it takes keys.
    screen.type_in("$C run -q -- sh -c 'echo up; read a; echo got-$a' &\n")?;
    screen.wait_for("outside$ ")?;
    screen.type_in("fg\n")?;
    screen.wait_for("run -q -- sh")?;
    screen.type_in("hello\n")?;
    screen.wait_for("got-hello")?;
    screen.wait_for("outside$ ")?;
    // An interrupt ends a pipeline.
    screen.type_in("$C run -q -- sh -c 'trap \"echo caught; exit 4\" INT; echo on; while :; do sleep 0.1; done' | (trap '' INT; exec cat); echo cod''e=${PIPESTATUS[0]}\n")?;
    screen.wait_for("on\r\n")?;
    screen.type_in("\u{3}")?;
    screen.wait_for("code=4")?;
    screen.wait_for("outside$ ")?;
    // A shell inside stops and continues its own jobs.
    screen.type_in("$C run -q --env PS1='inside# ' -- bash --norc --noprofile -i\n")?;
    screen.wait_for("inside# ")?;
    screen.type_in("sh -c 'echo sle''eping; exec sleep 1000'\n")?;
    screen.wait_for("sleeping")?;
    screen.type_in("\u{1a}")?;
    screen.wait_for("Stopped")?;
    screen.type_in("jobs; kill %1; fg; echo cod''e=$?\n")?;
    screen.wait_for("code=143")?;
    screen.wait_for("inside# ")?;
    screen.type_in("exit 5\n")?;
    screen.wait_for("outside$ ")?;
    screen.type_in("echo cod''e=$?; exit\n")?;
    screen.wait_for("code=5")?;
    assert_eq!(screen.end()?.0, Some(0));
    Ok(())
}

#[test]
fn output_in_a_file_is_added_and_never_cut() -> Result<()> {
    let script = "echo out; echo err >&2; : > /dev/stdout; : > /proc/self/fd/2; \
                  python3 -c 'import os\nfor fd in (1, 2):\n  for change in (lambda: os.ftruncate(fd, 0), lambda: os.pwrite(fd, b\"X\", 0), lambda: os.lseek(fd, 0, 0)):\n    try: change()\n    except OSError: pass'; echo more";
    for redirect in [">>log 2>&1", ">>log 2>>log", "2>>log >>log"] {
        let world = World::new()?;
        world.write("log", "before\n")?;
        world.write("script", script)?;
        let screen = shell(&world, &format!("$C run -- sh script {redirect} < /dev/null; echo code=$?"))?;
        let (_, seen) = screen.end()?;
        assert!(seen.contains("code=0"), "{seen}");
        let log = std::fs::read_to_string(world.work().join("log"))?;
        assert!(log.starts_with("before\n") && log.ends_with("0 allowed, 0 denied\n"), "{redirect}: {log}");
        assert!(log.contains("out\n") && log.contains("err\n") && log.contains("more\n"), "{redirect}: {log}");
    }
    Ok(())
}

#[test]
fn what_is_copied_is_whole_and_ends_with_its_reader() -> Result<()> {
    let world = World::new()?;
    let line = "$C run -q -- head -c 3000000 /dev/zero > zeros; wc -c < zeros; \
                $C run -q -- head -c 3000000 /dev/zero | wc -c; \
                $C run -q -- yes | head -n 1; \
                $C run -q -- sh -c 'for i in 1 2 3; do echo o$i; echo e$i >&2; done' > order 2>&1; tr '\\n' ' ' < order; \
                $C run -q -- sh -c 'seq 100000' > /dev/full; echo full=$?";
    let (_, seen) = shell(&world, line)?.end()?;
    assert_eq!(seen.matches("3000000").count(), 2, "{seen}");
    assert!(seen.contains("\r\ny\r\n") && seen.contains("o1 e1 o2 e2 o3 e3"), "{seen}");
    assert!(!seen.contains("full=0"), "{seen}");
    Ok(())
}

#[test]
fn a_forged_record_does_not_act_on_the_terminal() -> Result<()> {
    let world = World::new()?;
    world.run(&["run", "-q", "--", "true"])?.expect(0);
    let record = world.run(&["observe", "-o", "jsonl"])?.expect(0).out;
    let forged = record.replace("\"true\"", "\"\u{9b}2J\u{202e}eslaf\u{7f}\"");
    assert_ne!(forged, record);
    world.write("forged.jsonl", &forged)?;
    for form in ["jsonl", "json", "compact", "table"] {
        let shown = shell(&world, &format!("stty -echo; $C observe --input-file forged.jsonl -o {form}"))?.end()?.1;
        let acts = |one: char| (one.is_control() && !"\r\n\u{1b}".contains(one)) || one == '\u{202e}';
        assert!(shown.contains("eslaf") && !shown.contains(acts), "{shown:?}");
        if form == "jsonl" {
            assert!(shown.contains("\\u009b2J\\u202eeslaf\\u007f"), "{shown}");
        }
    }
    // A program gets it as it was recorded.
    assert_eq!(world.run(&["observe", "--input-file", "forged.jsonl", "-o", "jsonl"])?.expect(0).out, forged);
    Ok(())
}

#[test]
fn what_acts_on_the_terminal_is_not_passed_unless_asked_for() -> Result<()> {
    let world = World::new()?;
    world.write(
        "say",
        "\u{1b}[1mbold\u{1b}[0m\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}[21t\u{1b}]0;title\u{7}\u{1b}P$qm\u{1b}\\end\n",
    )?;
    for line in ["$C run -q -- cat say", "echo | $C run -q -- cat say"] {
        assert_eq!(shell(&world, line)?.end()?.1, "\u{1b}[1mbold\u{1b}[0m\u{1b}]0;title\u{7}end\r\n", "{line}");
    }
    let (_, all) = shell(&world, "$C run -q --unfiltered-terminal -- cat say")?.end()?;
    assert!(all.contains("\u{1b}]52;c;") && all.contains("\u{1b}[21t") && all.contains("\u{1b}P$q"), "{all:?}");
    let (_, file) = shell(&world, "$C run -q -- cat say > copy; cmp say copy && echo same")?.end()?;
    assert_eq!(file, "same\r\n");
    Ok(())
}
