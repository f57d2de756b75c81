//! The worked example of docs/integration.md, run as it stands there: real bash, psql, curl and valkey-cli against a server,
//! a Postgres and a Valkey of its own. What the commands print is compared with the document, times and versions apart.
//! `UPDATE_DOCS=1` writes what they print into the document.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use serde_json::Value;

use crate::{
    gateway::frames::shape,
    support::{
        PATIENCE, postgres,
        valkey::{Server as Valkey, free_port},
        world::SECRET,
    },
};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/integration.md");
const CHAPTER: &str = "## A worked example";
const FENCE: &str = "```";
/// Follows the output of each command.
const END: &str = "-- end of the output --";

/// A piece of the chapter.
#[derive(Debug, PartialEq)]
enum Piece {
    /// A line of the document that is no part of a command.
    Text(String),
    /// A command as it stands there (`$ `, and `> ` before its further lines), and what it prints.
    Command { script: String, prints: Vec<String> },
}

fn pieces(chapter: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut runs = false;
    for line in chapter.lines() {
        if line.starts_with(FENCE) {
            runs = line == "```console";
            pieces.push(Piece::Text(line.to_owned()));
        } else if let (true, Some(command)) = (runs, line.strip_prefix("$ ")) {
            pieces.push(Piece::Command { script: command.to_owned(), prints: Vec::new() });
        } else {
            match (runs, pieces.last_mut()) {
                (true, Some(Piece::Command { script, prints })) => match line.strip_prefix("> ") {
                    Some(more) if prints.is_empty() => {
                        script.push('\n');
                        script.push_str(more);
                    }
                    _ => prints.push(line.to_owned()),
                },
                _ => pieces.push(Piece::Text(line.to_owned())),
            }
        }
    }
    pieces
}

fn written(pieces: &[Piece]) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(line) => text.push_str(line),
            Piece::Command { script, prints } => {
                text.push_str("$ ");
                text.push_str(&script.replace('\n', "\n> "));
                for line in prints {
                    text.push('\n');
                    text.push_str(line);
                }
            }
        }
        text.push('\n');
    }
    text
}

/// One that changes nothing may be asked again, until what was written before it has arrived.
fn asks(script: &str) -> bool {
    let changes = ["-X POST", "UPDATE", "INSERT", "<<"];
    ["curl -s", "valkey-cli", "psql"].iter().any(|program| script.starts_with(program))
        && !changes.iter().any(|word| script.contains(word))
}

/// What is the same in every run.
fn lasting(prints: &[String]) -> Vec<Value> {
    prints
        .iter()
        .map(|line| match serde_json::from_str::<Value>(line) {
            Ok(json @ Value::Object(_)) => shape("", &json),
            _ => Value::String(line.trim_end().to_owned()),
        })
        .collect()
}

/// A shell that lives through the whole chapter, with the server that was started in it.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    fn new(folder: &Path, database_url: &str, valkey_url: &str) -> Self {
        let binaries = Path::new(env!("CARGO_BIN_EXE_hadir")).parent().expect("a folder").to_owned();
        let paths = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<PathBuf>>();
        let path = env::join_paths([vec![binaries], paths].concat()).expect("a path");
        let address = || format!("127.0.0.1:{}", free_port());
        let mut child = Command::new("bash")
            .args(["--norc", "--noprofile"])
            .current_dir(folder)
            .env_clear()
            .env("PATH", path)
            .env("HOME", folder)
            .env("DATABASE_URL", database_url)
            .env("VALKEY_URL", valkey_url)
            .env("AUTH_JWT_SECRET", SECRET)
            .env("HADIR_PUBLIC_ADDR", address())
            .env("HADIR_INTERNAL_ADDR", address())
            .env("HADIR_LOG", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("bash is installed");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut shell = Self { child, input, output: BufReader::new(output) };
        // What was started in it ends with it, by its id; and a command that hangs ends the test.
        shell.run("exec 2>&1; trap 'kill $(jobs -p)' EXIT");
        shell
    }

    fn run(&mut self, script: &str) -> Vec<String> {
        write!(self.input, "{script}\nprintf '%s\\n' '{END}'\n").expect("taken");
        self.input.flush().expect("taken");
        let mut prints = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).expect("text") > 0, "the shell ended at {script}");
            // An answer of curl ends without a newline.
            match line.trim_end_matches('\n').strip_suffix(END) {
                Some("") => return prints,
                Some(rest) => {
                    prints.push(rest.to_owned());
                    return prints;
                }
                None => prints.push(line.trim_end().to_owned()),
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _told = self.input.write_all(b"exit\n").and_then(|()| self.input.flush());
        let _ended = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worked_example_does_what_the_document_says() {
    let document = std::fs::read_to_string(DOCUMENT).expect("the document");
    let at = document.find(CHAPTER).expect("the chapter");
    let mut chapter = pieces(&document[at..]);
    assert_eq!(written(&chapter), document[at..], "what is read is what is there");
    let (postgres, valkey, folder) = (postgres::dedicated(), Valkey::start(), tempfile::tempdir().expect("a folder"));
    let mut shell = Shell::new(folder.path(), &postgres.url("postgres"), &valkey.url(0));
    let updates = env::var_os("UPDATE_DOCS").is_some();
    let mut commands = 0;
    for piece in &mut chapter {
        let Piece::Command { script, prints } = piece else { continue };
        commands += 1;
        let began = Instant::now();
        let printed = loop {
            let printed: Vec<String> = shell.run(script).into_iter().filter(|line| !line.is_empty()).collect();
            let is_as_written = lasting(&printed) == lasting(prints);
            // Asked for the document's first time, nobody knows what to wait for.
            let patience = if updates { PATIENCE / 10 } else { PATIENCE };
            if is_as_written || !asks(script) || began.elapsed() > patience {
                break printed;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        if updates && lasting(&printed) != lasting(prints) {
            *prints = printed;
        } else {
            assert_eq!(lasting(&printed), lasting(prints), "\n$ {script}\nprinted {printed:#?}");
        }
    }
    assert!(commands > 20, "{commands} commands were found");
    if updates {
        std::fs::write(DOCUMENT, format!("{}{}", &document[..at], written(&chapter))).expect("written");
    }
}

#[test]
fn commands_are_read_with_what_they_print() {
    let text = "Before.\n```sh\n$ not run\n```\n```console\n$ one <<'X'\n> more\n> X\nprinted\n$ two\n```\nAfter.\n";
    let pieces = pieces(text);
    let command = |script: &str, prints: &[&str]| Piece::Command {
        script: script.to_owned(),
        prints: prints.iter().map(|line| (*line).to_owned()).collect(),
    };
    let commands: Vec<&Piece> = pieces.iter().filter(|piece| matches!(piece, Piece::Command { .. })).collect();
    assert_eq!(commands, [&command("one <<'X'\nmore\nX", &["printed"]), &command("two", &[])]);
    assert_eq!(written(&pieces), text);
}
