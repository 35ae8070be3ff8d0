//! TLS between the clients of a story and its node. Everything that is random about it has one length, so that a story stays the
//! same: the keys are of Ed25519, whose signatures have no leading zeros to leave out.

use std::sync::{Arc, OnceLock};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use ringway::net::tls::{
    AcceptSettings, Agreed, Identity, Offer, Roots, TicketChain, TicketSeed, TlsContext, TlsSettings, connect,
};
use ringway::net::{Duplex, Socket};
use ringway::serve::peers::Peers;
use ringway::serve::{Acceptor, Shared};

const NAME: &str = "gateway.test";
const HANDSHAKE_MS: u64 = 60_000;

/// Certificate and key of the node, which is its own authority.
fn own() -> &'static (String, String) {
    static OWN: OnceLock<(String, String)> = OnceLock::new();
    OWN.get_or_init(|| {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let certificate = CertificateParams::new([NAME.to_owned()]).and_then(|params| params.self_signed(&key));
        (certificate.expect("a certificate").pem(), key.serialize_pem())
    })
}

/// What the cores of a node have in common.
pub fn shared() -> Shared {
    Shared { tickets: TicketChain::new(TicketSeed::random().expect("a seed")), peers: Arc::<Peers>::default() }
}

pub fn acceptor(shared: &Shared) -> Acceptor {
    let (certificate, key) = own();
    let identity = Identity::from_pem("own", certificate.as_bytes(), "key", key.as_bytes()).expect("they match");
    let settings = AcceptSettings {
        identities: vec![identity],
        client_roots: None,
        offer: Offer::Either,
        scope: [0; 32],
        timeout_ms: HANDSHAKE_MS,
    };
    Acceptor::new(None, Some(&settings), shared).expect("it can be secured")
}

/// What a client needs to connect; sessions are resumed within it.
pub fn context(offer: Offer) -> TlsContext {
    let roots = Roots::from_pem("own", own().0.as_bytes()).expect("an authority");
    let settings = TlsSettings { server_name: NAME.to_owned(), roots, client: None, offer };
    TlsContext::new(&settings).expect("a name")
}

/// `None`: the gateway or the network ended it.
pub async fn secured(socket: Socket, context: &TlsContext, offer: Offer) -> Option<Duplex> {
    let (stream, agreed) = connect(socket, context, 2 * HANDSHAKE_MS).await.ok()?;
    assert_eq!(agreed == Agreed::Http2, offer == Offer::Http2, "what was offered is agreed on");
    Some(stream.into())
}
