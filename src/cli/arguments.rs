//! The command line. Flags of settings are generated from the table in `config`.

use std::{ffi::OsString, path::Path};

use clap::{Arg, ArgAction, ArgMatches, ColorChoice, Command, parser::ValueSource, value_parser};
use uuid::Uuid;

use crate::{
    auth::Operator,
    config::{Origin, Preset, SECTIONS, Spec, Values, flag_of},
    demo::DemoSize,
    domain::Role,
};

use super::token::{Link, TokenRequest};

/// Settings that every help shows; `hadir config --help` shows all.
const SHOWN_EVERYWHERE: [&str; 5] =
    ["HADIR_PUBLIC_ADDR", "HADIR_INTERNAL_ADDR", "HADIR_DATA_DIR", "DATABASE_URL", "VALKEY_URL"];

/// Stands for the internal listener itself, where `--link` has no URL.
const HERE: &str = "";

const MORE_SETTINGS: &str = "Every setting is a flag, an environment variable and a key of the --config file:\n\
                             `hadir config --help` lists them, `hadir config` shows their values.";

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Run the server.
    Serve,
    /// Run the server and a simulated fleet.
    Demo(DemoSize),
    /// Apply migrations.
    Migrate {
        /// The database was restored to an older state.
        new_generation: bool,
    },
    /// Print a token.
    Token(TokenRequest),
    /// Say in words what is right and wrong with a token; `-` reads it from standard input.
    TokenCheck(String),
    /// Look at configuration and stores.
    Check,
    /// Ask the node of this configuration whether it lives.
    Health,
    /// Print the effective configuration.
    Config,
}

/// A parsed command line with the settings of all sources.
pub struct Invocation {
    /// What to do.
    pub action: Action,
    /// Flags over environment over file.
    pub values: Values,
}

/// Parses; the error is clap's, which prints itself and also stands for `--help` and `--version`.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let sub = matches.subcommand();
    let levels: Vec<&ArgMatches> = std::iter::once(&matches).chain(sub.map(|(_, matches)| matches)).collect();

    let mut values = Values::default();
    if let Some(file) = levels.iter().rev().find_map(|level| level.get_one::<OsString>("config-file")) {
        values.set_file(Path::new(file));
    }
    values.set_environment(environment);
    for level in &levels {
        set_flags(&mut values, level);
    }
    values.read_secret_files();

    let action = match sub {
        None | Some(("serve", _)) => Action::Serve,
        Some(("demo", sub)) => {
            Action::Demo(DemoSize { mitras: number(sub, "mitras"), customers: number(sub, "customers") })
        }
        Some(("migrate", sub)) => Action::Migrate { new_generation: sub.get_flag("new-generation") },
        Some(("token", sub)) if sub.contains_id("check") => {
            Action::TokenCheck(sub.get_one::<String>("check").cloned().unwrap_or_default())
        }
        Some(("token", sub)) => Action::Token(token_request(sub)?),
        Some(("check", _)) => Action::Check,
        Some(("health", _)) => Action::Health,
        Some((_, _)) => Action::Config,
    };
    Ok(Invocation { action, values })
}

fn token_request(sub: &ArgMatches) -> Result<TokenRequest, clap::Error> {
    let role = *sub.get_one::<Role>("role").expect("clap requires it");
    let of_dashboard = ["name", "read-only", "link"];
    let given = |name: &&&str| sub.value_source(name) == Some(ValueSource::CommandLine);
    if role != Role::Dashboard
        && let Some(name) = of_dashboard.iter().find(given)
    {
        let sentence = format!("--{name} goes with --role dashboard only\n");
        return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, sentence));
    }
    let link = sub.get_one::<String>("link").map(|base| match base.as_str() {
        HERE => Link::Here,
        base => Link::At(base.to_owned()),
    });
    Ok(TokenRequest {
        role,
        subject: sub.get_one::<Uuid>("sub").copied(),
        ttl: sub.get_one("ttl-seconds").copied(),
        operator: Operator { name: sub.get_one::<String>("name").cloned(), read_only: sub.get_flag("read-only") },
        link,
    })
}

fn number(matches: &ArgMatches, name: &str) -> usize {
    *matches.get_one::<usize>(name).expect("it has a default")
}

fn set_flags(values: &mut Values, matches: &ArgMatches) {
    for name in SECTIONS.iter().flat_map(|section| section.settings).flat_map(|setting| names(setting.spec())) {
        if let Some(text) = matches.get_one::<String>(&name) {
            values.set(&name, text, Origin::Flag);
        }
    }
}

/// The variable, and the one that names a file for it.
fn names(spec: &Spec) -> impl Iterator<Item = String> {
    std::iter::once(spec.name.to_owned()).chain(spec.file_name())
}

