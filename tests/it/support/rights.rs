//! The user of Valkey that docs/deployment.md tells operators to make.

use super::valkey::Server;

const PASSWORD: &str = "of-the-page";

/// The rules of the user, as on the page: one list for each line.
pub fn documented_rights() -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/deployment.md")).expect("the page");
    let rules = page.lines().filter_map(|line| line.strip_prefix("ACL SETUSER hadir "));
    let rules: Vec<String> = rules.map(|rule| rule.replace(">password", &format!(">{PASSWORD}"))).collect();
    assert!(!rules.is_empty(), "docs/deployment.md lists the rights that Valkey's user needs");
    rules
}

/// Makes that user on a server; the address with its name and password.
pub fn documented_user(server: &Server, database: u8) -> String {
    let mut raw = server.raw();
    for rule in documented_rights() {
        let words: Vec<&str> = ["ACL", "SETUSER", "hadir"].into_iter().chain(rule.split(' ')).collect();
        raw.ask(&words);
    }
    format!("valkey://hadir:{PASSWORD}@{}/{database}", server.address())
}
