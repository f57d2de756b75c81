//! The one crypto provider of the process, for every TLS connection.

use std::sync::Once;

/// Chooses the crypto provider of every TLS connection of this process. Only the first call does something.
///
/// A TLS library without a chosen provider guesses, and panics where two are compiled in.
pub fn choose_crypto_provider() {
    static CHOSEN: Once = Once::new();
    CHOSEN.call_once(|| {
        // An error says that the program around this library has chosen one already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}