fn command() -> Command {
    let base = |command: Command| command.color(ColorChoice::Never).after_help(MORE_SETTINGS);
    let root = base(Command::new("hadir"))
        .version(env!("CARGO_PKG_VERSION"))
        .about("Realtime presence over WebSockets: who is here, and is anybody available?")
        .long_about(
            "Realtime presence over WebSockets: who is here, and is anybody available?\n\n\
             Without a command it runs the server; without configuration it keeps everything in one folder (SQLite and this \
             process) and prints its addresses and a token for each role.",
        )
        .subcommand_required(false)
        .subcommands([
            base(Command::new("serve")).about("Run the server (the same as no command)"),
            base(demo()),
            base(migrate()),
            base(token()),
            base(Command::new("check")).about("Validate the configuration and reach the stores; fails if anything is wrong"),
            base(Command::new("health")).about("Ask the running node of this configuration whether it lives"),
            Command::new("config")
                .color(ColorChoice::Never)
                .about("Print the effective configuration: every value and where it came from, secrets masked")
                .after_help("Flags win over environment variables, which win over the --config file, which wins over defaults."),
        ]);
    with_settings(root).mut_subcommands(with_settings)
}

fn demo() -> Command {
    let size = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(clap::builder::RangedU64ValueParser::<usize>::new().range(1..=9_000))
            .help(help)
    };
    Command::new("demo")
        .about("Run the server and a simulated fleet that connects over real sockets")
        .arg(size("mitras", "60", "Simulated mitras, who come, go, drop and return"))
        .arg(size("customers", "200", "Simulated customers, who watch"))
}

fn migrate() -> Command {
    Command::new("migrate").about("Apply migrations to the store and exit").arg(
        Arg::new("new-generation")
            .long("new-generation")
            .action(ArgAction::SetTrue)
            .help("Also say that the database was restored to an older state, so that mirrors believe it again"),
    )
}

fn token() -> Command {
    Command::new("token")
        .about("Print a token signed with the configured secret, or check one")
        .arg(
            Arg::new("role")
                .long("role")
                .required_unless_present("check")
                .value_name("ROLE")
                .value_parser(|word: &str| word.parse::<Role>())
                .help("mitra, customer, dashboard or service"),
        )
        .arg(
            Arg::new("check")
                .long("check")
                .value_name("JWT")
                .conflicts_with_all(["role", "sub", "ttl-seconds", "name", "read-only", "link"])
                .help("Say in words what is right and wrong with this token; - reads it from standard input"),
        )
        .arg(
            Arg::new("sub")
                .long("sub")
                .value_name("UUID")
                .value_parser(value_parser!(Uuid))
                .help("For whom it speaks; a new one when left out (which is no mitra that exists)"),
        )
        .arg(
            Arg::new("ttl-seconds")
                .long("ttl-seconds")
                .value_name("N")
                .value_parser(crate::config::seconds)
                .allow_hyphen_values(true)
                .help("Its life; ACCESS_TOKEN_TTL_SECONDS when left out"),
        )
        .arg(
            Arg::new("name")
                .long("name")
                .value_name("NAME")
                .help("The person who holds a dashboard token, as events and the log name them"),
        )
        .arg(
            Arg::new("read-only")
                .long("read-only")
                .action(ArgAction::SetTrue)
                .help("A dashboard token that may look at everything and change nothing"),
        )
        .arg(
            Arg::new("link")
                .long("link")
                .value_name("URL")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value(HERE)
                .help("Print the address that opens the dashboard signed in; --link=URL where a proxy serves it"),
        )
}

/// Adds `--config` and a flag for every setting. All are accepted everywhere; help shows all of them only for `config`.
fn with_settings(mut command: Command) -> Command {
    let show_all = command.get_name() == "config";
    command = command.arg(
        Arg::new("config-file")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(OsString))
            .help_heading("Settings")
            .help("TOML file with settings, the variables' names in lower case"),
    );
    for section in SECTIONS {
        for spec in section.settings.iter().map(|setting| setting.spec()) {
            for name in names(spec) {
                let of_file = name != spec.name;
                let shown = show_all || (!of_file && SHOWN_EVERYWHERE.contains(&spec.name));
                command = command.arg(
                    Arg::new(name.clone())
                        .long(flag_of(&name))
                        .value_name(value_name(spec, of_file))
                        .allow_hyphen_values(true)
                        .hide(!shown)
                        .help_heading(if show_all { section.title } else { "Settings" })
                        .help(help(spec, of_file)),
                );
            }
        }
    }
    command
}

fn value_name(spec: &Spec, of_file: bool) -> String {
    match (of_file, spec.unit) {
        (true, _) => "FILE".to_owned(),
        (false, "") => "VALUE".to_owned(),
        (false, unit) => unit.to_ascii_uppercase().replace(' ', "_"),
    }
}

