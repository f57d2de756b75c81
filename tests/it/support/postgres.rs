//! TEMPORARY until the private server is merged.
pub struct Schema {
    pub url: String,
    pub name: String,
}
pub async fn schema() -> Schema {
    Schema {
        url: "postgres://postgres@127.0.0.1:55999/postgres".into(),
        name: format!("t_{}", uuid::Uuid::new_v4().simple()),
    }
}