fn help(spec: &Spec, of_file: bool) -> String {
    if of_file {
        return format!("File to read {} from.", spec.name);
    }
    let default = match spec.preset {
        Preset::Value("") => "empty",
        Preset::Value(text) => text,
        Preset::Unset(words) => words,
    };
    format!("{} [{}, default: {default}]", spec.doc, spec.name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Config;

    fn parsed(line: &str, environment: &[(&str, &str)]) -> Result<Invocation, clap::Error> {
        parse(
            line.split_whitespace().map(OsString::from),
            environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))),
        )
    }

    fn action(line: &str) -> Action {
        parsed(line, &[]).map(|invocation| invocation.action).expect(line)
    }

    fn refusal(line: &str) -> String {
        parsed(line, &[]).map(|_| ()).expect_err(line).to_string()
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn each_command_is_understood_and_none_means_serve() {
        assert_eq!(action("hadir"), Action::Serve);
        assert_eq!(action("hadir serve"), Action::Serve);
        assert_eq!(action("hadir check"), Action::Check);
        assert_eq!(action("hadir config"), Action::Config);
        assert_eq!(action("hadir demo --mitras 7"), Action::Demo(DemoSize { mitras: 7, customers: 200 }));
        assert_eq!(action("hadir migrate"), Action::Migrate { new_generation: false });
        assert_eq!(action("hadir migrate --new-generation"), Action::Migrate { new_generation: true });
        let sub = Uuid::nil();
        let request = TokenRequest {
            role: Role::Mitra,
            subject: Some(sub),
            ttl: Some(Duration::from_millis(1500)),
            operator: Operator::default(),
            link: None,
        };
        let line = format!("hadir token --role mitra --sub {sub} --ttl-seconds 1.5");
        assert_eq!(action(&line), Action::Token(request.clone()));
        let operator = Operator { name: Some("Sari".to_owned()), read_only: true };
        let request =
            TokenRequest { role: Role::Dashboard, subject: None, ttl: None, operator, link: Some(Link::Here) };
        let line = "hadir token --role dashboard --name Sari --read-only --link";
        assert_eq!(action(line), Action::Token(request.clone()));
        let link = Some(Link::At("https://ops.example".to_owned()));
        let line = format!("{line}=https://ops.example");
        assert_eq!(action(&line), Action::Token(TokenRequest { link, ..request }));
    }

    #[test]
    fn a_flag_wins_over_its_variable_before_and_after_the_command() {
        for line in ["hadir --public-addr 127.0.0.1:2 serve", "hadir serve --public-addr 127.0.0.1:2"] {
            let invocation =
                parsed(line, &[("HADIR_PUBLIC_ADDR", "127.0.0.1:1"), ("HADIR_DB_POOL_SIZE", "3")]).expect(line);
            let config = Config::from_values(&invocation.values).expect("valid");
            assert_eq!(config.listen.public_addr.port(), 2, "{line}");
            assert_eq!(config.store.pool_size, 3, "{line}");
        }
    }

    #[test]
    fn wrong_lines_are_refused_with_a_hint() {
        assert!(refusal("hadir serv").contains("'serve'"));
        assert!(refusal("hadir --publik-addr x").contains("'--public-addr'"));
        assert!(refusal("hadir token").contains("--role <ROLE>"));
        assert!(refusal("hadir token --role admin").contains("use mitra, customer, dashboard or service"));
        assert!(refusal("hadir token --role mitra --sub 7").contains("invalid value '7' for '--sub <UUID>'"));
        assert!(refusal("hadir token --role mitra --ttl-seconds -1").contains("not a number of seconds"));
        assert!(refusal("hadir demo --mitras 0").contains("0 is not in 1..=9000"));
    }

    #[test]
    fn a_wrong_setting_in_a_flag_is_told_with_all_the_others() {
        let invocation =
            parsed("hadir --heartbeat-interval-seconds -1 --config /nowhere", &[("HADIR_X", "1")]).expect("parsed");
        let errors = Config::from_values(&invocation.values).expect_err("three errors").0;
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(
            errors.iter().any(|error| error.contains("HEARTBEAT_INTERVAL_SECONDS (from flag) is `-1`")),
            "{errors:?}"
        );
        assert!(errors.iter().any(|error| error.contains("/nowhere cannot be read")), "{errors:?}");
    }

    #[test]
    fn help_is_short_except_where_all_settings_are_asked_for() {
        let short = refusal("hadir --help");
        let long = refusal("hadir config --help");
        assert!(short.contains("--public-addr") && !short.contains("--heartbeat-flush-ms"), "{short}");
        assert!(short.lines().count() < 50, "{short}");
        for spec in SECTIONS.iter().flat_map(|section| section.settings).map(|setting| setting.spec()) {
            assert!(long.contains(&format!("--{} <", spec.flag())), "{}", spec.name);
        }
        assert!(!short.contains('\u{1b}') && !long.contains('\u{1b}'), "no colour");
    }
}
